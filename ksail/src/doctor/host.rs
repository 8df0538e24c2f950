//! Whether the engine's machine is fit for nodes: its cgroups, limits, disk, size, and what an engine without root may do.

use ksail_model::Value;
use ksail_provider_docker::{HostFacts, OwnFacts};

use super::{Check, Verdict, check, port};

/// How many inotify instances and watches one node takes with what kubeadm starts on it, measured on one without workloads, and a
/// control plane beside that.
const INSTANCES_A_NODE: u64 = 17;
const INSTANCES_OF_CONTROL: u64 = 13;
const WATCHES_A_NODE: u64 = 320;
/// What kind advises for clusters of several nodes and many workloads.
const ADVISED_INSTANCES: u64 = 512;
const ADVISED_WATCHES: u64 = 524_288;
const GIB: u64 = 1024 * 1024 * 1024;
/// With less free disk than this, images do not fit, and with less than that it becomes tight.
const LEAST_DISK: u64 = 2 * GIB;
const TIGHT_DISK: u64 = 10 * GIB;
/// With less memory than this, a control plane does not fit.
const LEAST_MEMORY: u64 = 2 * GIB;
/// How controllers are given to users without root.
const DELEGATE: &str = "`sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | \
                        sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload`, and log in again";
/// From this minor version on, the kubelet refuses cgroups of version 1 by itself.
pub(super) const FIRST_MINOR_WITHOUT_CGROUP_V1: u64 = 35;

/// Judges the engine's machine, for so many nodes.
pub(super) fn of_host(facts: &HostFacts, nodes: u64) -> Vec<Check> {
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
pub(super) fn low_ports(facts: &HostFacts, lowest: Option<u16>) -> Option<Check> {
    let first = facts.own.as_ref().filter(|_| facts.is_rootless)?.first_port?;
    let lowest = lowest.filter(|port| *port < first)?;
    let found = format!("port {lowest} cannot be published without root: the first that can is {first}");
    let remedy = format!(
        "`sudo sysctl -w net.ipv4.ip_unprivileged_port_start={lowest}` (in a file of /etc/sysctl.d/ it stays), or a port from {first} on"
    );
    Some(check("low-ports", Verdict::Bad, found, Some(&remedy)))
}

/// The lowest port of this machine that a container of these declarations publishes.
pub(super) fn lowest_port<'a>(specs: impl Iterator<Item = &'a Value>) -> Option<u16> {
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

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::doctor) fn facts(instances: u64, free: u64) -> HostFacts {
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
}
