//! Taints of nodes that kubelets have made.
//!
//! The server takes the list of a node's taints as a whole, and controllers write theirs into it all the time. So ours are not part of
//! an apply: they are kept by key and effect, changed on the version of the node that was read, and an annotation names those that we
//! have put there. Taints of others are neither seen nor touched.

use std::collections::BTreeSet;
use std::time::Duration;

use http::{Method, StatusCode};
use ksail_model::{Path, Value};
use ksail_provider::CallError;
use serde_json::{Map, Value as Json, json};

use crate::call::Call;
use crate::discovery::Api;
use crate::name::ObjectName;
use crate::wire::{at, text};
use crate::{mark, refusal};

/// Who writes taints: not the manager of what is applied.
pub(crate) const MANAGER: &str = "ksail-taints";
/// The annotation that names those that we have put there: `key:effect`, with commas between them.
const OURS: &str = "ksail.io/taints";
/// How often taints are written in all where somebody else changes the node at the same moment; some five seconds with the pauses.
const TRIES: u32 = 16;
/// The pause after the first try; the next ones are twice as long each, up to [`LONGEST_PAUSE`]. Who writes without a pause wins every race
/// against one who reads first, so waiting is what helps, and a burst of changes is over soon.
const PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What tells a taint from others.
type Key = (String, String);

fn path() -> Path {
    Path::key("spec").child_key("taints")
}

fn is_node(name: &ObjectName) -> bool {
    name.group.is_empty() && name.kind == "Node"
}

/// Whether a spec declares the node that a kubelet makes of its machine, and not an object of its own.
pub(crate) fn are_apart(name: &ObjectName, spec: &Value) -> bool {
    is_node(name) && spec.get(&Path::key("spec").child_key("providerID")).is_some_and(|id| !id.is_null())
}

/// The same of a node that is there; the spec may not be known.
fn are_apart_of(name: &ObjectName, spec: Option<&Value>, live: &Json) -> bool {
    let is_declared_so = match mark::read(live) {
        Some(mark) => mark.address.kind() == ksail_kinds::NODE,
        None => spec.is_some_and(|spec| are_apart(name, spec)),
    };
    is_node(name) && is_declared_so && text(live, &["spec", "providerID"]).is_some()
}

fn key_of(taint: &Json) -> Key {
    let part = |name: &str| taint[name].as_str().unwrap_or_default().to_owned();
    (part("key"), part("effect"))
}

/// A taint as it is declared: without the time at which it was added, and with a value only where it has one.
fn bare(taint: &Json) -> Json {
    let (key, effect) = key_of(taint);
    let value = taint["value"].as_str().filter(|value| !value.is_empty());
    let fields = [("key", Some(key.as_str())), ("effect", Some(effect.as_str())), ("value", value)];
    Json::Object(fields.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))).collect())
}

