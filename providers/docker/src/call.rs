//! One call of the contract: deadline, cancellation, and what each failure of a request to the engine means for it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use bollard::errors::Error;
use ksail_provider::{CallContext, CallError, Stop, guard};
use tokio::time::Instant;

use crate::endpoint::Endpoint;
use crate::log_lines::withhold;
use crate::session::{Session, cause};

/// How often a read is tried in all.
const READ_TRIES: usize = 4;
/// The pause before a read is repeated for the first time.
const READ_PAUSE: Duration = Duration::from_millis(100);

/// Why a request to change something gave no success.
pub(crate) enum Failed {
    /// The engine answered that it did not do it.
    Answered {
        /// The HTTP status; 0 for an error within a stream of progress.
        status: u16,
        /// What it said.
        message: String,
    },
    /// All else, as the contract puts it.
    Error(CallError),
}

/// One call under way.
pub(crate) struct Call {
    pub(crate) session: Arc<Session>,
    pub(crate) context: CallContext,
    pub(crate) deadline: Instant,
    /// Whether a request that changes something went out.
    sent: AtomicBool,
    /// Texts that may stand in no message.
    secrets: Vec<String>,
}

/// Awaits what comes before the first request, within the call's deadline.
pub(crate) async fn before_sending<T>(
    context: &CallContext,
    deadline: Instant,
    place: &Endpoint,
    future: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    match guard(context, deadline, future).await {
        Ok(reply) => reply,
        Err(Stop::Cancelled) => Err(CallError::cancelled()),
        Err(Stop::Deadline) => {
            Err(CallError::unreachable(format!("the docker engine at {place} did not answer before the deadline")))
        }
    }
}

impl Call {
    pub(crate) const fn new(session: Arc<Session>, context: CallContext, deadline: Instant) -> Self {
        Self { session, context, deadline, sent: AtomicBool::new(false), secrets: Vec::new() }
    }

