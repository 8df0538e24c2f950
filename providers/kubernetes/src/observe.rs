//! Looking: one list a kind.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use ksail_model::{Observation, Readiness, Seen, UnknownReason, Value};
use ksail_provider::{CallError, CallErrorKind, Target};
use serde_json::{Map, Value as Json};

use crate::call::Call;
use crate::controllers::Controllers;
use crate::discovery::Api;
use crate::fields::{Managers, project};
use crate::name::ObjectName;
use crate::others::others;
use crate::provider::is_unmarked_machine;
use crate::readiness::readiness;
use crate::taints::Apart;
use crate::wire::{self, MANAGER_FIELD, text, version_of};
use crate::{mark, scalers, secrets, taints};

/// How many lists, or dry runs, are on their way at the same time.
pub(crate) const AT_ONCE: usize = 8;
/// How many objects a page of a list has, and how many pages a list may have.
const PAGE: usize = 500;
const MOST_PAGES: usize = 2000;
/// How many objects of a kind are looked at one by one where they may not be listed.
const MOST_ALONE: usize = 200;

/// An object's namespace and name.
type Key = (Option<String>, String);

/// What is seen of an object.
pub(crate) fn seen(api: &Api, name: &ObjectName, spec: Option<&Value>, live: &mut Json) -> Seen {
    if let Some(map) = live.as_object_mut() {
        // The elements of a list do not say what they are.
        map.insert("apiVersion".to_owned(), api.api_version().into());
        map.insert("kind".to_owned(), api.kind.clone().into());
    }
    let managers = Managers::of(live);
    let readiness = readiness(name, live);
    let mark = mark::read(live);
    let id = text(live, &["metadata", "uid"]).map(str::to_owned);
    let mut declared = spec.and_then(wire::object).unwrap_or_else(|| bare(api, name));
    secrets::without_data(&mut declared, name);
    let taints = Apart::take(name, spec, live);
    let data = if secrets::is_secret(name) { live.as_object_mut().and_then(|map| map.remove("data")) } else { None };
    // An empty set at the top says that nothing is owned; further below it would say that all is.
    // What people put on a node of a machine is no part of it.
    let is_apart = spec.is_some_and(|spec| taints::are_apart(name, spec));
    let of_tools = Some(&managers.tools).filter(|_| !is_apart);
    let owned = managers.ours.as_ref().or(of_tools).filter(|owned| !owned.is_empty());
    let all = Some(&managers.all).filter(|all| !all.is_empty());
    let fields = project(Some(&Json::Object(declared)), live, owned, all);
    let mut fields = fields.map_or_else(Value::empty_map, Value::from);
    fields.set(&ksail_model::Path::key(MANAGER_FIELD), Value::from(managers.name()));
    if let (Some(data), Some(map)) = (data, live.as_object_mut()) {
        map.insert("data".to_owned(), data);
    }
    if let Some(taints) = taints {
        taints.give_back(live, &mut fields);
    }
    secrets::report(&mut fields, live, spec, name, &managers);
    let attributes = Value::map([("uid", Value::from(id.clone()))]);
    Seen { id, fields, attributes, mark, readiness, others: others(live) }
}

/// What every declaration of an object has.
fn bare(api: &Api, name: &ObjectName) -> Map<String, Json> {
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), api.api_version().into());
    object.insert("kind".to_owned(), api.kind.clone().into());
    let metadata = wire::map_at(&mut object, "metadata");
    metadata.insert("name".to_owned(), name.name.clone().into());
    if let Some(namespace) = &name.namespace {
        metadata.insert("namespace".to_owned(), namespace.clone().into());
    }
    object
}

/// The version of its API that a spec is written in.
pub(crate) fn wanted_version(spec: Option<&Value>) -> Option<&str> {
    spec.and_then(|spec| spec.field("apiVersion")).and_then(Value::as_str).map(version_of)
}

/// Targets of one kind, by their positions.
struct Batch {
    api: Api,
    targets: Vec<(usize, ObjectName)>,
}

