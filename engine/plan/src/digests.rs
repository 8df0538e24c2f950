//! The digests of a plan: of what is declared, and of all of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ksail_model::{Address, Declaration, Digest};
use serde::{Serialize, Serializer};

use crate::Inputs;
use crate::plan::{Plan, PlanHeader};

/// Declarations as the list of their digests, each made when its turn comes.
struct EachDigest<'a>(&'a BTreeMap<Address, Arc<Declaration>>);

impl Serialize for EachDigest<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.values().map(|declaration| declaration.digest()))
    }
}

pub(crate) fn content_digest(inputs: &Inputs<'_>) -> Digest {
    let declarations = EachDigest(&inputs.declared.declarations);
    let removed: Vec<_> = inputs.declared.removed.iter().map(|removal| (&removal.from, removal.destroy)).collect();
    let moved: Vec<_> = inputs.declared.moved.iter().map(|step| (&step.from, &step.to)).collect();
    let imports: Vec<_> = inputs.declared.imports.iter().map(|import| (&import.to, &import.id)).collect();
    Digest::of(&(declarations, &inputs.declared.providers, removed, moved, imports))
}

/// The digest of a plan, computed anew from all of its content: it differs from [`Plan::digest`] where a file was changed,
/// be it only in what is shown of it. When a plan was made does not count.
pub fn digest_of(plan: &Plan) -> Digest {
    let header = PlanHeader { made_ms: 0, ..plan.header.clone() };
    // By name, so that no part is left out.
    let Plan {
        format,
        header: _,
        content_digest,
        digest: _,
        nodes,
        steps,
        drift,
        resolutions,
        yielded,
        providers,
        outputs,
        outputs_before,
        notes,
    } = plan;
    Digest::of(&(
        (format, &header, content_digest, nodes, steps, drift),
        (resolutions, yielded, providers, outputs, outputs_before, notes),
    ))
}
