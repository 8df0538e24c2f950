//! Bootstraps: kubeadm's run on a machine, which makes it a node.

use ksail_kinds::{BootstrapAction, BootstrapSpec, Spec as _};
use ksail_model::{Observation, Preview, Readiness, Seen, Value};
use ksail_provider::{CallError, CreateRequest, DeleteRequest, Deleted, PreviewRequest, Target, UpdateRequest};

use crate::call::Call;
use crate::container;
use crate::control_plane::{cluster_of, kubectl};
use crate::exec::{Parcel, run, upload};
use crate::joining;
use crate::kubeadm_changes::Changes;
use crate::kubeadm_documents::fields;
use crate::machine;
use crate::made_by_kind;
use crate::network::cause_of;
use crate::node_addresses::told;
use crate::reconfigure;
use crate::registration::with_taints;
use crate::steps::{self, Work};
use crate::upgrade;
use crate::why_not::why_not;
use crate::written::Written;

/// The folder of its work.
const WORK: &str = "bootstrap";
/// Where kubeadm's configuration lies, as kind has it.
pub(crate) const CONFIG: &str = "kind/kubeadm.conf";
/// How often it is asked, ten times a second at most, whether a kubelet has registered its node.
const REGISTER_TRIES: u32 = 600;
/// How many lines of what was said a failure tells.
pub(crate) const TOLD: usize = 12;

/// What all runs begin with: containerd answers, and what a run before has left is gone.
const PRELUDE: &str = r#"set -eu
tries=0
until systemctl start containerd.service >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ "$tries" -ge 300 ]; then echo "containerd does not start" >&2; exit 1; fi
  sleep 0.1
