//! What kubeadm is told on each machine: the documents that kind gives it, so that patches written for kind fit.

use std::collections::BTreeMap;

use ksail_kinds::ClusterSpec;
use serde_json::{Value as Json, json};

use super::audit;
use crate::kind_file::{Family, Networking};
use crate::versions;

/// The token with which machines join. It opens the cluster's own network only, as kind's does.
const TOKEN: &str = "abcdef.0123456789abcdef";
/// The socket of containerd.
const CRI_SOCKET: &str = "unix:///run/containerd/containerd.sock";
/// From this minor version on, kind writes the configuration in its version v1beta4, before in v1beta3.
const FIRST_MINOR_WITH_LISTS: u32 = 36;

/// What kubeadm is told beyond what kind tells it, so that a cluster is there sooner. All of it holds for any number of control
/// planes. Keys of elliptic curves are made in no time. At its start a controller manager lists and watches some sixty kinds, and
/// would take four seconds for it at the twenty calls a second that it is allowed otherwise. It and the scheduler ask for their
/// leases before the API server has the roles that let them, and would ask again two to four seconds later.
const KEYS: &str = "ECDSA-P256";
const CALLS_A_SECOND: [(&str, &str); 2] = [("kube-api-qps", "100"), ("kube-api-burst", "200")];
const ASKED_AGAIN: (&str, &str) = ("leader-elect-retry-period", "1s");

/// Whether a field or an argument has the value that only we give it, and that kind does not.
pub(super) fn is_ours_alone(name: &str, value: &Json) -> bool {
    let all = CALLS_A_SECOND.into_iter().chain([ASKED_AGAIN, ("encryptionAlgorithm", KEYS)]);
    all.into_iter().any(|(of, ours)| of == name && value == ours)
}

/// What is the same for all machines of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClusterFacts {
    pub(super) name: String,
    /// `v1.36.3`.
    pub(super) version: String,
    /// Where machines reach the API server: `dev-control-plane:6443`.
    pub(super) endpoint: String,
    pub(super) api_port: u16,
    pub(super) networking: Networking,
    pub(super) feature_gates: BTreeMap<String, bool>,
    pub(super) runtime_config: BTreeMap<String, String>,
    /// Whether the API server logs who asked for what.
    pub(super) has_audit: bool,
}

/// What is a machine's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MachineFacts {
    pub(super) name: String,
    /// Of the families that the cluster speaks; the API server answers at the first.
    pub(super) addresses: Vec<String>,
    pub(super) is_control_plane: bool,
    pub(super) labels: BTreeMap<String, String>,
}

/// The URL-like id by which the node is known to be this machine.
pub(super) fn provider_id(cluster: &str, machine: &str) -> String {
    format!("kind://docker/{cluster}/{machine}")
}

impl ClusterFacts {
    fn has_lists(&self) -> bool {
        versions::minor(&self.version).is_none_or(|minor| minor >= FIRST_MINOR_WITH_LISTS)
    }

