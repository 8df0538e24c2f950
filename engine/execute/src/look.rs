//! Looking at the outside: one batch a session, hosts before what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use ksail_model::{Address, Observation, ProviderConfig, RecordKey, Scope, UnknownReason, Value};
use ksail_plan::{LookItem, Observed, joined};
use ksail_provider::{CallContext, CallError, CallErrorKind, Connector, Target};
use ksail_records::Snapshot;

use crate::sessions::{SessionKey, Sessions};

/// How deep hosts may lie in hosts.
const DEEPEST_HOST: usize = 8;

/// What looking needs.
#[derive(Clone)]
pub struct Looker {
    sessions: Arc<Sessions>,
    context: CallContext,
}

impl Looker {
    /// Looks through a connector. `context` carries lineage, the timeout of a batch, and the cancellation.
    pub fn new(
        connector: Arc<dyn Connector>,
        providers: BTreeMap<String, ProviderConfig>,
        context: CallContext,
    ) -> Self {
        Self { sessions: Arc::new(Sessions::new(connector, providers)), context }
    }

    pub(crate) const fn with_sessions(sessions: Arc<Sessions>, context: CallContext) -> Self {
        Self { sessions, context }
    }

    /// Looks at all items; each gets an observation. Hosts that are among the items are looked at first; `known` tells the
    /// attributes of those that are not.
    pub async fn look(
        &self,
        items: &[LookItem],
        known: &(dyn Fn(&RecordKey) -> Option<Value> + Sync),
    ) -> BTreeMap<RecordKey, Observed> {
        let mut seen: BTreeMap<RecordKey, Observed> = BTreeMap::new();
        let hosts: BTreeSet<&Address> = items.iter().filter_map(host).collect();
        let is_host = |key: &&RecordKey| key.deposed.is_none() && hosts.contains(&key.address);
        let among: BTreeSet<&Address> =
            items.iter().map(|item| &item.key).filter(is_host).map(|key| &key.address).collect();
        let mut rest: Vec<&LookItem> = items.iter().collect();
        for _ in 0..DEEPEST_HOST {
            let (now, later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|item| {
                host(item)
                    .is_none_or(|host| !among.contains(host) || seen.contains_key(&RecordKey::current(host.clone())))
            });
            let mut batches: BTreeMap<(&str, Option<&Address>), Vec<&LookItem>> = BTreeMap::new();
            for item in now {
                batches.entry((&item.declaration.provider, host(item))).or_default().push(item);
            }
            let batches: Vec<(SessionKey, Vec<&LookItem>)> = batches
                .into_iter()
                .map(|((provider, host), items)| ((provider.to_owned(), host.cloned().map(RecordKey::current)), items))
                .collect();
            let replies =
                join_all(batches.iter().map(|(session, items)| self.batch(session, items, &seen, known))).await;
            // All at once: one by one, each would be searched for in the others.
            seen.append(&mut replies.into_iter().flatten().collect());
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        for item in rest {
            let reason = UnknownReason::Denied { message: "its hosts lie too deep in each other".to_owned() };
            seen.insert(item.key.clone(), Observed { observation: Observation::Unknown(reason), scope: None });
        }
        seen
    }

    async fn batch(
        &self,
        session: &SessionKey,
        items: &[&LookItem],
        seen: &BTreeMap<RecordKey, Observed>,
        known: &(dyn Fn(&RecordKey) -> Option<Value> + Sync),
    ) -> Vec<(RecordKey, Observed)> {
        let same = |observation: Observation| {
            items
                .iter()
                .map(|item| (item.key.clone(), Observed { observation: observation.clone(), scope: None }))
                .collect()
        };
        let attributes = match &session.1 {
            None => None,
            Some(host) => match host_attributes(host, seen, known) {
                Ok(attributes) => Some(attributes),
                Err(observation) => return same(observation),
            },
        };
        match self.observe(session, attributes, items).await {
            Ok((scope, observations)) => items
                .iter()
                .zip(observations)
                .map(|(item, observation)| (item.key.clone(), Observed { observation, scope: Some(scope.clone()) }))
                .collect(),
            Err(error) => same(Observation::Unknown(unknown(&error))),
        }
    }

    async fn observe(
        &self,
        session: &SessionKey,
        attributes: Option<Value>,
        items: &[&LookItem],
    ) -> Result<(Scope, Vec<Observation>), CallError> {
        // What keeps a session from opening (no engine, a bad context) tells nothing of rights.
        let opened = self.sessions.open(session, attributes).await;
        let provider = opened.map_err(|error| CallError { kind: CallErrorKind::Unreachable, ..error })?;
        let targets: Vec<Target> = items.iter().map(|item| target(item)).collect();
        let deadline = self.context.timeout;
        let reply = match tokio::time::timeout(deadline, provider.observe(&self.context, &targets)).await {
            Ok(reply) => reply?,
            Err(_) => return Err(CallError::indeterminate(format!("no answer within {} s", deadline.as_secs()))),
        };
        if reply.observations.len() != targets.len() {
            return Err(CallError::indeterminate(format!(
                "{} observations came back for {} resources",
                reply.observations.len(),
                targets.len()
            )));
        }
        Ok((reply.scope, reply.observations))
    }
}

/// The attributes that a session to a host is made from, or what is to be said of all that it holds.
fn host_attributes(
    host: &RecordKey,
    seen: &BTreeMap<RecordKey, Observed>,
    known: &(dyn Fn(&RecordKey) -> Option<Value> + Sync),
) -> Result<Value, Observation> {
    match seen.get(host).map(|observed| &observed.observation) {
        Some(Observation::Present(found)) if found.readiness.is_ready() => Ok(joined(&found.fields, &found.attributes)),
        Some(Observation::Present(_)) => {
            Err(Observation::Unknown(UnknownReason::HostNotServing { host: host.address.clone() }))
        }
        Some(Observation::Absent) => Err(Observation::Absent),
        // Its own host comes first, and so does it.
        Some(Observation::Unknown(UnknownReason::HostNotServing { .. })) => {
            Err(Observation::Unknown(UnknownReason::HostNotServing { host: host.address.clone() }))
        }
        Some(Observation::Unknown(_)) => {
            Err(Observation::Unknown(UnknownReason::HostUnknown { host: host.address.clone() }))
        }
        None => {
            known(host).ok_or_else(|| Observation::Unknown(UnknownReason::HostUnknown { host: host.address.clone() }))
        }
    }
}

fn unknown(error: &CallError) -> UnknownReason {
    match error.kind {
        CallErrorKind::Refused | CallErrorKind::NotOurs => UnknownReason::Denied { message: error.message.clone() },
        _ => UnknownReason::Unreachable { message: error.message.clone() },
    }
}

/// What an item lives in.
fn host(item: &LookItem) -> Option<&Address> {
    item.declaration.host.as_ref()
}

/// The provider's view of an item.
pub(crate) fn target(item: &LookItem) -> Target {
    let declaration = item.declaration.as_ref();
    Target {
        address: item.key.address.clone(),
        kind_version: declaration.kind_version,
        identity: declaration.identity.clone(),
        id: item.id.clone(),
        spec: Some(declaration.spec.clone()),
        ownership: declaration.ownership,
    }
}

/// The attributes of a recorded host.
pub(crate) fn known_attributes(snapshot: &Snapshot, host: &RecordKey) -> Option<Value> {
    snapshot.records.get(host).map(|record| joined(&record.fields, &record.attributes))
}
