//! Kubernetes objects on any cluster that a kubeconfig reaches.
//!
//! One object is one resource, of the kind `object`. Its spec is the object as a manifest has it, and one field beside:
//! `fieldManager`, who manages its fields. Objects are changed by server-side apply under the manager `ksail`. What is ours of
//! an object is what was declared of it and what the server says that we own; nothing else is looked at.
//!
//! A node that is declared as such is of the kind `node`: its object, whose pods are taken off it before it is deleted, or its kubelet is changed.
//!
//! The identity's name is `<group.Kind>/<namespace or _>/<name>` (`apps.Deployment/web/shop`, `Namespace/_/web`). The scope is
//! the UID of the namespace `kube-system`. The mark is a label with the lineage and annotations with the rest.

mod call;
mod connection;
mod controllers;
mod discovery;
mod drain;
mod explain;
mod fields;
mod kept;
mod logs;
mod mark;
mod name;
mod observe;
mod others;
mod preview;
mod provider;
mod readiness;
mod refusal;
mod scalers;
mod secrets;
mod taints;
mod takeover;
mod upgrade;
mod watch;
mod wire;

pub use connection::{Connection, ConnectionError, KubeconfigSource};
pub use kept::Kept;
pub use name::ObjectName;
pub use preview::preview_in_new;
pub use provider::KubernetesProvider;

/// Our field manager.
pub const FIELD_MANAGER: &str = "ksail";
