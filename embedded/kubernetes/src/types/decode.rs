//! What a client sent → what the server keeps: unknown fields are dropped and reported, values of the wrong type refused,
//! quantities, times and zero values written as the server writes them.

use ksail_kubernetes_schema::{Format, Object, Shape, TypeId, Types, Zero};
use serde_json::{Map, Value};

use crate::quantity;

/// What decoding found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Paths of fields that the type does not have.
    pub(crate) unknown: Vec<String>,
    /// The first value that cannot be what it is given for.
    pub(crate) wrong: Option<String>,
}

/// What is decoded, which some rules differ by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// An object of a built-in kind.
    Builtin,
    /// A custom object that a client sent.
    Custom,
    /// A custom object that an apply made: nulls that it may not have are kept, so that they are refused as a real server does.
    CustomApplied,
}

/// Decodes an object.
pub(crate) fn decode(types: &Types, of: TypeId, value: &mut Value, decoded: Decoded) -> Found {
    let custom = decoded != Decoded::Builtin;
    let mut walk = Walk { types, found: Found::default(), custom, keeps_nulls: decoded == Decoded::CustomApplied };
    walk.value(of, value, &mut String::new(), "");
    walk.found
}

struct Walk<'a> {
    types: &'a Types,
    found: Found,
    custom: bool,
    keeps_nulls: bool,
}

