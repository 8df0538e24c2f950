//! The import of a whole cluster that kind made: one import for each part of it that is there, and a graph that declares it as kind
//! has it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ksail_compiler::{as_made_by_kind, context_of_kind};
use ksail_kinds::{
    AddonSpec, BootstrapSpec, ClusterSpec, KubeconfigSpec, LoadBalancerSpec, MachineSpec, NODE, NetworkSpec, Spec as _,
    VolumeSpec,
};
use ksail_model::{
    Address, Declaration, DeclaredGraph, Import, Observation, Origin, Ownership, ProviderConfig, RecordKey, Value,
};
use ksail_plan::{Action, Observed, Plan, PlanNode};
use ksail_provider::CallContext;
use ksail_provider_docker::NodeContainer;
use ksail_records::Snapshot;
use tokio_util::sync::CancellationToken;

use crate::clusters::refused;
use crate::connector::docker;
use crate::error::{Error, codes};
use crate::settings::Settings;

/// The provider that machines are of.
const DOCKER: &str = "docker";
/// How long an engine may take to tell what it has.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// Why a part of a cluster is imported.
const PART: &str = "a part of the imported cluster";

/// Takes an import of the cluster for one of all its parts that are there, and lets a cluster that kind made be declared as kind has
/// it. `cluster` is its name.
pub(crate) async fn adopt(
    graph: &mut DeclaredGraph,
    snapshot: &Snapshot,
    cluster: &str,
    settings: &Settings,
) -> Result<(), Error> {
    if !graph.declarations.keys().any(|address| address.kind() == MachineSpec::KIND) {
        return Ok(());
    }
    let of_cluster = main(cluster, ClusterSpec::KIND);
    let import = graph.imports.iter().rev().find(|import| import.to == of_cluster).cloned();
    let is_asked =
        |import: &Import| matches!(import.origin, Origin::Flag { .. }) || !is_recorded(snapshot, &of_cluster);
    let import = import.filter(is_asked);
    if let Some(import) = &import {
        let parts = parts(graph, snapshot, cluster, settings, import).await?;
        graph.imports.extend(parts);
    }
    if import.is_none() {
        if !is_on_a_shared_network(snapshot, cluster) {
            return Ok(());
        }
        let balancer = main(cluster, LoadBalancerSpec::KIND);
        same_door(graph.declarations.contains_key(&balancer), is_recorded(snapshot, &balancer))?;
    }
    as_made_by_kind(graph, cluster);
    // The user's context of it, where it is the one that is declared.
    let kubeconfig = main(cluster, KubeconfigSpec::KIND);
    let name = context_of_kind(cluster);
    let is_theirs = graph.declarations.get(&kubeconfig).is_some_and(|declared| declared.identity.name == name);
    if import.is_some() && is_theirs && !is_recorded(snapshot, &kubeconfig) {
        graph.imports.push(part(kubeconfig, &name));
    }
    Ok(())
}

/// Refuses another number of control planes where machines would have to reach the API by another name than the one that kind told them.
fn same_door(is_declared: bool, is_there: bool) -> Result<(), Error> {
    let (message, hint) = match (is_declared, is_there) {
        (true, false) => (
            "a cluster that kind made with one control plane cannot have more: its nodes reach the API by the name of that one",
            "let `controlPlanes` be 1, or make the cluster anew by ksail: destroy it, and apply",
        ),
        (false, true) => (
            "a cluster that kind made with several control planes keeps two at least: its nodes reach the API by the name of the load balancer before them",
            "let `controlPlanes` be 2 or more",
        ),
        _ => return Ok(()),
    };
    Err(Error::new(codes::BAD_MOVE, message.to_owned(), hint))
}

fn main(cluster: &str, kind: &str) -> Address {
    Address::new(cluster, kind, &["main"])
}

fn is_recorded(snapshot: &Snapshot, address: &Address) -> bool {
    snapshot.records.contains_key(&RecordKey::current(address.clone()))
}

