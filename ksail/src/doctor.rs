//! What clusters need of this machine, looked at: what is well, what is not, and what to do about it.

mod ipv6;

use std::collections::BTreeMap;
use std::time::Duration;

use ksail_compiler::format::Provider as ProviderName;
use ksail_kinds::{BootstrapSpec, MachineSpec, MirrorSpec, Spec as _};
use ksail_model::{DeclaredGraph, Diagnostic, Path, ProviderConfig, Value};
use ksail_plan::{Action, Plan};
use ksail_provider::CallContext;
use ksail_provider_docker::{HostFacts, OwnFacts};
use tokio_util::sync::CancellationToken;

use crate::connector::docker;
use crate::error::codes;
use crate::platform::Platform;
use crate::settings::Settings;

/// How long the engine may take to tell of its machine, and a name to be resolved.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
const NAME_TIMEOUT: Duration = Duration::from_secs(5);
/// How many inotify instances and watches one node takes with what kubeadm starts on it, measured on one without workloads, and a
/// control plane beside that.
const INSTANCES_A_NODE: u64 = 17;
const INSTANCES_OF_CONTROL: u64 = 13;
const WATCHES_A_NODE: u64 = 320;
/// What kind advises for clusters of several nodes and many workloads.
const ADVISED_INSTANCES: u64 = 512;
const ADVISED_WATCHES: u64 = 524_288;
/// From this minor version on, the kubelet refuses cgroups of version 1 by itself.
const FIRST_MINOR_WITHOUT_CGROUP_V1: u64 = 35;
const GIB: u64 = 1024 * 1024 * 1024;
/// With less free disk than this, images do not fit, and with less than that it becomes tight.
const LEAST_DISK: u64 = 2 * GIB;
const TIGHT_DISK: u64 = 10 * GIB;
/// With less memory than this, a control plane does not fit.
const LEAST_MEMORY: u64 = 2 * GIB;
/// The ports that are tried first where the file fixes none, and who has them then.
const FIRST_PORTS: [(u16, &str); 2] = [(6443, "the API"), (5050, "the local registry")];
/// Where node images come from.
const REGISTRY: &str = "registry-1.docker.io";
/// How controllers are given to users without root.
const DELEGATE: &str = "`sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | \
                        sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload`, and log in again";
/// Variables that name a proxy.
const PROXIES: [&str; 2] = ["HTTPS_PROXY", "HTTP_PROXY"];

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

/// Judges the engine's machine, for so many nodes.
fn of_host(facts: &HostFacts, nodes: u64) -> Vec<Check> {
    let rootless = if facts.is_rootless { ", rootless" } else { "" };
    let found = format!("{}{rootless} on {} at {}", facts.engine, facts.system, facts.place);
    let mut checks = vec![check("engine", Verdict::Good, found, None)];
    checks.extend(facts.warnings.iter().map(|warning| {
        let remedy = "`docker info` tells it too; the kernel must be built, or booted, with it";
        check("engine", Verdict::Warning, warning.trim_start_matches("WARNING: "), Some(remedy))
    }));
    checks.push(cgroups(facts));
    checks.extend(delegation(facts));
    let Some(own) = &facts.own else {
        let found = "the engine's machine is not this one, and does not tell";
        checks.extend(["limits", "disk"].map(|name| check(name, Verdict::Skipped, found, None)));
        checks.push(size(facts));
        return checks;
    };
    checks.push(limits(own, nodes));
    checks.push(disk(own, facts));
    checks.push(size(facts));
    checks
}

fn cgroups(facts: &HostFacts) -> Check {
    match facts.cgroup_version {
        Some(1) if facts.is_rootless => check(
            "cgroups",
            Verdict::Bad,
            "version 1, with which a rootless engine cannot limit anything",
            Some("boot with `systemd.unified_cgroup_hierarchy=1`, and delegate controllers to the user"),
        ),
        Some(1) if facts.is_podman => check(
            "cgroups",
            Verdict::Warning,
            "version 1, of which Podman gives a machine none of its own: its kubelet does not start",
            Some("boot with `systemd.unified_cgroup_hierarchy=1`"),
        ),
        Some(1) => check(
            "cgroups",
            Verdict::Warning,
            format!("version 1, which the kubelet refuses from Kubernetes 1.{FIRST_MINOR_WITHOUT_CGROUP_V1} on"),
            Some(
                "boot with `systemd.unified_cgroup_hierarchy=1`, or patch `failCgroupV1: false` into the KubeletConfiguration",
            ),
        ),
        Some(version) => check("cgroups", Verdict::Good, format!("version {version}"), None),
        None => check("cgroups", Verdict::Skipped, "the engine does not tell their version", None),
    }
}