fn list(value: Option<&Json>) -> &[Json] {
    value.and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

/// The taints that a spec declares, in its order.
fn declared(spec: Option<&Value>) -> Vec<Json> {
    let taints = spec.and_then(|spec| spec.get(&path())).map(Value::to_plain_json).unwrap_or_default();
    list(Some(&taints)).iter().map(bare).collect()
}

/// The ones that we have put there.
fn ours(live: &Json) -> BTreeSet<Key> {
    let named = text(live, &["metadata", "annotations", OURS]).unwrap_or_default();
    let key = |entry: &str| entry.rsplit_once(':').map(|(key, effect)| (key.to_owned(), effect.to_owned()));
    named.split(',').filter_map(key).collect()
}

/// A node's list of taints, taken out of it so that nobody takes it as a whole.
pub(crate) struct Apart {
    all: Option<Json>,
    seen: Vec<Json>,
}

impl Apart {
    /// Takes it out. `None` where the list is like any other field.
    pub(crate) fn take(name: &ObjectName, spec: Option<&Value>, live: &mut Json) -> Option<Self> {
        if !are_apart_of(name, spec, live) {
            return None;
        }
        let seen = seen(&declared(spec), live);
        let all = live["spec"].as_object_mut().and_then(|spec| spec.remove("taints"));
        Some(Self { all, seen })
    }

    /// Puts it back, and what is ours of it among the fields that are seen.
    pub(crate) fn give_back(self, live: &mut Json, fields: &mut Value) {
        if let (Some(all), Some(spec)) = (self.all, live["spec"].as_object_mut()) {
            spec.insert("taints".to_owned(), all);
        }
        set(fields, self.seen);
    }
}

fn set(fields: &mut Value, taints: Vec<Json>) {
    if !taints.is_empty() {
        fields.set(&path(), Value::from(Json::Array(taints)));
    }
}

/// What a dry run does not say: the taints would be the declared ones.
pub(crate) fn foretell(name: &ObjectName, spec: &Value, fields: &mut Value) {
    if are_apart(name, spec) {
        if fields.get(&path()).is_some() {
            fields.set(&path(), Value::Null);
        }
        set(fields, declared(Some(spec)));
    }
}

/// Takes the taints out of what is applied.
pub(crate) fn leave_out(object: &mut Map<String, Json>) {
    if let Some(spec) = object.get_mut("spec").and_then(Json::as_object_mut) {
        spec.remove("taints");
    }
}

/// What is there of the declared taints, and of those that we have put there; as they are declared, the declared ones first.
fn seen(declared: &[Json], live: &Json) -> Vec<Json> {
    let there = list(at(live, &["spec", "taints"]));
    let wanted: Vec<Key> = declared.iter().map(key_of).collect();
    let ours = ours(live);
    let of_declared = wanted.iter().filter_map(|key| there.iter().find(|taint| key_of(taint) == *key));
    let others = there.iter().filter(|taint| !wanted.contains(&key_of(taint)) && ours.contains(&key_of(taint)));
    of_declared.chain(others).map(bare).collect()
}

/// The change that makes a node's taints the declared ones, and leaves those of others. `None` if there is nothing to change.
fn patch(declared: &[Json], live: &Json) -> Option<Json> {
    let there = list(at(live, &["spec", "taints"]));
    let ours = ours(live);
    let wanted: BTreeSet<Key> = declared.iter().map(key_of).collect();
    let is_wanted_so = |taint: &&Json| declared.contains(&bare(taint));
    let is_of_others = |taint: &&Json| !ours.contains(&key_of(taint)) && !wanted.contains(&key_of(taint));
    // What is there as it is wanted keeps its place, and the time at which it was added.
    let mut taints: Vec<Json> =
        there.iter().filter(|taint| is_of_others(taint) || is_wanted_so(taint)).cloned().collect();
    let missing = declared.iter().filter(|taint| !there.iter().any(|known| bare(known) == **taint));
    taints.extend(missing.cloned());
    if taints == there && ours == wanted {
        return None;
    }
    let named: Vec<String> = wanted.iter().map(|(key, effect)| format!("{key}:{effect}")).collect();
    let note = (!named.is_empty()).then(|| named.join(","));
    Some(json!({
        "metadata": {"resourceVersion": live["metadata"]["resourceVersion"], "annotations": {OURS: note}},
        "spec": {"taints": taints},
    }))
}

/// Makes a node's taints the declared ones. Nothing is lost where somebody else writes theirs at the same moment.
pub(crate) async fn write(
    call: &Call,
    what: &str,
    api: &Api,
    name: &ObjectName,
    spec: &Value,
    live: &Json,
) -> Result<(), CallError> {
    if !are_apart(name, spec) {
        return Ok(());
    }
    let declared = declared(Some(spec));
    let object = api.object(name);
    let path = format!("{object}?fieldManager={MANAGER}");
    let mut pause = PAUSE;
    let mut next = patch(&declared, live);
    for attempt in 1.. {
        let Some(patch) = next else { return Ok(()) };
        let body = patch.to_string().into_bytes();
        let reply = call.change(what, Method::PATCH, &path, "application/merge-patch+json", body).await?;
        if reply.status.is_success() {
            return Ok(());
        }
        if reply.status != StatusCode::CONFLICT || attempt == TRIES {
            return Err(call.redact(refusal::of_change(&call.session.place, what, &reply)));
        }
        call.pause(what, pause).await?;
        pause = LONGEST_PAUSE.min(pause * 2);
        let Some(live) = call.read(what, &object).await? else {
            return Err(call.refused(what, "it is gone").hint("plan again"));
        };
        next = self::patch(&declared, &live);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ours: Option<&str>, taints: Json) -> Json {
        json!({"metadata": {"resourceVersion": "7", "annotations": {OURS: ours}}, "spec": {"providerID": "kind://x", "taints": taints}})
    }

    fn taint(key: &str, value: &str) -> Json {
        bare(&json!({"key": key, "value": value, "effect": "NoSchedule"}))
    }

    #[test]
    fn ours_change_and_those_of_others_stay_as_they_are() {
        let others = json!({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "t"});
        let check = |declared: &[&Json], ours: Option<&str>, there: Json, expected: Option<(Json, Json)>| {
            let declared: Vec<Json> = declared.iter().copied().cloned().collect();
            let told = patch(&declared, &node(ours, there)).map(|patch| {
                assert_eq!(patch["metadata"]["resourceVersion"], "7");
                (patch["metadata"]["annotations"][OURS].clone(), patch["spec"]["taints"].clone())
            });
            assert_eq!(told, expected);
        };
        let gpu = taint("gpu", "a");
        check(&[], None, json!([others]), None);
        check(&[&gpu], None, json!([others]), Some((json!("gpu:NoSchedule"), json!([others, gpu]))));
        // The kubelet has registered with it: it is said to be ours, and stays where it is.
        check(&[&gpu], None, json!([gpu, others]), Some((json!("gpu:NoSchedule"), json!([gpu, others]))));
        check(&[&gpu], Some("gpu:NoSchedule"), json!([gpu, others]), None);
        // Another value, gone, and no longer declared.
        let changed = taint("gpu", "b");
        check(
            &[&gpu],
            Some("gpu:NoSchedule"),
            json!([changed, others]),
            Some((json!("gpu:NoSchedule"), json!([others, gpu]))),
        );
        check(&[&gpu], Some("gpu:NoSchedule"), Json::Null, Some((json!("gpu:NoSchedule"), json!([gpu]))));
        check(&[], Some("gpu:NoSchedule"), json!([gpu, others]), Some((Json::Null, json!([others]))));
        // An effect more is another taint.
        let hard = bare(&json!({"key": "gpu", "effect": "NoExecute"}));
        check(
            &[&gpu, &hard],
            Some("gpu:NoSchedule"),
            json!([gpu]),
            Some((json!("gpu:NoExecute,gpu:NoSchedule"), json!([gpu, hard]))),
        );
    }

    #[test]
    fn what_is_seen_is_what_is_declared_or_was_put_there() {
        let there = json!([taint("theirs", ""), taint("old", ""), {"key": "gpu", "value": "", "effect": "NoSchedule", "timeAdded": "t"}]);
        let live = node(Some("old:NoSchedule"), there);
        assert_eq!(seen(&[taint("gpu", "a")], &live), [taint("gpu", ""), taint("old", "")]);
        assert_eq!(seen(&[], &live), [taint("old", "")]);
    }

    #[test]
    fn a_nodes_list_comes_back_after_a_look() {
        let name = ObjectName { group: String::new(), kind: "Node".to_owned(), namespace: None, name: "a".to_owned() };
        let spec = Value::from(json!({"spec": {"providerID": "kind://x", "taints": [taint("gpu", "")]}}));
        let mut live = node(None, json!([taint("theirs", ""), taint("gpu", "")]));
        let before = live.clone();
        let apart = Apart::take(&name, Some(&spec), &mut live).expect("a node of a kubelet");
        assert_eq!(at(&live, &["spec", "taints"]), None);
        let mut fields = Value::empty_map();
        apart.give_back(&mut live, &mut fields);
        assert_eq!((live, fields.to_plain_json()), (before, json!({"spec": {"taints": [taint("gpu", "")]}})));
        // An object of its own has its list as a whole.
        let mut own = json!({"spec": {"taints": []}});
        assert!(Apart::take(&name, None, &mut own).is_none());
    }

    #[test]
    fn a_dry_run_is_completed_by_what_is_declared() {
        let name = ObjectName { group: String::new(), kind: "Node".to_owned(), namespace: None, name: "a".to_owned() };
        let mut fields = Value::from(json!({"spec": {"providerID": "x", "taints": [taint("old", "")]}}));
        let declared = Value::from(json!({"spec": {"providerID": "x", "taints": [taint("gpu", "")]}}));
        foretell(&name, &declared, &mut fields);
        assert_eq!(fields.to_plain_json()["spec"]["taints"], json!([taint("gpu", "")]));
        foretell(&name, &Value::from(json!({"spec": {"providerID": "x"}})), &mut fields);
        assert_eq!(fields.to_plain_json()["spec"]["taints"], Json::Null);
    }
}
