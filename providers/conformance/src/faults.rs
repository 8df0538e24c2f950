//! A decorator that injects faults into any provider, by a script or by a seed.
//!
//! A seeded fault depends on the seed, the method, the address and how often that was called before, not on the order
//! in which calls at different addresses happen to run, so the same seed gives the same faults whatever the scheduler does.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ksail_model::{Address, Preview};
use ksail_provider::{
    Applied, CallContext, CallError, CreateRequest, DeleteRequest, Deleted, ForecastRequest, ObserveReply, Owned,
    PortInUse, PreviewRequest, Provider, Target, UpdateRequest, WaitRequest,
};
use tokio::time::Instant;

use crate::Method;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call is held back before it is sent.
    Delay(Duration),
    /// The outside cannot be reached; nothing is sent.
    Unreachable,
    /// The outside is busy; it did nothing.
    Transient,
    /// The call is carried out and its reply is lost: indeterminate.
    LostReply,
    /// The call is lost on its way and never carried out: indeterminate all the same.
    LostRequest,
    /// Nothing happens until the call is cancelled or its deadline is past: indeterminate.
    Hang,
    /// The call is cancelled this long after it was sent; the answer is the provider's own.
    Cancel(Duration),
}

/// A fault without its numbers, to count by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// [`Fault::Delay`].
    Delay,
    /// [`Fault::Unreachable`].
    Unreachable,
    /// [`Fault::Transient`].
    Transient,
    /// [`Fault::LostReply`].
    LostReply,
    /// [`Fault::LostRequest`].
    LostRequest,
    /// [`Fault::Hang`].
    Hang,
    /// [`Fault::Cancel`].
    Cancel,
}

impl Fault {
    /// Which it is.
    pub const fn kind(self) -> FaultKind {
        match self {
            Self::Delay(_) => FaultKind::Delay,
            Self::Unreachable => FaultKind::Unreachable,
            Self::Transient => FaultKind::Transient,
            Self::LostReply => FaultKind::LostReply,
            Self::LostRequest => FaultKind::LostRequest,
            Self::Hang => FaultKind::Hang,
            Self::Cancel(_) => FaultKind::Cancel,
        }
    }
}

/// How often which fault occurs, in a thousand calls each; together at most a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Delays, of up to [`longest_delay`](Self::longest_delay).
    pub delay: u32,
    /// The longest delay, and the longest time before a cancellation in flight.
    pub longest_delay: Duration,
    /// Not reachable.
    pub unreachable: u32,
    /// Busy.
    pub transient: u32,
    /// Reply lost.
    pub lost_reply: u32,
    /// Request lost.
    pub lost_request: u32,
    /// Hanging calls; each takes its whole deadline.
    pub hang: u32,
    /// Cancelled in flight.
    pub cancel: u32,
    /// After this many failures in a row of one method at one address, that call is let through, so that whoever
    /// repeats comes to an end. Delays are no failures.
    pub most_in_a_row: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            delay: 200,
            longest_delay: Duration::from_millis(20),
            unreachable: 80,
            transient: 80,
            lost_reply: 120,
            lost_request: 60,
            hang: 0,
            cancel: 60,
            most_in_a_row: 3,
        }
    }
}

impl Rates {
    fn draw(&self, rng: &mut fastrand::Rng) -> Option<Fault> {
        let most = u64::try_from(self.longest_delay.as_micros()).unwrap_or(u64::MAX).max(1);
        let time = Duration::from_micros(rng.u64(0..most));
        let table = [
            (self.delay, Fault::Delay(time)),
            (self.unreachable, Fault::Unreachable),
            (self.transient, Fault::Transient),
            (self.lost_reply, Fault::LostReply),
            (self.lost_request, Fault::LostRequest),
            (self.hang, Fault::Hang),
            (self.cancel, Fault::Cancel(time)),
        ];
        let mut dice = rng.u32(0..1000);
        for (rate, fault) in table {
            if dice < rate {
                return Some(fault);
            }
            dice -= rate;
        }
        None
    }
}

/// Which faults occur.
#[derive(Debug, Clone)]
pub enum FaultPlan {
    /// Each entry is taken by the next call of its method (`None`: of any method); calls without an entry go through.
    Scripted(VecDeque<(Option<Method>, Fault)>),
    /// By chance.
    Seeded {
        /// The seed.
        seed: u64,
        /// How often which.
        rates: Rates,
    },
}

