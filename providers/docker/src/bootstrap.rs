//! Bootstraps: kubeadm's run on a machine, which makes it a node.

use ksail_kinds::{BootstrapAction, BootstrapSpec, Spec as _};
use ksail_model::{Observation, Preview, Readiness, Seen, Value};
use ksail_provider::{CallError, CreateRequest, DeleteRequest, Deleted, PreviewRequest, Target, UpdateRequest};

use crate::call::Call;
use crate::exec::{Parcel, run, upload};
use crate::network::cause_of;
use crate::steps::{self, Work};
use crate::written::Written;

/// The folder of its work.
const WORK: &str = "bootstrap";
/// Where kubeadm's configuration lies, as kind has it.
const CONFIG: &str = "kind/kubeadm.conf";
/// How many lines of what was said a failure tells.
const TOLD: usize = 12;

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
/// Lines of the units that tell why a node does not come up.
const UNITS: &str = "journalctl --no-pager --lines 6 --unit kubelet --unit containerd --output cat --priority warning 2>/dev/null; \
     for log in /var/log/pods/kube-system_*/*/*.log; do [ -f \"$log\" ] && tail -n 2 \"$log\"; done 2>/dev/null; true";
const KUBECTL: &str = "kubectl --kubeconfig=/etc/kubernetes/admin.conf";
const TAINT: &str = "node-role.kubernetes.io/control-plane";
const NO_BALANCERS: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

fn what_of(machine: &str) -> String {
    format!("the node `{machine}`")
}

fn typed(call: &Call, what: &str, spec: &Value) -> Result<BootstrapSpec, CallError> {
    BootstrapSpec::from_value(spec).map_err(|error| call.refused(what, &cause_of(&error)))
}

/// Documents as kubeadm reads them: JSON is YAML.
fn text_of(config: &[Value]) -> String {
    let documents =
        config.iter().map(|document| serde_json::to_string_pretty(&document.to_plain_json()).unwrap_or_default());
    documents.collect::<Vec<_>>().join("\n---\n")
}

/// Lets a control plane take workloads, or not.
fn workloads(machine: &str, taken: bool) -> String {
    if taken {
        format!(
            "{KUBECTL} taint nodes {machine} {TAINT}- >/dev/null 2>&1 || true\n{KUBECTL} label nodes {machine} {NO_BALANCERS}- >/dev/null\n"
        )
    } else {
        format!(
            "{KUBECTL} taint --overwrite nodes {machine} {TAINT}=:NoSchedule >/dev/null\n{KUBECTL} label --overwrite nodes {machine} {NO_BALANCERS}= >/dev/null\n"
        )
    }
}

fn program(machine: &str, spec: &BootstrapSpec) -> String {
    let action = match spec.action {
        BootstrapAction::Init => "kubeadm init --config=/kind/kubeadm.conf --skip-token-print\n",
        BootstrapAction::Join => "kubeadm join --config=/kind/kubeadm.conf\n",
    };
    let after = if spec.takes_workloads { workloads(machine, true) } else { String::new() };
    format!("{PRELUDE}{action}{after}")
}

/// The token with which the configuration lets a machine join.
fn token(config: &[Value]) -> Option<String> {
    let join =
        config.iter().find(|document| document.field("kind").and_then(Value::as_str) == Some("JoinConfiguration"))?;
    let token = join.field("discovery")?.field("bootstrapToken")?.field("token")?;
    token.as_str().map(str::to_owned)
}

/// Lets machines join by the token: the one that the cluster began with is good for a day.
async fn admit(call: &Call, through: &str, what: &str, token: &str) -> Result<(), CallError> {
    let doing = format!("let {what} join through `{through}`");
    let id = token.split('.').next().unwrap_or_default();
    let program = format!(
        "{KUBECTL} -n kube-system get secret bootstrap-token-{id} >/dev/null 2>&1 || kubeadm token create \"$1\" >/dev/null"
    );
    let output = run(call, through, &doing, &["sh", "-c", &program, "sh", token], "").await?;
    if output.is_success() { Ok(()) } else { Err(call.refused(&doing, &output.end(TOLD))) }
}

