//! The provider: the calls of the contract.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use http::Method;
use ksail_model::{Address, Identity, Mark, Ownership, Path, Preview, Readiness, Value};
use ksail_provider::{
    Applied, CallContext, CallError, CallErrorKind, CreateRequest, DeleteRequest, Deleted, Forecast, ForecastRequest,
    ObserveReply, Owned, PreviewRequest, Provider, SecretText, Target, UpdateRequest, WaitRequest,
};
use serde_json::{Value as Json, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::call::Call;
use crate::connection::{Access, Connection, KubeconfigSource, Session};
use crate::controllers::Controllers;
use crate::discovery::Api;
use crate::drain::{self, Leaves};
use crate::explain::explain;
use crate::kept::Kept;
use crate::name::ObjectName;
use crate::observe::{self, AT_ONCE, no_answer, seen, wanted_version};
use crate::preview::{absent_namespaces, preview_one};
use crate::readiness::{finalizers, hopeless, is_rollout, readiness};
use crate::watch::Watched;
use crate::wire::{self, MANAGER_FIELD, text};
use crate::{FIELD_MANAGER, mark, refusal, secrets, taints, takeover, upgrade};

/// A version that no object has.
const NO_VERSION: &str = "1";
/// The annotation that says that conflicts are decided for us: `take`.
const CONFLICTS: &str = "ksail.io/conflicts";
/// The first and the longest pause between two looks.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// From which pause on a kind is watched, and the longest pause between two looks at what is watched.
const WATCHED_FROM: Duration = Duration::from_millis(160);
const LONGEST_LOOK: Duration = Duration::from_secs(15);
/// What is kept of a deletion's deadline for its answer, and of a wait's, which also tells what it waited for.
const LAST_LOOK: Duration = Duration::from_millis(500);
const LAST_LOOK_OF_WAIT: Duration = Duration::from_secs(3);
/// How long it may take until a rollout that was given up before a wait is seen to go on.
const OLD_VERDICT: Duration = Duration::from_secs(10);

/// Objects of one cluster.
///
/// It connects at its first call and keeps what it found: the scope and which kinds are served. After a crash nothing of it
/// is left to clean up.
pub struct KubernetesProvider {
    connection: Access,
    kept: Option<Arc<Kept>>,
    session: Mutex<Option<Arc<Session>>>,
    /// By address, what a deletion that is under way waits for.
    waits: std::sync::Mutex<BTreeMap<Address, String>>,
}

/// What an apply is made of.
pub(crate) struct Apply<'a> {
    pub(crate) what: &'a str,
    pub(crate) api: &'a Api,
    pub(crate) name: &'a ObjectName,
    pub(crate) spec: &'a Value,
    pub(crate) mark: &'a Mark,
    pub(crate) existing: Existing<'a>,
    pub(crate) secrets: &'a BTreeMap<Path, SecretText>,
    pub(crate) left_alone: &'a [Path],
    pub(crate) force: bool,
    pub(crate) dry_run: bool,
}

/// What may be there before an apply.
#[derive(Clone, Copy)]
pub(crate) enum Existing<'a> {
    /// Anything: it is asked only what would be.
    Any,
    /// Nothing of this name.
    None,
    /// This object, and no other.
    Uid(&'a str),
}

impl KubernetesProvider {
    /// A provider for the cluster of a connection. Nothing is connected to before the first call.
    pub fn new(connection: Connection) -> Self {
        Self::of(Access::Files(connection))
    }

    /// A provider for the cluster whose kubeconfig is told, once when its session opens.
    pub fn told(source: Arc<dyn KubeconfigSource>) -> Self {
        Self::of(Access::Told(source))
    }

    fn of(connection: Access) -> Self {
        Self { connection, kept: None, session: Mutex::new(None), waits: std::sync::Mutex::default() }
    }

    /// Shares sessions with the other providers of a process.
    #[must_use]
    pub fn sharing(mut self, kept: &Arc<Kept>) -> Self {
        self.kept = Some(Arc::clone(kept));
        self
    }

    /// Opens a session ahead, for the next provider that shares it. What fails is told of when it is needed.
    pub async fn connect_ahead(&self, context: &CallContext) {
        if let Err(error) = Call::open(&self.connection, self.kept.as_deref(), true, context).await {
            tracing::debug!(error = %error.message, "not connected ahead");
        }
    }