fn without_indices(path: &str) -> String {
    let mut out = String::new();
    let mut depth = 0;
    for of in path.chars() {
        match of {
            '[' => depth += 1,
            ']' => depth -= 1,
            of if depth == 0 => out.push(of),
            _ => {}
        }
    }
    out
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Runs `inner` with a longer path.
fn at(path: &mut String, more: &str, index: Option<usize>, inner: impl FnOnce(&mut String)) {
    let length = path.len();
    match index {
        Some(index) => path.push_str(&format!("[{index}]")),
        None => {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(more);
        }
    }
    inner(path);
    path.truncate(length);
}

impl Walk<'_> {
    fn wrong(&mut self, value: &Value, path: &str, owner: &str, wanted: &str) {
        if self.found.wrong.is_some() {
            return;
        }
        let kind = owner.rsplit('.').next().unwrap_or_default();
        // The decoder of a real server names no indices.
        let path = without_indices(path);
        let message =
            format!("json: cannot unmarshal {} into Go struct field {kind}.{path} of type {wanted}", go_kind(value));
        self.found.wrong = Some(message);
    }

    fn value(&mut self, of: TypeId, value: &mut Value, path: &mut String, owner: &str) {
        if self.custom && value.is_null() {
            return;
        }
        let types = self.types;
        match types.shape(of) {
            Shape::Any => {}
            // A custom resource's values are judged by its schema, which names all that is wrong.
            Shape::Boolean if !value.is_boolean() && !self.custom => self.wrong(value, path, owner, "bool"),
            Shape::Integer { small } if !self.custom && value.as_i64().is_none() && value.as_u64().is_none() => {
                match value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15) {
                    #[expect(clippy::cast_possible_truncation, reason = "the number is whole and small enough")]
                    Some(whole) => *value = Value::from(whole as i64),
                    None => self.wrong(value, path, owner, if *small { "int32" } else { "int64" }),
                }
            }
            Shape::Number if !value.is_number() && !self.custom => self.wrong(value, path, owner, "float64"),
            Shape::Text(format) => self.text(*format, value, path, owner),
            Shape::Quantity => {
                let text = match &*value {
                    Value::String(text) => Some(text.trim().to_owned()),
                    Value::Number(number) => Some(number.to_string()),
                    _ => None,
                };
                match text.as_deref().and_then(quantity::canonical) {
                    Some(canonical) => *value = Value::String(canonical),
                    None if self.found.wrong.is_none() => {
                        self.found.wrong = Some(
                            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
                                .to_owned(),
                        );
                    }
                    None => {}
                }
            }
            Shape::IntOrString if !(self.custom || value.is_string() || value.is_i64() || value.is_u64()) => {
                self.wrong(value, path, owner, "intstr.IntOrString");
            }
            Shape::List { items, .. } => match value {
                Value::Array(list) => {
                    for (index, item) in list.iter_mut().enumerate() {
                        at(path, "", Some(index), |path| self.value(*items, item, path, owner));
                    }
                }
                other if !self.custom => self.wrong(other, path, owner, "[]"),
                _ => {}
            },
            Shape::Map { values, .. } => match value {
                Value::Object(map) => {
                    for (key, item) in map.iter_mut() {
                        if item.is_null() && matches!(types.shape(*values), Shape::Text(_)) && !self.custom {
                            *item = Value::String(String::new());
                        }
                        // Keys stand in brackets, which the decoder's own messages leave out.
                        let length = path.len();
                        path.push_str(&format!("[{key}]"));
                        self.value(*values, item, path, owner);
                        path.truncate(length);
                    }
                }
                other if !self.custom => self.wrong(other, path, owner, "map[string]string"),
                _ => {}
            },
            Shape::Object(object) => match value {
                Value::Object(map) => self.object(object, map, path),
                other if !self.custom => {
                    let mut parts = object.name.rsplitn(3, '.');
                    let (name, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                    self.wrong(other, path, owner, &format!("{version}.{name}"));
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn text(&mut self, format: Format, value: &mut Value, path: &str, owner: &str) {
        if self.custom && format == Format::Plain {
            return;
        }
        let Value::String(text) = value else { return self.wrong(value, path, owner, "string") };
        match format {
            Format::Plain => {}
            Format::Bytes => {
                use base64::Engine as _;
                let engine = base64::engine::general_purpose::STANDARD;
                let plain: String = text.chars().filter(|of| !matches!(of, '\n' | '\r')).collect();
                match engine.decode(&plain) {
                    Ok(_) if plain == *text => {}
                    Ok(_) => *text = plain,
                    Err(_) if self.found.wrong.is_none() => {
                        self.found.wrong = Some("illegal base64 data at input byte 0".to_owned());
                    }
                    Err(_) => {}
                }
            }
            Format::Time | Format::MicroTime => match text.parse::<jiff::Timestamp>() {
                Ok(time) => {
                    let shape = if format == Format::Time { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S.%6fZ" };
                    *text = time.strftime(shape).to_string();
                }
                Err(_) if self.found.wrong.is_none() => {
                    self.found.wrong = Some(format!(
                        "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""
                    ));
                }
                Err(_) => {}
            },
        }
    }

    fn object(&mut self, object: &Object, map: &mut Map<String, Value>, path: &mut String) {
        let unknown: Vec<String> = if object.open {
            Vec::new()
        } else {
            map.keys().filter(|key| !object.fields.contains_key(key.as_str())).cloned().collect()
        };
        for key in unknown {
            map.remove(&key);
            at(path, &key, None, |path| self.found.unknown.push(path.clone()));
        }
        let mut gone = Vec::new();
        for (key, item) in map.iter_mut() {
            let Some(field) = object.fields.get(key.as_str()) else { continue };
            if item.is_null() {
                // Metadata is read into a type of its own, as that of built-in kinds.
                let in_metadata = path == "metadata" || path.starts_with("metadata.");
                let keeps = self.keeps_nulls && !in_metadata || self.custom && self.types.node(field.of).nullable;
                if !keeps {
                    gone.push(key.clone());
                }
                continue;
            }
            at(path, key, None, |path| self.value(field.of, item, path, &object.name));
            if field.zero == Zero::Omitted && is_zero(item) {
                gone.push(key.clone());
            }
        }
        for key in gone {
            map.remove(&key);
        }
        for (name, field) in &object.fields {
            if field.zero == Zero::Written {
                self.write_zero(map, name, field.of);
            }
        }
    }

    /// Adds what is always written, and writes empty lists and maps of that sort as nothing.
    fn write_zero(&mut self, map: &mut Map<String, Value>, name: &str, of: TypeId) {
        let types = self.types;
        match map.get(name) {
            None => {
                let zero = match types.shape(of) {
                    Shape::Boolean => Value::Bool(false),
                    Shape::Integer { .. } | Shape::Number | Shape::IntOrString => Value::from(0),
                    Shape::Text(Format::Plain) => Value::String(String::new()),
                    Shape::Quantity => Value::String("0".to_owned()),
                    Shape::Object(inner) => {
                        let mut made = Map::new();
                        self.object(inner, &mut made, &mut String::new());
                        Value::Object(made)
                    }
                    _ => Value::Null,
                };
                map.insert(name.to_owned(), zero);
            }
            Some(Value::Array(list)) if list.is_empty() => {
                map.insert(name.to_owned(), Value::Null);
            }
            Some(_) => {}
        }
    }
}

/// Whether a value is the same as nothing in Go.
pub(crate) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(yes) => !yes,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