    /// Keeps these texts out of all messages of the call.
    pub(crate) fn hide<'t>(&mut self, texts: impl IntoIterator<Item = &'t str>) {
        self.secrets.extend(texts.into_iter().filter(|text| !text.is_empty()).map(str::to_owned));
    }

    /// A text that the engine said, without the lines that hold one of the call's secrets.
    pub(crate) fn redact(&self, text: &str) -> String {
        withhold(text, &self.secrets)
    }

    /// Where the engine is.
    pub(crate) fn place(&self) -> &str {
        &self.session.place
    }

    /// A refusal that names the engine.
    pub(crate) fn refused(&self, what: &str, why: &str) -> CallError {
        CallError::refused(format!("{what} on the engine at {}: {}", self.place(), self.redact(why)))
    }

    /// Waits, unless the call ends first.
    pub(crate) async fn pause(&self, what: &str, pause: Duration) -> Result<(), CallError> {
        guard(&self.context, self.deadline, tokio::time::sleep(pause)).await.map_err(|stop| self.stopped(what, stop))
    }

    /// Awaits something that sends nothing to the engine.
    pub(crate) async fn aside<T>(&self, what: &str, future: impl Future<Output = T>) -> Result<T, CallError> {
        guard(&self.context, self.deadline, future).await.map_err(|stop| self.stopped(what, stop))
    }

    fn stopped(&self, what: &str, stop: Stop) -> CallError {
        stop.into_error(what, self.place(), self.sent.load(Ordering::Relaxed))
    }

    /// Asks the engine, again where it is busy or the reply was lost. `None` says that the engine answered
    /// that the thing is not there.
    pub(crate) async fn look<T, F>(&self, what: &str, request: impl Fn() -> F) -> Result<Option<T>, CallError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut pauses =
            ExponentialBuilder::default().with_min_delay(READ_PAUSE).with_max_times(READ_TRIES - 1).build();
        loop {
            let began = Instant::now();
            let reply =
                guard(&self.context, self.deadline, request()).await.map_err(|stop| self.stopped(what, stop))?;
            let took = began.elapsed();
            let error = match reply {
                Ok(value) => {
                    tracing::trace!(what, place = self.place(), ?took, "looked");
                    return Ok(Some(value));
                }
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
                    tracing::trace!(what, place = self.place(), ?took, "looked: it is not there");
                    return Ok(None);
                }
                Err(error) => error,
            };
            tracing::debug!(what, place = self.place(), ?took, error = self.redact(&cause(&error)), "look failed");
            let again = match &error {
                Error::DockerResponseServerError { status_code, .. } => *status_code == 429 || *status_code >= 500,
                Error::JsonDataError { .. } | Error::JsonSerdeError { .. } => false,
                other => !never_sent(other),
            };
            match pauses.next().filter(|_| again) {
                Some(pause) => self.pause(what, pause).await?,
                None => return Err(self.read_failed(what, &error)),
            }
        }
    }

    /// Asks the engine for what always exists (a list).
    pub(crate) async fn list<T, F>(&self, what: &str, request: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.look(what, request).await?.ok_or_else(|| self.refused(what, "the engine does not know this request"))
    }

    fn read_failed(&self, what: &str, error: &Error) -> CallError {
        let message = format!("{what} on the engine at {}: {}", self.place(), self.redact(&cause(error)));
        if self.sent.load(Ordering::Relaxed) {
            return CallError::indeterminate(message);
        }
        match error {
            Error::DockerResponseServerError { status_code, .. } if *status_code == 429 || *status_code >= 500 => {
                CallError::transient(message)
            }
            Error::DockerResponseServerError { .. } | Error::JsonDataError { .. } | Error::JsonSerdeError { .. } => {
                CallError::refused(message)
            }
            _ => CallError::unreachable(message),
        }
    }

    /// Asks the engine to change something, once.
    pub(crate) async fn change<T>(
        &self,
        what: &str,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failed> {
        if self.context.cancel.is_cancelled() {
            return Err(Failed::Error(self.stopped(what, Stop::Cancelled)));
        }
        let before = self.sent.swap(true, Ordering::Relaxed);
        let began = Instant::now();
        let reply = guard(&self.context, self.deadline, request)
            .await
            .map_err(|stop| Failed::Error(self.stopped(what, stop)))?;
        let took = began.elapsed();
        match &reply {
            Ok(_) => tracing::debug!(what, place = self.place(), ?took, "changed"),
            Err(error) => {
                tracing::debug!(what, place = self.place(), ?took, error = self.redact(&cause(error)), "change failed");
            }
        }
        reply.map_err(|error| match &error {
            Error::DockerResponseServerError { status_code, message } => {
                // It was answered, so nothing of it is in flight any more.
                self.sent.store(before, Ordering::Relaxed);
                Failed::Answered { status: *status_code, message: self.redact(message.trim()) }
            }
            Error::DockerStreamError { error } => {
                self.sent.store(before, Ordering::Relaxed);
                Failed::Answered { status: 0, message: self.redact(error.trim()) }
            }
            other => {
                let message = format!("{what} on the engine at {}: {}", self.place(), self.redact(&cause(other)));
                if never_sent(other) && !before {
                    self.sent.store(false, Ordering::Relaxed);
                    Failed::Error(CallError::unreachable(message))
                } else {
                    Failed::Error(CallError::indeterminate(message))
                }
            }
        })
    }

    /// What an answer that is no success means where nothing was changed by it.
    pub(crate) fn answered(&self, what: &str, status: u16, message: &str) -> CallError {
        let text = format!("{what} on the engine at {}: {}", self.place(), self.redact(message));
        if status == 429 || status == 503 { CallError::transient(text) } else { CallError::refused(text) }
    }
}

impl Failed {
    /// As the contract puts it, where an answer means that nothing was changed.
    pub(crate) fn into_error(self, call: &Call, what: &str) -> CallError {
        match self {
            Self::Answered { status, message } => call.answered(what, status, &message),
            Self::Error(error) => error,
        }
    }
}

/// Whether the request certainly did not go out.
fn never_sent(error: &Error) -> bool {
    match error {
        Error::HyperLegacyError { err } => err.is_connect(),
        Error::SocketNotFoundError(_) | Error::UnsupportedURISchemeError { .. } => true,
        _ => false,
    }
}
