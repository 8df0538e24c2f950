//! Changes of one field of an object: which there are, and how what was planned of each compares with what became of it.

use std::collections::BTreeMap;
use std::fmt;

use ksail_model::{Path, Preview, Seen, Step, Value};
use ksail_provider::CallErrorKind;
use serde_json::Value as Json;

use super::objects::Case;
use super::pretty;
use crate::cluster::Cluster;

/// Fields that are part of who an object is, and what a controller deletes objects by.
const FIXED: [&str; 5] = ["apiVersion", "kind", "metadata.name", "metadata.namespace", "metadata.ownerReferences"];
/// Values that may be something else, which a longer text is not.
const OTHERWISE: [(&str, &str); 34] = [
    ("TCP", "UDP"),
    ("UDP", "TCP"),
    ("SCTP", "TCP"),
    ("Always", "OnFailure"),
    ("Never", "Always"),
    ("Ignore", "Fail"),
    ("Fail", "Ignore"),
    ("ReadWriteOnce", "ReadWriteMany"),
    ("ReadWriteMany", "ReadOnlyMany"),
    ("Retain", "Delete"),
    ("Delete", "Retain"),
    ("Local", "Cluster"),
    ("ClientIP", "None"),
    ("Exact", "Prefix"),
    ("Prefix", "Exact"),
    ("In", "NotIn"),
    ("NotIn", "In"),
    ("Exists", "DoesNotExist"),
    ("DoesNotExist", "Exists"),
    ("Recreate", "RollingUpdate"),
    ("OnDelete", "RollingUpdate"),
    ("RollingUpdate", "OnDelete"),
    ("Forbid", "Allow"),
    ("ScheduleAnyway", "DoNotSchedule"),
    ("NoSchedule", "PreferNoSchedule"),
    ("Persistent", "Ephemeral"),
    ("File", "None"),
    ("Min", "Max"),
    ("CREATE", "DELETE"),
    ("UPDATE", "CONNECT"),
    ("safe", "fast"),
    ("Warn", "Deny"),
    ("Utilization", "AverageValue"),
    ("Normal", "Warning"),
];

/// Fields of ours that the server changes because another one of them is changed, by the end of the address.
const TOGETHER: [(&str, &str, &str); 3] = [
    ("/on-nodes", "spec.type", "spec.externalTrafficPolicy"),
    ("/on-nodes-sticky", "spec.sessionAffinity", "spec.sessionAffinityConfig"),
    ("/on-nodes-sticky", "spec.type", "spec.internalTrafficPolicy"),
];
/// Changes at which the server's handler panics, so that there is no answer.
const UNANSWERED: [(&str, &str); 2] = [
    ("/indexed", "spec.completions left out"),
    ("/named.", "properties.any.x-kubernetes-preserve-unknown-fields: false"),
];

/// One field, changed.
pub(crate) struct Change {
    pub(crate) path: Vec<Step>,
    pub(crate) manifest: Json,
    what: String,
}

/// How many changes came to what.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    pub(crate) in_place: usize,
    pub(crate) replacing: usize,
    pub(crate) refused: usize,
    pub(crate) same: usize,
    pub(crate) unanswered: usize,
}

impl Outcomes {
    pub(crate) fn add(&mut self, other: &Self) {
        self.in_place += other.in_place;
        self.replacing += other.replacing;
        self.refused += other.refused;
        self.same += other.same;
        self.unanswered += other.unanswered;
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} changes of single fields: {} in place, {} of which the server makes nothing, {} that need a replacement, {} refused, \
             {} at which the server fails",
            self.in_place + self.same + self.replacing + self.refused + self.unanswered,
            self.in_place,
            self.same,
            self.replacing,
            self.refused,
            self.unanswered
        )
    }
}

fn at<'a>(json: &'a mut Json, path: &[Step]) -> Option<&'a mut Json> {
    path.iter().try_fold(json, |json, step| match step {
        Step::Key(key) => json.get_mut(key),
        Step::Index(index) => json.get_mut(index),
        _ => None,
    })
}

fn leaves(json: &Json, path: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
    match json {
        Json::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                path.push(Step::Key(key.clone()));
                leaves(value, path, found);
                path.pop();
            }
        }
        Json::Array(list) if !list.is_empty() => {
            for (index, value) in list.iter().enumerate() {
                path.push(Step::Index(index));
                leaves(value, path, found);
                path.pop();
            }
        }
        // A declaration has no nulls: they are as good as nothing.
        Json::Null => {}
        _ => found.push(path.clone()),
    }
}

/// Something else in its place.
fn otherwise(leaf: &Json) -> Json {
    match leaf {
        Json::Bool(value) => Json::Bool(!value),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Json::from(number + 1),
            None => Json::from(number.as_f64().unwrap_or_default() * 2.0),
        },
        Json::String(text) => {
            let other = OTHERWISE.iter().find(|(one, _)| one == text).map(|(_, other)| (*other).to_owned());
            let is_number = text.starts_with(|first: char| first.is_ascii_digit());
            // A quantity, a share or a number: a larger one.
            let longer = || if is_number { format!("1{text}") } else { format!("{text}x") };
            Json::from(other.unwrap_or_else(longer))
        }
        Json::Object(_) => serde_json::json!({"x": "y"}),
        Json::Array(_) => serde_json::json!(["x"]),
        Json::Null => Json::Null,
    }
}

