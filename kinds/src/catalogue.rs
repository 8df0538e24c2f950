//! The schemas of the kinds of this crate.

use std::sync::LazyLock;
use std::time::Duration;

use ksail_model::{FieldSchema, KindSchema, ListShape, Path, Schemas};

/// Why fixed names refuse create-before-destroy.
const FIXED_NAME: &str = "its name is fixed";
/// Why fixed names and ports refuse create-before-destroy.
const FIXED_PORT: &str = "its name and host port are fixed";

/// How long an engine may take over a container whose maker is gone, and over a machine, for which it copies a gigabyte.
const LANDS_WITHIN: Duration = Duration::from_secs(2);
const MACHINE_LANDS_WITHIN: Duration = Duration::from_secs(20);

/// The schemas of the kinds of this crate.
#[derive(Debug, Clone, Copy, Default)]
pub struct BuiltinKinds;

impl Schemas for BuiltinKinds {
    fn schema(&self, kind: &str) -> Option<&KindSchema> {
        KINDS.iter().find(|schema| schema.kind == kind)
    }
}

/// Every kind that this version knows.
pub static KINDS: LazyLock<Vec<KindSchema>> = LazyLock::new(|| {
    let kind = |kind, fields| KindSchema {
        kind,
        version: 1,
        fields,
        may_coexist: Err(FIXED_NAME),
        is_host: false,
        holds_data: None,
        repeat_safe: true,
        lands_within: Duration::ZERO,
        normalises: false,
        estimate: Duration::from_millis(800),
        keeps: &[],
        follows: None,
    };
    vec![
        KindSchema {
            is_host: true,
            estimate: Duration::from_millis(300),
            holds_data: Some("all that it hosts, with the blobs of its registries"),
            follows: Some(crate::engine::follows),
            may_coexist: Err(FIXED_PORT),
            ..kind("engine", vec![])
        },
        KindSchema {
            estimate: Duration::from_millis(200),
            ..kind(
                "network",
                vec![
                    FieldSchema::new("driver").forces_replacement(),
                    FieldSchema::new("subnet").forces_replacement().computed(),
                    FieldSchema::new("given").forces_replacement().computed(),
                    FieldSchema::new("internal").forces_replacement(),
                ],
            )
        },
        KindSchema {
            estimate: Duration::from_millis(50),
            holds_data: Some("what was written to it"),
            ..kind("volume", vec![FieldSchema::new("driver").forces_replacement()])
        },
        KindSchema {
            estimate: Duration::from_secs(10),
            ..kind(
                "image",
                vec![
                    FieldSchema::new("reference").forces_replacement(),
                    FieldSchema::new("source.from"),
                    FieldSchema::new("source.path"),
                ],
            )
        },
        KindSchema {
            lands_within: LANDS_WITHIN,
            may_coexist: Err(FIXED_PORT),
            ..kind(
                "container",
                vec![
                    FieldSchema::new("image").forces_replacement(),
                    FieldSchema::new("command").forces_replacement(),
                    FieldSchema::new("env").forces_replacement(),
                    FieldSchema::new("mounts").forces_replacement().list(ListShape::ByKey("target")),
                    FieldSchema::new("ports").forces_replacement().list(ListShape::ByKey("container")),
                    FieldSchema::new("networks").list(ListShape::Set),
                    FieldSchema::new("health").forces_replacement(),
                ],
            )
        },
        KindSchema {
            lands_within: LANDS_WITHIN,
            may_coexist: Err(FIXED_PORT),
            follows: Some(crate::registry::follows_of_registry),
            ..kind("registry", registry_fields())
        },
        KindSchema {
            lands_within: LANDS_WITHIN,
            may_coexist: Err(FIXED_PORT),
            follows: Some(crate::registry::follows),
            ..kind("mirror", {
                let mut fields = registry_fields();
                fields.extend([
                    FieldSchema::new("host").forces_replacement(),
                    FieldSchema::new("upstream").forces_replacement(),
                    FieldSchema::new("username").forces_replacement(),
                    FieldSchema::new("password").forces_replacement().sensitive(),
                ]);
                fields
            })
        },
        KindSchema {
            lands_within: LANDS_WITHIN,
            may_coexist: Err(FIXED_PORT),
            follows: Some(crate::load_balancer::follows),
            ..kind(
                "load-balancer",
                ["image", "cluster", "network", "address", "port", "ipv6", "backends"]
                    .map(|field| FieldSchema::new(field).forces_replacement())
                    .to_vec(),
            )
        },
        KindSchema {
            is_host: true,
            estimate: Duration::from_millis(500),
            holds_data: Some("all that lives in it"),
            keeps: &["kubeconfig"],
            follows: Some(crate::cluster::follows),
            may_coexist: Err(FIXED_PORT),
            ..kind("cluster", vec![FieldSchema::new("version").in_turn()])
        },
        KindSchema {
            estimate: Duration::from_millis(20),
            ..kind("kubeconfig", vec![FieldSchema::new("file").forces_replacement()])
        },
        KindSchema {
            is_host: true,
            estimate: Duration::from_secs(3),
            holds_data: Some("all that runs on it"),
            follows: Some(crate::machine::follows),
            lands_within: MACHINE_LANDS_WITHIN,
            may_coexist: Err(FIXED_PORT),
            ..kind(
                "machine",
                vec![
                    FieldSchema::new("cluster").forces_replacement(),
                    FieldSchema::new("role").forces_replacement(),
                    FieldSchema::new("network").forces_replacement(),
                    FieldSchema::new("address").forces_replacement().computed(),
                    FieldSchema::new("ipv6_address").forces_replacement().computed(),
                    FieldSchema::new("volume").forces_replacement(),
                    FieldSchema::new("image").in_turn(),
                    FieldSchema::new("aliases").list(ListShape::Set),
                    FieldSchema::new("ports").list(ListShape::Set),
                    FieldSchema::new("mounts").list(ListShape::ByKey("target")),
                ],
            )
        },
        KindSchema {
            estimate: Duration::from_secs(10),
            ..kind(
                "bootstrap",
                vec![
                    FieldSchema::new("action").forces_replacement(),
                    FieldSchema::new("config").list(ListShape::ByKey("kind")),
                    FieldSchema::new("through"),
                ],
            )
        },
        KindSchema { estimate: Duration::from_secs(5), ..kind("image-import", vec![]) },
        KindSchema { estimate: Duration::from_secs(1), ..kind("addon", vec![]) },
        KindSchema {
            estimate: Duration::from_secs(1),
            ..kind("etcd-member", vec![FieldSchema::new("peer").forces_replacement()])
        },
        KindSchema {
            normalises: true,
            estimate: Duration::from_millis(500),
            ..kind(
                crate::NODE,
                vec![
                    FieldSchema::new("spec.taints").list(ListShape::Set),
                    FieldSchema {
                        path: Path::key("metadata").child_key("annotations").child_key(crate::KUBELET_VERSION),
                        ..FieldSchema::new("").in_turn()
                    },
                ],
            )
        },
        KindSchema { normalises: true, estimate: Duration::from_millis(100), ..kind("object", vec![]) },
    ]
});

fn registry_fields() -> Vec<FieldSchema> {
    ["image", "network", "volume", "address", "port"].map(|field| FieldSchema::new(field).forces_replacement()).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_unique_and_patterns_read() {
        for (index, schema) in KINDS.iter().enumerate() {
            assert!(KINDS[..index].iter().all(|other| other.kind != schema.kind), "{}", schema.kind);
            for field in &schema.fields {
                assert!(!field.path.is_root(), "{}: a pattern could not be read", schema.kind);
            }
        }
    }
}