pub(crate) async fn observe(call: &Call, machine: &str) -> Result<Observation, CallError> {
    let what = format!("look at {}", what_of(machine));
    let (begun, readiness) = match steps::state(call, machine, &what, WORK).await? {
        Work::None | Work::Failed => return Ok(Observation::Absent),
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
    if let (Some(through), Some(token)) = (&wanted.through, token(&wanted.config)) {
        admit(call, through, &what, &token).await?;
    }
    let mut parcel = Parcel::new();
    let packed = parcel.file(CONFIG, &text_of(&wanted.config)).and_then(|()| parcel.bytes());
    let packed = packed.map_err(|error| call.refused(&what, &error.to_string()))?;
    upload(call, machine, &format!("write the configuration of {what}"), "/", packed).await?;
    do_work(call, machine, &what, &Written::new(&request.mark, spec, None).line(), &program(machine, &wanted)).await?;
    seen(call, machine, &what).await
}

async fn do_work(call: &Call, machine: &str, what: &str, whose: &str, program: &str) -> Result<(), CallError> {
    let doing = format!("bring up {what}");
    let output = steps::work(call, machine, &doing, WORK, whose, program).await?;
    if output.is_success() {
        return Ok(());
    }
    let units = run(call, machine, &doing, &["sh", "-c", UNITS], "").await.map(|units| units.end(TOLD));
    let told = format!("kubeadm failed:\n{}\n{}", output.end(TOLD), units.unwrap_or_default());
    Err(call
        .refused(&doing, told.trim_end())
        .hint(format!("`docker exec {machine} journalctl -u kubelet` tells more; the same command tries again")))
}

/// Waits for a run that goes on.
pub(crate) async fn wait(call: &Call, machine: &str, target: &Target) -> Result<Seen, CallError> {
    let what = what_of(machine);
    let doing = format!("wait for {what}");
    if let Work::GoesOn(begun) = steps::state(call, machine, &doing, WORK).await? {
        // The work goes on by itself: this only waits for it, unless it is cut off at this very moment.
        do_work(call, machine, &what, &begun.whose, "exit 1").await?;
    }
    match observe(call, machine).await? {
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
    if let Some(why) = fixed(&current, &wanted) {
        return Err(call.refused(&doing, why));
    }
    if current.takes_workloads != wanted.takes_workloads {
        let program = format!("set -eu\n{}", workloads(machine, wanted.takes_workloads));
        let output = run(call, machine, &doing, &["sh", "-c", &program], "").await?;
        if !output.is_success() {
            return Err(call.refused(&doing, &output.end(TOLD)));
        }
    }
    steps::hand_over(call, machine, &doing, WORK, &Written::new(&request.mark, spec, None).line()).await?;
    seen(call, machine, &what).await
}

/// Why a change cannot be made.
fn fixed(current: &BootstrapSpec, wanted: &BootstrapSpec) -> Option<&'static str> {
    if current.config == wanted.config && current.through == wanted.through { None } else { Some(NOT_AGAIN) }
}

const NOT_AGAIN: &str = "what kubeadm was told when the node was made cannot be changed in place yet";

pub(crate) fn preview(request: &PreviewRequest) -> Preview {
    let parsed = |spec: Option<&Value>| spec.and_then(|spec| BootstrapSpec::from_value(spec).ok());
    match (parsed(request.current.as_ref()), parsed(request.target.spec.as_ref())) {
        (Some(current), Some(wanted)) => match fixed(&current, &wanted) {
            Some(why) => Preview::Refused {
                message: why.to_owned(),
                hint: Some(format!("`--replace {}` makes it anew, with what is lost by that", request.target.address)),
            },
            None => Preview::Unavailable,
        },
        _ => Preview::Unavailable,
    }
}

/// Takes the machine out of its cluster: what kubeadm has put there is gone.
pub(crate) async fn delete(call: &Call, machine: &str, request: &DeleteRequest) -> Result<Deleted, CallError> {
    let what = what_of(machine);
    let Observation::Present(found) = observe(call, machine).await? else { return Ok(Deleted::WasAbsent) };
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
            takes_workloads: false,
        }
    }

    #[test]
    fn the_token_is_the_one_of_the_configuration() {
        let join = json!({"kind": "JoinConfiguration", "discovery": {"bootstrapToken": {"token": "abcdef.0"}}});
        assert_eq!(token(&spec(join).config).as_deref(), Some("abcdef.0"));
        assert_eq!(token(&spec(json!({"kind": "InitConfiguration"})).config), None);
    }

    #[test]
    fn documents_are_apart() {
        let config = [Value::from(json!({"kind": "A"})), Value::from(json!({"kind": "B"}))];
        assert_eq!(text_of(&config), "{\n  \"kind\": \"A\"\n}\n---\n{\n  \"kind\": \"B\"\n}");
    }

    #[test]
    fn only_where_workloads_go_changes_in_place() {
        let before = spec(json!({"kind": "A"}));
        assert_eq!(fixed(&before, &BootstrapSpec { takes_workloads: true, ..before.clone() }), None);
        assert_eq!(fixed(&before, &spec(json!({"kind": "A", "b": 1}))), Some(NOT_AGAIN));
    }
}