    fn waits(&self) -> std::sync::MutexGuard<'_, BTreeMap<Address, String>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Empties a node, and lets be known what that waits for.
    async fn empty(
        &self,
        call: &Call,
        what: &str,
        address: &Address,
        node: &str,
        leaves: Leaves,
    ) -> Result<(), CallError> {
        /// Takes the word back, however the drain ends.
        struct Told<'a>(&'a KubernetesProvider, &'a Address);
        impl Drop for Told<'_> {
            fn drop(&mut self) {
                self.0.waits().remove(self.1);
            }
        }
        let _told = Told(self, address);
        let tell = |why: String| drop(self.waits().insert(address.clone(), why));
        drain::drain(call, what, node, leaves, &tell).await
    }

    async fn call(&self, context: &CallContext) -> Result<Call, CallError> {
        let mut open = tokio::select! {
            biased;
            () = context.cancel.cancelled() => return Err(CallError::cancelled()),
            open = self.session.lock() => open,
            () = tokio::time::sleep(context.timeout) => {
                return Err(CallError::unreachable(format!("the cluster of {} did not answer before the deadline", self.connection)));
            }
        };
        let session = match open.as_ref() {
            Some(session) => Arc::clone(session),
            None => {
                let session = Call::open(&self.connection, self.kept.as_deref(), false, context).await?;
                *open = Some(Arc::clone(&session));
                session
            }
        };
        Ok(Call::new(session, context))
    }
}

fn applied(call: &Call, api: &Api, name: &ObjectName, spec: Option<&Value>, mut live: Json) -> Applied {
    Applied { scope: call.session.scope.clone(), seen: seen(api, name, spec, &mut live) }
}

fn spec_of<'a>(call: &Call, target: &'a Target) -> Result<&'a Value, CallError> {
    target.spec.as_ref().ok_or_else(|| call.refused(target.address.as_str(), "it has no spec"))
}

/// Whether fields are taken from their owners.
pub(crate) fn takes_conflicts(spec: &Value) -> bool {
    let annotations = spec.field("metadata").and_then(|metadata| metadata.field("annotations"));
    annotations.and_then(|annotations| annotations.field(CONFLICTS)).and_then(Value::as_str) == Some("take")
}

/// The id that an existing thing must have. That of an import is a name.
fn uid(target: &Target) -> Option<&str> {
    target.id.as_deref().or(target.identity.id.as_deref()).filter(|id| !id.contains('/'))
}

/// Whether what bears an address is a node, which is emptied before it goes.
fn is_node(address: &Address) -> bool {
    address.kind() == ksail_kinds::NODE
}

/// Whether an object is the node that a kubelet of ours has made of its machine: it carries no mark yet, and says that it is
/// that machine. To declare it means to mark it.
pub(crate) fn is_unmarked_machine(target: &Target, live: &Json) -> bool {
    let declared = target.spec.as_ref().and_then(|spec| spec.field("spec")?.field("providerID")?.as_str());
    is_node(&target.address)
        && target.id.is_none()
        && declared.is_some()
        && declared == text(live, &["spec", "providerID"])
        && mark::read(live).is_none()
}

/// Whose an object is.
enum Whose {
    Ours(Mark),
    /// It carries no mark, and is the one that was adopted.
    Adopted,
    Foreign(String),
}

fn whose(live: &Json, lineage: &str, target: &Target) -> Whose {
    match mark::read(live) {
        Some(mark) if mark.lineage == lineage && mark.address == target.address => Whose::Ours(mark),
        Some(mark) => Whose::Foreign(format!("it belongs to {} of lineage {}", mark.address, mark.lineage)),
        None if uid(target).is_some() && uid(target) == text(live, &["metadata", "uid"]) => Whose::Adopted,
        None => Whose::Foreign(format!("it is managed by {}", crate::fields::Managers::of(live).name())),
    }
}

fn not_ours(call: &Call, what: &str, why: &str) -> CallError {
    CallError::not_ours(format!("{what} in {}: it exists and is not ours: {why}", call.session.place))
        .hint("`ksail import` takes it over")
}