/// What a rootless engine may not limit, because the user was not given its controllers. A kubelet that cannot does not start.
fn delegation(facts: &HostFacts) -> Option<Check> {
    // Version 1 is told of by itself.
    if !facts.is_rootless || facts.cgroup_version == Some(1) {
        return None;
    }
    Some(if facts.unlimited.is_empty() {
        check("delegation", Verdict::Good, "memory, cpu and pids can be limited without root", None)
    } else {
        let found =
            format!("a rootless engine that cannot limit {}: they are not delegated to it", facts.unlimited.join(", "));
        check("delegation", Verdict::Bad, found, Some(DELEGATE))
    })
}

/// Whether a rootless engine may publish the lowest port that is asked for.
fn low_ports(facts: &HostFacts, lowest: Option<u16>) -> Option<Check> {
    let first = facts.own.as_ref().filter(|_| facts.is_rootless)?.first_port?;
    let lowest = lowest.filter(|port| *port < first)?;
    let found = format!("port {lowest} cannot be published without root: the first that can is {first}");
    let remedy = format!(
        "`sudo sysctl -w net.ipv4.ip_unprivileged_port_start={lowest}` (in a file of /etc/sysctl.d/ it stays), or a port from {first} on"
    );
    Some(check("low-ports", Verdict::Bad, found, Some(&remedy)))
}

/// The lowest port of this machine that a container of these declarations publishes.
fn lowest_port<'a>(specs: impl Iterator<Item = &'a Value>) -> Option<u16> {
    let of = |spec: &Value| {
        let listed = spec.field("ports").and_then(Value::as_list).into_iter().flatten();
        let listed: Vec<u16> = listed.filter_map(|one| port(one.field("host")?)).collect();
        listed.into_iter().chain(spec.field("port").and_then(port)).min()
    };
    specs.filter_map(of).min()
}

/// The command that raises the limits.
fn raise() -> String {
    format!(
        "`sudo sysctl -w fs.inotify.max_user_instances={ADVISED_INSTANCES} fs.inotify.max_user_watches={ADVISED_WATCHES}`; \
         in a file of /etc/sysctl.d/ it stays"
    )
}

fn limits(own: &OwnFacts, nodes: u64) -> Check {
    let (Some(instances), Some(watches)) = (own.inotify_instances, own.inotify_watches) else {
        return check("limits", Verdict::Skipped, "the limits of inotify cannot be read here", None);
    };
    let found = format!("{instances} inotify instances and {watches} watches for each user");
    let is_least = instances >= INSTANCES_OF_CONTROL + INSTANCES_A_NODE * nodes && watches >= WATCHES_A_NODE * nodes;
    let is_well = instances >= ADVISED_INSTANCES && watches >= ADVISED_WATCHES / 4;
    match (is_least, is_well) {
        (false, _) => {
            let found = format!("{found}, too few for {nodes} nodes: pods fail with `too many open files`");
            check("limits", Verdict::Bad, found, Some(&raise()))
        }
        (true, false) => {
            let found = format!("{found}: enough for {nodes}, and few for many workloads");
            check("limits", Verdict::Warning, found, Some(&raise()))
        }
        (true, true) => check("limits", Verdict::Good, found, None),
    }
}

fn disk(own: &OwnFacts, facts: &HostFacts) -> Check {
    let Some(free) = own.disk_free else {
        return check("disk", Verdict::Skipped, format!("{} cannot be looked at", facts.folder.display()), None);
    };
    let found = format!("{} GiB free in {}", free / GIB, facts.folder.display());
    let remedy = "`docker system df` tells what takes it, `docker image prune` frees what nothing needs";
    match free {
        ..LEAST_DISK => check("disk", Verdict::Bad, found, Some(remedy)),
        LEAST_DISK..TIGHT_DISK => check("disk", Verdict::Warning, found, Some(remedy)),
        _ => check("disk", Verdict::Good, found, None),
    }
}

