//! Pods that leave a machine before it is upgraded, and come back after.

use std::time::Duration;

use ksail_kinds::takes_pods;
use ksail_provider::CallError;
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use crate::call::Call;
use crate::control_plane::{self, command, needed};
use crate::exec::{look, run};
use crate::wait::last_look;

/// The sign, on what a machine keeps, that it was emptied by us and takes no pods until its upgrade is over.
pub(crate) const EMPTIED: &str = "/var/lib/ksail/upgrade/emptied";
/// Why a machine is not ready meanwhile.
pub(crate) const TAKES_NO_PODS: &str = "it was emptied for an upgrade and takes no pods yet";
/// The pause between two looks at what is still there.
const PAUSE: Duration = Duration::from_millis(500);
/// How many of those that cannot leave are named.
const NAMED: usize = 5;

/// A pod that leaves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Pod {
    namespace: String,
    name: String,
    /// Whether it is on its way.
    is_leaving: bool,
}

impl Pod {
    fn eviction(&self) -> (String, String) {
        let path = format!("/api/v1/namespaces/{}/pods/{}/eviction", self.namespace, self.name);
        let body = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": self.name, "namespace": self.namespace},
        });
        (path, body.to_string())
    }
}

fn text<'v>(value: &'v Json, path: &str) -> &'v str {
    value.pointer(path).and_then(Json::as_str).unwrap_or_default()
}

fn items(list: &Json) -> impl Iterator<Item = &Json> {
    list["items"].as_array().into_iter().flatten()
}

/// The pods that leave: those that somebody makes anew elsewhere. What belongs to the node stays and is started again with it, and so
/// does what nobody would make anew.
fn leaving(pods: &Json) -> Vec<Pod> {
    let is_made_anew = |pod: &&Json| {
        let mut owners = pod.pointer("/metadata/ownerReferences").and_then(Json::as_array).into_iter().flatten();
        let controller = owners.find(|owner| owner["controller"] == true).map(|owner| text(owner, "/kind"));
        let is_over = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
        !is_over && controller.is_some_and(|kind| !matches!(kind, "DaemonSet" | "Node"))
    };
    let pod = |pod: &Json| Pod {
        namespace: text(pod, "/metadata/namespace").to_owned(),
        name: text(pod, "/metadata/name").to_owned(),
        is_leaving: !text(pod, "/metadata/deletionTimestamp").is_empty(),
    };
    let mut all: Vec<Pod> = items(pods).filter(is_made_anew).map(pod).collect();
    all.sort();
    all
}

/// The budgets that let no pod of some namespaces go, by namespace and name.
fn spent(budgets: &Json, stuck: &[Pod]) -> Vec<String> {
    let concerns = |budget: &&Json| {
        let namespace = text(budget, "/metadata/namespace");
        let allowed = budget.pointer("/status/disruptionsAllowed").and_then(Json::as_i64);
        allowed == Some(0) && stuck.iter().any(|pod| pod.namespace == namespace)
    };
    let name = |budget: &Json| format!("{}/{}", text(budget, "/metadata/namespace"), text(budget, "/metadata/name"));
    items(budgets).filter(concerns).map(name).collect()
}

async fn get(call: &Call, through: &str, doing: &str, arguments: &[&str]) -> Result<Json, CallError> {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--output=json"]).collect();
    let output = look(call, through, doing, &command(&arguments)).await?;
    let output = output.ok_or_else(|| call.refused(doing, &format!("`{through}` is gone")))?;
    if !output.is_success() {
        return Err(CallError::transient(call.refused(doing, &output.end(2)).message));
    }
    serde_json::from_str(&output.stdout).map_err(|error| call.refused(doing, &error.to_string()))
}

/// Lets pods go from a node to others, as their budgets allow. A node that has no others to go to keeps them, and what fails leaves the
/// node as it was.
pub(crate) async fn empty(call: &Call, cluster: &str, node: &str) -> Result<(), CallError> {
    let doing = format!("empty the node `{node}`");
    let through = needed(call, cluster, &doing).await?;
    let nodes = get(call, &through, &doing, &["get", "nodes"]).await?;
    let is_it = |item: &&Json| text(item, "/metadata/name") == node;
    if !items(&nodes).any(|item| !is_it(&item) && takes_pods(item)) {
        return Ok(());
    }
    let is_cordoned = |item: &Json| item.pointer("/spec/unschedulable").and_then(Json::as_bool) == Some(true);
    // One that takes no pods because somebody wants that goes on so.
    if !items(&nodes).filter(is_it).any(is_cordoned) {
        let sign = format!("mkdir -p \"$(dirname {EMPTIED})\" && : >{EMPTIED} && sync {EMPTIED}");
        let output = run(call, node, &doing, &["sh", "-c", &sign], "").await?;
        if !output.is_success() {
            return Err(call.refused(&doing, &output.end(1)));
        }
        control_plane::apply(call, &through, &doing, &["cordon", node], "").await?;
    }
    let emptied = evict(call, &through, &doing, node).await;
    if emptied.is_err() {
        // What went wrong is told, and not what this comes to.
        let _ = take_pods_again(call, cluster, node, &doing).await;
    }
    emptied
}

