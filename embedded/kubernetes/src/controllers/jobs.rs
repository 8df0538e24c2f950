//! Jobs: pods until enough have succeeded.

use std::time::Duration;

use serde_json::{Value, json};

use super::replicasets::{is_active, pod_of};
use super::{Again, Controllers, condition, is_deleted, is_pod_ready, name_of};
use crate::api;
use crate::status::Status;

const INDEX: &str = "batch.kubernetes.io/job-completion-index";

fn count(value: &Value, or: i64) -> i64 {
    value.as_i64().unwrap_or(or)
}

impl Controllers {
    pub(crate) fn job(&mut self, namespace: &str, name: &str, job: &Value) -> Result<Again, Status> {
        if is_deleted(job) {
            return Ok(None);
        }
        let is_end = |condition: &&Value| {
            condition["status"] == "True" && (condition["type"] == "Complete" || condition["type"] == "Failed")
        };
        if let Some(end) = job["status"]["conditions"].as_array().into_iter().flatten().find(is_end) {
            let left = left(&end["lastTransitionTime"], &job["spec"]["ttlSecondsAfterFinished"]);
            if left == Some(Duration::ZERO) {
                self.remove("batch/jobs", namespace, name)?;
            }
            return Ok(left.filter(|left| !left.is_zero()));
        }
        let time = api::now();
        let spec = &job["spec"];
        let pods = self.controlled("/pods", namespace, job);
        let phase = |pod: &Value, phase: &str| pod["status"]["phase"] == phase;
        let size = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let succeeded = size(pods.iter().filter(|pod| phase(pod, "Succeeded")).count());
        let failed = size(pods.iter().filter(|pod| phase(pod, "Failed")).count());
        let mut active = size(pods.iter().filter(|pod| is_active(pod)).count());
        let ready = pods.iter().filter(|pod| is_pod_ready(pod)).count();
        let suspended = spec["suspend"] == true;
        let parallelism = count(&spec["parallelism"], 1);
        let completions = spec["completions"].as_i64();
        let done = completions.map_or(succeeded > 0 && active == 0, |wanted| succeeded >= wanted);
        let before = &job["status"];
        let until_deadline = if suspended {
            None
        } else {
            let since =
                if before["startTime"].is_string() { &before["startTime"] } else { &Value::from(time.as_str()) };
            left(since, &spec["activeDeadlineSeconds"])
        };
        let why_broken = if failed > count(&spec["backoffLimit"], 6) {
            Some(("BackoffLimitExceeded", "Job has reached the specified backoff limit"))
        } else if until_deadline == Some(Duration::ZERO) {
            Some(("DeadlineExceeded", "Job was active longer than specified deadline"))
        } else {
            None
        };
        let broken = why_broken.is_some();
        let mut conditions: Vec<Value> = Vec::new();
        if done {
            let message = "Reached expected number of succeeded pods";
            conditions.push(condition(before, "SuccessCriteriaMet", "True", "CompletionsReached", message, &time));
            conditions.push(condition(before, "Complete", "True", "CompletionsReached", message, &time));
        } else if let Some((reason, message)) = why_broken {
            conditions.push(condition(before, "FailureTarget", "True", reason, message, &time));
            conditions.push(condition(before, "Failed", "True", reason, message, &time));
        } else if suspended {
            conditions.push(condition(before, "Suspended", "True", "JobSuspended", "Job suspended", &time));
        }
        for one in &mut conditions {
            one["lastProbeTime"] = one["lastTransitionTime"].clone();
        }
        if done || broken || suspended {
            for pod in pods.iter().filter(|pod| is_active(pod)) {
                self.remove("/pods", namespace, name_of(pod))?;
            }
            active = 0;
        } else {
            let left = completions.map_or(parallelism, |wanted| wanted - succeeded);
            let mut free = (0..completions.unwrap_or_default()).filter(|index| {
                let own = Value::from(index.to_string());
                let taken = |pod: &Value| pod["metadata"]["annotations"][INDEX] == own && !phase(pod, "Failed");
                !pods.iter().any(taken)
            });
            let missing = parallelism.min(left) - active;
            for _ in 0..missing {
                let mut pod = pod_of(job, &spec["template"]);
                if spec["completionMode"] == "Indexed" {
                    let Some(index) = free.next() else { break };
                    pod["metadata"]["annotations"][INDEX] = index.to_string().into();
                    pod["metadata"]["labels"][INDEX] = index.to_string().into();
                    pod["metadata"]["generateName"] = format!("{name}-{index}-").into();
                }
                self.make("/pods", namespace, pod)?;
                active += 1;
            }
        }
        let mut status =
            json!({"ready": if done || broken { 0 } else { ready }, "terminating": 0, "uncountedTerminatedPods": {}});
        if !suspended {
            status["startTime"] =
                if before["startTime"].is_string() { before["startTime"].clone() } else { time.as_str().into() };
        }
        for (field, number) in [("active", active), ("succeeded", succeeded), ("failed", failed)] {
            if number > 0 {
                status[field] = number.into();
            }
        }
        if done {
            status["completionTime"] = time.as_str().into();
        }
        if !conditions.is_empty() {
            status["conditions"] = json!(conditions);
        }
        if status != *before {
            let place = self.place("batch/jobs", namespace, name)?;
            self.api.set_status(&place, super::MANAGER, &status)?;
        }
        Ok(until_deadline.filter(|left| !left.is_zero()))
    }
}

/// How long it is until some seconds after a time; nothing if there is no such moment.
fn left(since: &Value, seconds: &Value) -> Option<Duration> {
    let since: jiff::Timestamp = since.as_str()?.parse().ok()?;
    let passed = jiff::Timestamp::now().duration_since(since);
    let left = jiff::SignedDuration::from_secs(seconds.as_i64()?) - passed;
    Some(Duration::try_from(left).unwrap_or(Duration::ZERO))
}
