//! What a failing container wrote last.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value as Json;

use crate::call::Call;
use crate::explain::pod_name;
use crate::wire::{at, number, text};

/// How many lines are told, how long they may be in characters, and how many bytes are asked for.
const LINES: usize = 10;
const LINE_CHARACTERS: usize = 200;
const MOST_BYTES: usize = 16 * 1024;
/// How long the kubelet may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A container that has failed, or runs and is not ready.
#[derive(Debug, PartialEq)]
pub(crate) struct FailingContainer<'a> {
    name: &'a str,
    /// How often it was started again.
    restarts: i64,
    /// Whether it runs.
    runs: bool,
    /// How it ended last, if it did.
    exit_code: Option<i64>,
}

/// The container that tells most of why a pod is not ready: one that ended in failure before one that runs and is not ready.
pub(crate) fn failing_container(pod: &Json) -> Option<FailingContainer<'_>> {
    let statuses = ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .filter_map(|part| at(pod, &["status", part]).and_then(Json::as_array))
        .flatten();
    let found = statuses.filter(|status| status["ready"] != true).filter_map(|status| {
        let exit_code = number(status, &["state", "terminated", "exitCode"])
            .or_else(|| number(status, &["lastState", "terminated", "exitCode"]));
        let runs = status["state"].get("running").is_some();
        let is_done = status["state"].get("terminated").is_some() && exit_code == Some(0);
        let has_written = runs || exit_code.is_some();
        (has_written && !is_done).then(|| FailingContainer {
            name: status["name"].as_str().unwrap_or_default(),
            restarts: number(status, &["restartCount"]).unwrap_or(0),
            runs,
            exit_code,
        })
    });
    found.min_by_key(|container| (container.exit_code.is_none(), container.exit_code == Some(0)))
}

/// The last lines of the failing container of a pod, each log under a heading. A container that was started again tells more of
/// its failure in the log before.
pub(crate) async fn of(call: &Call, namespace: &str, pod: &Json) -> Vec<String> {
    let Some(container) = failing_container(pod) else { return Vec::new() };
    let was_restarted = container.restarts > 0 && text(pod, &["status", "phase"]) != Some("Failed");
    // Between two starts, the log of now is the log before.
    let is_current = container.runs || !was_restarted;
    let read = async |previous: bool| lines(call, namespace, pod_name(pod), container.name, previous).await;
    let (before, now) = futures::join!(async { if was_restarted { read(true).await } else { Vec::new() } }, async {
        if is_current { read(false).await } else { Vec::new() }
    },);
    let name = container.name;
    let ended = container.exit_code.map_or_else(String::new, |code| format!(", which ended with exit code {code}"));
    let mut told = Vec::new();
    if !before.is_empty() {
        told.push(format!("the last lines of container {name}{ended}, before it was started again:"));
        told.extend(before);
    }
    if !now.is_empty() {
        let ended = if container.runs { "" } else { ended.as_str() };
        told.push(format!("the last lines of container {name}{ended}:"));
        told.extend(now);
    }
    told
}

async fn lines(call: &Call, namespace: &str, pod: &str, container: &str, previous: bool) -> Vec<String> {
    let path = format!(
        "/api/v1/namespaces/{namespace}/pods/{pod}/log?container={container}&tailLines={LINES}&limitBytes={MOST_BYTES}{}",
        if previous { "&previous=true" } else { "" },
    );
    let read = async {
        let request = Request::get(path).header("accept", "*/*").body(Body::empty()).ok()?;
        let reply = call.session.client.send(request).await.ok().filter(|reply| reply.status().is_success())?;
        Some(reply.into_body().collect().await.ok()?.to_bytes())
    };
    let Ok(Some(bytes)) = tokio::time::timeout(PATIENCE, read).await else { return Vec::new() };
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(LINES)..].iter().map(|line| plain(line)).collect()
}

/// A line without colours and other control sequences, and not longer than it may be.
fn plain(line: &str) -> String {
    let mut parts = line.split('\u{1b}');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // A control sequence ends with its first letter.
        let after = match part.strip_prefix('[') {
            Some(sequence) => sequence.split_once(|c: char| ('@'..='~').contains(&c)).map_or("", |(_, after)| after),
            None => part.get(1..).unwrap_or_default(),
        };
        text.push_str(after);
    }
    let mut shown: String = text
        .chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .filter(|c| !c.is_control())
        .take(LINE_CHARACTERS)
        .collect();
    if text.chars().count() > LINE_CHARACTERS {
        shown.push('…');
    }
    format!("  {shown}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_container_that_ended_in_failure_tells_most() {
        let check = |statuses: Json, wanted: Option<(&str, i64, bool, Option<i64>)>| {
            let pod = json!({"status": {"containerStatuses": statuses}});
            let found = failing_container(&pod);
            assert_eq!(found.map(|it| (it.name, it.restarts, it.runs, it.exit_code)), wanted);
        };
        let running = json!({"name": "side", "ready": false, "restartCount": 0, "state": {"running": {}}});
        let crashed = json!({"name": "app", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1}}});
        let pulling = json!({"name": "app", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}});
        let ready = json!({"name": "app", "ready": true, "restartCount": 0, "state": {"running": {}}});
        check(json!([running, crashed]), Some(("app", 3, false, Some(1))));
        check(json!([ready, running]), Some(("side", 0, true, None)));
        check(json!([pulling]), None);
        check(json!([ready]), None);
        let done = json!({"name": "init", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 0}}});
        check(json!([done, crashed]), Some(("app", 3, false, Some(1))));
    }

    #[test]
    fn lines_are_plain_and_short() {
        assert_eq!(plain("\u{1b}[31;1merror\u{1b}[0m\tno \u{7}database"), "  error no database");
        assert_eq!(plain(&"x".repeat(300)).chars().count(), 2 + LINE_CHARACTERS + 1);
    }
}