/// The kind of a target, or why nothing can be done with it.
async fn api_of(call: &Call, what: &str, name: &ObjectName, spec: Option<&Value>) -> Result<Api, CallError> {
    let version = wanted_version(spec);
    let Some(api) = call.api(what, name, version).await? else {
        let kind = name.group_kind();
        return Err(CallError::transient(format!(
            "{what} in {}: the server serves no kind {kind}",
            call.session.place
        ))
        .hint("declare its CustomResourceDefinition too, or install what brings it"));
    };
    if let Some(wanted) = version.filter(|version| *version != api.version) {
        let (message, hint) = other_version(&api, wanted);
        return Err(call.refused(what, &message).hint(hint));
    }
    scope_of(call, what, name, &api)?;
    Ok(api)
}

pub(crate) fn other_version(api: &Api, wanted: &str) -> (String, String) {
    let served = api.api_version();
    (format!("the server serves {} in {served}, not in {wanted}", api.kind), format!("write apiVersion: {served}"))
}

/// Whether a CustomResourceDefinition may make the kind. Where that cannot be told, it may.
pub(crate) async fn is_defined(call: &Call, api: &Api) -> bool {
    if !api.group.contains('.') {
        return false;
    }
    let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}.{}", api.plural, api.group);
    !matches!(call.read("look at its definition", &path).await, Ok(None))
}

pub(crate) fn scope_of(call: &Call, what: &str, name: &ObjectName, api: &Api) -> Result<(), CallError> {
    match (&name.namespace, api.namespaced) {
        (None, true) => {
            Err(call.refused(what, &format!("{} lives in a namespace", api.kind)).hint("give it `metadata.namespace`"))
        }
        (Some(_), false) => {
            let hint = "take `metadata.namespace` out";
            Err(call.refused(what, &format!("{} lives in no namespace", api.kind)).hint(hint))
        }
        _ => Ok(()),
    }
}

/// What is sent to the server.
fn body(apply: &Apply<'_>) -> Result<Json, String> {
    let mut object = wire::object(apply.spec).ok_or("its spec is not a map")?;
    if is_node(&apply.mark.address) && taints::are_apart(apply.name, apply.spec) {
        taints::leave_out(&mut object);
    }
    let metadata = wire::map_at(&mut object, "metadata");
    match apply.existing {
        Existing::Any => {}
        // An object of another version is refused; to one that is not there the version does not matter.
        Existing::None => drop(metadata.insert("resourceVersion".to_owned(), NO_VERSION.into())),
        Existing::Uid(uid) => drop(metadata.insert("uid".to_owned(), uid.into())),
    }
    mark::write(&mut object, apply.mark, secrets::fingerprints(apply.spec));
    let mut object = Json::Object(object);
    secrets::fill_in(&mut object, apply.name, apply.secrets, apply.left_alone)?;
    Ok(object)
}

/// What the server is to say of fields that it does not know. An apply of a kind of Kubernetes itself is refused for them whatever is
/// asked for, since its types are known where fields are merged; to be asked for it has the server read the body once more, as YAML,
/// which is a sixth of all that it does. What serves another group may merge without types.
fn validation(group: &str) -> &'static str {
    if group.contains('.') && !group.ends_with(".k8s.io") { "Strict" } else { "Ignore" }
}

pub(crate) async fn apply(call: &Call, apply: &Apply<'_>) -> Result<crate::call::Reply, CallError> {
    let body = body(apply).map_err(|why| call.refused(apply.what, &why))?;
    let bytes = serde_json::to_vec(&body).map_err(|error| call.refused(apply.what, &error.to_string()))?;
    let path = format!(
        "{}?fieldManager={FIELD_MANAGER}&fieldValidation={}&force={}{}",
        apply.api.object(apply.name),
        validation(&apply.name.group),
        apply.force,
        if apply.dry_run { "&dryRun=All" } else { "" },
    );
    call.change(apply.what, Method::PATCH, &path, "application/apply-patch+yaml", bytes).await
}

/// What an apply came to; no is an error.
fn concluded(call: &Call, request: &Apply<'_>, reply: crate::call::Reply) -> Result<Applied, CallError> {
    if reply.status.is_success() {
        return Ok(applied(call, request.api, request.name, Some(request.spec), reply.body));
    }
    Err(call.redact(refusal::of_change(&call.session.place, request.what, &reply)))
}