/// Every field with another value, and every field left out.
pub(crate) fn changes(manifest: &Json) -> Vec<Change> {
    let mut paths = Vec::new();
    leaves(manifest, &mut Vec::new(), &mut paths);
    let mut all = Vec::new();
    for path in paths {
        let shown = Path::from(path.clone());
        if FIXED.iter().any(|fixed| Path::parse(fixed).unwrap().covers(&shown)) {
            continue;
        }
        let mut other = manifest.clone();
        let leaf = at(&mut other, &path).expect("a leaf");
        *leaf = otherwise(leaf);
        let short = |json: &Json| json.to_string().chars().take(60).collect::<String>();
        let what = format!("{shown}: {}", short(leaf));
        all.push(Change { path: path.clone(), manifest: other, what });
        let mut without = manifest.clone();
        let (last, above) = path.split_last().expect("a step");
        match (last, at(&mut without, above)) {
            (Step::Key(key), Some(Json::Object(map))) => drop(map.remove(key)),
            (Step::Index(index), Some(Json::Array(list))) => drop(list.remove(*index)),
            _ => unreachable!("a leaf is in a map or a list"),
        }
        all.push(Change { path, manifest: without, what: format!("{shown} left out") });
    }
    all
}

/// Makes one change after the other, and takes each back. Answers those that need a replacement.
pub(crate) async fn each_change(
    cluster: &Cluster,
    case: &Case,
    made: &Seen,
    outcomes: &mut Outcomes,
) -> Result<Vec<Case>, String> {
    let mut replacing = Vec::new();
    let mut failures = Vec::new();
    let mut current = made.clone();
    for change in changes(&case.manifest) {
        match one_change(cluster, case, &current, &change, outcomes).await {
            Ok(Outcome::Stays) => {}
            Ok(Outcome::MadeAnew(seen)) => current = *seen,
            Ok(Outcome::NeedsReplacement(changed)) => replacing.push(*changed),
            Err(failure) => failures.push(format!("{}, {}: {failure}", case.target.address, change.what)),
        }
    }
    if failures.is_empty() { Ok(replacing) } else { Err(failures.join("\n")) }
}

enum Outcome {
    Stays,
    NeedsReplacement(Box<Case>),
    /// The change could not be taken back, so the object was deleted and made anew.
    MadeAnew(Box<Seen>),
}

async fn one_change(
    cluster: &Cluster,
    case: &Case,
    seen: &Seen,
    change: &Change,
    outcomes: &mut Outcomes,
) -> Result<Outcome, String> {
    let changed = case.with(cluster, change.manifest.clone());
    let path = Path::from(change.path.clone());
    let predicted = changed.preview(cluster, Some(seen)).await;
    let done = changed.update(cluster, seen, std::slice::from_ref(&path)).await;
    match (predicted, done) {
        (Preview::Accepted { fields }, Ok(done)) => {
            same(&fields, &done.seen.fields).map_err(|what| format!("did not become what was planned: {what}"))?;
            only_there(case, &seen.fields, &fields, &change.path)?;
            if fields == seen.fields {
                outcomes.same += 1;
            } else {
                outcomes.in_place += 1;
            }
            take_back(cluster, case, seen, &done.seen, path).await
        }
        (Preview::Refused { message, .. }, Err(error)) if error.kind == CallErrorKind::Refused => {
            outcomes.refused += 1;
            if message.is_empty() { Err("no reason".to_owned()) } else { Ok(Outcome::Stays) }
        }
        (Preview::ForcesReplacement { .. }, Err(error)) if error.kind == CallErrorKind::Refused => {
            outcomes.replacing += 1;
            Ok(Outcome::NeedsReplacement(Box::new(changed)))
        }
        (Preview::Unavailable, Err(error))
            if error.kind == CallErrorKind::Indeterminate && is_unanswered(case, &change.what) =>
        {
            outcomes.unanswered += 1;
            Ok(Outcome::Stays)
        }
        // The texts of secrets are no part of a plan, so nobody can tell before that the server does not like one.
        (Preview::Accepted { .. }, Err(error)) if is_secret(case, &path) && error.kind == CallErrorKind::Refused => {
            outcomes.refused += 1;
            Ok(Outcome::Stays)
        }
        (Preview::Accepted { .. }, Err(error)) => Err(format!("was planned, and refused: {error}")),
        (predicted, Err(error)) => Err(format!("was planned as {predicted:?}, and failed: {:?} {error}", error.kind)),
        (predicted, Ok(_)) => {
            // It is put right for what follows.
            case.update(cluster, seen, &[path]).await.map_err(|error| error.to_string())?;
            match changed.preview(cluster, Some(seen)).await {
                // A controller came in between: the template of a suspended Job may change once that is in its status.
                Preview::Accepted { .. } if !matches!(predicted, Preview::Accepted { .. }) => Ok(Outcome::Stays),
                _ => Err(format!("was planned as {predicted:?}, and done")),
            }
        }
    }
}

