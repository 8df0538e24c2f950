//! The JSON Schema of the file, and the same as a typed tree that the checks and the reference page walk.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::format::Config;

/// What a credential's place takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CredentialPlace {
    /// A user's name: text or reference.
    Username,
    /// A password or token: references only.
    Secret,
    /// A registry or URL whose userinfo holds credentials.
    Userinfo,
}

/// What a value must be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// A map with these keys only.
    Map(Vec<Field>),
    /// A map with any keys.
    Table(Box<Shape>),
    /// A list.
    List(Box<Shape>),
    /// A list, or one element of it.
    OneOrMany(Box<Shape>),
    /// A map with these keys only, or the text of its only required one.
    TextOrMap(Vec<Field>),
    /// A text.
    Text { pattern: Option<Pattern>, credential: Option<CredentialPlace> },
    /// One of these words; `switch` words are also met as booleans.
    Word { words: Vec<String>, switch: bool },
    /// An integer.
    Integer { min: Option<i64>, max: Option<i64> },
    /// A boolean.
    Boolean,
    /// A map that the format says no more of.
    Open,
    /// What the types cannot be; a test sees to it.
    Unknown,
}

/// The form of a text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pattern {
    /// A regular expression.
    pub(crate) regex: String,
    /// The same in words.
    pub(crate) form: String,
}

/// A key of a map.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) required: bool,
    pub(crate) shape: Shape,
    pub(crate) description: String,
    /// The default as the reference page shows it.
    pub(crate) default: Option<String>,
}

/// The shape of the file.
pub(crate) static ROOT: LazyLock<Shape> = LazyLock::new(|| shape(&raw_schema()));

/// The JSON Schema of the file (draft 7, as editors know it best), made from the types.
pub fn json_schema() -> Value {
    let mut schema = raw_schema();
    publish(&mut schema);
    if let Value::Object(root) = &mut schema {
        root.insert("title".into(), "ksail.yaml".into());
        root.insert("required".into(), serde_json::json!(["apiVersion", "kind"]));
    }
    schema
}

fn raw_schema() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Config>().to_value()
}