/// Joins what tools own into what we own.
async fn take_over(
    call: &Call,
    what: &str,
    api: &Api,
    name: &ObjectName,
    spec: &Value,
    live: &Json,
) -> Result<(), CallError> {
    let Some(patch) = takeover::patch(live, &api.api_version(), spec) else { return Ok(()) };
    let path = format!("{}?fieldManager={FIELD_MANAGER}", api.object(name));
    let reply =
        call.change(what, Method::PATCH, &path, "application/json-patch+json", patch.to_string().into_bytes()).await?;
    if reply.status.is_success() {
        return Ok(());
    }
    // The test of its version failed: it was changed at the same moment.
    let mut error = refusal::of_change(&call.session.place, what, &reply);
    if reply.status == http::StatusCode::UNPROCESSABLE_ENTITY || reply.status == http::StatusCode::CONFLICT {
        error = CallError::transient(error.message);
    }
    Err(call.redact(error))
}

/// Secrets that are not to be changed, and were changed outside: their text there is not known.
fn left_alone(request: &UpdateRequest, spec: &Value) -> Vec<Path> {
    spec.secrets()
        .into_iter()
        .filter(|(path, secret)| {
            let is_changed = request.changed.iter().any(|changed| changed.covers(path) || path.covers(changed));
            let same = matches!(request.current.get(path), Some(Value::Secret(seen)) if seen.fingerprint == secret.fingerprint);
            !is_changed && !same && request.current.get(path).is_some()
        })
        .map(|(path, _)| path)
        .collect()
}

#[async_trait]
impl Provider for KubernetesProvider {
    async fn observe(&self, context: &CallContext, targets: &[Target]) -> Result<ObserveReply, CallError> {
        let call = self.call(context).await?;
        let observations = observe::observe(&call, targets).await?;
        Ok(ObserveReply { scope: call.session.scope.clone(), observations })
    }

    async fn preview(&self, context: &CallContext, requests: &[PreviewRequest]) -> Result<Vec<Preview>, CallError> {
        let call = self.call(context).await?;
        let absent = absent_namespaces(&call, requests).await?;
        let mut previews = Vec::with_capacity(requests.len());
        for request in requests {
            previews.push(preview_one(&call, request, &absent));
        }
        Ok(futures::stream::iter(previews).buffered(AT_ONCE).collect().await)
    }

    async fn create(&self, context: &CallContext, request: &CreateRequest) -> Result<Applied, CallError> {
        let mut call = self.call(context).await?;
        call.hide(request.secrets.values().map(SecretText::expose));
        let target = &request.target;
        let spec = spec_of(&call, target)?;
        let name = ObjectName::of(&target.identity)?;
        let what = format!("create {name}");
        let api = api_of(&call, &what, &name, Some(spec)).await?;
        let mut wanted = Apply {
            what: &what,
            api: &api,
            name: &name,
            spec,
            mark: &request.mark,
            existing: Existing::None,
            secrets: &request.secrets,
            left_alone: &[],
            force: takes_conflicts(spec),
            dry_run: false,
        };
        let reply = apply(&call, &wanted).await?;
        // Something of this name is there: in another version, or with fields that it owns.
        if reply.status != http::StatusCode::CONFLICT {
            return concluded(&call, &wanted, reply);
        }
        let Some(live) = call.read(&what, &api.object(&name)).await? else {
            return Err(refusal::of_change(&call.session.place, &what, &reply));
        };
        let whose = whose(&live, &context.lineage, target);
        match &whose {
            Whose::Foreign(_) if is_unmarked_machine(target, &live) => {}
            Whose::Foreign(why) => return Err(not_ours(&call, &what, why)),
            Whose::Ours(mark) if mark.generation != request.mark.generation => {
                return Err(call.refused(&what, &format!("generation {} of it is still there", mark.generation)));
            }
            Whose::Ours(_) | Whose::Adopted => {}
        }
        if text(&live, &["metadata", "deletionTimestamp"]).is_some() {
            let message = format!("{what} in {}: the one before is still being deleted", call.session.place);
            return Err(CallError::transient(message));
        }
        if matches!(whose, Whose::Adopted) {
            take_over(&call, &what, &api, &name, spec, &live).await?;
            wanted.force = true;
        }
        if is_node(&target.address) {
            taints::write(&call, &what, &api, &name, spec, &live).await?;
        }
        wanted.existing = text(&live, &["metadata", "uid"]).map_or(Existing::Any, Existing::Uid);
        let reply = apply(&call, &wanted).await?;
        concluded(&call, &wanted, reply)
    }

