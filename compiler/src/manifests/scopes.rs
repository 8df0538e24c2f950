//! Which kinds live in namespaces. Of Kubernetes' own it is known; of others their CustomResourceDefinition tells.

use std::collections::BTreeMap;

use super::object::Object;

/// The kinds of Kubernetes itself that live in no namespace, by group.
const CLUSTER_KINDS: &[(&str, &[&str])] = &[
    ("", &["Namespace", "Node", "PersistentVolume", "ComponentStatus"]),
    (
        "admissionregistration.k8s.io",
        &[
            "ValidatingWebhookConfiguration",
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
        ],
    ),
    ("apiextensions.k8s.io", &["CustomResourceDefinition"]),
    ("apiregistration.k8s.io", &["APIService"]),
    ("certificates.k8s.io", &["CertificateSigningRequest", "ClusterTrustBundle"]),
    ("flowcontrol.apiserver.k8s.io", &["FlowSchema", "PriorityLevelConfiguration"]),
    ("gateway.networking.k8s.io", &["GatewayClass"]),
    ("internal.apiserver.k8s.io", &["StorageVersion"]),
    ("networking.k8s.io", &["IngressClass", "ServiceCIDR", "IPAddress"]),
    ("node.k8s.io", &["RuntimeClass"]),
    ("rbac.authorization.k8s.io", &["ClusterRole", "ClusterRoleBinding"]),
    ("resource.k8s.io", &["DeviceClass", "ResourceSlice", "DeviceTaintRule"]),
    ("scheduling.k8s.io", &["PriorityClass"]),
    ("storage.k8s.io", &["StorageClass", "CSIDriver", "CSINode", "VolumeAttachment", "VolumeAttributesClass"]),
    ("storagemigration.k8s.io", &["StorageVersionMigration"]),
];

/// Groups of Kubernetes itself, beside those above.
const OWN_GROUPS: &[&str] = &[
    "apps",
    "autoscaling",
    "batch",
    "policy",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
];

/// What is known of the scopes of kinds.
pub(crate) struct Scopes {
    /// By group and kind: whether objects live in namespaces.
    custom: BTreeMap<(String, String), bool>,
}

impl Scopes {
    /// With what the CustomResourceDefinitions among the objects tell.
    pub(crate) fn of<'a>(objects: impl Iterator<Item = &'a Object>) -> Self {
        let custom = objects
            .filter_map(|object| {
                let (group, kind) = object.defines()?;
                let scope = object.text(&["spec", "scope"])?;
                Some(((group.to_owned(), kind.to_owned()), scope == "Namespaced"))
            })
            .collect();
        Self { custom }
    }

    /// Whether a kind lives in namespaces; `None` where only the cluster knows.
    pub(crate) fn is_namespaced(&self, group: &str, kind: &str) -> Option<bool> {
        if let Some(known) = self.custom.get(&(group.to_owned(), kind.to_owned())) {
            return Some(*known);
        }
        let own = CLUSTER_KINDS.iter().find(|(known, _)| *known == group);
        match own {
            Some((_, kinds)) => Some(!kinds.contains(&kind)),
            None => OWN_GROUPS.contains(&group).then_some(true),
        }
    }
}
