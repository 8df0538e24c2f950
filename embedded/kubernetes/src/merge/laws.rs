//! Laws that merges keep, whatever is merged.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use ksail_kubernetes_schema::{TypeId, Types, builtin, custom_types};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::managers::{Managers, Writer};
use super::{json as json_patch, strategic, typed};

/// A type with all that an apply merges in another way: a map, a list by keys, a set, and a list as a whole.
static SCHEMA: LazyLock<(Types, TypeId)> = LazyLock::new(|| {
    let text = json!({"type": "string"});
    let item = json!({"type": "object", "required": ["k"], "properties": {"k": text, "v": text, "w": text}});
    let spec = json!({"type": "object", "properties": {
        "a": text, "b": text, "map": {"type": "object", "additionalProperties": text},
        "nested": {"type": "object", "properties": {"x": text, "y": {"type": "object", "properties": {"z": text}}}},
        "list": {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]},
        "set": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
        "atomic": {"type": "array", "items": text},
    }});
    let mut types = custom_types();
    let of = types.add_schema(&json!({"type": "object", "properties": {"spec": spec}}));
    (types, of)
});

fn word() -> impl Strategy<Value = Value> {
    prop::sample::select(vec!["p", "q"]).prop_map(Value::from)
}

fn some(of: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<Value>> {
    prop::option::of(of).boxed()
}

/// An object of the fields that are chosen; nothing if none is.
fn object(fields: Vec<(&'static str, BoxedStrategy<Option<Value>>)>) -> BoxedStrategy<Value> {
    let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    values
        .prop_map(move |values| {
            let given = names.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
            Value::Object(given.collect())
        })
        .boxed()
}

fn filled(of: BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    of.prop_filter("it is filled", |value| value.as_object().is_some_and(|map| !map.is_empty()))
}

fn map() -> impl Strategy<Value = Value> {
    prop::collection::btree_map(prop::sample::select(vec!["m", "n", "o"]), word(), 1..3).prop_map(|map| json!(map))
}

/// A list of items with different keys, in any order.
fn by_key(key: &'static str, rest: BoxedStrategy<Value>) -> impl Strategy<Value = Value> {
    let items = prop::collection::btree_map(prop::sample::select(vec!["i", "j", "k"]), rest, 1..4);
    items
        .prop_map(move |items: BTreeMap<&str, Value>| {
            items
                .into_iter()
                .map(|(name, mut item)| {
                    item[key] = name.into();
                    item
                })
                .collect::<Vec<_>>()
        })
        .prop_shuffle()
        .prop_map(Value::Array)
}

fn words() -> impl Strategy<Value = Value> {
    prop::sample::subsequence(vec!["s", "t", "u"], 1..4).prop_shuffle().prop_map(|list| json!(list))
}

fn config() -> impl Strategy<Value = Value> {
    let nested = object(vec![("x", some(word())), ("y", some(filled(object(vec![("z", some(word()))]))))]);
    let spec = object(vec![
        ("a", some(word())),
        ("b", some(word())),
        ("map", some(map())),
        ("nested", some(filled(nested))),
        ("list", some(by_key("k", object(vec![("v", some(word())), ("w", some(word()))])))),
        ("set", some(words())),
        ("atomic", some(words())),
    ]);
    object(vec![("spec", some(filled(spec)))])
}

/// Without the order of lists whose items are told apart by what they are.
fn unordered(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let of = |(key, value): (&String, &Value)| {
                let mut value = unordered(value);
                if let (true, Value::Array(list)) = (key != "atomic" && key != "args", &mut value) {
                    list.sort_by_key(Value::to_string);
                }
                (key.clone(), value)
            };
            Value::Object(map.iter().map(of).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(unordered).collect()),
        other => other.clone(),
    }
}

/// What is live, and who manages it.
#[derive(Debug, Clone, PartialEq)]
struct Live(Value, Managers);

impl Live {
    fn new() -> Self {
        Self(json!({}), Managers::default())
    }

    /// What it is after an apply; nothing if that conflicts.
    fn applied(&self, manager: &str, config: &Value, force: bool) -> Option<Self> {
        let (types, of) = &*SCHEMA;
        let writer = Writer { manager, api_version: "example.com/v1", subresource: "", time: "now", has_status: false };
        let mut managers = self.1.clone();
        let object = managers.apply(types, *of, &self.0, config, &writer, force).ok()?;
        Some(Self(object, managers))
    }

    /// Whether all of a configuration is there.
    fn has(&self, config: &Value) -> bool {
        let (types, of) = &*SCHEMA;
        let merged = typed::merge(types, *of, Some(&self.0), Some(config)).unwrap_or_default();
        unordered(&merged) == unordered(&self.0)
    }

    /// Without the order of lists, and without maps and lists that were left empty: who made them does not matter here.
    fn content(&self) -> (Value, Managers) {
        (without_empty(&unordered(&self.0)), self.1.clone())
    }
}

fn without_empty(value: &Value) -> Value {
    let Value::Object(map) = value else { return value.clone() };
    let kept = map.iter().map(|(key, value)| (key.clone(), without_empty(value)));
    let is_empty =
        |value: &Value| value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
    Value::Object(kept.filter(|(_, value)| !is_empty(value)).collect())
}

/// The merge patch that makes one value another. Neither holds nulls.
fn difference(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let mut patch = Map::new();
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in to {
        match from.get(key) {
            Some(same) if same == value => {}
            Some(other) if other.is_object() => drop(patch.insert(key.clone(), difference(other, value))),
            _ => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    Value::Object(patch)
}

/// The spec of a pod: lists that are merged by names, one that is replaced, and a map.
fn pod() -> impl Strategy<Value = Value> {
    let variables = by_key("name", object(vec![("value", some(word()))]));
    let container = object(vec![("image", some(word())), ("args", some(words())), ("env", some(variables))]);
    let spec = object(vec![
        ("containers", some(by_key("name", container))),
        ("nodeSelector", some(map())),
        ("hostname", some(word())),
        ("volumes", some(by_key("name", object(vec![("emptyDir", some(Just(json!({}))))])))),
    ]);
    object(vec![("spec", some(filled(spec)))])
}

fn strategically(target: &Value, patch: &Value) -> Value {
    let catalog = builtin();
    let of = catalog.kind("", "v1", "Pod").unwrap_or(TypeId::ANY);
    let mut merged = target.clone();
    strategic::merge(&catalog.types, of, &mut merged, patch).unwrap_or_else(|error| panic!("{error}"));
    merged
}

/// Whether a value has all fields and named items of another; with `values`, also what they are.
fn holds(value: &Value, part: &Value, values: bool) -> bool {
    match (value, part) {
        (Value::Object(value), Value::Object(part)) => {
            part.iter().all(|(key, part)| value.get(key).is_some_and(|value| holds(value, part, values)))
        }
        (Value::Array(value), Value::Array(part)) if part.iter().all(|item| item["name"].is_string()) => {
            let find = |name: &Value| value.iter().find(|item| item["name"] == *name);
            part.iter().all(|part| find(&part["name"]).is_some_and(|value| holds(value, part, values)))
        }
        (value, part) => !values || value == part,
    }
}

proptest! {
    #[test]
    fn a_second_apply_of_the_same_changes_nothing(first in config(), second in config()) {
        let live = Live::new().applied("one", &first, false).unwrap().applied("two", &second, true).unwrap();
        prop_assert_eq!(live.applied("two", &second, false), Some(live.clone()));
    }

    #[test]
    fn what_is_applied_is_there(first in config(), second in config(), third in config()) {
        let live = Live::new().applied("one", &first, true).unwrap().applied("two", &second, true).unwrap();
        prop_assert!(live.has(&second), "{:?}", live.0);
        let live = live.applied("one", &third, true).unwrap();
        prop_assert!(live.has(&third), "{:?}", live.0);
    }

    #[test]
    fn an_apply_without_force_takes_nothing_of_others(first in config(), second in config(), third in config()) {
        let live = Live::new().applied("one", &first, false).unwrap();
        for config in [second, third] {
            if let Some(live) = live.applied("two", &config, false) {
                prop_assert!(live.has(&first), "{:?}", live.0);
            }
        }
    }

    #[test]
    fn who_applies_nothing_any_more_takes_only_what_was_its_own(first in config(), second in config()) {
        let alone = Live::new().applied("one", &first, false).unwrap();
        if let Some(both) = alone.applied("two", &second, false) {
            let left = both.applied("two", &json!({}), false).unwrap();
            prop_assert_eq!(left.content(), alone.content());
        }
    }

    #[test]
    fn what_two_have_stays_until_the_last_has_gone(config in config()) {
        let both = Live::new().applied("one", &config, false).unwrap().applied("two", &config, false).unwrap();
        let one = both.applied("one", &json!({}), false).unwrap();
        prop_assert!(one.has(&config), "{:?}", one.0);
        let none = one.applied("two", &json!({}), false).unwrap();
        prop_assert_eq!(none.content(), (json!({}), Managers::default()));
    }

    #[test]
    fn who_changes_a_field_by_an_update_has_it(first in config(), second in config()) {
        let (types, of) = &*SCHEMA;
        let before = Live::new().applied("one", &first, false).unwrap();
        let mut after = before.clone();
        after.0 = second.clone();
        let writer = Writer { manager: "two", api_version: "example.com/v1", subresource: "", time: "now", has_status: false };
        after.1.update(types, *of, &before.0, &second, &writer);
        // What the first one still wants otherwise is in the way of its next apply.
        let again = after.applied("one", &first, false);
        let changed = typed::compare(types, *of, Some(&first), Some(&second)).modified;
        if !changed.is_empty() {
            prop_assert_eq!(again, None);
        }
    }

    #[test]
    fn merge_patches_make_one_of_the_other(one in config(), other in config()) {
        let patch = difference(&one, &other);
        let mut merged = one.clone();
        json_patch::merge(&mut merged, &patch);
        prop_assert_eq!(&merged, &other);
        json_patch::merge(&mut merged, &patch);
        prop_assert_eq!(&merged, &other, "a second time changes nothing");
        json_patch::merge(&mut merged, &json!({}));
        prop_assert_eq!(&merged, &other, "nothing changes nothing");
    }

    #[test]
    fn strategic_patches_are_there_once(target in pod(), patch in pod()) {
        let merged = strategically(&target, &patch);
        prop_assert_eq!(&strategically(&merged, &patch), &merged, "a second time changes nothing");
        prop_assert_eq!(&strategically(&target, &json!({})), &target, "nothing changes nothing");
        prop_assert_eq!(&strategically(&target, &target), &target, "what is there changes nothing");
        prop_assert!(holds(&merged, &patch, true), "{merged} lacks what is patched in");
        prop_assert!(holds(&merged, &target, false), "{merged} lacks what was there");
    }
}

/// The times of the entries, as text.
fn times(live: &Live) -> Vec<(String, Option<String>)> {
    let mut object = json!({"metadata": {}});
    live.1.write(&mut object);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| (text(&entry["manager"]).unwrap_or_default(), text(&entry["time"]))).collect()
}

#[test]
fn a_time_is_that_of_the_last_change_of_the_object() {
    let (types, of) = &*SCHEMA;
    let writer = |manager, time| Writer { manager, api_version: "v1", subresource: "", time, has_status: false };
    let apply = |live: &Live, manager, time, config: Value| {
        let mut managers = live.1.clone();
        let object = managers.apply(types, *of, &live.0, &config, &writer(manager, time), true).unwrap();
        Live(object, managers)
    };
    let time = |text: &str| Some(text.to_owned());
    let live = apply(&Live::new(), "one", "1", json!({"spec": {"a": "p"}}));
    let live = apply(&live, "one", "2", json!({"spec": {"a": "p"}}));
    assert_eq!(times(&live), [("one".to_owned(), time("1"))], "nothing changed");
    let live = apply(&live, "one", "3", json!({"spec": {"a": "q"}}));
    assert_eq!(times(&live), [("one".to_owned(), time("3"))], "the same field changed");
    let mut live = apply(&live, "two", "4", json!({"spec": {"a": "q"}}));
    assert_eq!(
        times(&live),
        [("two".to_owned(), None), ("one".to_owned(), time("3"))],
        "the second one changed nothing"
    );
    let before = std::mem::replace(&mut live.0, json!({"spec": {"a": "r"}}));
    live.1.update(types, *of, &before, &live.0, &writer("three", "5"));
    live.1.update(types, *of, &live.0, &json!({"spec": {"a": "s"}}), &writer("three", "6"));
    assert_eq!(times(&live), [("three".to_owned(), time("6"))], "an update changed the same field");
}