    async fn update(&self, context: &CallContext, request: &UpdateRequest) -> Result<Applied, CallError> {
        let mut call = self.call(context).await?;
        call.hide(request.secrets.values().map(SecretText::expose));
        let target = &request.target;
        let spec = spec_of(&call, target)?;
        let name = ObjectName::of(&target.identity)?;
        let what = format!("change {name}");
        let api = api_of(&call, &what, &name, Some(spec)).await?;
        let Some(live) = call.read(&what, &api.object(&name)).await? else {
            return Err(call.refused(&what, "it is not there").hint("plan again"));
        };
        if let Whose::Foreign(why) = whose(&live, &context.lineage, target) {
            return Err(not_ours(&call, &what, &why));
        }
        let manager = request.current.field(MANAGER_FIELD).and_then(Value::as_str);
        let becomes_ours = manager.is_some_and(|manager| manager != FIELD_MANAGER);
        // What people put on a node of a machine stays theirs.
        if becomes_ours && !(is_node(&target.address) && taints::are_apart(&name, spec)) {
            take_over(&call, &what, &api, &name, spec, &live).await?;
        }
        if is_node(&target.address) {
            if upgrade::is_asked_for(spec, &live) && upgrade::has_elsewhere(&call, &what, &name.name).await? {
                self.empty(&call, &what, &target.address, &name.name, Leaves::MadeAnew).await?;
            }
            taints::write(&call, &what, &api, &name, spec, &live).await?;
        }
        let request = Apply {
            what: &what,
            api: &api,
            name: &name,
            spec,
            mark: &request.mark,
            existing: text(&live, &["metadata", "uid"]).map_or(Existing::Any, Existing::Uid),
            secrets: &request.secrets,
            left_alone: &left_alone(request, spec),
            force: becomes_ours || takes_conflicts(spec),
            dry_run: false,
        };
        let reply = apply(&call, &request).await?;
        concluded(&call, &request, reply)
    }

    async fn delete(&self, context: &CallContext, request: &DeleteRequest) -> Result<Deleted, CallError> {
        let call = self.call(context).await?;
        let target = &request.target;
        let name = ObjectName::of(&target.identity)?;
        let what = format!("delete {name}");
        let version = wanted_version(target.spec.as_ref());
        let Some(api) = call.api(&what, &name, version).await? else {
            return match call.kinds().await?.is_certain(&name.group) {
                // A kind that is gone took its objects with it.
                true => Ok(Deleted::WasAbsent),
                false => Err(CallError::unreachable(format!("{what} in {}: {}", call.session.place, no_answer(&name)))),
            };
        };
        let path = api.object(&name);
        let Some(live) = call.read(&what, &path).await? else { return Ok(Deleted::WasAbsent) };
        match whose(&live, &context.lineage, target) {
            Whose::Ours(mark) if mark.generation == request.mark.generation => {}
            Whose::Adopted if request.adopted => {}
            Whose::Ours(mark) => {
                return Err(not_ours(&call, &what, &format!("it is generation {}", mark.generation)));
            }
            Whose::Adopted => return Err(not_ours(&call, &what, "it carries no mark")),
            Whose::Foreign(why) => return Err(not_ours(&call, &what, &why)),
        }
        let uid = text(&live, &["metadata", "uid"]).unwrap_or_default().to_owned();
        if is_node(&target.address) && text(&live, &["metadata", "deletionTimestamp"]).is_none() {
            self.empty(&call, &what, &target.address, &name.name, Leaves::All).await?;
        }
        if text(&live, &["metadata", "deletionTimestamp"]).is_none() {
            let options = json!({
                "apiVersion": "v1", "kind": "DeleteOptions",
                "preconditions": {"uid": uid}, "propagationPolicy": "Background",
            });
            let options = options.to_string().into_bytes();
            let reply = call.change(&what, Method::DELETE, &path, "application/json", options).await?;
            if refusal::is_absent(&reply) {
                return Ok(Deleted::Gone);
            }
            if refusal::is_no_path(&reply) {
                return Err(call.is_outdated(&what));
            }
            if !reply.status.is_success() {
                return Err(refusal::of_change(&call.session.place, &what, &reply));
            }
            // What goes at once is answered by a status; what is held, by the object.
            if reply.body["kind"] == "Status" {
                return Ok(Deleted::Gone);
            }
        }
        until_gone(&call, &what, &path, &uid).await
    }