/// Brings a schema into its published form: our notes become defaults or go, and formats that only Rust knows go.
fn publish(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.remove("default");
            if let Some(default) = map.remove("x-ksail-default") {
                map.insert("default".into(), default);
            }
            map.remove("x-ksail-default-note");
            map.remove("x-ksail-credential");
            map.remove("x-ksail-form");
            if map.get("format").and_then(Value::as_str).is_some_and(|format| format.contains("int")) {
                map.remove("format");
            }
            for (key, value) in map.iter_mut() {
                match (key.as_str(), value) {
                    ("enum" | "required" | "default" | "type", _) => {}
                    // Keys of `properties` are names of fields, not keywords.
                    ("properties", Value::Object(fields)) => fields.values_mut().for_each(publish),
                    (_, value) => publish(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(publish),
        _ => {}
    }
}

fn shape(schema: &Value) -> Shape {
    let Some(map) = schema.as_object() else { return Shape::Unknown };
    if let Some(Value::Array(branches)) = map.get("anyOf") {
        return any_of(branches);
    }
    if let Some(Value::Array(words)) = map.get("enum") {
        let switch = words.iter().any(Value::is_boolean);
        return Shape::Word { words: words.iter().filter_map(Value::as_str).map(str::to_owned).collect(), switch };
    }
    match type_of(map) {
        Some("object") => match (map.get("properties"), map.get("additionalProperties")) {
            (Some(Value::Object(fields)), _) => Shape::Map(fields_of(map, fields)),
            (_, Some(values @ Value::Object(_))) => Shape::Table(Box::new(shape(values))),
            (_, Some(Value::Bool(true))) => Shape::Open,
            _ => Shape::Unknown,
        },
        Some("array") => Shape::List(Box::new(map.get("items").map_or(Shape::Unknown, shape))),
        Some("string") => Shape::Text {
            pattern: map.get("pattern").and_then(Value::as_str).map(|regex| Pattern {
                regex: regex.to_owned(),
                form: map.get("x-ksail-form").and_then(Value::as_str).unwrap_or_default().to_owned(),
            }),
            credential: match map.get("x-ksail-credential").and_then(Value::as_str) {
                Some("username") => Some(CredentialPlace::Username),
                Some("secret") => Some(CredentialPlace::Secret),
                Some("userinfo") => Some(CredentialPlace::Userinfo),
                _ => None,
            },
        },
        Some("integer") => Shape::Integer {
            min: map.get("minimum").and_then(Value::as_i64),
            max: map.get("maximum").and_then(Value::as_i64),
        },
        Some("boolean") => Shape::Boolean,
        _ => Shape::Unknown,
    }
}

const PLAIN_TEXT: Shape = Shape::Text { pattern: None, credential: None };

/// The only field that is required, if it is a text.
pub(crate) fn required(fields: &[Field]) -> Option<&Field> {
    let mut required = fields.iter().filter(|field| field.required);
    match (required.next(), required.next()) {
        (Some(only), None) if matches!(only.shape, Shape::Text { .. }) => Some(only),
        _ => None,
    }
}

/// Nested alternatives, apart from null: one element or many; a map or the text of its required field.
fn any_of(branches: &[Value]) -> Shape {
    let mut shapes: Vec<Shape> = branches
        .iter()
        .filter(|branch| branch.get("type").and_then(Value::as_str) != Some("null"))
        .map(shape)
        .collect();
    match (shapes.len(), shapes.pop()) {
        (1, Some(only)) => only,
        (2, Some(Shape::List(element))) if shapes[0] == *element => Shape::OneOrMany(element),
        (2, Some(Shape::Map(fields))) if shapes[0] == PLAIN_TEXT && required(&fields).is_some() => {
            Shape::TextOrMap(fields)
        }
        _ => Shape::Unknown,
    }
}

/// The type apart from null.
fn type_of(map: &Map<String, Value>) -> Option<&str> {
    match map.get("type")? {
        Value::String(one) => Some(one),
        Value::Array(several) => several.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        _ => None,
    }
}

fn fields_of(map: &Map<String, Value>, fields: &Map<String, Value>) -> Vec<Field> {
    let required: Vec<&str> =
        map.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    fields
        .iter()
        .map(|(name, schema)| Field {
            name: name.clone(),
            required: required.contains(&name.as_str()),
            shape: shape(schema),
            description: schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned(),
            default: match (schema.get("x-ksail-default"), schema.get("x-ksail-default-note")) {
                (Some(Value::String(text)), _) => Some(format!("`{text}`")),
                (Some(other), _) => Some(format!("`{other}`")),
                (_, Some(note)) => note.as_str().map(str::to_owned),
                _ => None,
            },
        })
        .collect()
}

impl Shape {
    /// The field of a map.
    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        match self {
            Self::Map(fields) | Self::TextOrMap(fields) => fields.iter().find(|field| field.name == name),
            _ => None,
        }
    }

    /// What a person would call it.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Map(_) | Self::Table(_) | Self::Open => "a map",
            Self::List(_) => "a list",
            Self::OneOrMany(_) => "a word or a list of words",
            Self::TextOrMap(_) => "a text or a map",
            Self::Text { .. } => "a text",
            Self::Word { switch: true, .. } => "a word or a boolean",
            Self::Word { .. } => "a word",
            Self::Integer { .. } => "an integer",
            Self::Boolean => "a boolean",
            Self::Unknown => "something else",
        }
    }

    /// Calls `visit` for every field below, with its dotted path (`[]` for elements, `<key>` for values of a table).
    pub(crate) fn walk<'a>(&'a self, path: &str, visit: &mut dyn FnMut(&str, &'a Field)) {
        match self {
            Self::Map(fields) | Self::TextOrMap(fields) => {
                for field in fields {
                    let below = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
                    visit(&below, field);
                    field.shape.walk(&below, visit);
                }
            }
            Self::List(element) | Self::OneOrMany(element) => element.walk(&format!("{path}[]"), visit),
            Self::Table(values) => values.walk(&format!("{path}.<key>"), visit),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_the_format_has_a_shape() {
        let mut seen = 0;
        ROOT.walk("", &mut |path, field| {
            seen += 1;
            let inner = match &field.shape {
                Shape::List(inner) | Shape::OneOrMany(inner) | Shape::Table(inner) => inner,
                other => other,
            };
            assert_ne!(*inner, Shape::Unknown, "{path}");
            assert!(!field.description.is_empty(), "{path} has no description");
            if let Shape::Text { pattern: Some(pattern), .. } = inner {
                assert!(regex_lite::Regex::new(&pattern.regex).is_ok(), "{path}: {pattern:?}");
                assert!(!pattern.form.is_empty(), "{path}");
            }
        });
        assert!(seen > 150, "{seen}");
    }
}