impl FaultPlan {
    /// A script.
    pub fn script<M: Into<Option<Method>>>(entries: impl IntoIterator<Item = (M, Fault)>) -> Self {
        Self::Scripted(entries.into_iter().map(|(method, fault)| (method.into(), fault)).collect())
    }

    /// Chance with the default rates.
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded { seed, rates: Rates::default() }
    }
}

/// A fault that was injected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// Into which call.
    pub method: Method,
    /// At which address; of a batch the first. `None` for lists.
    pub address: Option<Address>,
    /// What.
    pub fault: Fault,
}

#[derive(Debug, Default)]
struct Attempts {
    all: u64,
    failed_in_a_row: u32,
}

struct State {
    plan: FaultPlan,
    attempts: HashMap<(Method, Option<Address>), Attempts>,
    injected: Vec<Injected>,
    enabled: bool,
}

impl State {
    fn next(&mut self, method: Method, address: Option<&Address>) -> Option<Fault> {
        if !self.enabled {
            return None;
        }
        let fault = match &mut self.plan {
            FaultPlan::Scripted(entries) => {
                let at = entries.iter().position(|(of, _)| of.is_none_or(|of| of == method));
                at.and_then(|at| entries.remove(at)).map(|(_, fault)| fault)
            }
            FaultPlan::Seeded { seed, rates } => {
                let attempts = self.attempts.entry((method, address.cloned())).or_default();
                let mut hasher = DefaultHasher::new();
                (*seed, method, address.map(Address::as_str), attempts.all).hash(&mut hasher);
                attempts.all += 1;
                let drawn = rates.draw(&mut fastrand::Rng::with_seed(hasher.finish()));
                let fails = drawn.is_some_and(|fault| fault.kind() != FaultKind::Delay);
                let too_many = fails && attempts.failed_in_a_row >= rates.most_in_a_row;
                attempts.failed_in_a_row = if fails && !too_many { attempts.failed_in_a_row + 1 } else { 0 };
                drawn.filter(|_| !too_many)
            }
        };
        if let Some(fault) = fault {
            self.injected.push(Injected { method, address: address.cloned(), fault });
        }
        fault
    }
}

/// A provider with faults before and after its calls.
pub struct Faulty {
    inner: Arc<dyn Provider>,
    state: Mutex<State>,
}

