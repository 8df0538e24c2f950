//! The one kind: a field in, the same out.

use std::time::Duration;

use ksail_model::{FieldSchema, KindSchema, Schemas};

/// The kind's name.
pub(crate) const KIND: &str = "nothing";

/// The version of its spec.
pub(crate) const KIND_VERSION: u32 = 1;

/// Knows the one kind.
#[derive(Debug)]
pub(crate) struct OneKind(KindSchema);

impl Default for OneKind {
    fn default() -> Self {
        Self(KindSchema {
            kind: KIND,
            version: KIND_VERSION,
            fields: vec![FieldSchema::new("output").computed()],
            may_coexist: Err("its name is fixed"),
            is_host: false,
            holds_data: None,
            repeat_safe: true,
            lands_within: std::time::Duration::ZERO,
            normalises: false,
            estimate: Duration::from_millis(100),
            keeps: &[],
            follows: None,
        })
    }
}

impl Schemas for OneKind {
    fn schema(&self, kind: &str) -> Option<&KindSchema> {
        (kind == KIND).then_some(&self.0)
    }
}
