//! Values: JSON plus what JSON cannot say: references, unknowns and secrets.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Error as _;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Number;

use crate::{Address, Map, Path, Secret, Step};

/// An attribute of another resource. Unknown until that resource's attribute is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// The resource.
    pub address: Address,
    /// The attribute; looked up first in what was declared or seen, then in what is computed.
    pub path: Path,
}

/// A value of a declaration, an observation or a record.
///
/// In JSON, references, unknowns and secrets are objects with one key, `$ref`, `$unknown`,
/// `$secret`; a key of a map that begins with `$` is written with one more `$`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Value {
    /// JSON null; in a declaration the same as leaving the field out.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    String(String),
    /// A list; whether order matters is the schema's to say.
    List(Vec<Value>),
    /// A map.
    Map(Map),
    /// An attribute of another resource.
    Ref(Reference),
    /// Known after apply.
    Unknown,
    /// Sensitive: never the text itself.
    Secret(Secret),
}

impl Value {
    /// An empty map.
    pub fn empty_map() -> Self {
        Self::Map(Map::default())
    }

    /// A map from pairs.
    pub fn map<K: Into<String>, V: Into<Self>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Map(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }

    /// Whether it is null.
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Number(number) => number.as_i64(),
            _ => None,
        }
    }

    /// The boolean, if it is one.
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The map, if it is one.
    pub const fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The list, if it is one.
    pub const fn as_list(&self) -> Option<&Vec<Self>> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// The value of a key, if this is a map that has it.
    pub fn field(&self, key: &str) -> Option<&Self> {
        self.as_map().and_then(|map| map.get(key))
    }

    /// The value at a path of keys and positions.
    pub fn get(&self, path: &Path) -> Option<&Self> {
        path.steps().iter().try_fold(self, |value, step| match (step, value) {
            (Step::Key(key) | Step::Element(key), Self::Map(map)) => map.get(key),
            (Step::Index(index), Self::List(list)) => list.get(*index),
            _ => None,
        })
    }

    /// Sets the value at a path of keys, making maps on the way. Positions must exist. Answers
    /// whether it was set.
    pub fn set(&mut self, path: &Path, new: Self) -> bool {
        let mut at = self;
        for step in path.steps() {
            if *at == Self::Null {
                *at = Self::empty_map();
            }
            at = match (step, at) {
                (Step::Key(key) | Step::Element(key), Self::Map(map)) => map.slot(key),
                (Step::Index(index), Self::List(list)) => match list.get_mut(*index) {
                    Some(element) => element,
                    None => return false,
                },
                _ => return false,
            };
        }
        *at = new;
        true
    }

    /// Calls `visit` on every leaf (all but lists and maps, and empty lists and maps) with its path.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&Path, &'a Self)) {
        fn go<'a>(value: &'a Value, path: &Path, visit: &mut dyn FnMut(&Path, &'a Value)) {
            match value {
                Value::List(list) if !list.is_empty() => {
                    for (index, element) in list.iter().enumerate() {
                        go(element, &path.child(Step::Index(index)), visit);
                    }
                }
                Value::Map(map) if !map.is_empty() => {
                    for (key, element) in map {
                        go(element, &path.child_key(key.clone()), visit);
                    }
                }
                leaf => visit(path, leaf),
            }
        }
        go(self, &Path::root(), visit);
    }

    /// This value with every leaf replaced by what `change` makes of it; `None` keeps the leaf. Maps in which nothing
    /// changes stay shared.
    #[must_use]
    pub fn map_leaves(&self, change: &mut dyn FnMut(&Self) -> Option<Self>) -> Self {
        self.changed_leaves(change).unwrap_or_else(|| self.clone())
    }

    fn changed_leaves(&self, change: &mut dyn FnMut(&Self) -> Option<Self>) -> Option<Self> {
        match self {
            Self::List(list) => {
                let mut new = None;
                for (index, element) in list.iter().enumerate() {
                    if let Some(changed) = element.changed_leaves(change) {
                        new.get_or_insert_with(|| list.clone())[index] = changed;
                    }
                }
                new.map(Self::List)
            }
            Self::Map(map) => {
                let mut new = None;
                for (key, element) in map {
                    if let Some(changed) = element.changed_leaves(change) {
                        new.get_or_insert_with(|| map.clone()).insert(key.clone(), changed);
                    }
                }
                new.map(Self::Map)
            }
            leaf => change(leaf),
        }
    }

    /// Whether a leaf satisfies `test`.
    pub fn any_leaf(&self, test: &dyn Fn(&Self) -> bool) -> bool {
        match self {
            Self::List(list) => list.iter().any(|element| element.any_leaf(test)),
            Self::Map(map) => map.values().any(|element| element.any_leaf(test)),
            leaf => test(leaf),
        }
    }

    /// All references within.
    pub fn references(&self) -> Vec<&Reference> {
        let mut found = Vec::new();
        self.walk(&mut |_, leaf| {
            if let Self::Ref(reference) = leaf {
                found.push(reference);
            }
        });
        found
    }

    /// Whether there is a secret within.
    pub fn has_secret(&self) -> bool {
        self.any_leaf(&|leaf| matches!(leaf, Self::Secret(_)))
    }

    /// All secrets within, with their paths. Mostly there is none, and then no path is made.
    pub fn secrets(&self) -> Vec<(Path, &Secret)> {
        let mut found = Vec::new();
        if !self.has_secret() {
            return found;
        }
        self.walk(&mut |path, leaf| {
            if let Self::Secret(secret) = leaf {
                found.push((path.clone(), secret));
            }
        });
        found
    }

    /// Plain JSON: secrets, references and unknowns become null.
    pub fn to_plain_json(&self) -> serde_json::Value {
        match self {
            Self::Null | Self::Ref(_) | Self::Unknown | Self::Secret(_) => serde_json::Value::Null,
            Self::Bool(value) => serde_json::Value::Bool(*value),
            Self::Number(number) => serde_json::Value::Number(number.clone()),
            Self::String(text) => serde_json::Value::String(text.clone()),
            Self::List(list) => serde_json::Value::Array(list.iter().map(Self::to_plain_json).collect()),
            Self::Map(map) => {
                serde_json::Value::Object(map.iter().map(|(key, value)| (key.clone(), value.to_plain_json())).collect())
            }
        }
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(number) => Self::Number(number),
            serde_json::Value::String(text) => Self::String(text),
            serde_json::Value::Array(list) => Self::List(list.into_iter().map(Self::from).collect()),
            serde_json::Value::Object(map) => Self::map(map),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Number(value.into())
    }
}

