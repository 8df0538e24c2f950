//! A YAML document as a tree in which every value knows its place.

use std::sync::Arc;

use ksail_model::{Diagnostic, Path, Span, Step};

/// A place in one of the texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which text, as an index of [`Texts`].
    pub(crate) text: usize,
    /// Where it begins, and how much of its first line it takes.
    pub(crate) span: Span,
    /// Its last line, for values of several lines.
    pub(crate) last_line: u32,
}

/// A value with its place.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) data: Data,
    pub(crate) place: Place,
    /// The variable whose value this is as a whole.
    pub(crate) env: Option<Arc<str>>,
}

/// What a value is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Data {
    Scalar {
        text: String,
        /// Without quotes, so that `true`, `3` and `null` are not texts.
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) value: Node,
}

/// What a plain scalar means by YAML's core schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    Null,
    Boolean(bool),
    Integer(i64),
    Float,
    Text,
}

/// What a scalar means.
pub(crate) fn meaning(text: &str, plain: bool) -> Meaning {
    if !plain {
        return Meaning::Text;
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
        "true" | "True" | "TRUE" => Meaning::Boolean(true),
        "false" | "False" | "FALSE" => Meaning::Boolean(false),
        ".inf" | "-.inf" | "+.inf" | ".nan" | ".Inf" | ".NaN" => Meaning::Float,
        _ => {
            let integer = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
                (Some(hex), _) => i64::from_str_radix(hex, 16).ok(),
                (_, Some(octal)) => i64::from_str_radix(octal, 8).ok(),
                _ => text.parse().ok(),
            };
            let looks_numeric = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
            match integer {
                Some(number) => Meaning::Integer(number),
                None if looks_numeric && text.parse::<f64>().is_ok() => Meaning::Float,
                None => Meaning::Text,
            }
        }
    }
}

impl Node {
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.data, Data::Scalar { text, plain } if meaning(text, *plain) == Meaning::Null)
    }

    /// The entry of a key, if this is a map that has it.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.data {
            Data::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The node at a path, with the place of the key that leads to it (of the element itself, in lists).
    pub(crate) fn at(&self, path: &Path) -> Option<(&Self, Place)> {
        path.steps().iter().try_fold((self, self.place), |(node, _), step| match (step, &node.data) {
            (Step::Key(key) | Step::Element(key), Data::Map(_)) => {
                node.entry(key).map(|entry| (&entry.value, entry.key_place))
            }
            (Step::Index(index), Data::List(list)) => list.get(*index).map(|element| (element, element.place)),
            _ => None,
        })
    }

    /// What a person would call it: `a text`, `a list`.
    pub(crate) fn type_name(&self) -> &'static str {
        match &self.data {
            Data::List(_) => "a list",
            Data::Map(_) => "a map",
            Data::Scalar { text, plain } => match meaning(text, *plain) {
                Meaning::Null => "nothing",
                Meaning::Boolean(_) => "a boolean",
                Meaning::Integer(_) | Meaning::Float => "a number",
                Meaning::Text => "a text",
            },
        }
    }

    /// Calls `visit` with every leaf (scalars, empty lists and empty maps) and its path.
    pub(crate) fn leaves(&self, path: &Path, visit: &mut dyn FnMut(&Path, &Self)) {
        match &self.data {
            Data::List(list) if !list.is_empty() => {
                for (index, element) in list.iter().enumerate() {
                    element.leaves(&path.child(Step::Index(index)), visit);
                }
            }
            Data::Map(entries) if !entries.is_empty() => {
                for entry in entries {
                    entry.value.leaves(&path.child_key(entry.key.clone()), visit);
                }
            }
            _ => visit(path, self),
        }
    }

    /// The tree as JSON. Numbers and booleans by what plain scalars mean.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.data {
            Data::List(list) => Json::Array(list.iter().map(Self::to_json).collect()),
            Data::Map(entries) => {
                Json::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect())
            }
            Data::Scalar { text, plain } => match meaning(text, *plain) {
                Meaning::Null => Json::Null,
                Meaning::Boolean(value) => Json::Bool(value),
                Meaning::Integer(number) => Json::from(number),
                Meaning::Float | Meaning::Text => Json::String(text.clone()),
            },
        }
    }
}

/// The part that a text plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    File,
    Overlay,
    Flag,
}

/// One of the texts that make up a configuration.
#[derive(Clone)]
pub(crate) struct Text {
    pub(crate) name: Arc<str>,
    pub(crate) text: String,
    pub(crate) role: Role,
}

/// All texts; a [`Place`] names one by its position.
#[derive(Clone, Default)]
pub(crate) struct Texts(pub(crate) Vec<Text>);

impl Texts {
    pub(crate) fn add(&mut self, name: &str, text: &str, role: Role) -> usize {
        self.0.push(Text { name: name.into(), text: text.to_owned(), role });
        self.0.len() - 1
    }

    /// The diagnostic with one more place.
    pub(crate) fn label(&self, diagnostic: Diagnostic, place: Place, text: impl Into<String>) -> Diagnostic {
        match self.0.get(place.text) {
            Some(source) => diagnostic.at(Arc::clone(&source.name), place.span, text),
            None => diagnostic,
        }
    }
}