    async fn wait(&self, context: &CallContext, request: &WaitRequest) -> Result<Applied, CallError> {
        let call = self.call(context).await?;
        let target = &request.target;
        let name = ObjectName::of(&target.identity)?;
        let what = format!("wait for {name}");
        let api = api_of(&call, &what, &name, target.spec.as_ref()).await?;
        let path = api.object(&name);
        let last_look = call.deadline - LAST_LOOK_OF_WAIT.min(context.timeout / 2);
        let mut controllers = Controllers::default();
        let key = (name.namespace.clone(), name.name.clone());
        let mut pause = FIRST_PAUSE;
        let mut watch = None;
        let mut is_narrow = false;
        let mut last: Option<Applied> = None;
        // A rollout that was given up before this wait may go on by now: what held it up may have been mended.
        let old_until = Instant::now() + OLD_VERDICT;
        let mut is_old = None;
        loop {
            let live = match call.read(&what, &path).await {
                Ok(live) => live,
                // The deadline fell into a look: the one before it is the answer.
                Err(error) => match last.filter(|_| Instant::now() >= last_look && !context.cancel.is_cancelled()) {
                    Some(last) => return Ok(last),
                    None => return Err(error),
                },
            };
            let Some(live) = live else {
                return Err(call.refused(&what, "it is not there").hint("plan again"));
            };
            if is_node(&target.address) && drain::was_cut_off(&live) && upgrade::pending(&live).is_none() {
                drain::give_back(&call, &what, &name.name).await?;
                continue;
            }
            let is_hopeless = hopeless(&name, &live);
            let is_old = is_old.get_or_insert(is_hopeless && is_rollout(&name));
            *is_old &= is_hopeless && Instant::now() < old_until;
            let counts = !*is_old;
            let over = Instant::now() >= last_look || (is_hopeless && counts);
            let mut found = applied(&call, &api, &name, target.spec.as_ref(), live.clone());
            if !found.seen.readiness.is_ready() && controllers.have_none(&call, &api, &name, &live).await {
                found.seen.readiness = Readiness::Ready;
            }
            if let (Readiness::NotReady(why), true) = (&found.seen.readiness, over) {
                let (more, lines) = explain(&call, &name, &live).await;
                let told = [vec![why.clone()], more].concat().join("; ");
                found.seen.readiness = Readiness::NotReady([vec![told], lines].concat().join("\n"));
            }
            if found.seen.readiness.is_ready() || over {
                return Ok(found);
            }
            last = Some(found);
            // What takes longer than a few looks is watched, together with all others of its kind.
            if pause >= WATCHED_FROM {
                // With rights in its namespace only, the kind is watched there.
                let refused = watch.as_ref().is_some_and(|(watched, _): &(Arc<Watched>, _)| watched.is_refused());
                let within = name.namespace.as_deref().filter(|_| refused && !is_narrow);
                if watch.is_none() || within.is_some() {
                    is_narrow |= within.is_some();
                    let watched = call.session.watches.of(&call.session.client, &api, within, &context.lineage);
                    let changes = watched.changes();
                    watch = Some((watched, changes));
                }
            }
            let longest = pause.min(last_look.saturating_duration_since(Instant::now()));
            let ready = async {
                let Some((watched, changes)) = watch.as_mut() else { return std::future::pending().await };
                loop {
                    let is_over =
                        |object: &Json| readiness(&name, object).is_ready() || (counts && hopeless(&name, object));
                    if watched.object(&key).is_some_and(|object| is_over(&object)) || changes.changed().await.is_err() {
                        return;
                    }
                }
            };
            let began = Instant::now();
            call.until(&what, ready, longest).await?;
            // A watch that is behind may say so again and again.
            call.pause(&what, FIRST_PAUSE.saturating_sub(began.elapsed())).await?;
            let is_watched = watch.as_ref().is_some_and(|(watched, _)| !watched.is_refused());
            pause = (pause * 2).min(if is_watched { LONGEST_LOOK } else { LONGEST_PAUSE });
        }
    }

