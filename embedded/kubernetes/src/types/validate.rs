//! What is wrong with a value: what its schema asks, for built-in and custom kinds.

use ksail_kubernetes_schema::{Checks, ListMerge, Node, Object, Shape, TypeId, Types};
use serde_json::Value;

use super::rules;
use crate::merge::fields::item_step;
use crate::status::Cause;

/// The errors of one object that are collected at most.
const MAX_CAUSES: usize = 100;

pub(super) fn field(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Checks a built-in object by its schema: what is required, and what is allowed.
pub(crate) fn builtin(types: &Types, of: TypeId, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let node = types.node(of);
    if !node.allowed.is_empty() && !node.allowed.contains(value) && *value != "" {
        causes.push(Cause::not_supported(path, value, &node.allowed));
    }
    match (&node.shape, value) {
        (Shape::List { items, merge }, Value::Array(list)) => {
            for (index, item) in list.iter().enumerate() {
                builtin(types, *items, item, &format!("{path}[{index}]"), causes);
            }
            duplicates(types, *items, merge, list, path, causes);
        }
        (Shape::Map { values, .. }, Value::Object(map)) => {
            for (key, item) in map {
                builtin(types, *values, item, &format!("{path}[{key}]"), causes);
            }
        }
        (Shape::Object(object), Value::Object(map)) => {
            for name in &object.required {
                // What may be empty has checks of its own where it may not.
                let missing = match map.get(&**name) {
                    None => true,
                    Some(Value::String(text)) => text.is_empty() && may_not_be_empty(object, name),
                    Some(Value::Number(number)) => &**name == "containerPort" && number.as_i64() == Some(0),
                    _ => false,
                };
                if missing {
                    causes.push(Cause::required(field(path, name), ""));
                }
            }
            for (name, item) in map {
                if let Some(known) = object.fields.get(name.as_str())
                    && !(path.is_empty() && matches!(name.as_str(), "status" | "metadata"))
                {
                    builtin(types, known.of, item, &field(path, name), causes);
                }
            }
        }
        _ => {}
    }
}

/// Whether a required text of a type must say something.
fn may_not_be_empty(object: &Object, name: &str) -> bool {
    !matches!(name, "apiGroup" | "audience" | "key" | "value") && !object.name.ends_with("ResourceAttributes")
}

fn duplicates(types: &Types, items: TypeId, merge: &ListMerge, list: &[Value], path: &str, causes: &mut Vec<Cause>) {
    if *merge == ListMerge::Atomic {
        return;
    }
    let mut seen = std::collections::HashSet::new();
    for (index, item) in list.iter().enumerate() {
        let Some(step) = item_step(types, items, merge, item) else { continue };
        if !seen.insert(step) {
            let keys = match merge {
                ListMerge::Map(keys) => keys.as_ref(),
                _ => &[],
            };
            // Ports may repeat with a name of their own; a real server only warns of them.
            if keys.first().is_some_and(|key| &**key == "containerPort" || &**key == "port") {
                continue;
            }
            match keys {
                [key] => causes.push(Cause::duplicate(format!("{path}[{index}].{key}"), &item[&**key])),
                _ => causes.push(Cause::duplicate(format!("{path}[{index}]"), item)),
            }
        }
    }
}

/// Checks a custom object by its schema.
pub(crate) fn custom(types: &Types, of: TypeId, value: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    custom_at(types, of, value, "", &mut causes);
    // Rules are asked of values that are what they take them for.
    let blocking = ["FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTypeInvalid"];
    if causes.iter().any(|cause| blocking.contains(&cause.reason)) {
        if rules::any(types, of, value) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            causes.push(Cause::invalid("<nil>", &Value::Null, why));
        }
    } else {
        rules::check(types, of, value, old, "", &mut causes);
    }
    causes.truncate(MAX_CAUSES);
    causes
}

/// Checks a value within a custom object by its schema, without rules.
pub(crate) fn custom_value(types: &Types, of: TypeId, value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    custom_at(types, of, value, "", &mut causes);
    causes
}

fn custom_at(types: &Types, of: TypeId, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let node = types.node(of);
    if value.is_null() {
        // What is of no type may be null too.
        if !node.nullable && !path.is_empty() && !matches!(node.shape, Shape::Any) {
            wrong_type(&node.shape, value, path, causes);
        }
        return;
    }
    if !fits(&node.shape, value) {
        wrong_type(&node.shape, value, path, causes);
        return;
    }
    if !node.allowed.is_empty() && !node.allowed.contains(value) {
        causes.push(Cause::not_supported(path, value, &node.allowed));
    }
    match (&node.shape, value) {
        (Shape::List { items, merge }, Value::Array(list)) => {
            for (index, item) in list.iter().enumerate() {
                custom_at(types, *items, item, &format!("{path}[{index}]"), causes);
            }
            let mut seen = std::collections::HashSet::new();
            for (index, item) in list.iter().enumerate() {
                let Some(step) = item_step(types, *items, merge, item) else { continue };
                let shown = match merge {
                    ListMerge::Map(keys) => keys.iter().map(|key| (key.to_string(), item[&**key].clone())).collect(),
                    _ => item.clone(),
                };
                if !seen.insert(step) {
                    causes.push(Cause::duplicate(format!("{path}[{index}]"), &shown));
                }
            }
        }
        (Shape::Map { values, .. }, Value::Object(map)) => {
            for (key, item) in map {
                custom_at(types, *values, item, &field(path, key), causes);
            }
        }
        (Shape::Object(object), Value::Object(map)) => {
            for name in object.required.iter().filter(|name| !map.contains_key(&***name)) {
                causes.push(Cause::required(field(path, name), ""));
            }
            for (name, item) in map {
                if let Some(known) = object.fields.get(name.as_str())
                    && !(path.is_empty() && name == "metadata")
                {
                    custom_at(types, known.of, item, &field(path, name), causes);
                }
            }
        }
        _ => {}
    }
    if let Some(checks) = &node.checks {
        limits(checks, node, value, path, causes);
    }
}

