//! Several control planes behind a load balancer, which is a real HAProxy in an image of the test bed.

use super::{World, balancer_rule, etcd_members};
use crate::support::files_below;

impl World {
    /// The example with so many control planes and a worker.
    fn with_control_planes(count: usize) -> Option<Self> {
        let world = Self::example()?;
        let rule = format!("spec:\n{}", balancer_rule()?);
        let file = world.project.read("ksail.yaml").replacen("spec:\n", &rule, 1);
        world.project.write("ksail.yaml", &file);
        world.control_planes(count, 1);
        Some(world)
    }

    fn control_planes(&self, count: usize, workers: usize) {
        let file = self.project.read("ksail.yaml");
        let kept = file.lines().filter(|line| !line.trim().starts_with("controlPlanes:"));
        let kept = kept.filter(|line| !line.trim().starts_with("workers:"));
        let file: String = kept.map(|line| format!("{line}\n")).collect();
        let counts = format!("    distribution: Vanilla\n    controlPlanes: {count}\n    workers: {workers}\n");
        self.project.write("ksail.yaml", &file.replacen("    distribution: Vanilla\n", &counts, 1));
    }

    /// All nodes, those of the control plane among them.
    fn all(&self, control_planes: usize) -> Vec<String> {
        let more = (2..=control_planes).map(|number| format!("{}{number}", self.control_plane()));
        let mut all: Vec<String> = self.nodes(1).into_iter().chain(more).collect();
        all.sort();
        all
    }

    /// The members of etcd by name, with their ids, as the first machine tells.
    #[track_caller]
    fn members(&self) -> Vec<(String, String)> {
        etcd_members(&self.engine, &self.control_plane())
    }

    fn names(&self) -> Vec<String> {
        self.members().into_iter().map(|(name, _)| name).collect()
    }

    /// All three control planes tell what they log; they are stopped and started with what leads to them, and nothing is to be done
    /// afterwards.
    #[track_caller]
    fn tells_stops_and_starts(&self, balancer: &str) {
        let logs = self.project.home().join("logs");
        self.project.run(&["cluster", "logs", &logs.display().to_string(), "--format", "json"]);
        for node in self.all(3) {
            let of_kubelet = std::fs::metadata(logs.join(&node).join("kubelet.log"));
            assert!(of_kubelet.is_ok_and(|file| file.len() > 0), "{node} in {:?}", files_below(&logs));
            let of_etcd = format!("kube-system_etcd-{node}_");
            let told = files_below(&logs).iter().any(|path| path.to_string_lossy().contains(&of_etcd));
            assert_eq!(told, node.contains("control-plane"), "{node}");
        }
        // What leads to them is no node: it tells only what its container has said.
        let of_balancer = files_below(&logs.join(balancer));
        assert_eq!(of_balancer, ["inspect.json", "serial.log"].map(|file| logs.join(balancer).join(file)));

        let uids: Vec<String> = self.all(3).iter().map(|node| self.uid(node)).collect();
        let since = self.now();
        self.project.run(&["cluster", "stop"]).code(0).says(&format!("{}3: stopped", self.control_plane()));
        for machine in self.all(3).iter().map(String::as_str).chain([balancer]) {
            assert_eq!(self.engine.is_running(machine), Some(false), "{machine}");
        }
        let plan = self.project.run(&["plan", "--detailed-exitcode"]).code(2);
        plan.says("`ksail cluster start` starts it").says("0 to add").says("0 to destroy");
        self.project.run(&["cluster", "start"]).code(0).says("started, and ready");
        assert_eq!(self.ready_nodes(), self.all(3));
        self.rests(&self.all(3), &|| self.all(3).iter().all(|node| self.runs_since(node, &since)));
        self.project.is_settled();
        assert_eq!(self.all(3).iter().map(|node| self.uid(node)).collect::<Vec<_>>(), uids);
    }
}