    async fn forecast(
        &self,
        context: &CallContext,
        requests: &[ForecastRequest],
    ) -> Result<Vec<Vec<String>>, CallError> {
        let call = self.call(context).await?;
        let mut told = Vec::with_capacity(requests.len());
        for request in requests {
            let name = ObjectName::of(&request.target.identity)?;
            let what = format!("look at the pods on {name}");
            told.push(match request.what {
                _ if !is_node(&request.target.address) => Vec::new(),
                Forecast::Deletion => drain::forecast(&call, &what, &name.name, Leaves::All).await?,
                Forecast::Change => upgrade::forecast(&call, &what, &name.name).await?,
            });
        }
        Ok(told)
    }

    async fn waits_for(&self, _context: &CallContext, target: &Target) -> Result<Option<String>, CallError> {
        Ok(self.waits().get(&target.address).cloned())
    }

    async fn list_owned(&self, context: &CallContext) -> Result<Vec<Owned>, CallError> {
        let call = self.call(context).await?;
        let kinds = call.kinds().await?;
        let mut lists = Vec::new();
        for api in kinds.all() {
            lists.push(owned_of(&call, api));
        }
        let owned: Vec<Vec<Owned>> = futures::stream::iter(lists).buffered(AT_ONCE).try_collect().await?;
        let mut known = BTreeSet::new();
        // Some objects are served by two groups.
        Ok(owned.into_iter().flatten().filter(|owned| known.insert(owned.seen.id.clone())).collect())
    }
}

/// All objects of a kind that carry a mark. What controllers copied parts of a mark onto carries none.
async fn owned_of(call: &Call, api: &Api) -> Result<Vec<Owned>, CallError> {
    let error = match owned_in(call, api).await {
        Err(error) if error.kind == CallErrorKind::Transient => error,
        found => return found,
    };
    // The kind may have gone, or another version come, since the kinds were read.
    let any = ObjectName { group: api.group.clone(), kind: api.kind.clone(), namespace: None, name: String::new() };
    match call.api("look for the kind", &any, None).await? {
        None if call.kinds().await?.is_certain(&api.group) => Ok(Vec::new()),
        Some(fresh) if fresh != *api => owned_in(call, &fresh).await,
        _ => Err(error),
    }
}

async fn owned_in(call: &Call, api: &Api) -> Result<Vec<Owned>, CallError> {
    let mut found = BTreeMap::new();
    observe::list(call, api, None, Some(mark::LINEAGE), |_| true, &mut found).await?;
    let owned = found.into_iter().filter_map(|((namespace, name), mut live)| {
        let name = ObjectName { group: api.group.clone(), kind: api.kind.clone(), namespace, name };
        let seen = seen(api, &name, None, &mut live);
        let address = &seen.mark.as_ref()?.address;
        let is_its_own = match is_node(address) {
            true => name.group_kind() == "Node",
            false => address.name_parts().first() == Some(&name.group_kind()),
        };
        let address = address.clone();
        is_its_own.then(|| Owned {
            kind: address.kind().to_owned(),
            identity: Identity::named(name.to_string()),
            seen,
            ownership: Ownership::Owned,
        })
    });
    Ok(owned.collect())
}

/// Waits until an object is gone, or until another one bears its name.
async fn until_gone(call: &Call, what: &str, path: &str, uid: &str) -> Result<Deleted, CallError> {
    call.is_under_way();
    let mut pause = FIRST_PAUSE;
    let last_look = call.deadline - LAST_LOOK.min(call.context.timeout / 2);
    loop {
        let live = match call.read(what, path).await? {
            Some(live) if text(&live, &["metadata", "uid"]) == Some(uid) => live,
            _ => return Ok(Deleted::Gone),
        };
        if Instant::now() >= last_look {
            let holders = finalizers(&live);
            let why = match holders.as_slice() {
                [] => "it is not gone yet".to_owned(),
                some => format!("it waits for {}", some.join(", ")),
            };
            return Err(CallError::indeterminate(format!("{what} in {}: {why}", call.session.place))
                .hint("what holds it must let go; `kubectl get -o yaml` shows its status"));
        }
        call.pause(what, pause.min(last_look.saturating_duration_since(Instant::now()))).await?;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