async fn evict(call: &Call, through: &str, doing: &str, node: &str) -> Result<(), CallError> {
    let field = format!("--field-selector=spec.nodeName={node}");
    // Half of the time is kept for what comes after.
    let last_look = Instant::now() + last_look(call).saturating_duration_since(Instant::now()) / 2;
    loop {
        let left = leaving(&get(call, through, doing, &["get", "pods", "--all-namespaces", &field]).await?);
        if left.is_empty() {
            return Ok(());
        }
        let mut stuck = Vec::new();
        for pod in left.iter().filter(|pod| !pod.is_leaving) {
            let (path, body) = pod.eviction();
            let output =
                run(call, through, doing, &command(&["create", "--raw", &path, "--filename=-"]), &body).await?;
            if !output.is_success() && !output.stderr.contains("NotFound") {
                stuck.push(pod.clone());
            }
        }
        if Instant::now() >= last_look {
            let budgets = get(call, through, doing, &["get", "poddisruptionbudgets", "--all-namespaces"]).await?;
            return Err(cannot_leave(
                call,
                doing,
                if stuck.is_empty() { &left } else { &stuck },
                &spent(&budgets, &stuck),
            ));
        }
        call.pause(doing, PAUSE).await?;
    }
}

fn cannot_leave(call: &Call, doing: &str, pods: &[Pod], budgets: &[String]) -> CallError {
    let named: Vec<String> = pods.iter().take(NAMED).map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect();
    let more = if pods.len() > NAMED { format!(" and {} more", pods.len() - NAMED) } else { String::new() };
    let pods = format!("{}{more} did not leave in time", named.join(", "));
    if budgets.is_empty() {
        return call
            .refused(doing, &pods)
            .hint("`kubectl describe pod` tells what holds them; the same command goes on");
    }
    let why = format!("{pods}: the disruption budget {} lets none go", budgets.join(", "));
    call.refused(doing, &why).hint("let there be more replicas, or change the budget; the same command goes on")
}

/// Lets a node that was emptied take pods again. One that was not emptied by us stays as it is.
pub(crate) async fn take_pods_again(call: &Call, cluster: &str, node: &str, doing: &str) -> Result<(), CallError> {
    let through = needed(call, cluster, doing).await?;
    control_plane::apply(call, &through, doing, &["uncordon", node], "").await?;
    let output = run(call, node, doing, &["rm", "-f", EMPTIED], "").await?;
    if output.is_success() { Ok(()) } else { Err(call.refused(doing, &output.end(1))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_makes_anew_stays() {
        let pod = |name: &str, owner: &str, phase: &str| {
            let owners = if owner.is_empty() { json!([]) } else { json!([{"kind": owner, "controller": true}]) };
            json!({"metadata": {"namespace": "shop", "name": name, "ownerReferences": owners}, "status": {"phase": phase}})
        };
        let pods = json!({"items": [
            pod("web", "ReplicaSet", "Running"), pod("proxy", "DaemonSet", "Running"), pod("etcd", "Node", "Running"),
            pod("alone", "", "Running"), pod("done", "Job", "Succeeded"),
        ]});
        let wanted = Pod { namespace: "shop".to_owned(), name: "web".to_owned(), is_leaving: false };
        assert_eq!(leaving(&pods), [wanted]);
    }

    #[test]
    fn a_budget_is_named_where_it_holds_what_is_stuck() {
        let budget = |namespace: &str, allowed: i64| json!({"metadata": {"namespace": namespace, "name": "web"}, "status": {"disruptionsAllowed": allowed}});
        let budgets = json!({"items": [budget("shop", 0), budget("other", 0), budget("shop", 1)]});
        let stuck = [Pod { namespace: "shop".to_owned(), name: "web-1".to_owned(), is_leaving: false }];
        assert_eq!(spent(&budgets, &stuck), ["shop/web"]);
    }
}