    fn api_version(&self) -> &'static str {
        if self.has_lists() { "kubeadm.k8s.io/v1beta4" } else { "kubeadm.k8s.io/v1beta3" }
    }

    /// Arguments of a program, in the shape of the version.
    fn arguments(&self, arguments: &[(&str, String)]) -> Json {
        if self.has_lists() {
            arguments.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
        } else {
            Json::Object(arguments.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect())
        }
    }

    /// Whether it speaks IPv6 alone: what listens does so by IPv4 otherwise.
    fn is_v6(&self) -> bool {
        self.networking.family == Family::V6
    }

    /// For which names the API server's certificate is good beside its own.
    fn names_of_api(&self) -> Vec<&str> {
        let published = self.networking.api_address.as_deref().unwrap_or(ClusterSpec::LOOPBACK);
        vec!["localhost", published]
    }

    fn gates(&self) -> Option<(&'static str, String)> {
        let gates: Vec<String> = self.feature_gates.iter().map(|(gate, on)| format!("{gate}={on}")).collect();
        (!gates.is_empty()).then(|| ("feature-gates", gates.join(",")))
    }

    /// All documents for one machine, whichever of them its action takes.
    pub(super) fn documents(&self, machine: &MachineFacts) -> Vec<Json> {
        let registration = self.registration(machine);
        let mut documents = vec![
            self.cluster_configuration(),
            self.init_configuration(machine, &registration),
            self.join_configuration(machine, registration),
            self.kubelet_configuration(),
        ];
        if self.networking.kube_proxy_mode != "none" {
            documents.push(self.proxy_configuration());
        }
        documents
    }

    fn cluster_configuration(&self) -> Json {
        let runtime: Vec<String> = self.runtime_config.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let with_gates = |mut arguments: Vec<(&'static str, String)>| {
            arguments.splice(0..0, self.gates());
            self.arguments(&arguments)
        };
        let owned = |(name, value): (&'static str, &'static str)| (name, value.to_owned());
        let mut of_manager = vec![("enable-hostpath-provisioner", "true".to_owned())];
        let mut of_scheduler = vec![owned(ASKED_AGAIN)];
        if self.is_v6() {
            of_manager.push(("bind-address", "::".to_owned()));
            of_scheduler.push(("bind-address", "::1".to_owned()));
        }
        of_manager.extend(CALLS_A_SECOND.into_iter().chain([ASKED_AGAIN]).map(owned));
        let mut api_server = vec![("runtime-config", runtime.join(","))];
        api_server.extend(self.gates());
        if self.has_audit {
            api_server.extend(audit::arguments());
        }
        let mut document = json!({
            "apiVersion": self.api_version(), "kind": "ClusterConfiguration",
            "kubernetesVersion": self.version, "clusterName": self.name, "controlPlaneEndpoint": self.endpoint,
            "apiServer": {"certSANs": self.names_of_api(), "extraArgs": self.arguments(&api_server)},
            "controllerManager": {"extraArgs": with_gates(of_manager)},
            "scheduler": {"extraArgs": with_gates(of_scheduler)},
            "networking": {"podSubnet": self.networking.pod_subnet, "serviceSubnet": self.networking.service_subnet},
        });
        if self.has_audit {
            document["apiServer"]["extraVolumes"] = audit::volumes();
        }
        // Before this version kubeadm knows keys of RSA only.
        if self.has_lists() {
            document["encryptionAlgorithm"] = json!(KEYS);
        }
        document
    }

    fn registration(&self, machine: &MachineFacts) -> Json {
        let labels: Vec<String> = machine.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let arguments = [
            ("node-ip", machine.addresses.join(",")),
            ("provider-id", provider_id(&self.name, &machine.name)),
            ("node-labels", labels.join(",")),
        ];
        json!({"criSocket": CRI_SOCKET, "kubeletExtraArgs": self.arguments(&arguments)})
    }

    fn api_endpoint(&self, machine: &MachineFacts) -> Json {
        json!({"advertiseAddress": machine.addresses.first(), "bindPort": self.api_port})
    }

    fn init_configuration(&self, machine: &MachineFacts, registration: &Json) -> Json {
        let mut skipped = vec!["preflight"];
        if self.networking.kube_proxy_mode == "none" {
            skipped.push("addon/kube-proxy");
        }
        json!({
            "apiVersion": self.api_version(), "kind": "InitConfiguration",
            "bootstrapTokens": [{"token": TOKEN}],
            "localAPIEndpoint": self.api_endpoint(machine),
            "nodeRegistration": registration,
            "skipPhases": skipped,
        })
    }

    fn join_configuration(&self, machine: &MachineFacts, registration: Json) -> Json {
        let mut document = json!({
            "apiVersion": self.api_version(), "kind": "JoinConfiguration",
            "nodeRegistration": registration,
            "discovery": {"bootstrapToken": {
                "apiServerEndpoint": self.endpoint, "token": TOKEN, "unsafeSkipCAVerification": true,
            }},
            "skipPhases": ["preflight"],
        });
        if machine.is_control_plane {
            document["controlPlane"] = json!({"localAPIEndpoint": self.api_endpoint(machine)});
        }
        document
    }

    fn kubelet_configuration(&self) -> Json {
        let mut document = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "cgroupDriver": "systemd", "cgroupRoot": "/kubelet", "failSwapOn": false,
            // The disk is the engine's: what is used there is not the node's to free.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
        });
        if self.is_v6() {
            document["address"] = json!("::");
            document["healthzBindAddress"] = json!("::");
        }
        self.add_gates(&mut document);
        document
    }

    fn proxy_configuration(&self) -> Json {
        let mut document = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
            "mode": self.networking.kube_proxy_mode,
            "iptables": {"minSyncPeriod": "1s"},
            // The limit is one of the engine's machine.
            "conntrack": {"maxPerCore": 0},
        });
        if self.networking.kube_proxy_mode == "nftables" {
            document["conntrack"]["tcpBeLiberal"] = json!(true);
        }
        self.add_gates(&mut document);
        document
    }

    fn add_gates(&self, document: &mut Json) {
        if !self.feature_gates.is_empty() {
            document["featureGates"] = json!(self.feature_gates);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(version: &str) -> ClusterFacts {
        ClusterFacts {
            name: "dev".to_owned(),
            version: version.to_owned(),
            endpoint: "dev-control-plane:6443".to_owned(),
            api_port: 6443,
            networking: Networking::default(),
            feature_gates: BTreeMap::new(),
            runtime_config: BTreeMap::new(),
            has_audit: false,
        }
    }

    fn worker() -> MachineFacts {
        MachineFacts {
            name: "dev-worker".to_owned(),
            addresses: vec!["10.70.1.10".to_owned()],
            is_control_plane: false,
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn arguments_have_the_shape_of_the_version() {
        let registration = |version: &str| facts(version).documents(&worker())[2]["nodeRegistration"].clone();
        assert_eq!(registration("v1.35.0")["kubeletExtraArgs"]["node-ip"], "10.70.1.10");
        let listed = json!({"name": "provider-id", "value": "kind://docker/dev/dev-worker"});
        assert_eq!(registration("v1.36.3")["kubeletExtraArgs"][1], listed);
    }

    #[test]
    fn without_a_proxy_neither_its_document_nor_its_phase_is_there() {
        let networking = Networking { kube_proxy_mode: "none".to_owned(), ..Networking::default() };
        let facts = ClusterFacts { networking, ..facts("v1.36.3") };
        let documents = facts.documents(&worker());
        assert_eq!(documents.len(), 4);
        assert_eq!(documents[1]["skipPhases"], json!(["preflight", "addon/kube-proxy"]));
    }

    #[test]
    fn what_listens_in_a_cluster_of_ipv6_does_so_by_ipv6() {
        let networking =
            Networking { family: Family::V6, api_address: Some("::1".to_owned()), ..Networking::default() };
        let machine = MachineFacts { addresses: vec!["fd01::2".to_owned()], is_control_plane: true, ..worker() };
        let documents = ClusterFacts { networking, ..facts("v1.35.0") }.documents(&machine);
        assert_eq!(documents[0]["apiServer"]["certSANs"], json!(["localhost", "::1"]));
        assert_eq!(documents[0]["controllerManager"]["extraArgs"]["bind-address"], "::");
        assert_eq!(documents[0]["scheduler"]["extraArgs"]["bind-address"], "::1");
        assert_eq!(documents[1]["localAPIEndpoint"]["advertiseAddress"], "fd01::2");
        assert_eq!((&documents[3]["address"], &documents[3]["healthzBindAddress"]), (&json!("::"), &json!("::")));
    }

    #[test]
    fn a_node_of_both_families_has_both_addresses_and_answers_at_the_first() {
        let networking = Networking { family: Family::Dual, ..Networking::default() };
        let addresses = ["10.70.1.2", "fd01::2"].map(str::to_owned).to_vec();
        let machine = MachineFacts { addresses, is_control_plane: true, ..worker() };
        let documents = ClusterFacts { networking, ..facts("v1.35.0") }.documents(&machine);
        assert_eq!(documents[1]["nodeRegistration"]["kubeletExtraArgs"]["node-ip"], "10.70.1.2,fd01::2");
        assert_eq!(documents[2]["controlPlane"]["localAPIEndpoint"]["advertiseAddress"], "10.70.1.2");
        assert!(documents[3]["address"].is_null() && !documents[0].to_string().contains("bind-address"));
    }

    #[test]
    fn a_log_of_requests_has_its_policy_and_its_folder() {
        let documents = ClusterFacts { has_audit: true, ..facts("v1.36.3") }.documents(&worker());
        let api_server = documents[0]["apiServer"].clone();
        let log = json!({"name": "audit-log-path", "value": "/var/log/kubernetes/audit/audit.log"});
        assert!(api_server["extraArgs"].as_array().unwrap().contains(&log), "{api_server}");
        assert_eq!(api_server["extraVolumes"][0]["hostPath"], "/var/lib/ksail/audit/policy.yaml");
        assert!(facts("v1.36.3").documents(&worker())[0]["apiServer"]["extraVolumes"].is_null());
    }

    #[test]
    fn gates_reach_every_program() {
        let gates = BTreeMap::from([("A".to_owned(), true), ("B".to_owned(), false)]);
        let documents = ClusterFacts { feature_gates: gates, ..facts("v1.36.3") }.documents(&worker());
        let cluster = documents[0].to_string();
        assert_eq!(cluster.matches("A=true,B=false").count(), 3, "{cluster}");
        assert_eq!(documents[3]["featureGates"], json!({"A": true, "B": false}));
    }
}
