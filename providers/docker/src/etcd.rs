//! Members of the etcd of a control plane: they come with the bootstrap of their machines, and leave before these go.

use std::time::Duration;

use ksail_kinds::{EtcdMemberSpec, Spec as _};
use ksail_model::{Readiness, Seen, Value};
use ksail_provider::{CallError, CreateRequest, DeleteRequest, Deleted};
use serde::Deserialize;
use tokio::time::Instant;

use crate::call::Call;
use crate::container;
use crate::control_plane::{self, forget, keep, kept_of, members, needed, needed_of};
use crate::exec::{look, run};
use crate::network::cause_of;
use crate::written::Written;

/// The kind.
pub(crate) const KIND: &str = EtcdMemberSpec::KIND;
/// The client that etcd's image holds, with what it needs to be let in.
const ETCDCTL: [&str; 6] = [
    "etcdctl",
    "--endpoints=https://127.0.0.1:2379",
    "--cacert=/etc/kubernetes/pki/etcd/ca.crt",
    "--cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt",
    "--key=/etc/kubernetes/pki/etcd/healthcheck-client.key",
    "--command-timeout=10s",
];
/// What etcd says where members miss each other; how long, and with what pauses, it is waited until they do not.
const UNHEALTHY: &str = "unhealthy cluster";
const PATIENCE: Duration = Duration::from_secs(40);
const PAUSE: Duration = Duration::from_secs(1);
/// How many lines of what was said a failure tells.
const TOLD: usize = 4;

/// A member, as etcd tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Member {
    #[serde(rename = "ID")]
    id: u64,
    #[serde(default)]
    name: String,
    #[serde(rename = "peerURLs", default)]
    peers: Vec<String>,
    /// None: it was let in and has not started yet.
    #[serde(rename = "clientURLs", default)]
    clients: Vec<String>,
    #[serde(rename = "isLearner", default)]
    is_learner: bool,
}

#[derive(Deserialize)]
struct MemberList {
    members: Vec<Member>,
}

impl Member {
    fn is(&self, name: &str, peer: &str) -> bool {
        self.name == name || self.peers.iter().any(|other| other == peer)
    }

    /// As commands want it.
    fn hex(&self) -> String {
        format!("{:x}", self.id)
    }

    fn readiness(&self) -> Readiness {
        if self.clients.is_empty() {
            Readiness::NotReady("it has not started yet".to_owned())
        } else if self.is_learner {
            Readiness::NotReady("it is still learning".to_owned())
        } else {
            Readiness::Ready
        }
    }
}

fn what_of(name: &str) -> String {
    format!("the etcd member `{name}`")
}

fn command<'a>(pod: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    let exec = ["exec", "--namespace=kube-system", pod, "--"];
    control_plane::command(&[&exec, &ETCDCTL[..], arguments].concat())
}

fn pod(machine: &str) -> String {
    format!("etcd-{machine}")
}

/// All members, as the one of a machine knows them.
pub(crate) async fn list(call: &Call, machine: &str, what: &str) -> Result<Vec<Member>, CallError> {
    let pod = pod(machine);
    let output = look(call, machine, what, &command(&pod, &["member", "list", "--write-out=json"])).await?;
    let output = output.ok_or_else(|| call.refused(what, "the machine has no container"))?;
    if !output.is_success() {
        return Err(CallError::transient(call.refused(what, &output.end(TOLD)).message));
    }
    parse(&output.stdout).map_err(|error| call.refused(what, &error.to_string()))
}

fn parse(text: &str) -> serde_json::Result<Vec<Member>> {
    serde_json::from_str::<MemberList>(text).map(|list| list.members)
}

/// Takes the member of a machine out, through another machine, whether it is alive or not.
pub(crate) async fn remove(call: &Call, through: &str, doing: &str, name: &str, peer: &str) -> Result<bool, CallError> {
    let found = list(call, through, doing).await?.into_iter().find(|member| member.is(name, peer));
    let Some(member) = found else { return Ok(false) };
    let (pod, id) = (pod(through), member.hex());
    let begun = Instant::now();
    loop {
        let output = run(call, through, doing, &command(&pod, &["member", "remove", &id]), "").await?;
        if output.is_success() {
            return Ok(true);
        }
        // It lets none go while members have not been connected for a while, which they are not right after one came or went.
        if !output.stderr.contains(UNHEALTHY) || begun.elapsed() > PATIENCE {
            return Err(call.refused(doing, &output.end(TOLD)));
        }
        call.pause(doing, PAUSE).await?;
    }
}

