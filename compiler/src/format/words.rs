//! The closed sets of words that fields take.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Declares an enum of words with its JSON Schema. `switch` words are also met as booleans in users' files
/// (`true` is `Enabled`), which the schema tells.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        words!(@ $(#[$meta])* $name { $($(#[$variant_meta])* $variant = $text,)+ }
            json_schema!({ "type": "string", "enum": [$($text),+] }));
    };
    (switch $(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        words!(@ $(#[$meta])* $name { $($(#[$variant_meta])* $variant = $text,)+ }
            json_schema!({ "type": ["string", "boolean"], "enum": [$($text),+, true, false] }));
    };
    (@ $(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ } $schema:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every word.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word as it stands in the file.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

words! {
    /// The version of the format.
    ApiVersion {
        /// The only one there is.
        V1Alpha1 = "ksail.io/v1alpha1",
    }
}

words! {
    /// The kind of document.
    DocumentKind {
        /// A cluster and what belongs to it.
        Cluster = "Cluster",
    }
}

words! {
    /// What makes the cluster.
    Distribution {
        /// No cluster: network, registries, mirrors and images only.
        None = "None",
        /// Upstream Kubernetes in containers (kind), or by kubeadm.
        Vanilla = "Vanilla",
        /// K3s, in containers by k3d.
        K3s = "K3s",
        /// Talos Linux.
        Talos = "Talos",
        /// A virtual cluster within another one.
        VCluster = "VCluster",
        /// A control plane with simulated nodes.
        Kwok = "KWOK",
        /// Amazon's managed Kubernetes.
        Eks = "EKS",
        /// Google's managed Kubernetes.
        Gke = "GKE",
        /// Azure's managed Kubernetes.
        Aks = "AKS",
    }
}

words! {
    /// What a stage is about.
    StageKind {
        /// Nodes.
        Node = "Node",
        /// Pods.
        Pod = "Pod",
        /// Claims of volumes.
        PersistentVolumeClaim = "PersistentVolumeClaim",
        /// Services; what comes to life is the address of a load balancer.
        Service = "Service",
    }
}

words! {
    /// What a field must be.
    SelectorOperator {
        /// One of the values.
        In = "In",
        /// None of the values.
        NotIn = "NotIn",
        /// There.
        Exists = "Exists",
        /// Not there.
        DoesNotExist = "DoesNotExist",
    }
}

words! {
    /// What a node is for.
    NodeRole {
        /// It runs the control plane.
        ControlPlane = "ControlPlane",
        /// It runs only workloads.
        Worker = "Worker",
    }
}

words! {
    /// Where it runs.
    Provider {
        /// The engine that ksail brings along, on this machine.
        Embedded = "Embedded",
        /// A Docker Engine, or what speaks its API.
        Docker = "Docker",
        /// Hetzner Cloud.
        Hetzner = "Hetzner",
        /// Sidero Omni.
        Omni = "Omni",
        /// Amazon Web Services.
        Aws = "AWS",
        /// Google Cloud.
        Gcp = "GCP",
        /// Microsoft Azure.
        Azure = "Azure",
        /// Another Kubernetes cluster.
        Kubernetes = "Kubernetes",
    }
}

words! {
    /// The network plugin.
    Cni {
        /// The distribution's own.
        Default = "Default",
        /// Cilium.
        Cilium = "Cilium",
        /// Calico.
        Calico = "Calico",
    }
}

words! {
    switch
    /// A component that a distribution may bring along.
    Component {
        /// As the distribution has it.
        Default = "Default",
        /// Made sure of.
        Enabled = "Enabled",
        /// Left out or taken away.
        Disabled = "Disabled",
    }
}

words! {
    switch
    /// On or off.
    Toggle {
        /// On.
        Enabled = "Enabled",
        /// Off.
        Disabled = "Disabled",
    }
}

words! {
    /// The engine that judges objects by policies.
    PolicyEngine {
        /// No engine.
        None = "None",
        /// Kyverno.
        Kyverno = "Kyverno",
        /// OPA Gatekeeper.
        Gatekeeper = "Gatekeeper",
    }
}

words! {
    /// What applies the workloads from a source.
    GitOpsEngine {
        /// No engine.
        None = "None",
        /// Flux.
        Flux = "Flux",
        /// Argo CD.
        ArgoCd = "ArgoCD",
    }
}

words! {
    /// What a taint does to pods that do not tolerate it.
    TaintEffect {
        /// New ones are kept away.
        NoSchedule = "NoSchedule",
        /// New ones are kept away where possible.
        PreferNoSchedule = "PreferNoSchedule",
        /// Running ones are evicted too.
        NoExecute = "NoExecute",
    }
}

words! {
    /// How the autoscaler picks the pool that grows.
    Expander {
        /// The cheapest.
        Price = "Price",
        /// The one with the least left unused.
        LeastWaste = "LeastWaste",
        /// The one that needs the fewest nodes.
        LeastNodes = "LeastNodes",
        /// Any.
        Random = "Random",
    }
}

words! {
    /// A transport protocol.
    Transport {
        /// TCP.
        Tcp = "TCP",
        /// UDP.
        Udp = "UDP",
    }
}

words! {
    /// How servers are spread over physical hosts.
    PlacementStrategy {
        /// Left to the cloud.
        None = "None",
        /// Each on another physical host.
        Spread = "Spread",
    }
}

words! {
    /// What checks signatures of artifacts.
    Verifier {
        /// Sigstore Cosign.
        Cosign = "cosign",
        /// Notary Notation.
        Notation = "notation",
    }
}

words! {
    /// How much a chat model thinks before it answers.
    ReasoningEffort {
        /// Little.
        Low = "low",
        /// Some.
        Medium = "medium",
        /// Much.
        High = "high",
    }
}

words! {
    /// Where the state is kept.
    StateBackend {
        /// A folder on this machine.
        Local = "Local",
        /// A bucket of an S3-compatible store.
        S3 = "S3",
        /// A database of PostgreSQL.
        Postgres = "Postgres",
    }
}

/// One expander, or several in order of preference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expanders(pub Vec<Expander>);

impl JsonSchema for Expanders {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Expanders".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<Expander>();
        let many = generator.subschema_for::<Vec<Expander>>();
        json_schema!({ "anyOf": [one, many] })
    }
}
