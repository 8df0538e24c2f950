//! Entries of a cluster in the user's kubeconfig.

use ksail_model::{Address, Path, Reference, Value};
use serde::{Deserialize, Serialize};

use crate::Spec;

/// What a source that lies in the machines of a cluster begins with.
const IN_MACHINES: &str = "machines://";

/// The cluster, user and context of a cluster in a file that kubectl reads. The identity's name is that of the context, and of the
/// two others. Attributes: `id` (that name), `former_context` (the one that was the current one before, if there was one, and is given back).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubeconfigSpec {
    /// The file: below the home folder (`~/.kube/config`), absolute, or relative to the project's folder.
    pub file: String,
    /// The name of the context.
    pub context: String,
    /// The name of the cluster's entry.
    pub cluster: String,
    /// The name of the user's entry.
    pub user: String,
    /// Where the API is.
    pub server: String,
    /// The kubeconfig that the cluster itself gave: a file's path, or `machines://CLUSTER` for the one that lies in the
    /// machines of its control plane. Credentials are read there at the moment of a call.
    pub source: String,
    /// Whether the credentials are those that the source holds now: `current` or `outdated`.
    pub credentials: String,
    /// Whether the context became the current one. Which one is current later is the user's business.
    pub current_context: bool,
}

impl Spec for KubeconfigSpec {
    const KIND: &'static str = "kubeconfig";
}

impl KubeconfigSpec {
    /// Lets a spec take from a cluster where that answers and where its credentials are, whatever it said of them before.
    pub fn lead_to(spec: &mut Value, cluster: &Address) {
        for (field, attribute) in [("server", "endpoint"), ("source", "kubeconfig")] {
            let reference = Reference { address: cluster.clone(), path: Path::key(attribute) };
            spec.set(&Path::key(field), Value::Ref(reference));
        }
    }

    /// The source that lies in the machines of a cluster.
    pub fn source_in(cluster: &str) -> String {
        format!("{IN_MACHINES}{cluster}")
    }

    /// The name of the cluster in whose machines a source lies, if it is no file.
    pub fn cluster_of(source: &str) -> Option<&str> {
        source.strip_prefix(IN_MACHINES)
    }

    /// What is said of credentials that are those of the cluster, or are not.
    pub const fn credentials(are_current: bool) -> &'static str {
        if are_current { "current" } else { "outdated" }
    }
}
