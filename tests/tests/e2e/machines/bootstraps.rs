//! Nodes that do not come up: the error says why, in the words of what failed.

use crate::machines::World;

/// kubeadm does not wait for what will not come.
const IMPATIENT: &str = "  - |\n    kind: InitConfiguration\n    timeouts:\n      kubeletHealthCheck: 8s\n      controlPlaneComponentHealthCheck: 20s\n";

#[test]
fn a_node_that_does_not_come_up_says_why_and_comes_up_once_that_is_mended() {
    let Some(world) = World::example() else { return };
    world.workers(0);
    let good = world.project.read("kind.yaml");
    let with = |patch: &str| world.project.write("kind.yaml", &format!("{good}{IMPATIENT}  - |\n{patch}"));

    with("    kind: KubeletConfiguration\n    evictionHard: {nonsense.available: 5%}\n");
    let failed = world.project.run(&["apply", "--auto-approve"]).code(3);
    failed.says("kubeadm failed").says("kubelet").says("nonsense").says("ksail cluster logs");

    with("    kind: ClusterConfiguration\n    apiServer:\n      extraArgs: [{name: nonsense, value: \"1\"}]\n");
    let failed = world.project.run(&["apply", "--auto-approve"]).code(3);
    failed.says("kube-apiserver:").says("unknown flag: --nonsense");

    world.project.write("kind.yaml", &good);
    world.project.apply();
    world.project.is_settled();
    world.project.run(&["destroy", "--auto-approve"]).code(0);
    world.is_gone();
}
