//! What clusters need of this machine, looked at: what is well, what is not, and what to do about it.

mod host;
mod ipv6;
mod names;

use std::collections::BTreeMap;
use std::time::Duration;

use ksail_compiler::format::Provider as ProviderName;
use ksail_kinds::{BootstrapSpec, MachineSpec, Spec as _};
use ksail_model::{DeclaredGraph, Diagnostic, Path, ProviderConfig, Value};
use ksail_plan::{Action, Plan};
use ksail_provider::CallContext;
use tokio_util::sync::CancellationToken;

use crate::connector::docker;
use crate::error::codes;
use crate::platform::Platform;
use crate::settings::Settings;

use host::{FIRST_MINOR_WITHOUT_CGROUP_V1, low_ports, lowest_port, of_host};
use names::{names, proxies};

/// How long the engine may take to tell of its machine.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// The ports that are tried first where the file fixes none, and who has them then.
const FIRST_PORTS: [(u16, &str); 2] = [(6443, "the API"), (5050, "the local registry")];

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It was not looked at, because nothing needs it or nothing tells of it.
    Skipped,
    /// Something may not work.
    Warning,
    /// Something will not work.
    Bad,
}

impl Verdict {
    /// The word for programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, as a fragment.
    pub found: String,
    /// What to do, where something is to be done.
    pub remedy: Option<String>,
}

fn check(name: &'static str, verdict: Verdict, found: impl Into<String>, remedy: Option<&str>) -> Check {
    Check { name, verdict, found: found.into(), remedy: remedy.map(str::to_owned) }
}

/// Looks at all that a cluster needs of this machine; with a project, at what that needs.
pub async fn doctor(settings: &Settings, project: Option<&Platform>) -> Vec<Check> {
    let graph = project.and_then(|project| project.stack().ok()).map(|stack| stack.graph).unwrap_or_default();
    let provider = project.map(|project| project.config().provider());
    let mut checks = Vec::new();
    match provider {
        None | Some(ProviderName::Docker) => checks.extend(of_engine(settings, project, &graph).await),
        Some(other) => {
            checks.push(check("engine", Verdict::Skipped, format!("provider {other} needs no Docker"), None))
        }
    }
    checks.push(proxies(settings));
    checks.extend(names(settings, &graph).await);
    checks
}

async fn of_engine(settings: &Settings, project: Option<&Platform>, graph: &DeclaredGraph) -> Vec<Check> {
    let engine = match docker(settings, &ProviderConfig::default(), None) {
        Ok(engine) => engine,
        Err(error) => return vec![check("engine", Verdict::Bad, error.message, error.hint.as_deref())],
    };
    let facts = match engine.host(&context()).await {
        Ok(facts) => facts,
        Err(error) => return vec![check("engine", Verdict::Bad, error.message, error.hint.as_deref())],
    };
    let nodes = graph.declarations.keys().filter(|address| address.kind() == MachineSpec::KIND).count();
    let mut checks = of_host(&facts, u64::try_from(nodes).unwrap_or(1).max(1));
    if graph.declarations.values().any(|declared| ipv6::is_needed(&declared.spec)) {
        checks.push(ipv6::check(&facts));
    }
    checks.extend(low_ports(&facts, lowest_port(graph.declarations.values().map(|one| &one.spec))));
    let lineage = match project {
        Some(project) => project.snapshot().await.ok().flatten().map(|snapshot| snapshot.lineage),
        None => None,
    };
    let fixed: BTreeMap<u16, String> = graph
        .declarations
        .values()
        .filter_map(|one| Some((port(one.spec.field("port")?)?, one.address.to_string())))
        .collect();
    let first: BTreeMap<u16, String> = FIRST_PORTS.map(|(port, whose)| (port, whose.to_owned())).into();
    let asked: Vec<u16> = fixed.keys().chain(first.keys()).copied().collect();
    use ksail_provider::Provider as _;
    match engine.ports_in_use(&context(), &asked).await {
        Err(error) => checks.push(check("ports", Verdict::Skipped, error.message, None)),
        Ok(held) => {
            let is_other = |taken: &&ksail_provider::PortInUse| taken.lineage.is_none() || taken.lineage != lineage;
            let mut others = held.iter().filter(is_other).peekable();
            if others.peek().is_none() {
                checks.push(check(
                    "ports",
                    Verdict::Good,
                    "those that are asked for are free, or this project's",
                    None,
                ));
            }
            for taken in others {
                let said = format!("port {} is held by {}", taken.port, taken.holder);
                checks.push(match fixed.get(&taken.port) {
                    Some(whose) => check(
                        "ports",
                        Verdict::Bad,
                        format!("{said}, and {whose} shall have it"),
                        Some("free it, or choose another one in the file"),
                    ),
                    None => check(
                        "ports",
                        Verdict::Good,
                        format!("{said}: another one is chosen where none is fixed"),
                        None,
                    ),
                });
            }
        }
    }
    checks
}

