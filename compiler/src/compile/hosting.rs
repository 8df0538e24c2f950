//! What the cluster tells development tools of its local registry: the ConfigMap `local-registry-hosting` of KEP-1755.

use std::collections::BTreeMap;

use ksail_kinds::RegistrySpec;
use ksail_model::{
    Address, Condition, Declaration, Edge, ForceOn, Identity, Lifecycle, Origins, Ownership, Path, Reference, Strength,
    Value,
};

use super::resources::{Builder, KUBERNETES, derived};
use crate::manifests;

const KIND: &str = "ConfigMap";
const NAMESPACE: &str = "kube-public";
const NAME: &str = "local-registry-hosting";
/// The key of its data, which holds a version.
const KEY: &str = "localRegistryHosting.v1";

impl Builder<'_> {
    /// Declares the ConfigMap in a cluster, unless a manifest does: then it is the user's own.
    pub(super) fn registry_hosting(&mut self, cluster: &Address, registry: &Address) {
        let address = Address::new(self.cluster, manifests::KIND, &[KIND, NAMESPACE, NAME]);
        if self.graph.declarations.contains_key(&address) {
            return;
        }
        let told = Reference { address: registry.clone(), path: Path::key(RegistrySpec::HOSTING) };
        let metadata = [("name", NAME), ("namespace", NAMESPACE)];
        let spec = BTreeMap::from([
            ("apiVersion", Value::from("v1")),
            ("data", Value::map([(KEY, Value::Ref(told))])),
            (manifests::MANAGER_FIELD, Value::from(manifests::MANAGER)),
            ("kind", Value::from(KIND)),
            ("metadata", Value::map(metadata)),
        ]);
        let mut origins = Origins::all(self.origin("spec.cluster.localRegistry"));
        origins.set(Path::key("data"), derived("tools find the registry by what the cluster tells of it"));
        origins.set(Path::key(manifests::MANAGER_FIELD), derived("what is declared is managed by ksail"));
        self.add(Declaration {
            address,
            kind_version: 1,
            provider: KUBERNETES.to_owned(),
            identity: Identity::named(format!("{KIND}/{NAMESPACE}/{NAME}")),
            spec: Value::map(spec),
            host: Some(cluster.clone()),
            edges: vec![Edge {
                to: registry.clone(),
                condition: Condition::Exists,
                strength: Strength::Hard,
                on_replace: ForceOn::Nothing,
                origin: derived("it tells where the registry answers"),
            }],
            ownership: Ownership::Owned,
            lifecycle: Lifecycle::default(),
            choices: Vec::new(),
            origins,
        });
    }
}
