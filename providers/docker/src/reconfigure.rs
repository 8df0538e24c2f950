//! What kubeadm was told, told otherwise on a node that goes on: manifests, certificates and the kubelet's configuration are written anew by
//! kubeadm's own phases, and what runs by them is waited for.
//!
//! The work outlives whoever began it. What is changed is kept as it was before, until all of it serves: where something does not come up,
//! it is put back at once, and where the machine itself was cut off meanwhile, by the next apply.

use ksail_kinds::{BootstrapAction, BootstrapSpec};
use ksail_model::Value;
use ksail_provider::CallError;

use crate::bootstrap::{CONFIG, text_of};
use crate::call::Call;
use crate::control_plane::kubectl;
use crate::exec::{Parcel, upload};
use crate::kubeadm_changes::Changes;
use crate::node_addresses::told;
use crate::registration::with_taints;
use crate::steps::{self, FOLDER};

/// The folder of the work.
const WORK: &str = "reconfigure";
/// What was before is kept here as long as it is not known whether what comes after it serves; the sign that it is there in whole.
const KEPT: &str = "/var/lib/ksail/reconfigure/before";
pub(crate) const UNSETTLED: &str = "/var/lib/ksail/reconfigure/before/whole";
/// How long a program of the control plane, the API and a kubelet may take to come up, in seconds; and how long one that runs is watched
/// before it counts.
const COMES_UP_SECONDS: u32 = 120;
const GOES_ON_SECONDS: u32 = 3;
/// How many lines of what was said a failure tells.
const TOLD: usize = 12;

/// The program, which says what it is given.
const PROGRAM: &str = include_str!("reconfigure.sh");

/// A word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The program with what it is given.
fn program(name: &str, act: &str, given: &str, parts: &[&str], (paths, again): (&[&str], &str)) -> String {
    format!(
        "name={name} act={act} given={given} kept={KEPT} config={CONFIG}\nkubectl={kubectl}\nparts={parts}\nagain='{again}'\n\
         paths={paths} comes_up_seconds={COMES_UP_SECONDS} goes_on_seconds={GOES_ON_SECONDS}\n{PROGRAM}",
        paths = quoted(&paths.join(" ")),
        kubectl = quoted(&kubectl()),
        parts = quoted(&parts.join(" ")),
    )
}

/// The words for what changes.
fn parts(changes: &Changes, is_first: bool) -> Vec<&'static str> {
    let of = [
        (changes.certificate, "certificate"),
        (changes.control_plane, "control-plane"),
        (changes.etcd, "etcd"),
        (changes.kubelet, "kubelet"),
        (changes.proxy, "proxy"),
        (changes.dns, "dns"),
        (changes.kept || changes.proxy, "told"),
        (!is_first, "joined"),
    ];
    of.into_iter().filter_map(|(is, word)| is.then_some(word)).collect()
}

/// What kubeadm's phases read on a machine: one that has joined reads in the cluster what all are told.
fn documents(spec: &BootstrapSpec) -> Vec<Value> {
    let is_own = |document: &Value| {
        let kind = document.field("kind").and_then(Value::as_str);
        !matches!(kind, Some("ClusterConfiguration" | "KubeletConfiguration"))
    };
    let all = with_taints(spec).into_iter();
    all.filter(|document| spec.action == BootstrapAction::Init || is_own(document)).collect()
}

/// Each with an end of line, so that a shell reads the last one too.
fn lines(all: &[String]) -> String {
    all.iter().map(|line| format!("{line}\n")).collect()
}

/// Changes a node from one to the other; `whose` is what is said of it from then on.
pub(crate) async fn run(
    call: &Call,
    name: &str,
    doing: &str,
    (current, wanted): (&BootstrapSpec, &BootstrapSpec),
    changes: &Changes,
    whose: &str,
) -> Result<(), CallError> {
    let operation = call.context.operation.clone().unwrap_or_default();
    let given = format!("{FOLDER}/{WORK}/{operation}");
    let folder = given.trim_start_matches('/');
    let mut parcel = Parcel::new();
    let mut secret = |file: &str, text: &str| parcel.secret(&format!("{folder}/{file}"), text);
    let files = [
        ("kubeadm.conf", text_of(&documents(wanted))),
        ("former.conf", text_of(&documents(current))),
        ("own.conf", text_of(&told(call, name, with_taints(wanted)).await?)),
        ("labels", changes.labels.join("\n")),
        ("former.labels", changes.former_labels.join("\n")),
        ("arguments", changes.arguments.join("\n")),
        ("arguments.gone", lines(&changes.former_arguments)),
        ("whose", whose.to_owned()),
    ];
    let packed = files.iter().try_for_each(|(file, text)| secret(file, text));
    let new_files = wanted.files.iter().filter(|_| changes.files);
    let packed = packed.and_then(|()| {
        new_files.clone().try_for_each(|(path, text)| parcel.file(&format!("{folder}/files/{path}"), text))
    });
    let packed = packed.and_then(|()| parcel.bytes()).map_err(|error| call.refused(doing, &error.to_string()))?;
    upload(call, name, doing, "/", packed).await?;
    let again = if changes.files { "kube-apiserver" } else { "" };
    let paths: Vec<&str> = new_files.map(|(path, _)| path.as_str()).collect();
    let parts = parts(changes, wanted.action == BootstrapAction::Init);
    let program = program(name, "change", &given, &parts, (&paths, again));
    let output = steps::work(call, name, doing, WORK, &operation, &program).await?;
    if output.is_success() {
        return Ok(());
    }
    Err(call.refused(doing, &output.end(TOLD)).hint(
        "correct what the file says of it, or take that back; the same command tries again, and `ksail cluster logs` tells more",
    ))
}

/// Waits for a change that goes on, and puts back what was before one that was cut off.
pub(crate) async fn settle(call: &Call, name: &str, doing: &str) -> Result<(), CallError> {
    let program = program(name, "put_back", "''", &[], (&[], ""));
    let operation = call.context.operation.as_deref().unwrap_or_default();
    let output = steps::work(call, name, doing, WORK, &format!("settle {operation}"), &program).await?;
    if output.is_success() { Ok(()) } else { Err(call.refused(doing, &output.end(TOLD))) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_machine_that_joined_reads_in_the_cluster_what_all_are_told() {
        let config = [
            json!({"kind": "ClusterConfiguration", "clusterName": "a"}),
            json!({"kind": "InitConfiguration", "localAPIEndpoint": {"bindPort": 1}}),
            json!({"kind": "JoinConfiguration"}),
            json!({"kind": "KubeletConfiguration"}),
        ];
        let spec = |action| BootstrapSpec {
            action,
            config: config.iter().cloned().map(Value::from).collect(),
            through: None,
            files: BTreeMap::new(),
            taints: Vec::new(),
            takes_workloads: false,
        };
        let plain = |spec| documents(&spec).iter().map(Value::to_plain_json).collect::<Vec<_>>();
        assert_eq!(plain(spec(BootstrapAction::Init)), config);
        assert_eq!(plain(spec(BootstrapAction::Join)), config[1..3]);
    }

    #[test]
    fn the_cluster_is_told_by_its_first_machine_alone() {
        let changes = Changes { kept: true, kubelet: true, ..Changes::default() };
        assert_eq!(parts(&changes, true), ["kubelet", "told"]);
        assert_eq!(parts(&Changes { kept: false, ..changes }, false), ["kubelet", "joined"]);
    }
}