fn context() -> CallContext {
    CallContext { lineage: String::new(), operation: None, timeout: LOOK_TIMEOUT, cancel: CancellationToken::new() }
}

fn port(value: &Value) -> Option<u16> {
    value.as_i64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
}

/// What of the engine's machine would let a plan fail that makes machines: errors, and what may be well for all that as warnings.
pub(crate) async fn unfit(plan: &Plan, settings: &Settings) -> Vec<Diagnostic> {
    let made = || plan.nodes.values().filter(|node| node.action == Action::Create);
    let specs = |kind: &'static str| {
        let of_kind = made().filter(move |node| node.key.address.kind() == kind);
        of_kind.filter_map(|node| Some(&node.declaration.as_ref()?.spec))
    };
    if !made().any(|node| node.key.address.kind() == MachineSpec::KIND) {
        return Vec::new();
    }
    // An engine that does not answer is told of by the plan itself.
    let Ok(engine) = docker(settings, &ProviderConfig::default(), None) else { return Vec::new() };
    let Ok(facts) = engine.host(&context()).await else { return Vec::new() };
    let all = plan.nodes.keys().filter(|key| key.address.kind() == MachineSpec::KIND).count();
    let mut found: Vec<Check> = of_host(&facts, u64::try_from(all).unwrap_or(1));
    if specs(MachineSpec::KIND).any(ipv6::is_needed) {
        found.push(ipv6::check(&facts));
    }
    let is_refused = specs(BootstrapSpec::KIND).any(refuses_cgroup_v1);
    found.retain(|check| match check.name {
        "cgroups" => is_refused || facts.is_podman || check.verdict == Verdict::Bad,
        "limits" | "disk" | "ipv6" | "delegation" => check.verdict == Verdict::Bad,
        _ => false,
    });
    found.extend(low_ports(&facts, lowest_port(made().filter_map(|node| Some(&node.declaration.as_ref()?.spec)))));
    let diagnostics = found.into_iter().filter_map(|check| {
        let message = format!("the engine's machine is not fit for this plan: {}: {}", check.name, check.found);
        let diagnostic = match check.verdict {
            Verdict::Bad => Diagnostic::error(codes::UNFIT_HOST, message),
            Verdict::Warning => Diagnostic::warning(codes::UNFIT_HOST, message),
            Verdict::Good | Verdict::Skipped => return None,
        };
        Some(check.remedy.into_iter().fold(diagnostic, Diagnostic::hint))
    });
    diagnostics.collect()
}

/// Whether a kubelet would refuse cgroups of version 1: by its version, unless it is told otherwise.
fn refuses_cgroup_v1(bootstrap: &Value) -> bool {
    let documents = bootstrap.field("config").and_then(Value::as_list).map(Vec::as_slice).unwrap_or_default();
    let of = |kind: &str| documents.iter().find(|one| one.field("kind").and_then(Value::as_str) == Some(kind));
    let version = of("ClusterConfiguration").and_then(|one| one.field("kubernetesVersion")).and_then(Value::as_str);
    let minor = version.and_then(|version| version.split('.').nth(1)?.parse::<u64>().ok());
    let fails = of("KubeletConfiguration").and_then(|one| one.get(&Path::key("failCgroupV1"))).and_then(Value::as_bool);
    fails != Some(false) && minor.is_some_and(|minor| minor >= FIRST_MINOR_WITHOUT_CGROUP_V1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kubelet_says_by_version_and_patch_what_it_takes() {
        let refuses = |version: &str, kubelet: serde_json::Value| {
            refuses_cgroup_v1(&Value::from(json!({"config": [
                {"kind": "ClusterConfiguration", "kubernetesVersion": version},
                kubelet,
            ]})))
        };
        let plain = json!({"kind": "KubeletConfiguration"});
        assert!(refuses("v1.36.3", plain.clone()) && !refuses("v1.34.0", plain));
        assert!(!refuses("v1.36.3", json!({"kind": "KubeletConfiguration", "failCgroupV1": false})));
    }
}
