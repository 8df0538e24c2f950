//! A cluster that kind itself made and that was imported: what is declared of it is as kind has it, where ours differs on purpose.
//!
//! Its network is kind's own, which other clusters share, and gives addresses by itself, so that machines know each other by name. They
//! reach the API by the name of the only control plane, or of the load balancer before several. No field of the file says this: it
//! follows from whose the machines are.

use std::sync::Arc;

use ksail_kinds::{
    AddonSpec, BootstrapSpec, EtcdMemberSpec, KubeconfigSpec, LoadBalancerSpec, MachineSpec, NetworkSpec, Spec as _,
};
use ksail_model::{Address, Declaration, DeclaredGraph, Identity, Origin, Ownership, Path, Value};
use serde_json::Value as Json;

use super::kubeadm::is_ours_alone;
use super::resources::derived;
use crate::format::NodeRole;

/// Arguments of programs that say where their machine is: kind's machines find out by themselves.
const NODE_IP: &str = "node-ip";

/// The context that kind gives a cluster.
#[must_use]
pub fn context_of_kind(cluster: &str) -> String {
    format!("kind-{cluster}")
}

/// Lets a compiled graph of a cluster on Docker declare what kind makes of the same file.
pub fn as_made_by_kind(graph: &mut DeclaredGraph, cluster: &str) {
    let has_balancer = graph.declarations.keys().any(|address| address.kind() == LoadBalancerSpec::KIND);
    if !has_balancer {
        // What a member of several would leave before its machine does.
        graph.declarations.retain(|address, _| address.kind() != EtcdMemberSpec::KIND);
    }
    let ours = format!("{cluster}-external-load-balancer:{}", MachineSpec::API_PORT);
    let only = format!("{cluster}-{}:{}", NodeRole::ControlPlane.word(), MachineSpec::API_PORT);
    let endpoints = Endpoints { theirs: if has_balancer { ours.clone() } else { only }, ours };
    for (address, declaration) in &mut graph.declarations {
        let change: fn(&mut Declaration, &Endpoints) = match address.kind() {
            NetworkSpec::KIND => network,
            MachineSpec::KIND => machine,
            BootstrapSpec::KIND => bootstrap,
            AddonSpec::KIND => addon,
            EtcdMemberSpec::KIND => etcd_member,
            LoadBalancerSpec::KIND => load_balancer,
            _ => continue,
        };
        change(Arc::make_mut(declaration), &endpoints);
    }
    kubeconfig(graph, cluster);
}

/// Where machines reach the API, as we have it and as kind has it.
struct Endpoints {
    ours: String,
    theirs: String,
}

/// Why something is as kind has it.
fn as_kind_has_it() -> Origin {
    derived("the cluster was made by kind")
}

fn leave_out(declaration: &mut Declaration, fields: &[&str]) {
    if let Value::Map(map) = &mut declaration.spec {
        for field in fields {
            map.remove(*field);
        }
    }
}

/// Clusters of kind share a network, which outlives each of them.
fn network(declaration: &mut Declaration, _: &Endpoints) {
    leave_out(declaration, &["subnet", "given", "ipv6_subnet", "ipv6_given"]);
    declaration.ownership = Ownership::Read;
}

fn machine(declaration: &mut Declaration, _: &Endpoints) {
    leave_out(declaration, &["address", "ipv6_address", "aliases"]);
}

/// Where a member of etcd is found is known once its machine has an address: before that by its name alone.
fn etcd_member(declaration: &mut Declaration, _: &Endpoints) {
    let path = Path::key("peer");
    declaration.spec.set(&path, Value::from(EtcdMemberSpec::peer_at(&declaration.identity.name)));
    declaration.origins.set(path, as_kind_has_it());
}

/// The API servers are found by the names of their machines, and listen by the first of their families.
fn load_balancer(declaration: &mut Declaration, _: &Endpoints) {
    let path = Path::key("backends");
    let Some(Value::Map(backends)) = declaration.spec.get(&path).cloned() else { return };
    let is_ipv6 = backends.iter().any(|(_, address)| address.as_str().is_some_and(|address| address.starts_with('[')));
    let by_name = backends.iter().map(|(name, _)| (name, Value::from(format!("{name}:{}", MachineSpec::API_PORT))));
    declaration.spec.set(&path, Value::map(by_name));
    declaration.origins.set(path, as_kind_has_it());
    if !is_ipv6 {
        leave_out(declaration, &["ipv6"]);
    }
}

fn addon(declaration: &mut Declaration, endpoints: &Endpoints) {
    let path = Path::key("endpoint");
    if declaration.spec.get(&path).and_then(Value::as_str) == Some(&endpoints.ours) {
        declaration.spec.set(&path, Value::from(endpoints.theirs.as_str()));
        declaration.origins.set(path, as_kind_has_it());
    }
}

fn bootstrap(declaration: &mut Declaration, endpoints: &Endpoints) {
    let path = Path::key("config");
    let Some(Value::List(documents)) = declaration.spec.get(&path).cloned() else { return };
    let told = documents.iter().map(|document| Value::from(document_of_kind(document.to_plain_json(), endpoints)));
    declaration.spec.set(&path, Value::List(told.collect()));
}

