//! Whether a container can be used, and waiting until it can.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use futures::StreamExt as _;
use ksail_model::{Readiness, Seen, Value};
use ksail_provider::{CallError, Target, WaitRequest};
use tokio::time::Instant;

use crate::call::Call;
use crate::container::{find, inspect, list, seen};
use crate::log_lines::{telling, withhold};
use crate::observed::Observed;
use crate::probe;

/// The first and the longest pause between two looks.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// What is kept of the deadline for the last look and the log.
const LAST_LOOK: Duration = Duration::from_millis(1500);
/// How many lines of a log are read, a panic with its frames among them, and how long one that is told may be, in characters.
const LOG_LINES: usize = 100;
const LOG_LINE_CHARACTERS: usize = 300;
/// How long the engine may take to give the log.
const LOG_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether it can be used now. Health is asked for over HTTP where the engine's ports are on this machine; elsewhere a
/// running process is ready.
pub(crate) async fn readiness(call: &Call, kind: &str, observed: &Observed) -> Readiness {
    if let Some(why) = observed.not_running() {
        return Readiness::NotReady(why);
    }
    match observed.health(kind).filter(|_| call.session.local) {
        None => Readiness::Ready,
        Some((address, port, path)) => match probe::healthy(&address, port, &path).await {
            Ok(()) => Readiness::Ready,
            Err(why) => Readiness::NotReady(why),
        },
    }
}

/// Waits until a container is ready; at the deadline, or where it can no longer become ready, tells why it is not.
pub(crate) async fn wait(call: &Call, request: &WaitRequest) -> Result<Seen, CallError> {
    let target = &request.target;
    let kind = target.address.kind();
    let what = format!("{kind} `{}`", target.identity.name);
    let last_look = (call.deadline - LAST_LOOK.min(call.context.timeout / 2)).max(Instant::now());
    let mut pause = FIRST_PAUSE;
    let mut last: Option<(Seen, Observed)> = None;
    loop {
        let (seen, observed) = match look(call, kind, &what, target).await {
            Ok(looked) => looked,
            // The deadline fell into a look: the one before it is the answer.
            Err(error) => match last.filter(|_| Instant::now() >= call.deadline && !call.context.cancel.is_cancelled())
            {
                Some((seen, observed)) => return Ok(explained(call, kind, seen, &observed).await),
                None => return Err(error),
            },
        };
        let shall_run = target.spec.as_ref().and_then(|spec| spec.field("running")).and_then(Value::as_bool);
        let hopeless = !observed.is_running() && !observed.restarts();
        if seen.readiness.is_ready() || shall_run == Some(false) || hopeless || Instant::now() >= last_look {
            return Ok(explained(call, kind, seen, &observed).await);
        }
        last = Some((seen, observed));
        call.pause(&what, pause.min(last_look.saturating_duration_since(Instant::now()))).await?;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn look(call: &Call, kind: &str, what: &str, target: &Target) -> Result<(Seen, Observed), CallError> {
    let containers = list(call).await?;
    let observed = match find(&containers, &target.identity) {
        Some(id) => inspect(call, &id).await?,
        None => None,
    };
    let Some(observed) = observed else {
        return Err(call.refused(&format!("wait for {what}"), "it is not there").hint("plan again"));
    };
    let seen = seen(call, kind, &observed, target.spec.as_ref()).await?;
    Ok((seen, observed))
}

/// What was seen; where it is not ready, with what may be the cause and the telling lines of its log.
async fn explained(call: &Call, kind: &str, mut seen: Seen, observed: &Observed) -> Seen {
    let Readiness::NotReady(why) = &seen.readiness else { return seen };
    let mut told = why.clone();
    if let Some(hint) = observed.not_running_hint(kind) {
        told = format!("{told}; {hint}");
    }
    let log = tokio::time::timeout(LOG_TIMEOUT, log(call, observed.id())).await.unwrap_or_default();
    let log = withhold(&log, &observed.secret_texts());
    let lines: Vec<String> =
        telling(&log).into_iter().map(|line| line.chars().take(LOG_LINE_CHARACTERS).collect()).collect();
    if !lines.is_empty() {
        told = format!("{told}; its log says: {}", lines.join(" | "));
    }
    tracing::debug!(kind, "not ready");
    seen.readiness = Readiness::NotReady(told);
    seen
}

/// The end of a container's log. Not to be told as it is.
async fn log(call: &Call, id: &str) -> String {
    let options = LogsOptions { stdout: true, stderr: true, tail: LOG_LINES.to_string(), ..Default::default() };
    let mut log = call.session.docker.logs(id, Some(options)).take(LOG_LINES);
    let mut text = Vec::new();
    while let Some(Ok(output)) = log.next().await {
        let (LogOutput::StdErr { message }
        | LogOutput::StdOut { message }
        | LogOutput::StdIn { message }
        | LogOutput::Console { message }) = output;
        text.extend_from_slice(&message);
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}
