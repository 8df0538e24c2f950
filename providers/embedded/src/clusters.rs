//! The provider of the kind `cluster`: Kubernetes clusters that an embedded engine serves, asked for on its socket.

use std::path::PathBuf;

use async_trait::async_trait;
use ksail_kinds::{ClusterSpec, Spec as _, Stage};
use ksail_model::{Identity, Mark, Observation, Ownership, Readiness, Scope, Seen, Value};
use ksail_provider::{
    Applied, CallContext, CallError, CreateRequest, DeleteRequest, Deleted, ObserveReply, Owned, Provider, Target,
    UpdateRequest, WaitRequest, guard,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use crate::provider::{is_ours, not_ours_by};
use crate::talk::{self, Reply};

/// The label that holds our mark.
const MARK: &str = "ksail.io/mark";
/// The first and the longest pause between two looks at what is not served yet.
const FIRST_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);
const LONGEST_PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// Clusters of one engine.
#[derive(Debug, Clone)]
pub struct ClusterProvider {
    socket: PathBuf,
    scope: Scope,
}

/// A cluster as the engine shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Shown {
    name: String,
    id: String,
    version: String,
    port: u16,
    /// An engine of an older version tells none.
    #[serde(default)]
    stages: Vec<Stage>,
    labels: std::collections::BTreeMap<String, String>,
    serving: bool,
    error: String,
    kubeconfig: String,
}

impl Shown {
    fn mark(&self) -> Option<Mark> {
        serde_json::from_str(self.labels.get(MARK)?).ok()
    }

    fn seen(&self) -> Seen {
        let spec = ClusterSpec {
            version: self.version.clone(),
            port: self.port,
            address: None,
            running: self.serving,
            stages: self.stages.clone(),
        };
        let readiness = if self.serving {
            Readiness::Ready
        } else {
            Readiness::NotReady(format!("it is not served: {}", self.error))
        };
        Seen {
            id: Some(self.id.clone()),
            fields: spec.to_value(),
            attributes: Value::map([
                ("id", self.id.clone()),
                ("endpoint", ClusterSpec::endpoint(ClusterSpec::LOOPBACK, self.port)),
                ("kubeconfig", self.kubeconfig.clone()),
            ]),
            mark: self.mark(),
            readiness,
            others: Vec::new(),
        }
    }
}

/// One call, with its deadline.
struct Call<'a> {
    provider: &'a ClusterProvider,
    context: &'a CallContext,
    deadline: Instant,
}

impl ClusterProvider {
    /// Clusters of the engine behind a socket, whose id is the scope. Nothing is connected to before the first call.
    pub fn new(socket: PathBuf, engine: String) -> Self {
        Self { socket, scope: Scope(engine.into()) }
    }

    fn call<'a>(&'a self, context: &'a CallContext) -> Call<'a> {
        Call { provider: self, context, deadline: Instant::now() + context.timeout }
    }

    fn applied(&self, shown: &Shown) -> Applied {
        Applied { scope: self.scope.clone(), seen: shown.seen() }
    }
}

impl Call<'_> {
    /// Asks the engine. `changes` says whether the request changes something, so that a lost answer tells nothing.
    async fn ask(
        &self,
        what: &str,
        changes: bool,
        method: &str,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Reply, CallError> {
        let place = self.provider.socket.display().to_string();
        let body = body.map(ToString::to_string).unwrap_or_default();
        let asked = guard(self.context, self.deadline, talk::request(&self.provider.socket, method, path, &body)).await;
        match asked {
            Err(stop) => Err(stop.into_error(what, &place, changes)),
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(talk::RequestError::NotSent(error))) => {
                Err(CallError::unreachable(format!("{what}: the engine behind {place} cannot be reached: {error}")))
            }
            Ok(Err(talk::RequestError::NoAnswer(error))) => {
                let message = format!("{what}: the engine behind {place} did not answer: {error}");
                Err(if changes { CallError::indeterminate(message) } else { CallError::unreachable(message) })
            }
        }
    }

    async fn look(&self, name: &str) -> Result<Option<Shown>, CallError> {
        let what = format!("look at the cluster {name}");
        let reply = self.ask(&what, false, "GET", &path_of(name), None).await?;
        match reply.status {
            404 => Ok(None),
            _ => read(&what, &reply).map(Some),
        }
    }

    /// The cluster of a target, which must be ours.
    async fn ours(&self, target: &Target, mark: &Mark) -> Result<Option<Shown>, CallError> {
        let Some(found) = self.look(&target.identity.name).await? else { return Ok(None) };
        let imported = found.mark().is_none() && target.id.as_deref() == Some(found.id.as_str());
        if is_ours(found.mark().as_ref(), mark) || imported {
            return Ok(Some(found));
        }
        Err(not_ours(&found))
    }
}

fn path_of(name: &str) -> String {
    format!("/ksail/clusters/{}", talk::escaped(name))
}

/// The cluster of a reply, or what it refuses.
fn read(what: &str, reply: &Reply) -> Result<Shown, CallError> {
    if reply.is_success() {
        return serde_json::from_slice(&reply.body)
            .map_err(|error| CallError::indeterminate(format!("{what}: the engine's answer cannot be read: {error}")));
    }
    Err(refused(what, reply))
}

fn refused(what: &str, reply: &Reply) -> CallError {
    let message = reply.message();
    let error = CallError::refused(format!("{what}: {message}"));
    if message.contains("port is already allocated") {
        return error.hint("stop what holds the port, or let another one be chosen by a new plan");
    }
    error
}