fn size(facts: &HostFacts) -> Check {
    let found = format!("{} processors, {} GiB of memory", facts.processors, facts.memory / GIB);
    let remedy = "give the engine's machine more, in the settings of Docker Desktop, colima or whatever runs it";
    match facts.memory {
        0 => check("size", Verdict::Skipped, "the engine does not tell", None),
        memory if memory < LEAST_MEMORY => check("size", Verdict::Warning, found, Some(remedy)),
        _ => check("size", Verdict::Good, found, None),
    }
}

/// A proxy without the credentials that it may be written with.
fn without_credentials(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
        (None, Some((_, place))) => place.to_owned(),
        _ => text.to_owned(),
    }
}

fn set(settings: &Settings, name: &str) -> Option<String> {
    let env = |name: &str| (settings.env)(name).filter(|value| !value.is_empty());
    env(name).or_else(|| env(&name.to_lowercase()))
}

fn proxies(settings: &Settings) -> Check {
    let found: Vec<String> = PROXIES
        .iter()
        .filter_map(|name| Some(format!("{name}={}", without_credentials(&set(settings, name)?))))
        .collect();
    if found.is_empty() {
        return check("proxy", Verdict::Good, "none is set", None);
    }
    let found = format!("{}: new machines get it, and reach their cluster past it", found.join(", "));
    check("proxy", Verdict::Good, found, None)
}

/// Whether the names that are asked for are known here: `localhost`, and where images come from.
async fn names(settings: &Settings, graph: &DeclaredGraph) -> Vec<Check> {
    let mut checks = Vec::new();
    let local = resolve("localhost").await;
    let is_local = local.as_ref().is_ok_and(|found| found.iter().all(std::net::IpAddr::is_loopback));
    if !is_local {
        let found = "`localhost` is not this machine";
        checks.push(check("dns", Verdict::Bad, found, Some("write `127.0.0.1 localhost` into /etc/hosts")));
    }
    let upstreams = graph.declarations.values().filter(|one| one.address.kind() == MirrorSpec::KIND);
    let mut hosts: Vec<String> = upstreams.filter_map(|one| host_of(one.spec.field("upstream")?.as_str()?)).collect();
    if PROXIES.iter().any(|name| set(settings, name).is_some()) {
        let found = "names are the proxy's to know";
        checks.push(check("dns", Verdict::Skipped, found, None));
        return checks;
    }
    hosts.push(REGISTRY.to_owned());
    hosts.sort();
    hosts.dedup();
    for host in hosts {
        checks.push(match resolve(&host).await {
            Ok(_) => check("dns", Verdict::Good, format!("{host} is known"), None),
            Err(why) => check(
                "dns",
                Verdict::Warning,
                format!("{host} is not known: {why}"),
                Some("without it nothing is pulled from there: check the network and /etc/resolv.conf, or load images by `spec.cluster.importImages`"),
            ),
        });
    }
    checks
}

fn host_of(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', ':']).next().filter(|host| !host.is_empty())?;
    // An address needs no name.
    host.parse::<std::net::IpAddr>().is_err().then(|| host.to_owned())
}

