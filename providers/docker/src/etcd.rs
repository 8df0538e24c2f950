//! Members of the etcd of a control plane: they come with the bootstrap of their machines, and leave before these go.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;
use ksail_kinds::{EtcdMemberSpec, Spec as _};
use ksail_model::{Path, Readiness, Seen, Value};
use ksail_provider::{CallError, CreateRequest, DeleteRequest, Deleted, UpdateRequest};
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
/// The client that etcd's image holds, with what it needs to be let in. By its name: etcd listens by one family of addresses.
const ETCDCTL: [&str; 6] = [
    "etcdctl",
    "--endpoints=https://localhost:2379",
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
/// Asks etcd on its own machine how it is, which it tells without being asked who wants to know; node images have no other program for it.
const HEALTH: &str = r#"exec 3<>/dev/tcp/localhost/2381 && printf 'GET /health HTTP/1.0\r\n\r\n' >&3 && cat <&3"#;
/// What it says of an alarm, before its name.
const ALARM: &str = "ALARM ";
/// It is full, and takes nothing more before there is room and the alarm is put out.
const FULL: &str = "NOSPACE";
/// What compaction says of a revision that another member has been told already.
const COMPACTED: &str = "has been compacted";

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

fn seen(name: &str, member: Option<&Member>, alarm: &str, written: Written) -> Seen {
    let mark = Some(written.mark(""));
    let mut fields = written.spec;
    fields.set(&Path::key("alarm"), Value::from(alarm));
    Seen {
        id: Some(name.to_owned()),
        attributes: Value::empty_map(),
        mark,
        fields,
        readiness: member.map_or(Readiness::Ready, Member::readiness),
        others: Vec::new(),
    }
}

/// What is known of the members of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Those that etcd has; `None` where there is one machine only, which is always a member.
    members: Option<Vec<Member>>,
    /// By machine, what its member raises the alarm for. Of one that does not answer nothing is known.
    alarms: BTreeMap<String, String>,
}

impl Known {
    fn alarm(&self, name: &str) -> &str {
        self.alarms.get(name).map_or(EtcdMemberSpec::NO_ALARM, String::as_str)
    }
}

pub(crate) async fn known(call: &Call, cluster: &str, what: &str) -> Result<Known, CallError> {
    let machines = members(&container::list(call).await?, cluster);
    let mut known = Known::default();
    let running = machines.iter().filter(|machine| machine.is_running);
    let alarms = running.map(|machine| async { Ok((machine.name.clone(), alarm(call, &machine.name, what).await?)) });
    known.alarms = try_join_all(alarms).await?.into_iter().collect();
    if machines.len() > 1 {
        let machine = needed_of(call, &machines, what).await?;
        known.members = Some(list(call, &machine, what).await?);
    }
    Ok(known)
}

/// What the member of a machine raises the alarm for.
async fn alarm(call: &Call, machine: &str, what: &str) -> Result<String, CallError> {
    let said = look(call, machine, what, &["bash", "-c", HEALTH]).await?.map(|output| output.stdout);
    Ok(alarm_in(&said.unwrap_or_default()).to_owned())
}

fn alarm_in(said: &str) -> &str {
    let named = said.split_once(ALARM).map(|(_, rest)| rest.split(|c: char| !c.is_ascii_alphabetic()).next());
    named.flatten().filter(|name| !name.is_empty()).unwrap_or(EtcdMemberSpec::NO_ALARM)
}

/// What is seen of a member that is kept: nothing, where etcd has it no more. One that is not kept counts as not there: its machine's
/// bootstrap brought it, and nobody has taken it up yet.
pub(crate) fn seen_of(name: &str, known: &Known, written: Written) -> Option<Seen> {
    let member = match &known.members {
        None => None,
        Some(members) => Some(members.iter().find(|member| member.name == name)?),
    };
    Some(seen(name, member, known.alarm(name), written))
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
    let kept = control_plane::all_kept(call, cluster, &doing).await?;
    if let Some(written) = kept_of(&kept, (KIND, name))
        && seen_of(name, &known, written.clone()).is_some()
    {
        written.may_complete(&what, &request.mark)?;
    }
    let member = match &known.members {
        None => None,
        Some(members) => {
            let member = members.iter().find(|member| member.is(name, &wanted.peer));
            Some(member.ok_or_else(|| call.refused(&doing, "etcd does not know it").hint("plan again"))?)
        }
    };
    let written = Written::new(&request.mark, spec, None);
    let machine = needed(call, cluster, &doing).await?;
    keep(call, &machine, &doing, (KIND, name), &written).await?;
    Ok(seen(name, member, known.alarm(name), written))
}

