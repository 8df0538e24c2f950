//! The entries of a cluster in the user's kubeconfig.

use ksail_kinds::{KubeconfigSpec, Spec as _};
use ksail_model::{Address, Choice, Condition, Edge, ForceOn, Origins, Ownership, Path, Reference, Strength, Value};

use super::resources::{Builder, derived};

/// The provider of kubeconfigs.
const KUBECONFIG: &str = "kubeconfig";

impl Builder<'_> {
    /// Declares the entries of a cluster that is made here. They are no part of the cluster: they lie in a file of the user's.
    pub(super) fn kubeconfig(&mut self, cluster: &Address) {
        self.provider(KUBECONFIG);
        let connection = &self.loaded.config.spec.cluster.connection;
        let (named, context) = (connection.kubeconfig.clone(), connection.context.clone());
        let name = context.clone().unwrap_or_else(|| format!("ksail-{}", self.cluster));
        let spec = KubeconfigSpec {
            file: named.clone().unwrap_or_default(),
            context: name.clone(),
            cluster: name.clone(),
            user: name.clone(),
            server: String::new(),
            source: String::new(),
            credentials: KubeconfigSpec::credentials(true).to_owned(),
            current_context: true,
        };
        let mut origins = Origins::all(self.origin("spec.cluster.distribution"));
        let named_by = match context {
            Some(_) => self.origin("spec.cluster.connection.context"),
            None => derived("the cluster's name"),
        };
        for field in ["context", "cluster", "user"] {
            origins.set(Path::key(field), named_by.clone());
        }
        origins.set(Path::key("server"), derived("where the cluster answers"));
        origins.set(Path::key("source"), derived("where the cluster's credentials are"));
        origins.set(Path::key("credentials"), derived("those of the cluster"));
        origins.set(Path::key("current_context"), derived("who makes a cluster works with it"));
        let mut kubeconfig = self.declaration("main", name, &spec, origins);
        kubeconfig.provider = KUBECONFIG.to_owned();
        kubeconfig.host = None;
        kubeconfig.ownership = Ownership::Fields;
        KubeconfigSpec::lead_to(&mut kubeconfig.spec, cluster);
        match named {
            Some(named) => {
                kubeconfig.origins.set(Path::key("file"), self.origin("spec.cluster.connection.kubeconfig"));
                if let Some(config) = self.graph.providers.get_mut(KUBECONFIG) {
                    config.settings.insert("kubeconfig".to_owned(), named);
                }
            }
            None => {
                if let Value::Map(fields) = &mut kubeconfig.spec {
                    fields.remove("file");
                }
                let why = "the file that kubectl would write to".to_owned();
                let proposed = self.project.kubeconfig();
                kubeconfig.choices.push(Choice::Text { path: Path::key("file"), proposed, why });
            }
        }
        kubeconfig.edges.push(Edge {
            to: cluster.clone(),
            condition: Condition::Ready,
            strength: Strength::Hard,
            on_replace: ForceOn::Nothing,
            origin: derived("its entries lead to the cluster"),
        });
        let address = self.add(kubeconfig);
        let context = Value::Ref(Reference { address, path: Path::key("context") });
        self.graph.outputs.insert("context".to_owned(), context);
    }

    /// Tells the user's file as the kubeconfig of a cluster that has none of its own on this machine.
    pub(super) fn kubeconfig_output(&mut self) {
        let file = Reference { address: self.address(KubeconfigSpec::KIND, "main"), path: Path::key("file") };
        self.graph.outputs.insert("kubeconfig".to_owned(), Value::Ref(file));
    }
}