/// Makes the object as it was.
async fn take_back(cluster: &Cluster, case: &Case, before: &Seen, now: &Seen, path: Path) -> Result<Outcome, String> {
    let predicted = case.preview(cluster, Some(now)).await;
    match (predicted, case.update(cluster, now, &[path]).await) {
        (Preview::Accepted { .. }, Ok(back)) => {
            // The server may write an empty list or map otherwise when it was filled once.
            same(&filled(&before.fields), &filled(&back.seen.fields))
                .map_err(|what| format!("is not as it was: {what}"))?;
            Ok(Outcome::Stays)
        }
        (Preview::ForcesReplacement { .. } | Preview::Refused { .. }, Err(error))
            if error.kind == CallErrorKind::Refused =>
        {
            super::life::delete(cluster, case).await?;
            let made = case.create(cluster).await.map_err(|error| format!("made anew: {error}"))?;
            same(&before.fields, &made.seen.fields).map_err(|what| format!("made anew it is another: {what}"))?;
            Ok(Outcome::MadeAnew(Box::new(made.seen)))
        }
        (predicted, done) => Err(format!("taken back it was {predicted:?} and {done:?}")),
    }
}

/// Nothing if two values are the same, and else both.
pub(crate) fn same(one: &Value, other: &Value) -> Result<(), String> {
    if one == other {
        return Ok(());
    }
    let differing: Vec<String> =
        differing(one, other).iter().map(|path| Path::from(path.clone()).to_string()).collect();
    let text = |value: &Value| pretty(&serde_json::to_value(value).unwrap_or_default());
    let [one, other] = [text(one), text(other)].map(|text| text.chars().take(4000).collect::<String>());
    Err(format!("{}\n{one}\n{other}", differing.join(", ")))
}

/// The paths at which two values differ.
pub(crate) fn differing(one: &Value, other: &Value) -> Vec<Vec<Step>> {
    let leaves = |value: &Value| {
        let mut leaves: BTreeMap<String, (Vec<Step>, Value)> = BTreeMap::new();
        value.walk(&mut |path, leaf| drop(leaves.insert(path.to_string(), (path.steps().to_vec(), leaf.clone()))));
        leaves
    };
    let (one, other) = (leaves(one), leaves(other));
    let missing = |from: &BTreeMap<String, (Vec<Step>, Value)>, of: &BTreeMap<String, (Vec<Step>, Value)>| {
        from.iter()
            .filter(|(path, (_, leaf))| of.get(*path).is_none_or(|(_, other)| other != leaf))
            .map(|(_, (path, _))| path.clone())
            .collect::<Vec<_>>()
    };
    let mut all = missing(&one, &other);
    all.extend(missing(&other, &one));
    all
}

fn is_secret(case: &Case, path: &Path) -> bool {
    let parts = [Path::key("data"), Path::key("stringData")];
    case.manifest["kind"] == "Secret" && parts.iter().any(|part| part.covers(path))
}

fn is_unanswered(case: &Case, what: &str) -> bool {
    let address = case.target.address.as_str();
    UNANSWERED.iter().any(|(object, change)| address.contains(object) && what.contains(change))
}

/// A value without nulls and what is empty.
pub(crate) fn filled(value: &Value) -> Value {
    let is_filled = |value: &Value| match value {
        Value::Null => false,
        Value::Map(map) => map.iter().next().is_some(),
        Value::List(list) => !list.is_empty(),
        _ => true,
    };
    match value {
        Value::Map(map) => {
            let filled = map.iter().map(|(key, value)| (key.clone(), filled(value)));
            Value::map(filled.filter(|(_, value)| is_filled(value)))
        }
        Value::List(list) => Value::List(list.iter().map(filled).collect()),
        leaf => leaf.clone(),
    }
}

/// All that differs is the changed field, or in the list that it is part of (another key is another element).
fn only_there(case: &Case, before: &Value, after: &Value, changed: &[Step]) -> Result<(), String> {
    let list = changed.iter().position(|step| matches!(step, Step::Index(_)));
    let prefix = &changed[..list.unwrap_or(changed.len())];
    let address = case.target.address.as_str();
    let shown = Path::from(changed.to_vec()).to_string();
    let is_together = |path: &[Step]| {
        let path = Path::from(path.to_vec()).to_string();
        TOGETHER.iter().any(|(object, field, with)| {
            address.ends_with(object) && shown.starts_with(field) && path.starts_with(with)
        })
    };
    let elsewhere: Vec<String> = differing(before, after)
        .into_iter()
        // An empty map above it appears when the last field in it goes.
        .filter(|path| !path.starts_with(prefix) && !prefix.starts_with(path) && !is_together(path))
        .map(|path| Path::from(path).to_string())
        .collect();
    if elsewhere.is_empty() { Ok(()) } else { Err(format!("changed also {}", elsewhere.join(", "))) }
}