fn fits(shape: &Shape, value: &Value) -> bool {
    match shape {
        Shape::Any => true,
        Shape::Boolean => value.is_boolean(),
        Shape::Integer { .. } => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        Shape::Number => value.is_number(),
        Shape::Text(_) => value.is_string(),
        Shape::Quantity | Shape::IntOrString => value.is_string() || value.is_number(),
        Shape::List { .. } => value.is_array(),
        Shape::Map { .. } | Shape::Object(_) => value.is_object(),
    }
}

fn wrong_type(shape: &Shape, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let wanted = match shape {
        Shape::Boolean => "boolean",
        Shape::Integer { .. } => "integer",
        Shape::Number => "number",
        Shape::Text(_) => "string",
        Shape::Quantity | Shape::IntOrString => "integer,string",
        Shape::List { .. } => "array",
        Shape::Any | Shape::Map { .. } | Shape::Object(_) => "object",
    };
    let got = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let shown = Value::from(got);
    causes.push(Cause::wrong_type(path, &shown, &format!("{path} in body must be of type {wanted}: {shown}")));
}

fn limits(checks: &Checks, node: &Node, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut say = |detail: String| causes.push(Cause::invalid(path, value, &format!("{path} in body {detail}")));
    if let Some(number) = value.as_f64() {
        if let Some((least, excluded)) = checks.minimum
            && (number < least || (excluded && number <= least))
        {
            let than = if excluded { "greater than" } else { "greater than or equal to" };
            say(format!("should be {than} {least}"));
        }
        if let Some((most, excluded)) = checks.maximum
            && (number > most || (excluded && number >= most))
        {
            let than = if excluded { "less than" } else { "less than or equal to" };
            say(format!("should be {than} {most}"));
        }
        if let Some(step) = checks.multiple_of.filter(|step| *step != 0.0)
            && (number / step).fract() != 0.0
        {
            say(format!("should be a multiple of {step}"));
        }
    }
    if let Value::String(text) = value {
        let length = text.chars().count() as u64;
        if checks.min_length.is_some_and(|least| length < least) {
            say(format!("should be at least {} chars long", checks.min_length.unwrap_or_default()));
        }
        if let Some(most) = checks.max_length.filter(|most| length > *most) {
            causes.push(Cause {
                reason: "FieldValueTooLong",
                field: path.to_owned(),
                message: format!("Too long: may not be more than {most} bytes"),
            });
            return;
        }
        if let Some(pattern) = &checks.pattern
            && regex_lite::Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text))
        {
            say(format!("should match '{pattern}'"));
        }
        if let Some(format) = &checks.format
            && !has_format(format, text)
        {
            say(format!("must be of type {format}: {value}"));
        }
    }
    let count = |value: &Value| match value {
        Value::Array(list) => Some(list.len() as u64),
        _ => None,
    };
    if let Some(items) = count(value) {
        if let Some(least) = checks.min_items.filter(|least| items < *least) {
            say(format!("should have at least {least} items"));
        }
        if let Some(most) = checks.max_items.filter(|most| items > *most) {
            say(format!("should have at most {most} items"));
        }
    }
    if let Value::Object(map) = value {
        let fields = map.len() as u64;
        if let Some(least) = checks.min_properties.filter(|least| fields < *least) {
            say(format!("should have at least {least} properties"));
        }
        if let Some(most) = checks.max_properties.filter(|most| fields > *most) {
            say(format!("should have at most {most} properties"));
        }
    }
    // For integers or strings the alternatives only name the two types.
    if !matches!(node.shape, Shape::IntOrString) {
        for (word, schema) in &checks.logic {
            if let Some(detail) = logic(word, schema, value) {
                say(detail);
            }
        }
    }
}

fn has_format(format: &str, text: &str) -> bool {
    match format {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "uuid" => uuid::Uuid::parse_str(text).is_ok(),
        "byte" => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        }
        _ => true,
    }
}

/// Checks `allOf`, `anyOf`, `oneOf` or `not`; answers what is wrong.
fn logic(word: &str, schema: &Value, value: &Value) -> Option<String> {
    let all: Vec<&Value> = schema.as_array().map_or_else(|| vec![schema], |list| list.iter().collect());
    let met = all.iter().filter(|schema| meets(schema, value)).count();
    let wrong = match word {
        "allOf" if met < all.len() => "must validate all the schemas (allOf)",
        "anyOf" if met == 0 => "must validate at least one schema (anyOf)",
        "oneOf" if met != 1 => "must validate one and only one schema (oneOf)",
        "not" if met > 0 => "must not validate the schema (not)",
        _ => return None,
    };
    Some(wrong.to_owned())
}

/// Whether a value meets a schema that stands within a logical one.
fn meets(schema: &Value, value: &Value) -> bool {
    let mut types = Types::default();
    let of = types.add_place(schema);
    if let Some(Value::Object(map)) = schema.get("properties").is_some().then_some(value) {
        let fields = schema["properties"].as_object().into_iter().flatten();
        let inner = fields.filter_map(|(name, schema)| Some((schema, map.get(name)?)));
        if !inner.into_iter().all(|(schema, value)| meets(schema, value)) {
            return false;
        }
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    if !required.filter_map(Value::as_str).all(|name| value.get(name).is_some()) {
        return false;
    }
    let mut causes = Vec::new();
    custom_at(&types, of, value, "", &mut causes);
    causes.is_empty()
}