/// Looks at all targets. Of a kind that may be listed in some namespaces only, the others are unknown.
pub(crate) async fn observe(call: &Call, targets: &[Target]) -> Result<Vec<Observation>, CallError> {
    let mut observations = vec![Observation::Absent; targets.len()];
    let mut batches: BTreeMap<String, Batch> = BTreeMap::new();
    for (index, target) in targets.iter().enumerate() {
        let name = match ObjectName::of(&target.identity) {
            Ok(name) => name,
            Err(error) => {
                observations[index] = Observation::Unknown(UnknownReason::Denied { message: error.message });
                continue;
            }
        };
        let what = format!("look for kind {}", name.group_kind());
        match find_api(call, &what, &name, wanted_version(target.spec.as_ref())).await? {
            Found::Served(api) if api.namespaced == name.namespace.is_some() => {
                let batch = batches.entry(format!("{}/{}", api.api_version(), api.kind));
                batch.or_insert_with(|| Batch { api, targets: Vec::new() }).targets.push((index, name));
            }
            // Nothing can be there under such a name, or of such a kind.
            Found::Served(_) | Found::NotServed => {}
            Found::Uncertain(message) => {
                observations[index] = Observation::Unknown(UnknownReason::Unreachable { message });
            }
        }
    }
    let mut looks = Vec::new();
    for batch in batches.values() {
        looks.push(look_or_again(call, batch, targets));
    }
    let mut replies = futures::stream::iter(looks).buffer_unordered(AT_ONCE);
    while let Some(reply) = replies.next().await {
        for (index, observation) in reply? {
            observations[index] = observation;
        }
    }
    scalers::note(call, targets, &mut observations).await;
    Ok(observations)
}

/// Why it is not known whether a kind is served.
pub(crate) fn no_answer(name: &ObjectName) -> String {
    format!("the server that serves {} does not answer at the moment", name.group)
}

/// Whether a kind is served.
enum Found {
    Served(Api),
    NotServed,
    Uncertain(String),
}

async fn find_api(call: &Call, what: &str, name: &ObjectName, version: Option<&str>) -> Result<Found, CallError> {
    let kinds = call.kinds().await?;
    // A version that is gone may have a successor: the object is the same.
    if let Some(api) = kinds.find(&name.group, &name.kind, version) {
        return Ok(Found::Served(api.clone()));
    }
    if let Some(api) = call.api(what, name, version).await? {
        return Ok(Found::Served(api));
    }
    if call.kinds().await?.is_certain(&name.group) {
        return Ok(Found::NotServed);
    }
    Ok(Found::Uncertain(no_answer(name)))
}

/// A look at a batch. Where the server has come to serve the kind otherwise since its kinds were read, once more.
async fn look_or_again(call: &Call, batch: &Batch, targets: &[Target]) -> Result<Vec<(usize, Observation)>, CallError> {
    let error = match look(call, batch, targets).await {
        Err(error) if error.kind == CallErrorKind::Transient => error,
        found => return found,
    };
    // The other kinds are as they were seen.
    let all = |observation: Observation| batch.targets.iter().map(|(index, _)| (*index, observation.clone())).collect();
    let unknown = |message: String| all(Observation::Unknown(UnknownReason::Unreachable { message }));
    let Some((index, name)) = batch.targets.first() else { return Ok(Vec::new()) };
    let what = format!("look for kind {}", name.group_kind());
    Ok(match find_api(call, &what, name, wanted_version(targets[*index].spec.as_ref())).await? {
        Found::Served(api) if api != batch.api => {
            return look(call, &Batch { api, targets: batch.targets.clone() }, targets).await;
        }
        Found::Served(_) => unknown(error.message),
        Found::NotServed => all(Observation::Absent),
        Found::Uncertain(message) => unknown(message),
    })
}

