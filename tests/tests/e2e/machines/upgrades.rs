//! Another version of Kubernetes on a cluster that goes on.

use std::time::Duration;

use super::{World, version_in};
use crate::kills::seed;

/// How often the upgrade is killed, and within which time after the beginning of an apply.
const KILLS: u32 = 3;
const UPGRADED_WITHIN: Duration = Duration::from_secs(40);

/// Lets one of two pods go at a time.
const BUDGET: &str = "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: web, namespace: shop}\nspec:\n  \
                      minAvailable: 1\n  selector: {matchLabels: {app: web}}\n";

impl World {
    /// The versions of all kubelets and of the API server.
    fn versions(&self) -> Vec<String> {
        let path = "jsonpath={range .items[*]}{.status.nodeInfo.kubeletVersion}{\"\\n\"}{end}";
        let mut all: Vec<String> = self.kubectl(&["get", "nodes", "-o", path]).lines().map(str::to_owned).collect();
        let server = self.kubectl(&["get", "--raw=/version"]);
        let server: serde_json::Value = serde_json::from_str(&server).expect("a version");
        all.push(server["gitVersion"].as_str().expect("a version").to_owned());
        all
    }
}

#[test]
fn a_cluster_is_upgraded_node_by_node_through_kills() {
    let (Some(world), Some(next)) = (World::example(), version_in("KSAIL_TEST_NEXT_NODE_IMAGE")) else { return };
    world.project.write("k8s/web.yaml", &format!("{}{BUDGET}", world.project.read("k8s/web.yaml")));
    world.project.apply();
    world.project.is_settled();
    let uids = || world.nodes(2).iter().map(|node| world.uid(node)).collect::<Vec<_>>();
    let before = uids();
    assert_eq!(world.versions(), vec![world.version.clone(); 4]);

    let file = world.project.read("ksail.yaml").replace(&world.version, &next);
    world.project.write("ksail.yaml", &file);
    let plan = world.project.run(&["plan", "--detailed-exitcode"]).code(2);
    let plan = plan.says(&format!("\"{}\" -> \"{next}\"", world.version));
    plan.says("1 to add, 7 to change, 1 to destroy");
    let graph = world.project.run(&["graph", "--format", "json"]).code(0).out;
    let graph: serde_json::Value = serde_json::from_str(&graph).expect("a graph");
    let in_turn = |edge: &&serde_json::Value| {
        edge["in_turn"] == true && edge["from"].as_str().is_some_and(|from| from.contains("/machine/"))
    };
    assert_eq!(graph["edges"].as_array().expect("edges").iter().filter(in_turn).count(), 2);

    world.apply_through_kills(&mut seed(), KILLS, UPGRADED_WITHIN);
    world.rests(&world.nodes(2), &|| true);
    assert_eq!(world.versions(), vec![next.clone(); 4]);
    assert_eq!(uids(), before, "the nodes are the same");
    for node in world.nodes(2) {
        assert_eq!(world.engine.is_running(&format!("{node}-upgrade")), None, "a helper is left");
        let (_, log) = world.engine.exec(&node, &["cat", "/var/lib/ksail/bootstrap/log"]);
        assert!(!log.contains("[reset]"), "{node}: {log}");
    }

    // There is no way back, which is told before anything is touched.
    world.project.write("ksail.yaml", &file.replace(&next, &world.version));
    world.project.run(&["plan"]).code(1).says("does not go back to an older version");
    world.project.write("ksail.yaml", &file);
    world.project.run(&["destroy", "--auto-approve"]).code(0);
    world.is_gone();
}
