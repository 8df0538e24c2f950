//! What a killed operation asked for and what may still come to be: an engine goes on with a request whose maker is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ksail_kinds::BuiltinKinds;
use ksail_model::{DeclaredGraph, Observation, RecordKey, Schemas as _};
use ksail_plan::Observed;
use ksail_provider::Connector;
use ksail_records::{Call, OpenIntent, Snapshot};
use tokio::time::Instant;

use crate::plan::{PlanOptions, observe};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// Looks again, for as long as its kind says, for what was asked for, is not there and is not wanted any more: nobody would look for it
/// later. What is wanted is asked for once more, which finds it.
pub(crate) async fn wait_for_unwanted(
    graph: &DeclaredGraph,
    snapshot: &Snapshot,
    connector: &Arc<dyn Connector>,
    options: &PlanOptions,
    observations: &mut BTreeMap<RecordKey, Observed>,
) {
    let began = Instant::now();
    loop {
        let waited = began.elapsed();
        let waits = |key: &RecordKey, open: &OpenIntent| {
            let lands_within = BuiltinKinds.schema(key.address.kind()).map(|schema| schema.lands_within);
            let is_absent = observations.get(key).is_some_and(|observed| observed.observation == Observation::Absent);
            is_absent && !is_wanted(graph, key, open) && lands_within.is_some_and(|lands_within| waited < lands_within)
        };
        let open = snapshot.open.iter().filter(|(_, open)| open.intent.call == Call::Create);
        let awaited: Vec<&RecordKey> = open.filter(|(key, open)| waits(key, open)).map(|(key, _)| key).collect();
        if awaited.is_empty() || options.cancel.is_cancelled() {
            return;
        }
        tracing::debug!(?awaited, ?waited, "a killed operation asked for it; it may still come to be");
        tokio::time::sleep(PAUSE).await;
        observations.extend(observe(graph, snapshot, connector, options).await);
    }
}

/// Whether it is declared where it was asked for.
fn is_wanted(graph: &DeclaredGraph, key: &RecordKey, open: &OpenIntent) -> bool {
    let declared = graph.declarations.get(&key.address);
    declared.zip(open.intent.declaration.as_ref()).is_some_and(|(declared, asked)| declared.is_in_place_of(asked))
}