/// One list, of all namespaces or of the one that all targets are in; where all may not be listed, one a namespace.
async fn look(call: &Call, batch: &Batch, targets: &[Target]) -> Result<Vec<(usize, Observation)>, CallError> {
    let wanted: BTreeMap<Key, Vec<usize>> = batch.targets.iter().fold(BTreeMap::new(), |mut wanted, (index, name)| {
        wanted.entry((name.namespace.clone(), name.name.clone())).or_insert_with(Vec::new).push(*index);
        wanted
    });
    let namespaces: BTreeSet<Option<&str>> = batch.targets.iter().map(|(_, name)| name.namespace.as_deref()).collect();
    let all = if namespaces.len() == 1 { namespaces.first().copied().flatten() } else { None };
    let mut found: BTreeMap<Key, Json> = BTreeMap::new();
    let mut denied: BTreeMap<Key, String> = BTreeMap::new();
    let mut deny = |namespace: Option<&str>, message: &str| {
        let keys = wanted.keys().filter(|(of, _)| of.as_deref() == namespace);
        denied.extend(keys.map(|key| (key.clone(), message.to_owned())));
    };
    match list(call, &batch.api, all, None, |key| wanted.contains_key(key), &mut found).await {
        Ok(()) => {}
        Err(error) if error.kind == CallErrorKind::Refused && namespaces.len() > 1 => {
            for namespace in namespaces {
                match list(call, &batch.api, namespace, None, |key| wanted.contains_key(key), &mut found).await {
                    Ok(()) => {}
                    Err(error) if error.kind == CallErrorKind::Refused => {
                        deny(namespace, &error.message);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Err(error) if error.kind == CallErrorKind::Refused => {
            namespaces.into_iter().for_each(|namespace| deny(namespace, &error.message));
        }
        Err(error) => return Err(error),
    }
    one_by_one(call, batch, &mut denied, &mut found).await;
    let mut controllers = Controllers::default();
    let mut answers = Vec::with_capacity(batch.targets.len());
    for (index, name) in &batch.targets {
        let key = (name.namespace.clone(), name.name.clone());
        let answer = match (found.get_mut(&key), denied.get(&key)) {
            (Some(live), _) if is_unmarked_machine(&targets[*index], live) => Observation::Absent,
            (Some(live), _) => {
                let mut seen = seen(&batch.api, name, targets[*index].spec.as_ref(), live);
                if !seen.readiness.is_ready() && controllers.have_none(call, &batch.api, name, live).await {
                    seen.readiness = Readiness::Ready;
                }
                Observation::Present(Box::new(seen))
            }
            (None, Some(message)) => Observation::Unknown(UnknownReason::Denied { message: message.clone() }),
            (None, None) => Observation::Absent,
        };
        answers.push((*index, answer));
    }
    Ok(answers)
}

/// Looks at what may not be listed one by one: the right to get it may be there.
async fn one_by_one(call: &Call, batch: &Batch, denied: &mut BTreeMap<Key, String>, found: &mut BTreeMap<Key, Json>) {
    let known: BTreeMap<Key, &ObjectName> =
        batch.targets.iter().map(|(_, name)| ((name.namespace.clone(), name.name.clone()), name)).collect();
    let looks: Vec<_> = denied
        .keys()
        .take(MOST_ALONE)
        .filter_map(|key| {
            let path = batch.api.object(known.get(key)?);
            let key = key.clone();
            Some(async move { (key, call.read("look at what may not be listed", &path).await) })
        })
        .collect();
    let looks: Vec<_> = futures::stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
    for (key, look) in looks {
        // What may not be got either stays as it is.
        let Ok(live) = look else { continue };
        denied.remove(&key);
        found.extend(live.map(|live| (key, live)));
    }
}

/// Lists objects page by page and keeps those that are wanted.
pub(crate) async fn list(
    call: &Call,
    api: &Api,
    namespace: Option<&str>,
    selector: Option<&str>,
    is_wanted: impl Fn(&Key) -> bool,
    found: &mut BTreeMap<Key, Json>,
) -> Result<(), CallError> {
    let what = format!("list {}", api.plural);
    let collection = api.collection(namespace);
    let selector = selector.map(|label| format!("&labelSelector={label}")).unwrap_or_default();
    let mut next: Option<String> = None;
    for _ in 0..MOST_PAGES {
        let from = next.map(|token| format!("&continue={}", escaped(&token))).unwrap_or_default();
        let path = format!("{collection}?limit={PAGE}{selector}{from}");
        // Without its namespace nothing is there.
        let Some(mut page) = call.read(&what, &path).await? else { return Ok(()) };
        next = text(&page, &["metadata", "continue"]).filter(|token| !token.is_empty()).map(str::to_owned);
        let items = page.get_mut("items").and_then(Json::as_array_mut).map(std::mem::take).unwrap_or_default();
        for item in items {
            let key = (
                text(&item, &["metadata", "namespace"]).map(str::to_owned),
                text(&item, &["metadata", "name"]).unwrap_or_default().to_owned(),
            );
            if is_wanted(&key) {
                found.insert(key, item);
            }
        }
        if next.is_none() {
            return Ok(());
        }
    }
    Err(call.refused(&what, "the list has no end"))
}

fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
