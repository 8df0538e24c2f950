//! Taints and labels of nodes: there from the first moment, changed where they are, and kept apart from those of others.

use super::World;

const LABELS: &str = "        zone: a\n";
const OF_ONE: &str =
    "    - name: worker-1\n      taints: [{key: example.com/dedicated, value: a, effect: NoSchedule}]\n";
const OF_THE_OTHER: &str =
    "        zone: b\n      taints: [{key: example.com/dedicated, value: b, effect: PreferNoSchedule}]\n";

impl World {
    pub(super) fn taints_one_worker(&self) {
        let file = self.project.read("ksail.yaml");
        assert!(file.contains(LABELS), "{file}");
        self.project.write("ksail.yaml", &file.replace(LABELS, &format!("{LABELS}{OF_ONE}")));
    }

    /// The one worker is free again; the other one gets another label, and a taint that keeps no pods away.
    pub(super) fn taints_the_other_worker(&self) {
        let file = self.project.read("ksail.yaml").replace(OF_ONE, "");
        self.project.write("ksail.yaml", &file.replace(LABELS, OF_THE_OTHER));
    }

    /// Of a node: `key=value:effect` of its taints, in order.
    #[track_caller]
    fn taints(&self, node: &str) -> Vec<String> {
        let path = r#"jsonpath={range .spec.taints[*]}{.key}={.value}:{.effect}{"\n"}{end}"#;
        let mut taints: Vec<String> =
            self.kubectl(&["get", "node", node, "-o", path]).lines().map(str::to_owned).collect();
        taints.sort();
        taints
    }

    /// The kubelet has registered its node with the taint, and nothing came there.
    #[track_caller]
    pub(super) fn was_tainted_from_its_first_moment(&self) {
        let nodes = self.nodes(2);
        assert_eq!(self.taints(&nodes[2]), ["example.com/dedicated=a:NoSchedule"]);
        let (code, flags) = self.engine.exec(&nodes[2], &["cat", "/var/lib/kubelet/kubeadm-flags.env"]);
        assert!(code == 0 && flags.contains("--register-with-taints=example.com/dedicated=a:NoSchedule"), "{flags}");
        assert_eq!(self.taints(&nodes[1]), [""; 0]);
        assert_eq!(self.taints(&nodes[0]), ["node-role.kubernetes.io/control-plane=:NoSchedule"]);
        let path = "jsonpath={.items[*].spec.nodeName}";
        let on = self.kubectl(&["get", "pods", "-n", "shop", "-l", "app=web", "-o", path]);
        assert_eq!(on, format!("{0} {0}", nodes[1]));
    }

    /// What was declared since is there; what somebody else puts on a node is left alone, and what they take off comes back.
    #[track_caller]
    pub(super) fn taints_are_kept_apart(&self) {
        let nodes = self.nodes(2);
        assert_eq!(self.taints(&nodes[2]), [""; 0]);
        assert_eq!(self.taints(&nodes[1]), ["example.com/dedicated=b:PreferNoSchedule"]);
        let labelled = self.kubectl(&["get", "nodes", "-l", "zone=b", "-o", "name"]);
        assert_eq!(labelled.trim(), format!("node/{}", nodes[1]));

        self.kubectl(&["taint", "nodes", &nodes[1], "example.com/theirs=x:PreferNoSchedule"]);
        self.project.is_settled();
        self.kubectl(&["taint", "nodes", &nodes[1], "example.com/dedicated-"]);
        self.kubectl(&["label", "nodes", &nodes[1], "zone-"]);
        let plan =
            self.project.run(&["plan", "--detailed-exitcode"]).code(2).says("0 to add, 1 to change, 0 to destroy");
        plan.says("1 drifted").says("example.com/dedicated").says_not("example.com/theirs");
        self.project.apply();
        self.project.is_settled();
        let both = ["example.com/dedicated=b:PreferNoSchedule", "example.com/theirs=x:PreferNoSchedule"];
        assert_eq!(self.taints(&nodes[1]), both);
        assert_eq!(self.kubectl(&["get", "nodes", "-l", "zone=b", "-o", "name"]).trim(), format!("node/{}", nodes[1]));
    }
}
