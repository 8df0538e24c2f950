//! Stopping and starting what a state holds. Nothing of the declarations or the state changes: a plan says of what is stopped that it
//! will be started.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use ksail_kinds::{ClusterSpec, MachineSpec, NODE, Spec as _};
use ksail_model::{Address, Declaration, DeclaredGraph, Mark, Observation, Path, Readiness, Record, RecordKey, Value};
use ksail_plan::{Observed, joined};
use ksail_provider::{CallContext, CallError, HostSession, Provider, Target, UpdateRequest, WaitRequest};
use ksail_records::Snapshot;
use tokio_util::sync::CancellationToken;

use crate::clusters::name_of;
use crate::error::{Error, codes};
use crate::plan::{PlanOptions, observe};
use crate::platform::{Platform, StackPlace};
use crate::settings::new_id;

/// The field of a spec that says whether a thing shall run.
const RUNNING: &str = "running";
/// How many calls are in flight.
const CALLS_IN_FLIGHT: usize = 16;
/// The pause before something that was not ready at the end of a wait, or could not be reached, is waited for again.
const PAUSE: Duration = Duration::from_millis(250);

/// What shall become of what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// It is stopped.
    Off,
    /// It is started, and waited for.
    On,
}

impl Power {
    const fn is_on(self) -> bool {
        matches!(self, Self::On)
    }

    /// The command, for others who meet the lock.
    const fn doing(self) -> &'static str {
        match self {
            Self::Off => "cluster stop",
            Self::On => "cluster start",
        }
    }
}

/// How it shall be done.
#[derive(Clone)]
pub struct PowerOptions {
    /// How long to wait for the lock.
    pub lock_wait: Duration,
    /// How long one call, and one wait until ready, may take.
    pub timeout: Duration,
    /// Cancels it. What was begun is over or known to be under way.
    pub cancel: CancellationToken,
    /// Is told of each thing as soon as it is done.
    pub told: Arc<dyn Fn(&Powered) + Send + Sync>,
}

/// What became of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Powered {
    /// The resource.
    pub address: Address,
    /// What finds it outside.
    pub name: String,
    /// What became of it.
    pub outcome: PowerOutcome,
}

/// What became of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PowerOutcome {
    /// It was stopped or started.
    Done,
    /// It was so before.
    WasSo,
    /// It is as it shall be, and not ready within the time; why.
    NotReady(String),
    /// It could not be done: why, and what to do.
    Failed {
        /// Why.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
}

impl PowerOutcome {
    /// Whether it is as it was asked for.
    pub const fn is_good(&self) -> bool {
        matches!(self, Self::Done | Self::WasSo)
    }
}

/// One work on a state's things.
struct Work<'a> {
    place: &'a StackPlace,
    snapshot: &'a Snapshot,
    power: Power,
    options: &'a PowerOptions,
    context: CallContext,
}

impl Platform {
    /// Stops or starts all that runs of the state: machines, registries, mirrors, containers, an embedded engine with all that is in
    /// it. A start waits until what runs is ready, the nodes too.
    ///
    /// # Errors
    /// There is no state, it is locked, or nothing of it runs by itself. What fails for one thing alone is its outcome.
    pub async fn power(&self, power: Power, options: &PowerOptions) -> Result<Vec<Powered>, Error> {
        let name = self.stack_name();
        let place = self.place(&name)?;
        let writer = place.backend.lock(&self.owner(power.doing()), options.lock_wait).await?;
        let done = self.power_locked(power, &name, &place, options).await;
        writer.release().await?;
        done
    }

