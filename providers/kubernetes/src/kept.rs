//! Sessions that are kept open, so that what a process does one after the other (a plan, its dry runs, its apply) connects once.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ksail_provider::CallError;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::connection::Session;

/// How long it is believed which kinds a server serves. Whoever sits over a plan for longer has them read again.
const BELIEVED: Duration = Duration::from_secs(10);

/// The open sessions of a process.
///
/// One is taken up again where what leads to the cluster says the same as before, where it was opened some seconds ago, and, which
/// is asked each time, where the same cluster is still there.
#[derive(Default)]
pub struct Kept {
    open: std::sync::Mutex<HashMap<Lead, Arc<Place>>>,
}

/// The digest of all that leads to a cluster.
pub(crate) type Lead = [u8; 32];

/// The place of one session. It is locked while the session is opened, so that others wait for it and do not open another.
pub(crate) type Place = Mutex<Option<Opened>>;

impl Kept {
    pub(crate) fn place(&self, lead: Lead) -> Arc<Place> {
        Arc::clone(self.open.lock().unwrap_or_else(PoisonError::into_inner).entry(lead).or_default())
    }
}

/// What became of a session.
pub(crate) enum Opened {
    Session {
        session: Arc<Session>,
        at: Instant,
        /// Nobody has used it yet: which cluster it leads to is known from its opening.
        is_new: bool,
    },
    /// It could not be opened ahead, which whoever comes next is told.
    Failed(CallError),
}

/// What a place has for who comes next.
pub(crate) enum Offer {
    /// A session that was just opened.
    New(Arc<Session>),
    /// One that was used before.
    Used(Arc<Session>),
    /// None, and why.
    Failed(CallError),
}

impl Opened {
    /// A session that was opened just now. `ahead`: for whoever comes next.
    pub(crate) fn now(session: &Arc<Session>, ahead: bool) -> Self {
        Self::Session { session: Arc::clone(session), at: Instant::now(), is_new: ahead }
    }

    /// Takes what there is, unless what was read for it can no longer be believed.
    pub(crate) fn take_up(place: &mut Option<Self>) -> Option<Offer> {
        match place {
            Some(Self::Session { session, at, is_new }) if at.elapsed() < BELIEVED && !session.is_outdated() => {
                let session = Arc::clone(session);
                Some(if std::mem::replace(is_new, false) { Offer::New(session) } else { Offer::Used(session) })
            }
            _ => match place.take() {
                Some(Self::Failed(error)) => Some(Offer::Failed(error)),
                _ => None,
            },
        }
    }
}
