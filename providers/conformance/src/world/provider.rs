//! The provider on a simulated outside. It takes any kind: fields are the spec as given, secrets by fingerprint.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ksail_model::{Address, Observation, Preview, Readiness, Scope, UnknownReason, Value};
use ksail_provider::{
    Applied, CallContext, CallError, CreateRequest, DeleteRequest, Deleted, ObserveReply, Owned, PortInUse,
    PreviewRequest, Provider, Target, UpdateRequest, WaitRequest,
};
use tokio::time::Instant;

use super::effects::{self, Making};
use super::traffic::Entry;
use super::{Behaviour, Thing, World};
use crate::Method;

/// How long a wait sleeps at most before it looks again: a human's hand may have changed the thing.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What is between a provider and its world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Connection {
    /// Calls arrive.
    #[default]
    Open,
    /// Nothing listens: each call fails at once and was certainly not sent.
    Refused,
    /// Requests are taken and never carried out or answered.
    Silent,
}

/// What a session's provider lives in.
#[derive(Clone)]
pub(super) struct Host {
    /// The id of the thing that hosts; the scope of what it holds.
    pub(super) id: String,
    /// The host's address, for messages.
    pub(super) address: Address,
    /// The kind and name by which each world of the connector may hold it.
    pub(super) worlds: Vec<World>,
}

impl Host {
    /// Whether it is there and ready.
    fn serves(&self) -> Result<(), CallError> {
        let kind = self.address.kind();
        for world in &self.worlds {
            let things = world.things.list().map_err(|error| effects::lost(&self.address, &error))?;
            if let Some(thing) = things.iter().find(|thing| thing.id == self.id) {
                return match thing.readiness(world.things.now_ms()) {
                    Readiness::Ready => Ok(()),
                    Readiness::NotReady(why) => {
                        Err(CallError::unreachable(format!("host {} does not serve: {why}", self.address)))
                    }
                };
            }
        }
        Err(CallError::unreachable(format!("host {} ({kind} {}) is gone", self.address, self.id)))
    }
}

/// A provider on a [`World`] that keeps the contract. Clones share world and connection.
#[derive(Clone)]
pub struct SimulatedProvider {
    world: World,
    connection: Connection,
    host: Option<Host>,
}

impl SimulatedProvider {
    pub(super) fn new(world: World) -> Self {
        Self { world, connection: Connection::Open, host: None }
    }

    /// This provider behind another connection.
    #[must_use]
    pub fn behind(mut self, connection: Connection) -> Self {
        self.connection = connection;
        self
    }

    /// This provider as a session to a host.
    #[must_use]
    pub(super) fn hosted(mut self, host: Host) -> Self {
        self.host = Some(host);
        self
    }

    /// The world that it is on.
    pub fn world(&self) -> &World {
        &self.world
    }

    fn scope(&self) -> Result<Scope, CallError> {
        match &self.host {
            Some(host) => Ok(Scope(host.id.as_str().into())),
            None => self
                .world
                .scope()
                .map(|scope| Scope(scope.into()))
                .map_err(|error| CallError::unreachable(format!("the scope cannot be read: {error}"))),
        }
    }

    /// How a call behaves, or why it cannot be sent or fails before it takes effect.
    async fn send(
        &self,
        method: Method,
        address: Option<&Address>,
        context: &CallContext,
        deadline: Instant,
    ) -> Result<Behaviour, CallError> {
        if context.cancel.is_cancelled() {
            return Err(CallError::cancelled());
        }
        let what = || address.map_or_else(|| "the outside".to_owned(), ToString::to_string);
        let (behaviour, failure) = self.world.script().resolve(method, address);
        if self.connection == Connection::Refused || behaviour.unreachable == Some(true) {
            return Err(CallError::unreachable(format!("{} cannot be reached: connection refused", what())));
        }
        if let Some(host) = &self.host {
            host.serves()?;
        }
        if self.connection == Connection::Silent {
            return Err(until_left(context, deadline, &what()).await);
        }
        if let Some(failure) = failure {
            pause(behaviour.latency, context, deadline, &what()).await?;
            return Err(failure);
        }
        Ok(behaviour)
    }

