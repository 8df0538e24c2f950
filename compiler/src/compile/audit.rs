//! The API server's log of who asked for what: its policy, and what kubeadm is told of it.

use ksail_model::{Diagnostic, Path};
use serde_json::{Value as Json, json};

use super::resources::Builder;
use crate::codes;
use crate::sources::SourceFile;
use crate::tree::{Data, Node, Role, Texts};
use crate::yaml;

/// Where the policy lies on a machine: on what it keeps, and not where kubeadm clears away.
pub(super) const POLICY: &str = "var/lib/ksail/audit/policy.yaml";
/// Where it, and the log, are for the API server; the log is the machine's folder of that name.
const MOUNTED: &str = "/etc/kubernetes/audit/policy.yaml";
const LOGS: &str = "/var/log/kubernetes/audit";
/// How long and how much is kept: days, files, megabytes a file.
const KEPT: [(&str, u32); 3] = [("audit-log-maxage", 7), ("audit-log-maxbackup", 3), ("audit-log-maxsize", 100)];
/// What a policy says it is.
const API_VERSION: &str = "audit.k8s.io/v1";
const KIND: &str = "Policy";
/// Who asked for what, never what was said; without what nodes and controllers watch all the time.
const DEFAULT: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    userGroups: [system:nodes]
    verbs: [get, list, watch]
  - level: None
    users: [system:kube-controller-manager, system:kube-scheduler, system:apiserver]
    verbs: [get, list, watch]
  - level: None
    resources:
      - {group: coordination.k8s.io, resources: [leases]}
  - level: None
    nonResourceURLs: [/healthz*, /livez*, /readyz*, /metrics]
  - level: Metadata
";

/// The API server's arguments.
pub(super) fn arguments() -> Vec<(&'static str, String)> {
    let places = [("audit-policy-file", MOUNTED.to_owned()), ("audit-log-path", format!("{LOGS}/audit.log"))];
    places.into_iter().chain(KEPT.map(|(name, number)| (name, number.to_string()))).collect()
}

/// What of the machine its container is given.
pub(super) fn volumes() -> Json {
    json!([
        {"name": "audit-policy", "hostPath": format!("/{POLICY}"), "mountPath": MOUNTED, "readOnly": true, "pathType": "File"},
        {"name": "audit-log", "hostPath": LOGS, "mountPath": LOGS, "pathType": "DirectoryOrCreate"},
    ])
}

impl Builder<'_> {
    /// The policy, where the file asks for a log.
    pub(super) fn audit_policy(&mut self) -> Option<String> {
        let audit = self.loaded.config.spec.cluster.audit.as_ref()?;
        let Some(name) = &audit.policy else { return Some(DEFAULT.to_owned()) };
        let read = self.project.file(name).and_then(|file| judge(&file).map(|()| file.text));
        match read {
            Ok(text) => Some(text),
            Err(why) => {
                let message = format!("the audit policy `{name}` cannot be used: {why}");
                let error = Diagnostic::error(codes::BAD_VALUE, message).hint(format!(
                    "it begins with `apiVersion: {API_VERSION}` and `kind: {KIND}`, and is relative to the project's folder"
                ));
                let path = Path::parse("spec.cluster.audit.policy").unwrap_or_default();
                self.problems.push(self.loaded.label(error, &path, ""));
                None
            }
        }
    }
}

/// Whether a file is a policy: an API server with something else does not start.
fn judge(file: &SourceFile) -> Result<(), String> {
    let mut texts = Texts::default();
    let text = texts.add(&file.name, &file.text, Role::File);
    let read = yaml::read(&texts, text, &file.text, 0);
    if let Some(problem) = read.diagnostics.first() {
        return Err(problem.message.clone());
    }
    let root = read.root.ok_or("it is empty")?;
    let said = |key: &str| match root.entry(key).map(|entry| &entry.value) {
        Some(Node { data: Data::Scalar { text, .. }, .. }) => text.clone(),
        _ => String::new(),
    };
    let (version, kind) = (said("apiVersion"), said("kind"));
    if (version.as_str(), kind.as_str()) != (API_VERSION, KIND) {
        return Err(format!("it says `{version}`, `{kind}`"));
    }
    match root.entry("rules").map(|entry| &entry.value.data) {
        Some(Data::List(rules)) if !rules.is_empty() => Ok(()),
        _ => Err("it has no rules".to_owned()),
    }
}
