//! How a simulated outside behaves: what a test sets for all calls or for those at one address.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use ksail_model::{Address, Value};
use ksail_provider::CallError;

use crate::Method;

/// How calls behave. What is set for an address counts before what is set for all; `None` leaves it to the
/// latter, and there to the default that each field names.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// How long after it was sent a call takes effect. Default: at once.
    pub latency: Option<Duration>,
    /// How long after its effect a call answers. Default: at once.
    pub reply_latency: Option<Duration>,
    /// How long after its creation or change a thing becomes ready. Default: at once.
    pub ready_after: Option<Duration>,
    /// Things that are made or changed from now on never become ready, and why.
    pub held_back: Option<String>,
    /// Creations, changes and deletions are refused, with this message.
    pub refusal: Option<String>,
    /// Nothing can be reached; nothing is sent. Default: reachable.
    pub unreachable: Option<bool>,
    /// A call that was sent takes effect after its latency even when its caller has left (cancelled, timed out,
    /// dropped). Default: it then has no effect.
    pub lands_late: Option<bool>,
    /// Attributes that things get when they are made or changed.
    pub attributes: BTreeMap<String, Value>,
    /// Fields that things get when they are made and the spec leaves them out.
    pub computed: BTreeMap<String, Value>,
    failures: VecDeque<(Option<Method>, CallError)>,
}

impl Behaviour {
    /// The next `count` calls of a method (`None`: of any) fail before they take effect. For a batch observation, a
    /// failure that is set for one address makes that observation unknown; one that is set for all fails the batch.
    pub fn fail_next(&mut self, method: impl Into<Option<Method>>, count: usize, error: CallError) -> &mut Self {
        let method = method.into();
        self.failures.extend(std::iter::repeat_n((method, error), count));
        self
    }

    fn take_failure(&mut self, method: Method) -> Option<CallError> {
        let at = self.failures.iter().position(|(of, _)| of.is_none_or(|of| of == method))?;
        self.failures.remove(at).map(|(_, error)| error)
    }
}

/// What is set for all and for single addresses.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) all: Behaviour,
    pub(crate) at: HashMap<Address, Behaviour>,
}

impl Script {
    /// How a call at an address behaves, and the failure that is due, which is taken off the script. Without an
    /// address (batches) only what is set for all counts.
    pub(crate) fn resolve(&mut self, method: Method, address: Option<&Address>) -> (Behaviour, Option<CallError>) {
        let own = address.and_then(|address| self.at.get_mut(address));
        let own_failure = own.and_then(|own| own.take_failure(method));
        let failure = own_failure.or_else(|| self.all.take_failure(method));
        (self.look(address), failure)
    }

    fn look(&self, address: Option<&Address>) -> Behaviour {
        let all = &self.all;
        let Some(own) = address.and_then(|address| self.at.get(address)) else {
            return Behaviour { failures: VecDeque::new(), ..all.clone() };
        };
        let joined = |all: &BTreeMap<String, Value>, own: &BTreeMap<String, Value>| {
            all.iter().chain(own).map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        Behaviour {
            latency: own.latency.or(all.latency),
            reply_latency: own.reply_latency.or(all.reply_latency),
            ready_after: own.ready_after.or(all.ready_after),
            held_back: own.held_back.clone().or_else(|| all.held_back.clone()),
            refusal: own.refusal.clone().or_else(|| all.refusal.clone()),
            unreachable: own.unreachable.or(all.unreachable),
            lands_late: own.lands_late.or(all.lands_late),
            attributes: joined(&all.attributes, &own.attributes),
            computed: joined(&all.computed, &own.computed),
            failures: VecDeque::new(),
        }
    }

    /// Why one target of a batch cannot be seen, if so.
    pub(crate) fn blind(&mut self, address: &Address) -> Option<String> {
        let own = self.at.get_mut(address)?;
        if own.unreachable == Some(true) {
            return Some(format!("{address} cannot be reached"));
        }
        own.take_failure(Method::Observe).map(|error| error.message)
    }
}