#[test]
fn one_control_plane_becomes_three_that_outlive_a_restart_of_all_and_the_loss_of_the_first() {
    let Some(world) = World::with_control_planes(1) else { return };
    let first = world.control_plane();
    let control_planes = [first.clone(), format!("{first}2"), format!("{first}3")];
    let balancer = format!("{}-external-load-balancer", world.cluster);
    world.project.apply();
    world.project.is_settled();
    assert_eq!((world.ready_nodes(), world.names()), (world.all(1), vec![first.clone()]));

    // One becomes three, and what runs in the cluster changes by the same plan: it stays the same cluster, with the same first node.
    let (uid, since) = (world.uid(&first), world.now());
    world.control_planes(3, 1);
    let web = world.project.read("k8s/web.yaml");
    world.project.write("k8s/web.yaml", &web.replace("replicas: 2", "replicas: 3"));
    let plan = world.project.run(&["plan"]).code(0).says("0 to destroy").says("replicas = 2 -> 3");
    plan.says(&format!("{}/machine/control-plane-0 will be updated in-place", world.cluster));
    world.project.apply();
    world.rests(&world.all(3), &|| world.runs_since(&first, &since));
    world.project.is_settled();
    assert_eq!((world.ready_nodes(), world.names()), (world.all(3), control_planes.to_vec()));
    assert_eq!(world.uid(&first), uid);
    let ready = world.kubectl(&["get", "deployment", "web", "-n", "shop", "-o", "jsonpath={.status.readyReplicas}"]);
    assert_eq!(ready.trim(), "3");
    world.tells_stops_and_starts(&balancer);

    // All machines at once, as after a restart of the engine or of its machine; the balancer too.
    let since = world.now();
    let machines: Vec<String> = world.all(3).into_iter().chain([balancer.clone()]).collect();
    world.engine.restart(&machines);
    world.project.apply();
    world.rests(&world.all(3), &|| world.all(3).iter().all(|node| world.runs_since(node, &since)));
    world.project.is_settled();
    assert_eq!(world.names(), control_planes);

    // What all of them are told changes on one after the other.
    let kind = world.project.read("kind.yaml");
    let patch = "kubeadmConfigPatches:\n  - |\n    kind: ClusterConfiguration\n    controllerManager: {extraArgs: {v: \"3\"}}\n    etcd: {local: {extraArgs: {snapshot-count: \"9000\"}}}\n";
    world.project.write("kind.yaml", &kind.replacen("kubeadmConfigPatches:\n", patch, 1));
    let before = world.members();
    world.project.apply();
    world.rests(&world.all(3), &|| true);
    world.is_told(&control_planes, "kube-controller-manager", "--v=3");
    world.is_told(&control_planes, "etcd", "--snapshot-count=9000");
    assert_eq!(world.members(), before);

    // The first one made anew, with nothing of what it kept: it joins the others, as another member.
    let (before, uid) = (world.members(), world.uid(&first));
    let plan = world.project.run(&["plan", "--replace", "volume/control-plane-0"]).code(0);
    assert!(!plan.out.contains("cluster/main"), "the cluster stays: {}", plan.out);
    plan.says(&format!("{}/etcd-member/control-plane-0 must be replaced", world.cluster));
    let since = world.now();
    world.project.run(&["apply", "--auto-approve", "--replace", "volume/control-plane-0"]).code(0);
    world.rests(&world.all(3), &|| world.runs_since(&first, &since));
    world.project.is_settled();
    let after = world.members();
    assert_eq!((&before[1..], world.names()), (&after[1..], control_planes.to_vec()));
    assert!(before[0] != after[0] && world.uid(&first) != uid);

    // The balancer lost: it comes back, and what is behind it is waited for.
    world.engine.remove_container(&balancer);
    world.project.run(&["plan", "--detailed-exitcode"]).code(2).says("nothing leads from port");
    world.project.apply();
    world.project.is_settled();

    // And down to one again, which takes over what the balancer published.
    world.control_planes(1, 1);
    let since = world.now();
    world.project.apply();
    world.rests(&world.all(1), &|| world.runs_since(&first, &since));
    world.project.is_settled();
    assert_eq!((world.ready_nodes(), world.names()), (world.all(1), vec![first]));
    assert_eq!(world.engine.is_running(&balancer), None);

    world.project.run(&["destroy", "--auto-approve"]).code(0);
    world.is_gone();
}