/// Whether a cluster was imported: only then its network is another's.
fn is_on_a_shared_network(snapshot: &Snapshot, cluster: &str) -> bool {
    let network = snapshot.records.get(&RecordKey::current(main(cluster, NetworkSpec::KIND)));
    network.is_some_and(|record| record.declaration.ownership == Ownership::Read)
}

fn part(to: Address, id: &str) -> Import {
    Import { to, id: id.to_owned(), origin: Origin::Derived { why: PART.into() } }
}

/// Whether some machine of the cluster has no record yet, so that an import may have something to do.
pub(crate) fn is_in_part(graph: &DeclaredGraph, snapshot: &Snapshot) -> bool {
    graph.declarations.keys().any(|address| address.kind() == MachineSpec::KIND && !is_recorded(snapshot, address))
}

/// The parts of a cluster that the engine has and no state of ours made.
async fn parts(
    graph: &DeclaredGraph,
    snapshot: &Snapshot,
    cluster: &str,
    settings: &Settings,
    import: &Import,
) -> Result<Vec<Import>, Error> {
    let cannot = |why: String, hint: String| {
        Error::new(codes::BAD_MOVE, format!("{} cannot be imported as {}: {why}", import.id, import.to), hint)
    };
    if import.id != cluster {
        let why = format!("the names of its nodes follow from its own, and the file's cluster is {cluster}");
        return Err(cannot(why, format!("let `metadata.name` be {}", import.id)));
    }
    let config = graph.providers.get(DOCKER).cloned().unwrap_or_else(ProviderConfig::default);
    let engine = docker(settings, &config, None).map_err(refused)?;
    let context = CallContext {
        lineage: snapshot.lineage.clone(),
        operation: None,
        timeout: LOOK_TIMEOUT,
        cancel: CancellationToken::new(),
    };
    let mut found = engine.nodes(&context).await.map_err(refused)?;
    found.retain(|node| node.cluster == cluster);
    let declared: BTreeMap<&str, &Declaration> = graph
        .declarations
        .values()
        .filter(|declaration| declaration.address.kind() == MachineSpec::KIND)
        .map(|declaration| (declaration.identity.name.as_str(), &**declaration))
        .collect();
    let found = judged(found, &declared, &snapshot.lineage).map_err(|(why, hint)| cannot(why, hint))?;
    let mut parts = Vec::new();
    let mut networks = BTreeSet::new();
    let balancer = main(cluster, LoadBalancerSpec::KIND);
    let (nodes, balancers): (Vec<_>, Vec<_>) = found.iter().partition(|found| found.is_node());
    same_door(graph.declarations.contains_key(&balancer), !balancers.is_empty())?;
    for found in balancers {
        networks.insert(found.network.as_deref().unwrap_or_default());
        parts.push(part(balancer.clone(), &found.name));
    }
    for node in nodes {
        let Some(machine) = declared.get(node.name.as_str()) else { continue };
        let (network, volume) =
            (node.network.as_deref().unwrap_or_default(), node.volume.as_deref().unwrap_or_default());
        networks.insert(network);
        let name = machine.address.name_parts();
        let names: Vec<&str> = name.iter().map(String::as_str).collect();
        for (kind, id) in
            [(VolumeSpec::KIND, volume), (MachineSpec::KIND, &node.name), (BootstrapSpec::KIND, &node.name)]
        {
            parts.push(part(Address::new(cluster, kind, &names), id));
        }
        parts.push(part(Address::new(cluster, NODE, &names), &format!("Node/_/{}", node.name)));
    }
    let network = match (networks.len(), networks.first()) {
        (1, Some(network)) => *network,
        _ => {
            return Err(cannot(
                "its nodes are on different networks".to_owned(),
                "`docker inspect` shows them".to_owned(),
            ));
        }
    };
    let own = main(cluster, NetworkSpec::KIND);
    if is_recorded(snapshot, &own) && !is_on_a_shared_network(snapshot, cluster) {
        let why =
            format!("it is on the network {network}, and the state has another one, {own}, on which registries may be");
        let hint = format!("let that go first: `ksail destroy --target {}`", own.without_cluster());
        return Err(cannot(why, hint));
    }
    parts.push(part(own, network));
    let addons = graph.declarations.values().filter(|declaration| declaration.address.kind() == AddonSpec::KIND);
    parts.extend(addons.map(|addon| part(addon.address.clone(), &addon.identity.name)));
    parts.retain(|part| !is_recorded(snapshot, &part.to));
    Ok(parts)
}