fn not_ours(found: &Shown) -> CallError {
    not_ours_by(&format!("the cluster {}", found.name), found.mark().as_ref())
}

fn spec_of(target: &Target) -> Result<ClusterSpec, CallError> {
    let spec = target.spec.as_ref().ok_or_else(|| CallError::refused(format!("{}: it has no spec", target.address)))?;
    ClusterSpec::from_value(spec).map_err(|error| CallError::refused(format!("{}: {error}", target.address)))
}

fn labels(mark: &Mark) -> Result<Json, CallError> {
    let text = serde_json::to_string(mark).map_err(|error| CallError::refused(error.to_string()))?;
    Ok(json!({ MARK: text }))
}

#[async_trait]
impl Provider for ClusterProvider {
    async fn observe(&self, context: &CallContext, targets: &[Target]) -> Result<ObserveReply, CallError> {
        let call = self.call(context);
        let mut observations = Vec::with_capacity(targets.len());
        for target in targets {
            observations.push(match call.look(&target.identity.name).await? {
                Some(found) => Observation::Present(Box::new(found.seen())),
                None => Observation::Absent,
            });
        }
        Ok(ObserveReply { scope: self.scope.clone(), observations })
    }

    async fn create(&self, context: &CallContext, request: &CreateRequest) -> Result<Applied, CallError> {
        let call = self.call(context);
        let target = &request.target;
        let (name, spec) = (&target.identity.name, spec_of(target)?);
        let what = format!("make the cluster {name}");
        if let Some(found) = call.ours(target, &request.mark).await? {
            // A call before this one made it, and its answer was lost.
            return match found.mark() {
                Some(mark) if mark.generation == request.mark.generation => Ok(self.applied(&found)),
                _ => Err(CallError::refused(format!("{what}: the one before is still there"))),
            };
        }
        let body = json!({
            "Name": name, "Version": spec.version, "Port": spec.port, "Stages": spec.stages, "Labels": labels(&request.mark)?,
        });
        let reply = call.ask(&what, true, "POST", "/ksail/clusters/create", Some(&body)).await?;
        if reply.status == 409
            && let Some(found) = call.look(name).await?
        {
            return Err(not_ours(&found));
        }
        read(&what, &reply).map(|found| self.applied(&found))
    }

    async fn update(&self, context: &CallContext, request: &UpdateRequest) -> Result<Applied, CallError> {
        let call = self.call(context);
        let target = &request.target;
        let (name, spec) = (&target.identity.name, spec_of(target)?);
        let what = format!("change the cluster {name}");
        if call.ours(target, &request.mark).await?.is_none() {
            return Err(CallError::refused(format!("{what}: it is not there")).hint("plan again"));
        }
        let body = json!({
            "Version": spec.version, "Port": spec.port, "Stages": spec.stages, "Labels": labels(&request.mark)?,
        });
        let reply = call.ask(&what, true, "POST", &format!("{}/update", path_of(name)), Some(&body)).await?;
        read(&what, &reply).map(|found| self.applied(&found))
    }

    async fn delete(&self, context: &CallContext, request: &DeleteRequest) -> Result<Deleted, CallError> {
        let call = self.call(context);
        let target = &request.target;
        let name = &target.identity.name;
        let Some(found) = call.look(name).await? else { return Ok(Deleted::WasAbsent) };
        let same_lineage = found
            .mark()
            .is_some_and(|mark| mark.lineage == request.mark.lineage && mark.generation == request.mark.generation);
        let adopted = request.adopted && found.mark().is_none() && target.id.as_deref() == Some(found.id.as_str());
        if !same_lineage && !adopted {
            return Err(not_ours(&found));
        }
        let what = format!("delete the cluster {name}");
        let reply = call.ask(&what, true, "DELETE", &path_of(name), None).await?;
        match reply.status {
            404 => Ok(Deleted::WasAbsent),
            _ if reply.is_success() => Ok(Deleted::Gone),
            _ => Err(refused(&what, &reply)),
        }
    }

    async fn wait(&self, context: &CallContext, request: &WaitRequest) -> Result<Applied, CallError> {
        let call = self.call(context);
        let name = &request.target.identity.name;
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(found) = call.look(name).await? else {
                return Err(
                    CallError::refused(format!("wait for the cluster {name}: it is not there")).hint("plan again")
                );
            };
            if found.serving || Instant::now() + pause >= call.deadline {
                return Ok(self.applied(&found));
            }
            let what = format!("wait for the cluster {name}");
            let place = self.socket.display().to_string();
            let slept = guard(context, call.deadline, tokio::time::sleep(pause)).await;
            slept.map_err(|stop| stop.into_error(&what, &place, false))?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn list_owned(&self, context: &CallContext) -> Result<Vec<Owned>, CallError> {
        let what = "list clusters";
        let reply = self.call(context).ask(what, false, "GET", "/ksail/clusters", None).await?;
        if !reply.is_success() {
            return Err(refused(what, &reply));
        }
        let found: Vec<Shown> = serde_json::from_slice(&reply.body)
            .map_err(|error| CallError::unreachable(format!("{what}: the engine's answer cannot be read: {error}")))?;
        let marked = found.iter().filter(|found| found.mark().is_some());
        Ok(marked
            .map(|found| Owned {
                kind: ClusterSpec::KIND.to_owned(),
                identity: Identity::named(&found.name),
                seen: found.seen(),
                ownership: Ownership::Owned,
            })
            .collect())
    }
}