/// A document for kubeadm without what only ours has.
fn document_of_kind(mut document: Json, endpoints: &Endpoints) -> Json {
    let swap = |place: Option<&mut Json>| {
        if let Some(place) = place.filter(|place| **place == endpoints.ours) {
            *place = endpoints.theirs.as_str().into();
        }
    };
    swap(document.pointer_mut("/controlPlaneEndpoint"));
    swap(document.pointer_mut("/discovery/bootstrapToken/apiServerEndpoint"));
    if is_ours_alone("encryptionAlgorithm", &document["encryptionAlgorithm"])
        && let Some(fields) = document.as_object_mut()
    {
        fields.remove("encryptionAlgorithm");
    }
    for program in ["controllerManager", "scheduler"] {
        let arguments = document.pointer_mut(&format!("/{program}/extraArgs"));
        retain_arguments(arguments, |name, value| !is_ours_alone(name, value));
    }
    retain_arguments(document.pointer_mut("/nodeRegistration/kubeletExtraArgs"), |name, _| name != NODE_IP);
    for place in ["/localAPIEndpoint", "/controlPlane/localAPIEndpoint"] {
        if let Some(fields) = document.pointer_mut(place).and_then(Json::as_object_mut) {
            fields.remove("advertiseAddress");
        }
    }
    document
}

/// Keeps some arguments of a program, in either of the shapes that they have.
fn retain_arguments(arguments: Option<&mut Json>, is_kept: impl Fn(&str, &Json) -> bool) {
    match arguments {
        Some(Json::Array(list)) => {
            list.retain(|one| is_kept(one["name"].as_str().unwrap_or_default(), &one["value"]));
        }
        Some(Json::Object(map)) => map.retain(|name, value| is_kept(name, value)),
        _ => {}
    }
}

/// The user has kind's context already: it is the one that is kept, unless the file names another.
fn kubeconfig(graph: &mut DeclaredGraph, cluster: &str) {
    let address = Address::new(cluster, KubeconfigSpec::KIND, &["main"]);
    let Some(declaration) = graph.declarations.get_mut(&address) else { return };
    let (ours, theirs) = (format!("ksail-{cluster}"), context_of_kind(cluster));
    if declaration.identity.name != ours {
        return;
    }
    let declaration = Arc::make_mut(declaration);
    declaration.identity = Identity::named(theirs.clone());
    for field in ["context", "cluster", "user"] {
        let path = Path::key(field);
        declaration.spec.set(&path, Value::from(theirs.as_str()));
        declaration.origins.set(path, as_kind_has_it());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn endpoints() -> Endpoints {
        Endpoints { ours: "dev-external-load-balancer:6443".into(), theirs: "dev-control-plane:6443".into() }
    }

    #[test]
    fn documents_are_told_as_kind_tells_them() {
        let ours = json!({
            "kind": "ClusterConfiguration", "controlPlaneEndpoint": "dev-external-load-balancer:6443",
            "encryptionAlgorithm": "ECDSA-P256",
            "controllerManager": {"extraArgs": [
                {"name": "enable-hostpath-provisioner", "value": "true"}, {"name": "kube-api-qps", "value": "100"},
                {"name": "kube-api-burst", "value": "200"}, {"name": "leader-elect-retry-period", "value": "1s"},
            ]},
            "scheduler": {"extraArgs": {"leader-elect-retry-period": "1s", "v": "2"}},
        });
        let theirs = json!({
            "kind": "ClusterConfiguration", "controlPlaneEndpoint": "dev-control-plane:6443",
            "controllerManager": {"extraArgs": [{"name": "enable-hostpath-provisioner", "value": "true"}]},
            "scheduler": {"extraArgs": {"v": "2"}},
        });
        assert_eq!(document_of_kind(ours, &endpoints()), theirs);
        let join = json!({
            "kind": "JoinConfiguration",
            "discovery": {"bootstrapToken": {"apiServerEndpoint": "dev-external-load-balancer:6443"}},
            "controlPlane": {"localAPIEndpoint": {"advertiseAddress": "10.1.2.3", "bindPort": 6443}},
            "nodeRegistration": {"kubeletExtraArgs": [{"name": "node-ip", "value": "10.1.2.3"}, {"name": "v", "value": "1"}]},
        });
        let told = document_of_kind(join, &endpoints());
        assert_eq!(told["discovery"]["bootstrapToken"]["apiServerEndpoint"], "dev-control-plane:6443");
        assert_eq!(told["controlPlane"]["localAPIEndpoint"], json!({"bindPort": 6443}));
        assert_eq!(told["nodeRegistration"]["kubeletExtraArgs"], json!([{"name": "v", "value": "1"}]));
    }

    #[test]
    fn what_the_user_patched_stays() {
        let patched = json!({
            "controlPlaneEndpoint": "my-door:6443", "encryptionAlgorithm": "RSA-4096",
            "controllerManager": {"extraArgs": [{"name": "kube-api-qps", "value": "7"}]},
        });
        assert_eq!(document_of_kind(patched.clone(), &endpoints()), patched);
    }
}