done
if [ "$FRESH" != 1 ]; then
  kubeadm reset --force --cri-socket unix:///run/containerd/containerd.sock || true
  rm -rf /var/lib/etcd/* /etc/kubernetes/*
  mkdir -p /etc/kubernetes/manifests
fi
"#;
/// By this taint a control plane takes no workloads.
pub(crate) const TAINT: &str = "node-role.kubernetes.io/control-plane";
const NO_BALANCERS: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

pub(crate) fn what_of(machine: &str) -> String {
    format!("the node `{machine}`")
}

fn typed(call: &Call, what: &str, spec: &Value) -> Result<BootstrapSpec, CallError> {
    BootstrapSpec::from_value(spec).map_err(|error| call.refused(what, &cause_of(&error)))
}

/// Documents as kubeadm reads them: JSON is YAML.
pub(crate) fn text_of(config: &[Value]) -> String {
    let documents =
        config.iter().map(|document| serde_json::to_string_pretty(&document.to_plain_json()).unwrap_or_default());
    documents.collect::<Vec<_>>().join("\n---\n")
}

/// Lets a control plane take workloads, or not.
fn workloads(machine: &str, taken: bool) -> String {
    let kubectl = kubectl();
    if taken {
        format!(
            "{kubectl} taint nodes {machine} {TAINT}- >/dev/null 2>&1 &\n{kubectl} label nodes {machine} {NO_BALANCERS}- >/dev/null\nwait\n"
        )
    } else {
        format!(
            "{kubectl} taint --overwrite nodes {machine} {TAINT}=:NoSchedule >/dev/null\n{kubectl} label --overwrite nodes {machine} {NO_BALANCERS}= >/dev/null\n"
        )
    }
}

/// Waits until the kubelet has made the node's object: kubeadm does not, and who made it before the kubelet would make it without the
/// labels and taints that the kubelet was told.
fn registered(machine: &str) -> String {
    format!(
        r#"tries=0
until said=$(kubectl --kubeconfig=/etc/kubernetes/kubelet.conf get node {machine} 2>&1 >/dev/null); do
  tries=$((tries + 1))
  if [ "$tries" -ge {REGISTER_TRIES} ]; then echo "the kubelet does not register the node: $said" >&2; exit 1; fi
  sleep 0.1
done
"#
    )
}

/// What is done: kubeadm's own name for it, and what a control plane needs before.
fn program(machine: &str, spec: &BootstrapSpec, joins_control_plane: bool) -> String {
    let begins = spec.action == BootstrapAction::Init && !joins_control_plane;
    let action = if begins {
        "kubeadm init --config=/kind/kubeadm.conf --skip-token-print\n".to_owned()
    } else {
        format!("kubeadm join --config=/kind/kubeadm.conf\n{}", registered(machine))
    };
    let before = if joins_control_plane { joining::TAKE_KEYS } else { "" };
    let after = if spec.takes_workloads { workloads(machine, true) } else { String::new() };
    format!("{PRELUDE}{before}{action}{after}")
}

/// The document of a kind in the configuration.
pub(crate) fn document_of<'c>(config: &'c [Value], kind: &str) -> Option<&'c Value> {
    config.iter().find(|document| document.field("kind").and_then(Value::as_str) == Some(kind))
}

/// What is seen of the one of a target. What kind did before an import left nothing that says whose it is.
pub(crate) async fn observe_target(call: &Call, machine: &str, target: &Target) -> Result<Observation, CallError> {
    match observe(call, machine).await? {
        Observation::Absent if made_by_kind::is_imported(&target.identity) => {
            let seen = made_by_kind::bootstrap(call, machine, target).await?;
            Ok(seen.map_or(Observation::Absent, |seen| Observation::Present(Box::new(seen))))
        }
        seen => Ok(seen),
    }
}

pub(crate) async fn observe(call: &Call, machine: &str) -> Result<Observation, CallError> {
    let what = format!("look at {}", what_of(machine));
    let (begun, readiness) = match steps::state_unless(call, machine, &what, WORK, reconfigure::UNSETTLED).await? {
        Work::None | Work::Failed => return Ok(Observation::Absent),
        Work::Unsettled(begun) => {
            let why = "what kubeadm was told is being changed, or that was cut off";
            (begun, Readiness::NotReady(why.to_owned()))
        }
        Work::GoesOn(begun) => (begun, Readiness::NotReady("kubeadm is at work".to_owned())),
        Work::Done(begun) => (begun, Readiness::Ready),
    };
    let Some(written) = Written::read(&begun.whose) else { return Ok(Observation::Absent) };
    let mark = written.mark(&begun.operation);
    Ok(Observation::Present(Box::new(Seen {
        id: Some(machine.to_owned()),
        fields: written.spec,
        attributes: Value::empty_map(),
        mark: Some(mark),
        readiness,
        others: Vec::new(),
    })))
}

async fn seen(call: &Call, machine: &str, what: &str) -> Result<Seen, CallError> {
    match observe(call, machine).await? {
        Observation::Present(seen) => Ok(*seen),
        _ => Err(CallError::indeterminate(format!("{what} on the engine at {} is gone", call.place()))),
    }
}

pub(crate) async fn create(
    call: &Call,
    machine: &str,
    request: &CreateRequest,
    spec: &Value,
) -> Result<Seen, CallError> {
    let what = what_of(machine);
    let wanted = typed(call, &what, spec)?;
    // Work that goes on, or is over, needs no more preparation.
    let attached = matches!(
        steps::state(call, machine, &what, WORK).await?,
        Work::GoesOn(begun) | Work::Done(begun) if Written::read(&begun.whose).is_some_and(|written| written.spec == *spec)
    );
    let mut joins_control_plane = false;
    if !attached {
        if made_by_kind::is_node(call, machine, &what).await? {
            let why = "it is a node already, and was made by somebody else";
            return Err(call.refused(&what, why).hint("`ksail import cluster/main NAME` takes the whole cluster over"));
        }
        let cluster = cluster_of(&container::list(call).await?, machine)
            .ok_or_else(|| call.refused(&what, "its machine has no container").hint("plan again"))?;
        let joins = match wanted.action {
            BootstrapAction::Init => joining::is_begun(call, &cluster, machine, &what).await?,
            BootstrapAction::Join => true,
        };
        if joins {
            joins_control_plane = joining::prepare(call, &cluster, machine, &what, &wanted).await?;
        }
        write_config(call, machine, &what, &wanted).await?;
    }
    let whose = Written::new(&request.mark, spec, None).line();
    do_work(call, machine, &what, &whose, &program(machine, &wanted, joins_control_plane)).await?;
    seen(call, machine, &what).await
}

/// What kubeadm was told on a machine, if that is known there.
pub(crate) async fn config_of(call: &Call, machine: &str, doing: &str) -> Result<Option<String>, CallError> {
    let begun = match steps::state(call, machine, doing, WORK).await? {
        Work::Done(begun) | Work::GoesOn(begun) | Work::Unsettled(begun) => begun,
        Work::None => return made_by_kind::told(call, machine, doing).await,
        Work::Failed => return Ok(None),
    };
    let Some(written) = Written::read(&begun.whose) else { return Ok(None) };
    Ok(Some(text_of(&told(call, machine, with_taints(&typed(call, doing, &written.spec)?)).await?)))
}

/// Puts what kubeadm reads into the machine.
async fn write_config(call: &Call, machine: &str, what: &str, wanted: &BootstrapSpec) -> Result<(), CallError> {
    let mut parcel = Parcel::new();
    let packed = parcel.file(CONFIG, &text_of(&told(call, machine, with_taints(wanted)).await?));
    let packed = wanted.files.iter().fold(packed, |done, (path, text)| done.and_then(|()| parcel.file(path, text)));
    let packed = packed.and_then(|()| parcel.bytes());
    let packed = packed.map_err(|error| call.refused(what, &error.to_string()))?;
    upload(call, machine, &format!("write the configuration of {what}"), "/", packed).await
}

async fn do_work(call: &Call, machine: &str, what: &str, whose: &str, program: &str) -> Result<(), CallError> {
    let doing = format!("bring up {what}");
    let output = steps::work(call, machine, &doing, WORK, whose, program).await?;
    if output.is_success() {
        return Ok(());
    }
    // What cannot be asked any more is not the failure that is told.
    let why = why_not(call, machine, &doing).await.unwrap_or_default();
    let told = format!("kubeadm failed:\n{}\n{why}", output.end(TOLD));
    Err(call.refused(&doing, told.trim_end()).hint(format!(
        "`docker exec {machine} journalctl -u kubelet` and `ksail cluster logs` tell more; the same command tries again"
    )))
}

/// Waits for a run that goes on.
pub(crate) async fn wait(call: &Call, machine: &str, target: &Target) -> Result<Seen, CallError> {
    let what = what_of(machine);
    let doing = format!("wait for {what}");
    match steps::state_unless(call, machine, &doing, WORK, reconfigure::UNSETTLED).await? {
        // The work goes on by itself: this only waits for it, unless it is cut off at this very moment.
        Work::GoesOn(begun) => do_work(call, machine, &what, &begun.whose, "exit 1").await?,
        Work::Unsettled(_) => reconfigure::settle(call, machine, &doing).await?,
        Work::None | Work::Done(_) | Work::Failed => {}
    }
    match observe_target(call, machine, target).await? {
        Observation::Present(seen) => Ok(*seen),
        _ => Err(call.refused(&doing, &format!("it is not there: {}", target.address)).hint("plan again")),
    }
}

pub(crate) async fn update(
    call: &Call,
    machine: &str,
    request: &UpdateRequest,
    spec: &Value,
) -> Result<Seen, CallError> {
    let what = what_of(machine);
    let doing = format!("change {what}");
    let wanted = typed(call, &what, spec)?;
    let current = typed(call, &what, &request.current)?;
    let changes = Changes::of(&current, &wanted);
    if let Some(why) = refusal(&changes, &current, &wanted) {
        return Err(call.refused(&doing, &why));
    }
    if version(&current) != version(&wanted) {
        if observe(call, machine).await? == Observation::Absent {
            return Err(call.refused(&doing, "kind made it, and its machine cannot be upgraded yet"));
        }
        let version = version(&wanted).unwrap_or_default();
        upgrade::complete(call, machine, &machine::spec_of(call, machine, &doing).await?, &version).await?;
        write_config(call, machine, &what, &wanted).await?;
    }
    let whose = Written::new(&request.mark, spec, None).line();
    if changes.is_work() {
        reconfigure::run(call, machine, &doing, (&current, &wanted), &changes, &whose).await?;
    }
    if current.takes_workloads != wanted.takes_workloads {
        let program = format!("set -eu\n{}", workloads(machine, wanted.takes_workloads));
        let output = run(call, machine, &doing, &["sh", "-c", &program], "").await?;
        if !output.is_success() {
            return Err(call.refused(&doing, &output.end(TOLD)));
        }
    }
    steps::hand_over(call, machine, &doing, WORK, &whose).await?;
    seen(call, machine, &what).await
}

/// The version of Kubernetes that the configuration names.
fn version(spec: &BootstrapSpec) -> Option<String> {
    document_of(&spec.config, "ClusterConfiguration")?.field("kubernetesVersion")?.as_str().map(str::to_owned)
}

/// How many fields are named that cannot be changed.
const NAMED: usize = 3;

/// Why a change cannot be made: fields that stand as long as the cluster, or its node, does.
fn refusal(changes: &Changes, current: &BootstrapSpec, wanted: &BootstrapSpec) -> Option<String> {
    let (before, after) = (fields(&current.config), fields(&wanted.config));
    let show = |value: Option<&serde_json::Value>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let told = changes.fixed.iter().map(|path| match (before.get(path), after.get(path)) {
        (None, None) => path.clone(),
        (was, is) => format!("{path} was {}, and {} is declared", show(was), show(is)),
    });
    let told: Vec<String> = told.take(NAMED).collect();
    (!told.is_empty()).then(|| format!("what a cluster begins with, or a node, stays as it is: {}", told.join("; ")))
}

pub(crate) fn preview(request: &PreviewRequest) -> Preview {
    let parsed = |spec: Option<&Value>| spec.and_then(|spec| BootstrapSpec::from_value(spec).ok());
    let (Some(current), Some(wanted)) = (parsed(request.current.as_ref()), parsed(request.target.spec.as_ref())) else {
        return Preview::Unavailable;
    };
    match refusal(&Changes::of(&current, &wanted), &current, &wanted) {
        Some(message) => Preview::Refused {
            message,
            hint: Some(format!(
                "let the file say what it was told; or `--replace {}` makes it anew, with what is lost by that",
                request.target.address
            )),
        },
        None => Preview::Unavailable,
    }
}

/// Takes the machine out of its cluster: what kubeadm has put there is gone.
pub(crate) async fn delete(call: &Call, machine: &str, request: &DeleteRequest) -> Result<Deleted, CallError> {
    let what = what_of(machine);
    let found = observe_target(call, machine, &request.target).await?;
    let Observation::Present(found) = found else { return Ok(Deleted::WasAbsent) };
    let mark = found.mark.as_ref();
    let found = crate::ownership::Found { id: machine, mark };
    if !crate::ownership::may_delete(&what, &found, request)? {
        return Ok(Deleted::WasAbsent);
    }
    let doing = format!("take down {what}");
    let program = format!(
        "kubeadm reset --force --cri-socket unix:///run/containerd/containerd.sock && rm -rf /var/lib/etcd/* /etc/kubernetes/* {}/{WORK}",
        steps::FOLDER
    );
    let output = run(call, machine, &doing, &["sh", "-c", &program], "").await?;
    if output.is_success() { Ok(Deleted::Gone) } else { Err(call.refused(&doing, &output.end(TOLD))) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(config: serde_json::Value) -> BootstrapSpec {
        BootstrapSpec {
            action: BootstrapAction::Join,
            config: vec![Value::from(config)],
            through: Some("dev-control-plane".to_owned()),
            files: std::collections::BTreeMap::new(),
            taints: Vec::new(),
            takes_workloads: false,
        }
    }

    #[test]
    fn a_node_that_joins_is_one_when_its_kubelet_has_registered_it() {
        let join = spec(json!({"kind": "JoinConfiguration"}));
        let init = BootstrapSpec { action: BootstrapAction::Init, takes_workloads: true, ..join.clone() };
        let asks = "kubelet.conf get node dev-worker";
        assert!(program("dev-worker", &join, false).contains(asks));
        // kubeadm itself waits for the one that begins a cluster, to mark it.
        assert!(!program("dev-worker", &init, false).contains(asks));
        let both = BootstrapSpec { takes_workloads: true, ..join };
        assert!(
            program("dev-worker", &both, false).find(asks) < program("dev-worker", &both, false).find(NO_BALANCERS)
        );
    }

    #[test]
    fn documents_are_apart() {
        let config = [Value::from(json!({"kind": "A"})), Value::from(json!({"kind": "B"}))];
        assert_eq!(text_of(&config), "{\n  \"kind\": \"A\"\n}\n---\n{\n  \"kind\": \"B\"\n}");
    }

    #[test]
    fn what_is_fixed_is_told_with_what_it_was() {
        let with = |subnet: &str| {
            spec(
                json!({"kind": "ClusterConfiguration", "networking": {"podSubnet": subnet}, "scheduler": {"extraArgs": {"v": subnet}}}),
            )
        };
        let (before, after) = (with("10.1.0.0/16"), with("10.2.0.0/16"));
        let why = refusal(&Changes::of(&before, &after), &before, &after).expect("a refusal");
        assert!(
            why.ends_with(
                "ClusterConfiguration.networking.podSubnet was \"10.1.0.0/16\", and \"10.2.0.0/16\" is declared"
            ),
            "{why}"
        );
        assert_eq!(refusal(&Changes::of(&before, &before), &before, &before), None);
        let through = BootstrapSpec { through: None, ..before.clone() };
        assert!(refusal(&Changes::of(&before, &through), &before, &through).expect("a refusal").ends_with(": through"));
        let workloads = BootstrapSpec { takes_workloads: true, ..before.clone() };
        assert!(!Changes::of(&before, &workloads).is_work());
    }

    #[test]
    fn an_upgrade_changes_what_follows_from_the_version_and_nothing_else() {
        let of = |api: &str, version: &str, arguments: serde_json::Value| {
            let document = json!({
                "apiVersion": format!("kubeadm.k8s.io/{api}"), "kind": "ClusterConfiguration", "kubernetesVersion": version,
                "scheduler": {"extraArgs": arguments},
            });
            BootstrapSpec { action: BootstrapAction::Init, ..spec(document) }
        };
        let before = of("v1beta3", "v1.35.1", json!({"v": "2"}));
        let after = of("v1beta4", "v1.36.3", json!([{"name": "v", "value": "2"}]));
        assert!(!Changes::of(&before, &after).is_work());
        let other = of("v1beta4", "v1.36.3", json!([{"name": "v", "value": "3"}]));
        assert!(Changes::of(&before, &other).control_plane);
    }
}