/// What of the nodes that were found can be imported; or why the whole cannot, and what helps.
fn judged(
    found: Vec<NodeContainer>,
    declared: &BTreeMap<&str, &Declaration>,
    lineage: &str,
) -> Result<Vec<NodeContainer>, (String, String)> {
    let list = "`ksail cluster list` shows what the engine has".to_owned();
    if let Some(other) = found.iter().find_map(|node| node.lineage.as_deref().filter(|other| *other != lineage)) {
        let hint = "`ksail state recover` takes up a state that was lost".to_owned();
        return Err((format!("it is of the lineage {other}"), hint));
    }
    let theirs: Vec<NodeContainer> = found.into_iter().filter(|node| node.lineage.is_none()).collect();
    if theirs.is_empty() {
        return Err(("the engine has no cluster of that name that somebody else made".to_owned(), list));
    }
    let nodes = || theirs.iter().filter(|node| node.is_node());
    let undeclared: Vec<&str> =
        nodes().map(|node| node.name.as_str()).filter(|name| !declared.contains_key(name)).collect();
    if !undeclared.is_empty() {
        let control_planes = nodes().filter(|node| node.is_control_plane()).count();
        let workers = nodes().count() - control_planes;
        let why = format!("it has nodes that the file does not declare: {}", undeclared.join(", "));
        let counts = format!("`controlPlanes: {control_planes}`, `workers: {workers}`");
        return Err((why, format!("declare all of them ({counts}), and remove some afterwards")));
    }
    if let Some(node) = theirs.iter().find(|node| !node.is_running()) {
        return Err((format!("{} does not run ({})", node.name, node.state), format!("`docker start {}`", node.name)));
    }
    if let Some(node) = nodes().find(|node| !node.volume.as_deref().is_some_and(VolumeSpec::is_anonymous)) {
        let why = format!("what {} keeps (/var) is not on a volume as kind makes it", node.name);
        return Err((why, list));
    }
    Ok(theirs)
}

/// Leaves out the parts that a cluster may lack: they are made as in any other.
pub(crate) fn leave_out_absent(graph: &mut DeclaredGraph, observations: &BTreeMap<RecordKey, Observed>) {
    let may_lack = |import: &Import| {
        matches!(&import.origin, Origin::Derived { why } if &**why == PART)
            && matches!(import.to.kind(), AddonSpec::KIND | KubeconfigSpec::KIND)
    };
    graph.imports.retain(|import| {
        let observed = observations.get(&RecordKey::current(import.to.clone()));
        !(may_lack(import) && observed.is_some_and(|observed| observed.observation == Observation::Absent))
    });
}