/// Puts out the alarm of a member that is full: former versions of objects are dropped, and the room that they took is given back.
pub(crate) async fn update(
    call: &Call,
    cluster: &str,
    request: &UpdateRequest,
    spec: &Value,
) -> Result<Seen, CallError> {
    let name = &request.target.identity.name;
    let doing = format!("put out the alarm of {}", what_of(name));
    match alarm(call, name, &doing).await?.as_str() {
        EtcdMemberSpec::NO_ALARM => {}
        FULL => make_room(call, name, &doing).await?,
        alarm => {
            let why = format!("it raises the alarm {alarm}, of which only another member helps");
            return Err(call
                .refused(&doing, &why)
                .hint(format!("`ksail plan --replace {}` makes it anew from the others", request.target.address)));
        }
    }
    let written = Written::new(&request.mark, spec, None);
    let machine = needed(call, cluster, &doing).await?;
    keep(call, &machine, &doing, (KIND, name), &written).await?;
    let known = known(call, cluster, &doing).await?;
    seen_of(name, &known, written).ok_or_else(|| call.refused(&doing, "etcd does not know it").hint("plan again"))
}

#[derive(Deserialize)]
struct EndpointStatus {
    #[serde(rename = "Status")]
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    header: Header,
    #[serde(rename = "dbSize")]
    size: u64,
    #[serde(rename = "dbSizeInUse")]
    used: u64,
    #[serde(rename = "dbSizeQuota", default)]
    quota: u64,
}

#[derive(Deserialize)]
struct Header {
    revision: u64,
}

async fn status(call: &Call, machine: &str, doing: &str) -> Result<Status, CallError> {
    let said = etcdctl(call, machine, doing, &["endpoint", "status", "--write-out=json"]).await?;
    let read: serde_json::Result<Vec<EndpointStatus>> = serde_json::from_str(&said);
    let status = read.map_err(|error| call.refused(doing, &error.to_string()))?.pop();
    status.map(|one| one.status).ok_or_else(|| call.refused(doing, "etcd does not say how it is"))
}

async fn etcdctl(call: &Call, machine: &str, doing: &str, arguments: &[&str]) -> Result<String, CallError> {
    let pod = pod(machine);
    let output = run(call, machine, doing, &command(&pod, arguments), "").await?;
    if output.is_success() { Ok(output.stdout) } else { Err(call.refused(doing, &output.end(TOLD))) }
}

async fn make_room(call: &Call, machine: &str, doing: &str) -> Result<(), CallError> {
    let revision = status(call, machine, doing).await?.header.revision.to_string();
    match etcdctl(call, machine, doing, &["compact", &revision]).await {
        Err(error) if !error.message.contains(COMPACTED) => return Err(error),
        _ => {}
    }
    etcdctl(call, machine, doing, &["--command-timeout=60s", "defrag"]).await?;
    let after = status(call, machine, doing).await?;
    if after.quota > 0 && after.size >= after.quota {
        let mib = |bytes: u64| bytes.div_ceil(1024 * 1024);
        let why = format!("{} MiB of {} MiB are taken by what is there now", mib(after.used), mib(after.quota));
        return Err(call.refused(doing, &why).hint(
            "delete objects (it still lets them go), or raise etcd's `quota-backend-bytes` by a patch of kubeadm's configuration",
        ));
    }
    etcdctl(call, machine, doing, &["alarm", "disarm"]).await.map(drop)
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
    fn an_alarm_is_told_by_its_name() {
        let head = "HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\n";
        assert_eq!(alarm_in(&format!("{head}{}", r#"{"health":"false","reason":"ALARM NOSPACE"}"#)), "NOSPACE");
        assert_eq!(alarm_in(&format!("{head}{}", r#"{"health":"true","reason":""}"#)), "none");
        assert_eq!(alarm_in(""), "none");
    }

    #[test]
    fn members_are_known_by_name_or_by_where_they_are() {
        let members = parse(LIST).unwrap();
        assert_eq!(members[0].hex(), "8211f1d0f64f3269");
        assert_eq!(members[0].readiness(), Readiness::Ready);
        assert!(members[1].is("dev-control-plane2", "https://10.170.3.3:2380"));
        assert!(!members[1].readiness().is_ready());
    }
}