impl Faulty {
    /// Decorates a provider.
    pub fn new(inner: Arc<dyn Provider>, plan: FaultPlan) -> Self {
        let state = State { plan, attempts: HashMap::new(), injected: Vec::new(), enabled: true };
        Self { inner, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on faults occur, or none do (so that a test can look at the end in peace).
    pub fn enable(&self, enabled: bool) {
        self.state().enabled = enabled;
    }

    /// Everything injected so far, in order.
    pub fn injected(&self) -> Vec<Injected> {
        self.state().injected.clone()
    }

    /// How often each fault was injected so far.
    pub fn counts(&self) -> BTreeMap<FaultKind, usize> {
        let mut counts = BTreeMap::new();
        for injected in &self.state().injected {
            *counts.entry(injected.fault.kind()).or_default() += 1;
        }
        counts
    }

    /// The decorated provider.
    pub fn inner(&self) -> &Arc<dyn Provider> {
        &self.inner
    }

    async fn call<'a, T, F>(
        &'a self,
        method: Method,
        address: Option<&Address>,
        context: &CallContext,
        run: impl FnOnce(&'a dyn Provider, CallContext) -> F + Send,
    ) -> Result<T, CallError>
    where
        T: Send,
        F: Future<Output = Result<T, CallError>> + Send + 'a,
    {
        let deadline = Instant::now() + context.timeout;
        let fault = self.state().next(method, address);
        let what = address.map_or_else(|| method.to_string(), |address| format!("{method} of {address}"));
        if context.cancel.is_cancelled() {
            return Err(CallError::cancelled());
        }
        match fault {
            None => run(self.inner.as_ref(), context.clone()).await,
            Some(Fault::Unreachable) => Err(CallError::unreachable(format!("{what}: connection refused (injected)"))),
            Some(Fault::Transient) => Err(CallError::transient(format!("{what}: busy (injected)"))),
            Some(Fault::LostRequest) => {
                Err(CallError::indeterminate(format!("{what}: the request was lost (injected)")))
            }
            Some(Fault::Hang) => {
                tokio::select! {
                    () = context.cancel.cancelled() => {}
                    () = tokio::time::sleep_until(deadline) => {}
                }
                Err(CallError::indeterminate(format!("{what}: no answer (injected)")))
            }
            Some(Fault::Delay(time)) => {
                tokio::select! {
                    () = tokio::time::sleep(time) => {}
                    () = context.cancel.cancelled() => return Err(CallError::cancelled()),
                    () = tokio::time::sleep_until(deadline) => {
                        return Err(CallError::unreachable(format!("{what}: not sent before the deadline (injected)")));
                    }
                }
                let timeout = deadline.saturating_duration_since(Instant::now());
                run(self.inner.as_ref(), CallContext { timeout, ..context.clone() }).await
            }
            Some(Fault::LostReply) => match run(self.inner.as_ref(), context.clone()).await {
                Ok(_) => Err(CallError::indeterminate(format!("{what}: the reply was lost (injected)"))),
                Err(error) => Err(error),
            },
            Some(Fault::Cancel(after)) => {
                let cancel = context.cancel.child_token();
                let call = run(self.inner.as_ref(), CallContext { cancel: cancel.clone(), ..context.clone() });
                let mut call = std::pin::pin!(call);
                tokio::select! {
                    result = &mut call => return result,
                    () = tokio::time::sleep(after) => cancel.cancel(),
                }
                call.await
            }
        }
    }
}

#[async_trait]
impl Provider for Faulty {
    async fn observe(&self, context: &CallContext, targets: &[Target]) -> Result<ObserveReply, CallError> {
        let first = targets.first().map(|target| &target.address);
        self.call(Method::Observe, first, context, |inner, context| {
            let targets = targets.to_vec();
            async move { inner.observe(&context, &targets).await }
        })
        .await
    }

    async fn preview(&self, context: &CallContext, requests: &[PreviewRequest]) -> Result<Vec<Preview>, CallError> {
        let first = requests.first().map(|request| &request.target.address);
        self.call(Method::Preview, first, context, |inner, context| {
            let requests = requests.to_vec();
            async move { inner.preview(&context, &requests).await }
        })
        .await
    }

    async fn create(&self, context: &CallContext, request: &CreateRequest) -> Result<Applied, CallError> {
        self.call(Method::Create, Some(&request.target.address), context, |inner, context| {
            let request = request.clone();
            async move { inner.create(&context, &request).await }
        })
        .await
    }

    async fn update(&self, context: &CallContext, request: &UpdateRequest) -> Result<Applied, CallError> {
        self.call(Method::Update, Some(&request.target.address), context, |inner, context| {
            let request = request.clone();
            async move { inner.update(&context, &request).await }
        })
        .await
    }

    async fn delete(&self, context: &CallContext, request: &DeleteRequest) -> Result<Deleted, CallError> {
        self.call(Method::Delete, Some(&request.target.address), context, |inner, context| {
            let request = request.clone();
            async move { inner.delete(&context, &request).await }
        })
        .await
    }

    async fn wait(&self, context: &CallContext, request: &WaitRequest) -> Result<Applied, CallError> {
        self.call(Method::Wait, Some(&request.target.address), context, |inner, context| {
            let request = request.clone();
            async move { inner.wait(&context, &request).await }
        })
        .await
    }

    async fn list_owned(&self, context: &CallContext) -> Result<Vec<Owned>, CallError> {
        self.call(Method::ListOwned, None, context, |inner, context| async move { inner.list_owned(&context).await })
            .await
    }

    async fn forecast(
        &self,
        context: &CallContext,
        requests: &[ForecastRequest],
    ) -> Result<Vec<Vec<String>>, CallError> {
        self.call(Method::Forecast, None, context, |inner, context| {
            let requests = requests.to_vec();
            async move { inner.forecast(&context, &requests).await }
        })
        .await
    }

    async fn waits_for(&self, context: &CallContext, target: &Target) -> Result<Option<String>, CallError> {
        // It depends on time how often that is asked, and faults are not to.
        self.inner.waits_for(context, target).await
    }

    async fn ports_in_use(&self, context: &CallContext, ports: &[u16]) -> Result<Vec<PortInUse>, CallError> {
        self.call(Method::PortsInUse, None, context, |inner, context| {
            let ports = ports.to_vec();
            async move { inner.ports_in_use(&context, &ports).await }
        })
        .await
    }
}