/// Refuses a plan that would make a machine that kind made anew without its volume: what the node is would be lost, and the rest of it
/// would be no node.
pub(crate) fn refuse_new_containers(plan: &Plan) -> Result<(), Error> {
    let is_kinds = |value: Option<&Value>| {
        value.and_then(|value| value.field("volume")).and_then(Value::as_str).is_some_and(VolumeSpec::is_anonymous)
    };
    let is_with_volume = |node: &PlanNode| {
        let name = node.key.address.name_parts();
        let names: Vec<&str> = name.iter().map(String::as_str).collect();
        let volume = RecordKey::current(Address::new(node.key.address.cluster(), VolumeSpec::KIND, &names));
        plan.nodes.get(&volume).is_some_and(|volume| match volume.action {
            Action::Replace { .. } => true,
            Action::Create => volume.record.is_some(),
            _ => false,
        })
    };
    let torn = plan.nodes.values().find(|node| {
        node.key.address.kind() == MachineSpec::KIND
            && matches!(node.action, Action::Create | Action::Replace { .. })
            && (is_kinds(node.before.as_ref()) || is_kinds(node.declaration.as_ref().map(|declared| &declared.spec)))
            && !is_with_volume(node)
    });
    let Some(node) = torn else { return Ok(()) };
    let address = &node.key.address;
    let message = format!(
        "{address} was made by kind, with what the node is in its container: it cannot be made anew with what is on its volume"
    );
    let hint = match &node.import {
        Some(_) => format!("import the whole cluster: `ksail import cluster/main {}`", address.cluster()),
        None => format!(
            "`--replace {}` makes it anew with nothing of what it kept, and with the only control plane the cluster",
            address.without_cluster().replacen(MachineSpec::KIND, VolumeSpec::KIND, 1)
        ),
    };
    Err(Error::new(codes::BAD_MOVE, message, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, role: &str) -> NodeContainer {
        NodeContainer {
            name: name.to_owned(),
            cluster: "dev".to_owned(),
            role: role.to_owned(),
            image: "kindest/node:v1.36.3".to_owned(),
            state: "running".to_owned(),
            lineage: None,
            network: Some("kind".to_owned()),
            volume: Some("a".repeat(64)),
        }
    }

    fn refusal(found: Vec<NodeContainer>) -> String {
        let declared = Declaration {
            address: Address::new("dev", "machine", &["control-plane-0"]),
            kind_version: 1,
            provider: DOCKER.to_owned(),
            identity: ksail_model::Identity::named("dev-control-plane"),
            spec: Value::empty_map(),
            host: None,
            edges: Vec::new(),
            ownership: Ownership::Owned,
            lifecycle: ksail_model::Lifecycle::default(),
            choices: Vec::new(),
            origins: ksail_model::Origins::all(Origin::Derived { why: "a test".into() }),
        };
        let declared = BTreeMap::from([("dev-control-plane", &declared)]);
        match judged(found, &declared, "ours") {
            Ok(found) => format!("{} found", found.len()),
            Err((why, _)) => why,
        }
    }

    #[test]
    fn the_name_by_which_nodes_reach_the_api_stays() {
        assert!(same_door(true, true).is_ok() && same_door(false, false).is_ok());
        assert!(same_door(true, false).unwrap_err().to_string().contains("cannot have more"));
        assert!(same_door(false, true).unwrap_err().to_string().contains("keeps two at least"));
    }

    #[test]
    fn a_cluster_is_imported_as_a_whole_or_not_at_all() {
        let first = || node("dev-control-plane", "control-plane");
        assert_eq!(refusal(vec![first()]), "1 found");
        let ours = NodeContainer { lineage: Some("ours".to_owned()), ..node("dev-worker", "worker") };
        assert_eq!(refusal(vec![first(), ours]), "1 found");
        let others = NodeContainer { lineage: Some("theirs".to_owned()), ..first() };
        assert_eq!(refusal(vec![others]), "it is of the lineage theirs");
        assert!(refusal(Vec::new()).contains("no cluster of that name"));
        let worker = node("dev-worker", "worker");
        assert_eq!(refusal(vec![first(), worker]), "it has nodes that the file does not declare: dev-worker");
        let second = node("dev-control-plane2", "control-plane");
        let balancer = NodeContainer { volume: None, ..node("dev-external-load-balancer", "external-load-balancer") };
        let all = vec![first(), second, balancer.clone()];
        assert_eq!(refusal(all), "it has nodes that the file does not declare: dev-control-plane2");
        assert_eq!(refusal(vec![first(), balancer]), "2 found", "what leads to nodes keeps nothing");
        let stopped = NodeContainer { state: "exited".to_owned(), ..first() };
        assert_eq!(refusal(vec![stopped]), "dev-control-plane does not run (exited)");
        let named = NodeContainer { volume: Some("mine".to_owned()), ..first() };
        assert!(refusal(vec![named]).contains("not on a volume as kind makes it"));
    }
}