    async fn power_locked(
        &self,
        power: Power,
        name: &str,
        place: &StackPlace,
        options: &PowerOptions,
    ) -> Result<Vec<Powered>, Error> {
        let stored = place.read(name, self.settings.environment.as_deref()).await?;
        let Some(snapshot) = stored.state.map(ksail_records::State::into_snapshot) else {
            let hint = "`ksail apply` makes what the file declares, and starts it";
            return Err(Error::new(codes::NOT_FOUND, "there is no state: nothing was applied here", hint));
        };
        let context = CallContext {
            lineage: snapshot.lineage.clone(),
            operation: Some(new_id()),
            timeout: options.timeout,
            cancel: options.cancel.clone(),
        };
        let work = Work { place, snapshot: &snapshot, power, options, context };
        let engines: Vec<(&RecordKey, &Arc<Record>)> = snapshot.records.iter().filter(|(_, one)| runs(one)).collect();
        if engines.is_empty() {
            let message = "nothing of this state can be stopped or started";
            let hint =
                "there are machines, registries and mirrors on Docker, and the embedded engine, once they are applied";
            return Err(Error::new(codes::NOT_FOUND, message, hint));
        }
        let observations = work.look(&engines).await;
        let mut done = work.each(&engines, |key, record| work.turn(record, observations.get(key))).await;
        if power.is_on() && done.iter().all(|one| one.outcome.is_good()) {
            // What lives in what was started is as ready as the cluster is: the API first, then the nodes.
            for kind in [ClusterSpec::KIND, NODE] {
                let of_kind = snapshot.records.iter().filter(|(key, _)| key.address.kind() == kind);
                done.extend(work.each(&of_kind.collect::<Vec<_>>(), |_, record| work.wait_within(record)).await);
            }
        }
        Ok(done)
    }
}

/// Whether something is started and stopped by itself, not with what it lives in or, as a cluster, is made of.
fn runs(record: &Record) -> bool {
    record.declaration.host.is_none()
        && record.address().kind() != ClusterSpec::KIND
        && record.declaration.spec.field(RUNNING).and_then(Value::as_bool).is_some_and(|running| running)
}

fn target(record: &Record, spec: Value) -> Target {
    let Declaration { address, kind_version, identity, ownership, .. } = record.declaration.as_ref();
    Target {
        address: address.clone(),
        kind_version: *kind_version,
        identity: identity.clone(),
        id: record.id.clone(),
        spec: Some(spec),
        ownership: *ownership,
    }
}

fn failed(message: impl Into<String>, hint: Option<String>) -> PowerOutcome {
    PowerOutcome::Failed { message: message.into(), hint }
}

fn of_error(error: CallError) -> PowerOutcome {
    failed(error.message, error.hint)
}