async fn resolve(host: &str) -> Result<Vec<std::net::IpAddr>, String> {
    let found = tokio::time::timeout(NAME_TIMEOUT, tokio::net::lookup_host((host, 443))).await;
    match found {
        Ok(Ok(found)) => Ok(found.map(|address| address.ip()).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", NAME_TIMEOUT.as_secs())),
    }
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

    pub(super) fn facts(instances: u64, free: u64) -> HostFacts {
        HostFacts {
            place: "unix:///run/docker.sock".to_owned(),
            engine: "Docker 29.0.0".to_owned(),
            is_podman: false,
            unlimited: Vec::new(),
            system: "Debian".to_owned(),
            cgroup_version: Some(2),
            is_rootless: false,
            processors: 4,
            memory: 16 * GIB,
            folder: "/var/lib/docker".into(),
            warnings: Vec::new(),
            own: Some(OwnFacts {
                inotify_instances: Some(instances),
                inotify_watches: Some(ADVISED_WATCHES),
                ipv6: None,
                first_port: Some(1024),
                disk_free: Some(free),
            }),
        }
    }

    fn verdict(facts: &HostFacts, nodes: u64, name: &str) -> Verdict {
        let all = of_host(facts, nodes);
        let found = all.iter().find(|check| check.name == name).unwrap();
        assert_eq!(found.remedy.is_some(), matches!(found.verdict, Verdict::Warning | Verdict::Bad), "{found:?}");
        found.verdict
    }

    #[test]
    fn limits_are_judged_by_the_number_of_nodes() {
        let verdict = |instances, nodes| verdict(&facts(instances, 100 * GIB), nodes, "limits");
        assert_eq!(verdict(512, 3), Verdict::Good);
        assert_eq!(verdict(128, 3), Verdict::Warning);
        assert_eq!(verdict(128, 20), Verdict::Bad);
    }

    #[test]
    fn disk_cgroups_and_size_have_their_bounds() {
        let disk = |free| verdict(&facts(512, free), 1, "disk");
        assert_eq!((disk(GIB), disk(5 * GIB), disk(50 * GIB)), (Verdict::Bad, Verdict::Warning, Verdict::Good));
        let cgroups = |version, is_rootless| {
            let facts = HostFacts { cgroup_version: version, is_rootless, ..facts(512, 50 * GIB) };
            verdict(&facts, 1, "cgroups")
        };
        assert_eq!(cgroups(Some(2), true), Verdict::Good);
        assert_eq!((cgroups(Some(1), false), cgroups(Some(1), true)), (Verdict::Warning, Verdict::Bad));
        assert_eq!(cgroups(None, false), Verdict::Skipped);
        let small = HostFacts { memory: GIB, ..facts(512, 50 * GIB) };
        assert_eq!(verdict(&small, 1, "size"), Verdict::Warning);
        let elsewhere = HostFacts { own: None, ..facts(1, 1) };
        assert_eq!(verdict(&elsewhere, 9, "limits"), Verdict::Skipped);
    }

    #[test]
    fn what_a_rootless_engine_lacks_is_told_with_what_mends_it() {
        let facts = |unlimited: &[&'static str], is_rootless| HostFacts {
            unlimited: unlimited.to_vec(),
            is_rootless,
            ..facts(512, 50 * GIB)
        };
        assert_eq!(delegation(&facts(&["cpu"], false)), None);
        assert_eq!(delegation(&facts(&[], true)).unwrap().verdict, Verdict::Good);
        let lacking = delegation(&facts(&["memory", "cpu"], true)).unwrap();
        assert!(lacking.verdict == Verdict::Bad && lacking.found.contains("memory, cpu"), "{lacking:?}");
        assert!(lacking.remedy.unwrap().contains(r"Delegate=cpu cpuset io memory pids\n"));

        let specs = [Value::from(json!({"ports": [{"host": 8080}, {"host": 80}]})), Value::from(json!({"port": 6443}))];
        assert_eq!(lowest_port(specs.iter()), Some(80));
        assert_eq!(low_ports(&facts(&[], true), Some(1024)), None);
        assert_eq!(low_ports(&facts(&[], false), Some(80)), None);
        let low = low_ports(&facts(&[], true), Some(80)).unwrap();
        assert!(low.remedy.unwrap().contains("ip_unprivileged_port_start=80"), "{}", low.found);
    }

    #[test]
    fn podman_with_the_old_cgroups_is_warned_of() {
        let facts = HostFacts { is_podman: true, cgroup_version: Some(1), ..facts(512, 50 * GIB) };
        let told = cgroups(&facts);
        assert!(told.verdict == Verdict::Warning && told.found.contains("Podman"), "{told:?}");
    }

    #[test]
    fn a_proxys_credentials_are_told_to_nobody() {
        for (text, told) in [
            ("http://me:secret@proxy:3128", "http://proxy:3128"),
            ("me:secret@proxy:3128", "proxy:3128"),
            ("http://proxy:3128", "http://proxy:3128"),
        ] {
            assert_eq!(without_credentials(text), told);
        }
    }

    #[test]
    fn names_are_asked_for_and_addresses_are_not() {
        assert_eq!(host_of("https://ghcr.io/v2").as_deref(), Some("ghcr.io"));
        assert_eq!(host_of("http://10.0.0.1:5000"), None);
    }

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
