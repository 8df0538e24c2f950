//! Waiting until a container can be used.

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

/// The first and the longest pause between two looks.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// What is kept of the deadline for the last look and the log.
const LAST_LOOK: Duration = Duration::from_millis(1500);
/// After how many restarts by the engine a process that ends again and again is given up. The engine pauses longer each time,
/// 0.1 s at first, so that this takes about seven seconds and the time that the process itself takes.
const MOST_RESTARTS: u32 = 6;
/// Before this time nothing is given up for its restarts: Podman does not pause between them.
const LEAST_PATIENCE: Duration = Duration::from_secs(5);
/// How many lines of a log are read, a panic with its frames among them, and how long one that is told may be, in characters.
const LOG_LINES: usize = 100;
const LOG_LINE_CHARACTERS: usize = 300;
/// How long the engine may take to give the log.
const LOG_TIMEOUT: Duration = Duration::from_secs(1);

/// When a wait looks for the last time: something of the deadline is kept for that.
pub(crate) fn last_look(call: &Call) -> Instant {
    (call.deadline - LAST_LOOK.min(call.context.timeout / 2)).max(Instant::now())
}

/// Waits until a container is ready; at the deadline, or where it can no longer become ready, tells why it is not.
pub(crate) async fn wait(call: &Call, request: &WaitRequest) -> Result<Seen, CallError> {
    let target = &request.target;
    let kind = target.address.kind();
    let what = format!("{kind} `{}`", target.identity.name);
    let last_look = last_look(call);
    let mut pause = FIRST_PAUSE;
    let mut last: Option<(Seen, Observed)> = None;
    let mut restarts_before = None;
    let began = Instant::now();
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
        let before = *restarts_before.get_or_insert_with(|| observed.restarts_so_far());
        let is_patient = began.elapsed() < LEAST_PATIENCE;
        let hopeless = (!observed.is_running() && !observed.restarts())
            || (!is_patient && observed.is_restarting() && is_given_up(before, observed.restarts_so_far()));
        if seen.readiness.is_ready() || shall_run == Some(false) || hopeless || Instant::now() >= last_look {
            return Ok(explained(call, kind, seen, &observed).await);
        }
        last = Some((seen, observed));
        call.pause(&what, pause.min(last_look.saturating_duration_since(Instant::now()))).await?;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether so many restarts are enough. One that was given up before gets one more: what kept it from running may be mended.
const fn is_given_up(before: u32, now: u32) -> bool {
    now >= MOST_RESTARTS && now > before
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
    if let Some(ended) = observed.ended_before() {
        told = format!("{told}; {ended}");
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ends_again_and_again_is_given_up_and_gets_one_more_chance_later() {
        assert!(!is_given_up(0, 1) && !is_given_up(0, MOST_RESTARTS - 1));
        assert!(is_given_up(0, MOST_RESTARTS));
        assert!(!is_given_up(MOST_RESTARTS, MOST_RESTARTS) && is_given_up(MOST_RESTARTS, MOST_RESTARTS + 1));
        assert!(!is_given_up(12, 3), "somebody started it anew meanwhile");
    }
}