fn seen(name: &str, member: Option<&Member>, written: Written) -> Seen {
    Seen {
        id: Some(name.to_owned()),
        attributes: Value::empty_map(),
        mark: Some(written.mark("")),
        fields: written.spec,
        readiness: member.map_or(Readiness::Ready, Member::readiness),
        others: Vec::new(),
    }
}

/// What is known of members: those that etcd has, and nothing where there is one machine only, which is always a member.
pub(crate) async fn known(call: &Call, cluster: &str, what: &str) -> Result<Option<Vec<Member>>, CallError> {
    let machines = members(&container::list(call).await?, cluster);
    if machines.len() < 2 {
        return Ok(None);
    }
    let machine = needed_of(call, &machines, what).await?;
    list(call, &machine, what).await.map(Some)
}

/// What is seen of a member that is kept: nothing, where etcd has it no more. One that is not kept counts as not there: its machine's
/// bootstrap brought it, and nobody has taken it up yet.
pub(crate) fn seen_of(name: &str, known: Option<&[Member]>, written: Written) -> Option<Seen> {
    let member = match known {
        None => None,
        Some(members) => Some(members.iter().find(|member| member.name == name)?),
    };
    Some(seen(name, member, written))
}

pub(crate) async fn create(
    call: &Call,
    cluster: &str,
    request: &CreateRequest,
    spec: &Value,
) -> Result<Seen, CallError> {
    let name = &request.target.identity.name;
    let what = what_of(name);
    let doing = format!("take up {what}");
    let wanted = EtcdMemberSpec::from_value(spec).map_err(|error| call.refused(&what, &cause_of(&error)))?;
    let known = known(call, cluster, &doing).await?;
    let member = match &known {
        None => None,
        Some(members) => {
            let member = members.iter().find(|member| member.is(name, &wanted.peer));
            Some(member.ok_or_else(|| call.refused(&doing, "etcd does not know it").hint("plan again"))?)
        }
    };
    let written = Written::new(&request.mark, spec, None);
    let machine = needed(call, cluster, &doing).await?;
    keep(call, &machine, &doing, (KIND, name), &written).await?;
    Ok(seen(name, member, written))
}

pub(crate) async fn delete(call: &Call, cluster: &str, request: &DeleteRequest) -> Result<Deleted, CallError> {
    let name = &request.target.identity.name;
    let what = what_of(name);
    let doing = format!("remove {what}");
    let kept = control_plane::all_kept(call, cluster, &doing).await?;
    let Some(written) = kept_of(&kept, (KIND, name)) else { return Ok(Deleted::WasAbsent) };
    if !written.may_delete(&what, request)? {
        return Ok(Deleted::WasAbsent);
    }
    let mut members = members(&container::list(call).await?, cluster);
    // The only machine is a member as long as it is there.
    let is_only = members.len() < 2;
    members.retain(|member| is_only || member.name != *name);
    let through = needed_of(call, &members, &doing).await?;
    if !is_only {
        let spec = EtcdMemberSpec::from_value(&written.spec).map_err(|error| call.refused(&what, &cause_of(&error)))?;
        remove(call, &through, &doing, name, &spec.peer).await?;
    }
    forget(call, &through, &doing, (KIND, name)).await?;
    Ok(Deleted::Gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"header":{"cluster_id":1},"members":[
        {"ID":9372538179322589801,"name":"dev-control-plane","peerURLs":["https://10.170.3.2:2380"],"clientURLs":["https://10.170.3.2:2379"]},
        {"ID":17,"name":"","peerURLs":["https://10.170.3.3:2380"]}]}"#;

    #[test]
    fn members_are_known_by_name_or_by_where_they_are() {
        let members = parse(LIST).unwrap();
        assert_eq!(members[0].hex(), "8211f1d0f64f3269");
        assert_eq!(members[0].readiness(), Readiness::Ready);
        assert!(members[1].is("dev-control-plane2", "https://10.170.3.3:2380"));
        assert!(!members[1].readiness().is_ready());
    }
}