impl Work<'_> {
    /// Does something for all of them, some at a time, and tells of each.
    async fn each<'r, F>(
        &self,
        records: &[(&'r RecordKey, &'r Arc<Record>)],
        one: impl Fn(&'r RecordKey, &'r Record) -> F,
    ) -> Vec<Powered>
    where
        F: Future<Output = PowerOutcome>,
    {
        let works = records.iter().map(|&(key, record)| {
            let work = one(key, record.as_ref());
            async move {
                let outcome = work.await;
                let name = name_of(&record.declaration.identity);
                let powered = Powered { address: key.address.clone(), name, outcome };
                (self.options.told)(&powered);
                powered
            }
        });
        let works: Vec<_> = works.collect();
        let mut done: Vec<Powered> = futures::stream::iter(works).buffer_unordered(CALLS_IN_FLIGHT).collect().await;
        done.sort_by(|a, b| a.address.cmp(&b.address));
        done
    }

    async fn look(&self, records: &[(&RecordKey, &Arc<Record>)]) -> BTreeMap<RecordKey, Observed> {
        let mut only = self.snapshot.clone();
        only.records = records.iter().map(|(key, record)| ((*key).clone(), Arc::clone(record))).collect();
        let options = PlanOptions {
            timeout: Some(self.options.timeout),
            cancel: self.options.cancel.clone(),
            ..PlanOptions::default()
        };
        observe(&DeclaredGraph::default(), &only, &self.place.connector, &options).await
    }

    async fn session(&self, record: &Record) -> Result<Arc<dyn Provider>, CallError> {
        let name = &record.declaration.provider;
        let config = self.snapshot.providers.get(name);
        let config = config.ok_or_else(|| CallError::refused(format!("the state knows no provider {name}")))?;
        let host = record.declaration.host.as_ref().and_then(|host| {
            let recorded = self.snapshot.records.get(&RecordKey::current(host.clone()))?;
            let attributes = joined(&recorded.fields, &recorded.attributes);
            Some(HostSession { address: host.clone(), attributes })
        });
        self.place.connector.connect(name, config, host.as_ref()).await
    }

    /// Stops or starts one thing.
    async fn turn(&self, record: &Record, observed: Option<&Observed>) -> PowerOutcome {
        let seen = match observed.map(|observed| &observed.observation) {
            Some(Observation::Present(seen)) => seen,
            Some(Observation::Absent) => {
                return failed("it is not there", Some("`ksail plan` shows what makes it anew".to_owned()));
            }
            Some(Observation::Unknown(why)) => return failed(why.to_string(), None),
            None => return failed("it was not looked at", None),
        };
        let is_on = self.power.is_on();
        let was_so = seen.fields.field(RUNNING).and_then(Value::as_bool) == Some(is_on);
        let mut spec = record.declaration.spec.clone();
        spec.set(&Path::key(RUNNING), Value::from(is_on));
        let target = target(record, spec);
        let session = match self.session(record).await {
            Ok(session) => session,
            Err(error) => return of_error(error),
        };
        if !was_so {
            let request = UpdateRequest {
                target: target.clone(),
                mark: Mark {
                    lineage: self.snapshot.lineage.clone(),
                    address: record.address().clone(),
                    operation: record.operation.clone(),
                    generation: record.generation,
                },
                current: seen.fields.clone(),
                changed: vec![Path::key(RUNNING)],
                secrets: BTreeMap::new(),
            };
            if let Err(error) = session.update(&self.context, &request).await {
                return of_error(error);
            }
        }
        let so = if was_so { PowerOutcome::WasSo } else { PowerOutcome::Done };
        if is_on { self.wait(session.as_ref(), target, so).await } else { so }
    }

    /// Waits until something is ready.
    async fn wait(&self, session: &dyn Provider, target: Target, so: PowerOutcome) -> PowerOutcome {
        match session.wait(&self.context, &WaitRequest { target }).await {
            Ok(applied) => match applied.seen.readiness {
                Readiness::Ready => so,
                Readiness::NotReady(why) => PowerOutcome::NotReady(why),
            },
            Err(error) => of_error(error),
        }
    }

    /// Waits for what lives in something that was started. Its host may take a moment longer to answer, and lose connections meanwhile.
    async fn wait_within(&self, record: &Record) -> PowerOutcome {
        let deadline = tokio::time::Instant::now() + self.options.timeout;
        loop {
            let target = target(record, record.declaration.spec.clone());
            let outcome = match self.session(record).await {
                Ok(session) => self.wait(session.as_ref(), target, PowerOutcome::WasSo).await,
                Err(error) => of_error(error),
            };
            let is_over = outcome.is_good() || self.options.cancel.is_cancelled();
            if is_over || tokio::time::Instant::now() + PAUSE >= deadline {
                return outcome;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Says that a cluster was stopped, and what starts it, where none of its machines runs.
pub(crate) fn stopped(snapshot: &Snapshot, observations: &BTreeMap<RecordKey, Observed>) -> Option<String> {
    let machines =
        snapshot.records.iter().filter(|(key, record)| key.address.kind() == MachineSpec::KIND && runs(record));
    let mut clusters: Vec<&str> = Vec::new();
    for (key, _) in machines {
        let seen = observations.get(key)?.observation.seen()?;
        if seen.fields.field(RUNNING).and_then(Value::as_bool) != Some(false) {
            return None;
        }
        clusters.push(key.address.cluster());
    }
    let cluster = clusters.first()?;
    Some(format!("the cluster {cluster} is stopped: `ksail cluster start` starts it and changes nothing else"))
}