    /// Carries out a call that changes one thing: send, latency, effect, reply latency, answer.
    async fn carry<T: Send + 'static>(
        &self,
        method: Method,
        address: &Address,
        context: &CallContext,
        effect: impl FnOnce(&World, &Scope, &Behaviour) -> Result<T, CallError> + Send + 'static,
    ) -> Result<T, CallError> {
        let entry = self.world.traffic.begin(method, vec![address.clone()]);
        let result = self.carry_out(method, address, context, &entry, effect).await;
        entry.end(result)
    }

    async fn carry_out<T: Send + 'static>(
        &self,
        method: Method,
        address: &Address,
        context: &CallContext,
        entry: &Entry,
        effect: impl FnOnce(&World, &Scope, &Behaviour) -> Result<T, CallError> + Send + 'static,
    ) -> Result<T, CallError> {
        let deadline = Instant::now() + context.timeout;
        let behaviour = self.send(method, Some(address), context, deadline).await?;
        if let Some(message) = &behaviour.refusal {
            pause(behaviour.latency, context, deadline, address.as_str()).await?;
            return Err(CallError::refused(format!("{address} is refused: {message}")));
        }
        let (world, scope, noted) = (self.world.clone(), self.scope()?, entry.effect());
        let (latency, reply_latency) = (behaviour.latency, behaviour.reply_latency);
        let lands_late = behaviour.lands_late == Some(true);
        let land = move || {
            let result = effect(&world, &scope, &behaviour);
            noted();
            result
        };
        let result = if lands_late {
            let landing = tokio::spawn(async move {
                tokio::time::sleep(latency.unwrap_or_default()).await;
                land()
            });
            tokio::select! {
                landed = landing => landed.map_err(|error| effects::lost(address, &error))?,
                left = until_left(context, deadline, address.as_str()) => return Err(left),
            }
        } else {
            pause(latency, context, deadline, address.as_str()).await?;
            land()
        };
        pause(reply_latency, context, deadline, address.as_str()).await?;
        result
    }

    /// Carries out a call that only looks.
    async fn look<T: Send>(
        &self,
        method: Method,
        addresses: Vec<Address>,
        context: &CallContext,
        look: impl FnOnce() -> Result<T, CallError> + Send,
    ) -> Result<T, CallError> {
        let entry = self.world.traffic.begin(method, addresses);
        let deadline = Instant::now() + context.timeout;
        let result = async {
            let behaviour = self.send(method, None, context, deadline).await?;
            pause(behaviour.latency, context, deadline, "the outside").await?;
            let found = look()?;
            pause(behaviour.reply_latency, context, deadline, "the outside").await?;
            Ok(found)
        };
        let result = result.await;
        entry.end(result)
    }

    fn observe_one(&self, context: &CallContext, scope: &Scope, target: &Target) -> Observation {
        if let Some(message) = self.world.script().blind(&target.address) {
            return Observation::Unknown(UnknownReason::Unreachable { message });
        }
        match effects::find(&self.world, scope, target, &context.lineage) {
            Err(error) => Observation::Unknown(UnknownReason::Unreachable { message: error.message }),
            Ok(None) => Observation::Absent,
            Ok(Some(thing)) => {
                Observation::Present(Box::new(effects::seen(&self.world, &thing, target, &context.lineage)))
            }
        }
    }
}

/// Resolves when the call is over for its caller: cancelled, or past the deadline. The call was sent by then.
async fn until_left(context: &CallContext, deadline: Instant, what: &str) -> CallError {
    tokio::select! {
        () = context.cancel.cancelled() => CallError::indeterminate(format!("{what}: cancelled in flight")),
        () = tokio::time::sleep_until(deadline) => CallError::indeterminate(format!("{what}: no answer before the deadline")),
    }
}

/// Lets a time pass, unless the call is over before.
async fn pause(time: Option<Duration>, context: &CallContext, deadline: Instant, what: &str) -> Result<(), CallError> {
    let Some(time) = time.filter(|time| !time.is_zero()) else { return Ok(()) };
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        left = until_left(context, deadline, what) => Err(left),
    }
}

#[async_trait]
impl Provider for SimulatedProvider {
    async fn observe(&self, context: &CallContext, targets: &[Target]) -> Result<ObserveReply, CallError> {
        let addresses = targets.iter().map(|target| target.address.clone()).collect();
        let look = || {
            let scope = self.scope()?;
            let observations = targets.iter().map(|target| self.observe_one(context, &scope, target)).collect();
            Ok(ObserveReply { scope, observations })
        };
        self.look(Method::Observe, addresses, context, look).await
    }

    async fn preview(&self, context: &CallContext, requests: &[PreviewRequest]) -> Result<Vec<Preview>, CallError> {
        let addresses = requests.iter().map(|request| request.target.address.clone()).collect();
        let look = || {
            let one = |request: &PreviewRequest| {
                let address = &request.target.address;
                match self.world.script().resolve(Method::Preview, Some(address)).0.refusal {
                    Some(message) => Preview::Refused { message, hint: None },
                    None => Preview::Accepted { fields: effects::stored(request.target.spec.as_ref()) },
                }
            };
            Ok(requests.iter().map(one).collect())
        };
        self.look(Method::Preview, addresses, context, look).await
    }