impl From<u16> for Value {
    fn from(value: u16) -> Self {
        Self::Number(value.into())
    }
}

impl From<Secret> for Value {
    fn from(secret: Secret) -> Self {
        Self::Secret(secret)
    }
}

impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(list: Vec<T>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Self>> From<BTreeMap<String, T>> for Value {
    fn from(map: BTreeMap<String, T>) -> Self {
        Self::map(map)
    }
}

/// Compact JSON-like text for people: secrets as `(sensitive value)`, unknowns as
/// `(known after apply)`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::String(text) => write!(f, "{}", serde_json::Value::String(text.clone())),
            Self::Ref(_) | Self::Unknown => f.write_str("(known after apply)"),
            Self::Secret(_) => f.write_str("(sensitive value)"),
            Self::List(list) => {
                f.write_str("[")?;
                for (index, element) in list.iter().enumerate() {
                    write!(f, "{}{element}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Map(map) => {
                f.write_str("{")?;
                for (index, (key, element)) in map.iter().enumerate() {
                    write!(f, "{}{key}: {element}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("}")
            }
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::List(list) => serializer.collect_seq(list),
            Self::Map(map) => {
                let mut out = serializer.serialize_map(Some(map.len()))?;
                for (key, value) in map {
                    if key.starts_with('$') {
                        out.serialize_entry(&format!("${key}"), value)?;
                    } else {
                        out.serialize_entry(key, value)?;
                    }
                }
                out.end()
            }
            Self::Ref(reference) => one(serializer, "$ref", reference),
            Self::Unknown => one(serializer, "$unknown", &true),
            Self::Secret(secret) => one(serializer, "$secret", secret),
        }
    }
}

fn one<S: Serializer, T: Serialize>(serializer: S, key: &str, value: &T) -> Result<S::Ok, S::Error> {
    let mut out = serializer.serialize_map(Some(1))?;
    out.serialize_entry(key, value)?;
    out.end()
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl<'de> serde::de::Visitor<'de> for Visitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = seq.next_element()? {
            list.push(element);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(key) = access.next_key::<String>()? {
            match key.as_str() {
                "$ref" => return last(&mut access, Value::Ref),
                "$unknown" => return last(&mut access, |_: bool| Value::Unknown),
                "$secret" => return last(&mut access, Value::Secret),
                _ => {
                    let value = access.next_value()?;
                    let key = match key.strip_prefix('$') {
                        Some(rest) if rest.starts_with('$') => rest.to_owned(),
                        Some(_) => return Err(A::Error::custom(format!("unknown marker `{key}`"))),
                        None => key,
                    };
                    map.insert(key, value);
                }
            }
        }
        Ok(Value::Map(map.into()))
    }
}

fn last<'de, A: serde::de::MapAccess<'de>, T: Deserialize<'de>>(
    access: &mut A,
    make: impl FnOnce(T) -> Value,
) -> Result<Value, A::Error> {
    let value = access.next_value()?;
    match access.next_key::<String>()? {
        None => Ok(make(value)),
        Some(key) => Err(A::Error::custom(format!("`{key}` beside a marker"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(value: &Value) {
        let text = serde_json::to_string(value).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), *value, "{text}");
    }

    #[test]
    fn markers_and_dollar_keys_come_back() {
        round_trip(&Value::map([
            ("plain", Value::from("x")),
            ("$ref", Value::from("a key of the user")),
            ("$$x", Value::Null),
            ("ref", Value::Ref(Reference { address: Address::new("c", "k", &["n"]), path: Path::key("id") })),
            ("unknown", Value::Unknown),
            ("secret", Value::Secret(Secret::env("TOKEN"))),
            ("list", Value::from(vec![1_i64, 2])),
        ]));
    }

    #[test]
    fn display_hides() {
        let value = Value::map([("a", Value::Secret(Secret::env("T"))), ("b", Value::Unknown)]);
        assert_eq!(value.to_string(), "{a: (sensitive value), b: (known after apply)}");
    }

    #[test]
    fn set_makes_maps_on_the_way() {
        let mut value = Value::Null;
        assert!(value.set(&Path::parse("a.b").unwrap(), Value::from(1_i64)));
        assert_eq!(value.get(&Path::parse("a.b").unwrap()), Some(&Value::from(1_i64)));
        assert!(!value.set(&Path::parse("a.b.c").unwrap(), Value::Null));
    }
}
