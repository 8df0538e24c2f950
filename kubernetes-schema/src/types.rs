//! Types: what a value may be, and how it is merged.

use std::collections::HashMap;

use serde_json::Value;

use crate::checks::Checks;

/// A type within its [`Types`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TypeId(pub(crate) u32);

impl TypeId {
    /// The type of which nothing is known: any value is allowed.
    pub const ANY: Self = Self(0);
}

/// A type: its shape, and what a value must meet beside it.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// What a value looks like.
    pub shape: Shape,
    /// Whether `null` is a value of its own (custom resources only); elsewhere it is the same as nothing.
    pub nullable: bool,
    /// The values that are allowed; empty if any is.
    pub allowed: Vec<Value>,
    /// What a custom resource's schema asks of values.
    pub checks: Option<Box<Checks>>,
}

/// What a value looks like.
#[derive(Debug, Clone, Default)]
pub enum Shape {
    /// Anything. Maps in it merge by key, lists are replaced.
    #[default]
    Any,
    /// `true` or `false`.
    Boolean,
    /// A whole number of 32 or 64 bits.
    Integer {
        /// Whether it must fit 32 bits.
        small: bool,
    },
    /// A number.
    Number,
    /// A string.
    Text(Format),
    /// A quantity such as `100m`: a string, or a number.
    Quantity,
    /// A whole number or a string.
    IntOrString,
    /// A list.
    List {
        /// The type of its items.
        items: TypeId,
        /// How server-side apply merges it.
        merge: ListMerge,
    },
    /// A map of any keys.
    Map {
        /// The type of its values.
        values: TypeId,
        /// Whether server-side apply replaces it as a whole.
        atomic: bool,
    },
    /// Known fields.
    Object(Box<Object>),
}

/// The format of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// No particular one.
    #[default]
    Plain,
    /// Base64.
    Bytes,
    /// A time in whole seconds.
    Time,
    /// A time in microseconds.
    MicroTime,
}

/// How server-side apply merges a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListMerge {
    /// It is replaced as a whole.
    Atomic,
    /// Its items are scalars, each at most once.
    Set,
    /// Its items are told apart by these fields.
    Map(Box<[Box<str>]>),
}

/// Fields that are known.
#[derive(Debug, Clone, Default)]
pub struct Object {
    /// The fields by name.
    pub fields: HashMap<Box<str>, Field>,
    /// The fields that must be there.
    pub required: Vec<Box<str>>,
    /// Whether server-side apply replaces it as a whole.
    pub atomic: bool,
    /// Whether fields that are not known are kept.
    pub open: bool,
    /// Whether it is an object of its own, with `apiVersion`, `kind` and `metadata`.
    pub embedded: bool,
    /// The fields by their numbers in protobuf.
    pub numbers: Numbers,
    /// The OpenAPI name, such as `io.k8s.api.core.v1.Container`; empty for types without one.
    pub name: Box<str>,
}

/// Fields by their numbers in protobuf.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Numbers(pub HashMap<u32, Numbered>);

/// What a number in protobuf stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Numbered {
    /// A field.
    Field(Box<str>),
    /// A message whose fields JSON writes into its owner.
    Inline(Numbers),
}

impl TryFrom<Value> for Numbers {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let Value::Object(map) = value else { return Err("numbers are a map".to_owned()) };
        let read = |(number, value): (String, Value)| {
            let number = number.parse::<u32>().map_err(|error| format!("{number}: {error}"))?;
            match value {
                Value::String(name) => Ok((number, Numbered::Field(name.into()))),
                inner => Ok((number, Numbered::Inline(inner.try_into()?))),
            }
        };
        map.into_iter().map(read).collect::<Result<_, String>>().map(Self)
    }
}

/// A field.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its type.
    pub of: TypeId,
    /// What it is when it is not given.
    pub default: Option<Value>,
    /// What becomes of a zero value when the server writes it.
    pub zero: Zero,
    /// How a strategic merge patch merges it.
    pub patch: PatchMerge,
}

/// What becomes of a zero value (`""`, `0`, `false`, `[]`, `{}`) when a server writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Zero {
    /// It is told apart from nothing, and kept.
    #[default]
    Kept,
    /// It is the same as nothing, and left out.
    Omitted,
    /// It is the same as nothing, and always written: a list or map as `null`.
    Written,
}

/// How a strategic merge patch merges a field.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PatchMerge {
    /// Whether a list is merged rather than replaced.
    pub merge: bool,
    /// Whether only the keys that the patch names remain (`retainKeys`).
    pub retain_keys: bool,
    /// Whether an object is replaced.
    pub replace: bool,
    /// The field by which items are told apart.
    pub key: Option<Box<str>>,
}

/// Types that refer to each other.
#[derive(Debug, Clone)]
pub struct Types {
    pub(crate) nodes: Vec<Node>,
    pub(crate) names: HashMap<Box<str>, TypeId>,
}

impl Default for Types {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], names: HashMap::new() }
    }
}

impl Types {
    /// The type behind an id, which must be of these types.
    #[must_use]
    pub fn node(&self, id: TypeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The shape of a type.
    #[must_use]
    pub fn shape(&self, id: TypeId) -> &Shape {
        &self.node(id).shape
    }

    /// A type by its OpenAPI name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<TypeId> {
        self.names.get(name).copied()
    }

    /// The fields of a type that has known ones.
    #[must_use]
    pub fn object(&self, id: TypeId) -> Option<&Object> {
        match self.shape(id) {
            Shape::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The type of a field: a known one's, or that of the values of a map.
    #[must_use]
    pub fn field(&self, id: TypeId, name: &str) -> TypeId {
        match self.shape(id) {
            Shape::Object(object) => object.fields.get(name).map_or(TypeId::ANY, |field| field.of),
            Shape::Map { values, .. } => *values,
            _ => TypeId::ANY,
        }
    }
}