    async fn create(&self, context: &CallContext, request: &CreateRequest) -> Result<Applied, CallError> {
        let (address, request, lineage) = (&request.target.address, request.clone(), context.lineage.clone());
        self.carry(Method::Create, address, context, move |world, scope, behaviour| {
            let making = Making::of(&request.target, &request.mark, &request.secrets, &lineage)?;
            making.create(world, scope, behaviour)
        })
        .await
    }

    async fn update(&self, context: &CallContext, request: &UpdateRequest) -> Result<Applied, CallError> {
        let (address, request, lineage) = (&request.target.address, request.clone(), context.lineage.clone());
        self.carry(Method::Update, address, context, move |world, scope, behaviour| {
            let making = Making::of(&request.target, &request.mark, &request.secrets, &lineage)?;
            making.update(world, scope, behaviour)
        })
        .await
    }

    async fn delete(&self, context: &CallContext, request: &DeleteRequest) -> Result<Deleted, CallError> {
        let (address, request) = (&request.target.address, request.clone());
        self.carry(Method::Delete, address, context, move |world, scope, _| effects::delete(world, scope, &request))
            .await
    }

    async fn wait(&self, context: &CallContext, request: &WaitRequest) -> Result<Applied, CallError> {
        let (target, address) = (&request.target, &request.target.address);
        let entry = self.world.traffic.begin(Method::Wait, vec![address.clone()]);
        let deadline = Instant::now() + context.timeout;
        let result = async {
            self.send(Method::Wait, Some(address), context, deadline).await?;
            // Bounded by the deadline.
            loop {
                let scope = self.scope()?;
                let Some(thing) = effects::find(&self.world, &scope, target, &context.lineage)? else {
                    return Err(CallError::refused(format!("{address} is not there")));
                };
                let seen = effects::seen(&self.world, &thing, target, &context.lineage);
                let now = Instant::now();
                if seen.readiness.is_ready() || now >= deadline {
                    return Ok(Applied { scope, seen });
                }
                tokio::select! {
                    () = context.cancel.cancelled() => return Err(CallError::cancelled()),
                    () = tokio::time::sleep_until(deadline.min(now + LOOK_AGAIN)) => {}
                }
            }
        };
        let result = result.await;
        entry.end(result)
    }

    async fn list_owned(&self, context: &CallContext) -> Result<Vec<Owned>, CallError> {
        let look = || {
            let scope = self.scope()?;
            let things = self
                .world
                .things
                .list()
                .map_err(|error| CallError::unreachable(format!("the things cannot be listed: {error}")))?;
            let now = self.world.things.now_ms();
            let owned = |thing: &Thing| -> Vec<Owned> {
                let one = |mark: &ksail_model::Mark| Owned {
                    kind: thing.kind.clone(),
                    identity: thing.identity(),
                    seen: thing.seen(&mark.lineage, now),
                    ownership: thing.ownership,
                };
                thing.marks.iter().map(one).collect()
            };
            Ok(things.iter().filter(|thing| *thing.scope == *scope.0).flat_map(owned).collect())
        };
        self.look(Method::ListOwned, Vec::new(), context, look).await
    }

    async fn ports_in_use(&self, context: &CallContext, ports: &[u16]) -> Result<Vec<PortInUse>, CallError> {
        let look = || {
            let occupied = self.world.ports.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let mut taken: BTreeMap<u16, PortInUse> =
                occupied.into_iter().map(|(port, holder)| (port, PortInUse { port, holder, lineage: None })).collect();
            for thing in self.world.things.list().map_err(|error| CallError::unreachable(error.to_string()))? {
                let port = thing.fields.field("port").and_then(Value::as_i64).and_then(|port| u16::try_from(port).ok());
                if let Some(port) = port {
                    taken.entry(port).or_insert_with(|| PortInUse {
                        port,
                        holder: format!("{} {}", thing.kind, thing.name),
                        lineage: thing.marks.first().map(|mark| mark.lineage.clone()),
                    });
                }
            }
            Ok(ports.iter().filter_map(|port| taken.get(port).cloned()).collect())
        };
        self.look(Method::PortsInUse, Vec::new(), context, look).await
    }
}

/// A provider that is handed out as a trait object.
impl From<SimulatedProvider> for Arc<dyn Provider> {
    fn from(provider: SimulatedProvider) -> Self {
        Arc::new(provider)
    }
}
