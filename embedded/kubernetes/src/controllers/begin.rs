//! What a cluster has from its beginning.

use serde_json::{Value, json};

use crate::api::Api;
use crate::status::Status;

/// The namespaces of every cluster.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Makes what is not there yet.
pub(crate) fn begin(api: &Api) -> Result<(), Status> {
    for name in NAMESPACES {
        api.make("/namespaces", "", json!({"metadata": {"name": name}}))?;
        furnish(api, name)?;
    }
    // The Service by which pods would find the server; its address is the first of those of Services.
    if api.object("/services", "default", "kubernetes").is_none() {
        let service = json!({
            "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]},
        });
        api.make("/services", "default", service)?;
    }
    for (name, value, description) in [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ] {
        api.make(
            "scheduling.k8s.io/priorityclasses",
            "",
            json!({"metadata": {"name": name}, "value": value, "description": description}),
        )?;
    }
    if api.settings.controllers && api.store.list("storage.k8s.io/storageclasses", None).1.is_empty() {
        let class = json!({
            "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "ksail.io/embedded",
        });
        api.make("storage.k8s.io/storageclasses", "", class)?;
    }
    super::stages::take_back(api)
}

/// Makes what every namespace has.
pub(crate) fn furnish(api: &Api, namespace: &str) -> Result<(), Status> {
    if api.object("/serviceaccounts", namespace, "default").is_none() {
        api.make("/serviceaccounts", namespace, json!({"metadata": {"name": "default"}}))?;
    }
    if api.object("/configmaps", namespace, "kube-root-ca.crt").is_none() {
        let note = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";
        let map: Value = json!({
            "metadata": {"name": "kube-root-ca.crt", "annotations": {"kubernetes.io/description": note}},
            "data": {"ca.crt": api.authority},
        });
        api.make("/configmaps", namespace, map)?;
    }
    Ok(())
}
