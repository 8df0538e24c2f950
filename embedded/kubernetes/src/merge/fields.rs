//! Sets of fields, and their form in `managedFields` (FieldsV1).

use std::collections::BTreeMap;

use ksail_kubernetes_schema::{ListMerge, Shape, TypeId, Types};
use serde_json::{Map, Value};

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// A field, or a key of a map.
    Field(Box<str>),
    /// The item of a list with these keys, as JSON.
    Key(Box<str>),
    /// The item of a set, as JSON.
    Value(Box<str>),
    /// The item at an index.
    Index(usize),
}

impl Step {
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Self::Field(rest.into())),
            // Keys are written in one form, so that they can be compared as text.
            "k" => Some(Self::Key(serde_json::from_str::<Value>(rest).ok()?.to_string().into())),
            "v" => Some(Self::Value(serde_json::from_str::<Value>(rest).ok()?.to_string().into())),
            "i" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(key) => format!("k:{key}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }
}

impl Step {
    /// Adds the step to a path, as messages show it.
    fn write_path(&self, path: &mut String) {
        match self {
            Self::Field(name) => {
                path.push('.');
                path.push_str(name);
            }
            Self::Key(key) => {
                let keys: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                let shown: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                path.push_str(&format!("[{}]", shown.join(",")));
            }
            Self::Value(value) => path.push_str(&format!("[={value}]")),
            Self::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
}

/// A set of fields: itself a member or not, and what is below.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) own: bool,
    pub(crate) below: BTreeMap<Step, Set>,
}

impl Set {
    /// A member without anything below.
    pub(crate) fn leaf() -> Self {
        Self { own: true, below: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.own && self.below.is_empty()
    }

    /// Puts a set below a step, unless it is empty.
    pub(crate) fn put(&mut self, step: Step, set: Self) {
        if !set.is_empty() {
            self.below.insert(step, set);
        }
    }

    pub(crate) fn union(&mut self, other: &Self) {
        self.own |= other.own;
        for (step, set) in &other.below {
            match self.below.get_mut(step) {
                Some(own) => own.union(set),
                None => {
                    self.below.insert(step.clone(), set.clone());
                }
            }
        }
    }

    #[must_use]
    pub(crate) fn difference(&self, other: &Self) -> Self {
        let mut left = Self { own: self.own && !other.own, below: BTreeMap::new() };
        for (step, set) in &self.below {
            match other.below.get(step) {
                Some(other) => left.put(step.clone(), set.difference(other)),
                None => {
                    left.below.insert(step.clone(), set.clone());
                }
            }
        }
        left
    }

    #[must_use]
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self { own: self.own && other.own, below: BTreeMap::new() };
        for (step, set) in &self.below {
            if let Some(other) = other.below.get(step) {
                both.put(step.clone(), set.intersection(other));
            }
        }
        both
    }

    /// Reads FieldsV1.
    pub(crate) fn parse(fields: &Value) -> Option<Self> {
        let map = fields.as_object()?;
        let mut set = Self::default();
        for (key, value) in map {
            if key == "." {
                set.own = true;
            } else {
                let mut below = Self::parse(value)?;
                if value.as_object().is_some_and(Map::is_empty) {
                    below.own = true;
                }
                set.put(Step::parse(key)?, below);
            }
        }
        Some(set)
    }

    /// Writes FieldsV1.
    pub(crate) fn json(&self) -> Value {
        let mut map = Map::new();
        if self.own && !self.below.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (step, set) in &self.below {
            map.insert(step.text(), set.json());
        }
        Value::Object(map)
    }

    /// The members as paths, as messages show them.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect(&mut String::new(), &mut paths);
        paths
    }

    /// Members of a place come before those below it.
    fn collect(&self, path: &mut String, paths: &mut Vec<String>) {
        for (step, set) in &self.below {
            if set.own {
                let length = path.len();
                step.write_path(path);
                paths.push(path.clone());
                path.truncate(length);
            }
        }
        for (step, set) in &self.below {
            let length = path.len();
            step.write_path(path);
            set.collect(path, paths);
            path.truncate(length);
        }
    }

    /// Makes the named fields above members too, as removing by a set wants it.
    #[must_use]
    pub(crate) fn with_named_fields(&self, types: &Types, of: TypeId) -> Self {
        self.with_named(types, of, self.own)
    }

    fn with_named(&self, types: &Types, of: TypeId, own: bool) -> Self {
        let mut set = Self { own, below: BTreeMap::new() };
        for (step, below) in &self.below {
            let (inner, named) = match (step, types.shape(of)) {
                (Step::Field(name), Shape::Object(object)) => {
                    let field = object.fields.get(name);
                    (field.map_or(TypeId::ANY, |field| field.of), field.is_some())
                }
                (_, Shape::Map { values, .. }) => (*values, false),
                (_, Shape::List { items, .. }) => (*items, false),
                _ => (TypeId::ANY, false),
            };
            set.below.insert(step.clone(), below.with_named(types, inner, below.own || named));
        }
        set
    }
}

/// The step that leads to an item of a list; `None` if the list is atomic, or the item lacks its keys.
pub(crate) fn item_step(types: &Types, items: TypeId, merge: &ListMerge, item: &Value) -> Option<Step> {
    match merge {
        ListMerge::Atomic => None,
        ListMerge::Set => Some(Step::Value(item.to_string().into())),
        ListMerge::Map(keys) => {
            let map = item.as_object()?;
            let mut found = Map::new();
            for key in keys {
                let default = || types.object(items)?.fields.get(key)?.default.clone();
                let value = map.get(&**key).filter(|value| !value.is_null()).cloned().or_else(default)?;
                found.insert(key.to_string(), value);
            }
            Some(Step::Key(Value::Object(found).to_string().into()))
        }
    }
}
