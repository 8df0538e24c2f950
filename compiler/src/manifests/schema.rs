//! Objects of built-in kinds against their schema: what the server would refuse, told where it stands and before there is one.

use ksail_kubernetes_schema::{Object as Fields, Shape, TypeId, Types, builtin};
use ksail_model::Value;

use super::scalar;
use crate::check::nearest;
use crate::tree::{Data, Entry, Node, Place};

/// What is wrong with an object. Nothing of its values stands here: they may be secret.
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) place: Place,
}

/// Judges an object by the schema of its kind. Kinds of groups that are not built in have none here.
pub(super) fn judge(object: &Node) -> Vec<Wrong> {
    let catalog = builtin();
    let text = |key: &str| match object.entry(key).map(|entry| &entry.value.data) {
        Some(Data::Scalar { text, .. }) => Some(text.as_str()),
        _ => None,
    };
    let (Some(api_version), Some(kind)) = (text("apiVersion"), text("kind")) else { return Vec::new() };
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    if !catalog.groups.iter().any(|known| known.name == group) {
        return Vec::new();
    }
    let Some(of) = catalog.kind(group, version, kind) else {
        let served = catalog.resources().filter(|resource| resource.kind == kind);
        let mut served: Vec<String> = served.map(|resource| resource.api_version()).collect();
        served.dedup();
        let hint = match served.as_slice() {
            [] => None,
            some => Some(format!("it is served as {}", some.join(", "))),
        };
        let place = object.entry("apiVersion").map_or(object.place, |entry| entry.value.place);
        let message = format!("Kubernetes {} serves no {kind} in {api_version}", catalog.version);
        return vec![Wrong { message, hint, place }];
    };
    let mut judge = Judge { types: &catalog.types, kind, found: Vec::new() };
    judge.value(of, object, "");
    judge.found
}

/// Judges what is written into the status of a kind of the core group.
pub(crate) fn judge_status(kind: &str, status: &Node) -> Vec<Wrong> {
    let catalog = builtin();
    let of = catalog.kind("", "v1", kind).map_or(TypeId::ANY, |of| catalog.types.field(of, "status"));
    let mut judge = Judge { types: &catalog.types, kind, found: Vec::new() };
    judge.value(of, status, "status");
    judge.found
}

struct Judge<'a> {
    types: &'a Types,
    kind: &'a str,
    found: Vec<Wrong>,
}

impl Judge<'_> {
    fn wrong(&mut self, what: &str, hint: Option<String>, place: Place) {
        self.found.push(Wrong { message: format!("{}: {what}", self.kind), hint, place });
    }

    fn value(&mut self, of: TypeId, node: &Node, path: &str) {
        if node.is_null() {
            return;
        }
        let shape = &self.types.node(of).shape;
        match (shape, &node.data) {
            (Shape::Any, _) => {}
            (Shape::Object(fields), Data::Map(entries)) => self.fields(fields, entries, node, path),
            (Shape::Map { values, .. }, Data::Map(entries)) => {
                for entry in entries {
                    self.value(*values, &entry.value, &format!("{path}[{}]", entry.key));
                }
            }
            (Shape::List { items, .. }, Data::List(list)) => {
                for (index, item) in list.iter().enumerate() {
                    self.value(*items, item, &format!("{path}[{index}]"));
                }
            }
            (shape, Data::Scalar { text, plain }) => {
                let value = scalar::value(text, *plain);
                if let Some((wanted, hint)) = mismatch(shape, &value) {
                    self.wrong(&format!("`{path}` must be {wanted}"), hint.map(str::to_owned), node.place);
                } else {
                    self.allowed(of, &value, node, path);
                }
            }
            (shape, _) => self.wrong(&format!("`{path}` must be {}", named(shape)), None, node.place),
        }
    }

    fn fields(&mut self, fields: &Fields, entries: &[Entry], node: &Node, path: &str) {
        for entry in entries {
            let below = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
            // What only the server writes is not sent.
            if path.is_empty() && entry.key == "status" {
                continue;
            }
            match fields.fields.get(entry.key.as_str()) {
                Some(field) => self.value(field.of, &entry.value, &below),
                None if fields.open => {}
                None => {
                    let near = nearest(&entry.key, fields.fields.keys().map(|name| &**name));
                    let hint = near.map(|near| format!("did you mean `{near}`?"));
                    self.wrong(&format!("there is no field `{below}`"), hint, entry.key_place);
                }
            }
        }
        for name in &fields.required {
            let is_there = entries.iter().any(|entry| entry.key == **name && !entry.value.is_null());
            let is_the_servers = path.is_empty() && &**name == "status";
            if !is_there && !is_the_servers {
                let below = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
                self.wrong(&format!("`{below}` is missing"), None, node.place);
            }
        }
    }

    fn allowed(&mut self, of: TypeId, value: &Value, node: &Node, path: &str) {
        let allowed: Vec<&str> = self.types.node(of).allowed.iter().filter_map(serde_json::Value::as_str).collect();
        let Some(text) = value.as_str().filter(|text| !text.is_empty() && !allowed.is_empty()) else { return };
        if !allowed.contains(&text) {
            let near = nearest(text, allowed.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            self.wrong(&format!("`{path}` must be one of {}", allowed.join(", ")), near, node.place);
        }
    }
}

/// What a shape takes, in words.
fn named(shape: &Shape) -> &'static str {
    match shape {
        Shape::Any => "anything",
        Shape::Boolean => "true or false",
        Shape::Integer { .. } => "a whole number",
        Shape::Number => "a number",
        Shape::Text(_) => "a text",
        Shape::Quantity => "a quantity such as `100m`",
        Shape::IntOrString => "a whole number or a text",
        Shape::List { .. } => "a list",
        Shape::Map { .. } | Shape::Object(_) => "a map",
    }
}

/// What a scalar should have been, and what to do about it; `None` if it is.
fn mismatch(shape: &Shape, value: &Value) -> Option<(&'static str, Option<&'static str>)> {
    let is_number = matches!(value, Value::Number(_));
    let fits = match shape {
        Shape::Any => true,
        Shape::Boolean => matches!(value, Value::Bool(_)),
        Shape::Integer { .. } => value.as_i64().is_some(),
        Shape::Number => is_number,
        Shape::Text(_) => value.as_str().is_some(),
        Shape::Quantity => value.as_str().is_some() || is_number,
        Shape::IntOrString => value.as_str().is_some() || value.as_i64().is_some(),
        // An empty list or map written as nothing is null, and was left out.
        Shape::List { .. } | Shape::Map { .. } | Shape::Object(_) => false,
    };
    let hint = match (shape, value) {
        (Shape::Text(_), Value::Number(_) | Value::Bool(_)) => Some("put it in quotes"),
        (Shape::Boolean | Shape::Integer { .. } | Shape::Number, Value::String(_)) => Some("write it without quotes"),
        _ => None,
    };
    (!fits).then(|| (named(shape), hint))
}
