//! What the schema of a custom resource must be: structural, with defaults that fit it and rules that can be compiled.

use ksail_expressions::{Wanted, check_rule, field_name, names_old};
use serde_json::{Map, Value};

use crate::status::Cause;
use crate::types::{decode, validate};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// Words of JSON schema that no schema of a custom resource has.
const NOT_SUPPORTED: [&str; 6] = ["$ref", "definitions", "dependencies", "id", "additionalItems", "patternProperties"];
/// What may only stand outside of `allOf`, `anyOf`, `oneOf` and `not`, and how one that is left out is called.
const NOT_IN_LOGIC: [(&str, &str); 11] = [
    ("title", "empty"),
    ("description", "empty"),
    ("type", "empty"),
    ("default", "undefined"),
    ("additionalProperties", "undefined"),
    ("nullable", "false"),
    ("x-kubernetes-preserve-unknown-fields", "false"),
    ("x-kubernetes-embedded-resource", "false"),
    ("x-kubernetes-int-or-string", "false"),
    ("x-kubernetes-list-type", "undefined"),
    ("x-kubernetes-validations", "empty"),
];
/// How many steps deep a schema is looked at.
const MAX_DEPTH: usize = 100;

/// Where in a schema something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Field,
    Item,
}

/// Checks the schema of a version.
pub(super) fn check(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let before = causes.len();
    let mut found = Check { causes, depth: 0 };
    found.place(schema, path, Level::Root);
    if found.causes.len() == before {
        // Defaults and rules are judged by a schema that is sound.
        found.deeper(schema, path, Level::Root, None);
    }
}

struct Check<'c> {
    causes: &'c mut Vec<Cause>,
    depth: usize,
}

fn flag(schema: &Value, name: &str) -> bool {
    schema[name] == true
}

impl Check<'_> {
    fn forbid(&mut self, path: &str, name: &str, why: &str) {
        self.causes.push(Cause::forbidden(format!("{path}.{name}"), why));
    }

    /// Whether what stands at a place is structural.
    fn place(&mut self, schema: &Value, path: &str, level: Level) {
        let Some(map) = schema.as_object() else { return };
        self.depth += 1;
        if self.depth < MAX_DEPTH {
            self.words(map, path);
            self.typed(schema, path, level);
            self.composed(map, path);
            self.extensions(schema, path);
            self.logic(map, path);
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                self.place(field, &format!("{path}.properties[{name}]"), Level::Field);
            }
            self.place(&schema["additionalProperties"], &format!("{path}.additionalProperties"), Level::Field);
            self.place(&schema["items"], &format!("{path}.items"), Level::Item);
        }
        self.depth -= 1;
    }

    fn words(&mut self, map: &Map<String, Value>, path: &str) {
        for name in NOT_SUPPORTED.iter().filter(|name| map.contains_key(**name)) {
            self.forbid(path, name, &format!("{name} is not supported"));
        }
        if let Some(pattern) = map.get("pattern").and_then(Value::as_str)
            && let Some(why) = broken(pattern)
        {
            let why = format!("must be a valid regular expression, but isn't: error parsing regexp: {why}");
            self.causes.push(Cause::invalid(format!("{path}.pattern"), &pattern.into(), &why));
        }
        if map.get("uniqueItems") == Some(&Value::Bool(true)) {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbid(path, "uniqueItems", why);
        }
    }

    fn typed(&mut self, schema: &Value, path: &str, level: Level) {
        let at = format!("{path}.type");
        let of = schema["type"].as_str().unwrap_or_default();
        if level == Level::Root {
            if of.is_empty() {
                self.causes.push(Cause::required(at, "must not be empty at the root"));
            } else if of != "object" {
                self.causes.push(Cause::invalid(at, &schema["type"], "must be object at the root"));
            }
            let metadata = &schema["properties"]["metadata"];
            let fields = metadata["properties"].as_object();
            let is_more = |(name, _): (&String, &Value)| !["name", "generateName"].contains(&name.as_str());
            if fields.into_iter().flatten().any(is_more) {
                let why =
                    "must not specify anything other than name and generateName, but metadata is implicitly specified";
                self.forbid(path, "properties[metadata]", why);
            }
            return;
        }
        let is_mixed = flag(schema, "x-kubernetes-int-or-string");
        if of.is_empty()
            && !is_mixed
            && schema["$ref"].is_null()
            && !flag(schema, "x-kubernetes-preserve-unknown-fields")
        {
            let what = if level == Level::Item { "array items" } else { "object fields" };
            self.causes.push(Cause::required(at, &format!("must not be empty for specified {what}")));
        } else if !of.is_empty() && !TYPES.contains(&of) {
            self.causes.push(Cause::not_supported(at, &of.into(), &TYPES.map(Value::from)));
        }
    }

    fn composed(&mut self, map: &Map<String, Value>, path: &str) {
        let more = map.get("additionalProperties");
        let has_fields = map.get("properties").and_then(Value::as_object).is_some_and(|fields| !fields.is_empty());
        if more.is_some() && has_fields {
            let why = "additionalProperties and properties are mutual exclusive";
            self.forbid(path, "additionalProperties", why);
        }
        match map.get("items") {
            Some(Value::Array(_)) => self.forbid(path, "items", "items must be a schema object and not an array"),
            None if map.get("type").is_some_and(|of| of == "array") => {
                self.causes.push(Cause::required(format!("{path}.items"), "must be specified"));
            }
            _ => {}
        }
    }

    fn extensions(&mut self, schema: &Value, path: &str) {
        if schema["x-kubernetes-preserve-unknown-fields"] == false {
            let at = format!("{path}.x-kubernetes-preserve-unknown-fields");
            self.causes.push(Cause::invalid(at, &Value::Bool(false), "must be true or undefined"));
        }
        if let Some(of) = schema["x-kubernetes-map-type"].as_str()
            && !["atomic", "granular"].contains(&of)
        {
            let allowed = ["atomic", "granular"].map(Value::from);
            self.causes.push(Cause::not_supported(format!("{path}.x-kubernetes-map-type"), &of.into(), &allowed));
        }
        self.list(schema, path);
        if flag(schema, "x-kubernetes-embedded-resource") {
            if schema["type"] != "object" {
                let why = "must be object if x-kubernetes-embedded-resource is true";
                self.causes.push(Cause::invalid(format!("{path}.type"), &schema["type"], why));
            }
            let is_empty = schema["properties"].as_object().is_none_or(Map::is_empty);
            if is_empty && !flag(schema, "x-kubernetes-preserve-unknown-fields") {
                let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
                self.causes.push(Cause::required(format!("{path}.properties"), why));
            }
            if schema["additionalProperties"].is_object() {
                let why = "must not be used if x-kubernetes-embedded-resource is set";
                self.forbid(path, "additionalProperties", why);
            }
        }
    }

    fn list(&mut self, schema: &Value, path: &str) {
        const KEYS: &str = "x-kubernetes-list-map-keys";
        let keys: Vec<&str> = schema[KEYS].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let items = &schema["items"];
        let of = schema["x-kubernetes-list-type"].as_str();
        if !keys.is_empty() && of != Some("map") {
            let at = format!("{path}.x-kubernetes-list-type");
            self.causes.push(Cause::required(at, "must be map if x-kubernetes-list-map-keys is non-empty"));
            return;
        }
        match of {
            None | Some("atomic") => {}
            Some("set") => {
                let is_atomic = match items["type"].as_str() {
                    Some("object") => items["x-kubernetes-map-type"] == "atomic",
                    Some("array") => [&Value::Null, &"atomic".into()].contains(&&items["x-kubernetes-list-type"]),
                    _ => true,
                };
                if !is_atomic {
                    let word = if items["type"] == "object" { "map" } else { "list" };
                    let at = format!("{path}.items.x-kubernetes-{word}-type");
                    let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
                    self.causes.push(Cause::invalid(at, &items[format!("x-kubernetes-{word}-type")], why));
                }
            }
            Some("map") => {
                if keys.is_empty() {
                    let why = "must not be empty if x-kubernetes-list-type is map";
                    self.causes.push(Cause::required(format!("{path}.{KEYS}"), why));
                }
                let required = items["required"].as_array().map_or(&[][..], Vec::as_slice);
                for key in &keys {
                    let field = &items["properties"][*key];
                    if field.is_null() {
                        let why = "entries must all be names of item properties";
                        self.causes.push(Cause::invalid(format!("{path}.{KEYS}"), &schema[KEYS], why));
                    } else if !required.iter().any(|name| name == key) && field["default"].is_null() {
                        let at = format!("{path}.items.properties[{key}].default");
                        let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                        self.causes.push(Cause::required(at, why));
                    }
                }
            }
            Some(other) => {
                let message = format!("Unsupported value: {other:?}: supported values: \"atomic\", \"set\", \"map\"");
                let field = format!("{path}.x-kubernetes-list-type");
                self.causes.push(Cause { reason: "FieldValueNotSupported", field, message });
            }
        }
    }

    /// What `allOf`, `anyOf`, `oneOf` and `not` say: values, and no types.
    fn logic(&mut self, map: &Map<String, Value>, path: &str) {
        let is_mixed = map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
        for word in ["allOf", "anyOf", "oneOf"] {
            for (index, schema) in map.get(word).and_then(Value::as_array).into_iter().flatten().enumerate() {
                // Where a value is an integer or a text, the alternatives name both.
                if !(is_mixed && names_types_alone(schema)) {
                    self.within_logic(schema, &format!("{path}.{word}[{index}]"));
                }
            }
        }
        self.within_logic(map.get("not").unwrap_or(&Value::Null), &format!("{path}.not"));
    }

    fn within_logic(&mut self, schema: &Value, path: &str) {
        let Some(map) = schema.as_object() else { return };
        self.depth += 1;
        if self.depth < MAX_DEPTH {
            self.words(map, path);
            for (name, absent) in NOT_IN_LOGIC {
                let is_there = match map.get(name) {
                    None | Some(Value::Null | Value::Bool(false)) => name == "default" && map.contains_key(name),
                    Some(Value::String(text)) => !text.is_empty(),
                    Some(_) => true,
                };
                if is_there {
                    self.forbid(path, name, &format!("must be {absent} to be structural"));
                }
            }
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                self.within_logic(field, &format!("{path}.properties[{name}]"));
            }
            self.within_logic(&schema["items"], &format!("{path}.items"));
            self.logic(map, path);
        }
        self.depth -= 1;
    }

    /// Defaults and rules. `apart` is the list whose items have no past, if it is in one.
    fn deeper(&mut self, schema: &Value, path: &str, level: Level, apart: Option<&str>) {
        if !schema.is_object() || self.depth > MAX_DEPTH {
            return;
        }
        self.depth += 1;
        if let Some(default) = schema.get("default") {
            self.default(schema, default, &format!("{path}.default"));
        }
        for (index, rule) in schema["x-kubernetes-validations"].as_array().into_iter().flatten().enumerate() {
            let at = format!("{path}.x-kubernetes-validations[{index}]");
            self.rule(schema, rule, &at, level == Level::Root, apart);
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            self.deeper(field, &format!("{path}.properties[{name}]"), Level::Field, apart);
        }
        let below = format!("{path}.additionalProperties");
        self.deeper(&schema["additionalProperties"], &below, Level::Field, apart);
        let is_map = schema["x-kubernetes-list-type"] == "map";
        let apart = apart.or_else(|| (!is_map).then_some(path));
        self.deeper(&schema["items"], &format!("{path}.items"), Level::Item, apart);
        self.depth -= 1;
    }

    fn default(&mut self, schema: &Value, default: &Value, path: &str) {
        let mut types = ksail_kubernetes_schema::custom_types();
        let of = types.add_place(schema);
        let mut value = default.clone();
        let unknown = decode::decode(&types, of, &mut value, decode::Decoded::Custom).unknown;
        if !unknown.is_empty() {
            self.causes.push(Cause::invalid(path, default, "must not have unknown fields"));
            return;
        }
        let wrong = validate::custom_value(&types, of, default);
        self.causes.extend(wrong.into_iter().map(|cause| {
            let below = if cause.field.is_empty() { String::new() } else { format!(".{}", cause.field) };
            Cause { field: format!("{path}{below}"), ..cause }
        }));
    }

    fn rule(&mut self, schema: &Value, rule: &Value, path: &str, is_root: bool, apart: Option<&str>) {
        let text = |name: &str| rule[name].as_str().unwrap_or_default();
        let (expression, message) = (text("rule"), text("message"));
        let has = |name: &str| rule.get(name).is_some_and(|value| !value.is_null());
        if expression.trim().is_empty() {
            self.causes.push(Cause::required(format!("{path}.rule"), "rule is not specified"));
            return;
        }
        let at = format!("{path}.message");
        if has("message") && message.trim().is_empty() {
            self.causes.push(Cause::invalid(at, &message.into(), "must be non-empty if specified"));
        } else if message.contains('\n') {
            self.causes.push(Cause::invalid(at, &message.into(), "must not contain line breaks"));
        } else if expression.contains('\n') && message.is_empty() {
            let why = "message must be specified if rule contains line breaks";
            self.causes.push(Cause::required(at, why));
        }
        if has("fieldPath") && !leads_to_a_field(schema, text("fieldPath")) {
            let at = format!("{path}.fieldPath");
            self.causes.push(Cause::invalid(at, &rule["fieldPath"], "must be a valid path"));
        }
        let asks_old = names_old(expression);
        let old_is_optional = rule["optionalOldSelf"] == true;
        let compiled = check_rule(expression, schema, is_root, old_is_optional, Wanted::Bool);
        if let Err(why) = compiled {
            self.causes.push(Cause::invalid(format!("{path}.rule"), &expression.into(), &why));
            return;
        }
        if has("optionalOldSelf") && !asks_old {
            let why = "may not be set if oldSelf is not used in rule";
            self.causes.push(Cause::invalid(format!("{path}.optionalOldSelf"), &rule["optionalOldSelf"], why));
        }
        if let Some(list) = apart.filter(|_| asks_old) {
            let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {list}");
            self.causes.push(Cause::invalid(format!("{path}.rule"), &expression.into(), &why));
        }
        let says = text("messageExpression");
        let at = format!("{path}.messageExpression");
        if has("messageExpression") && says.trim().is_empty() {
            self.causes.push(Cause::required(at, "must be non-empty if specified"));
        } else if !says.is_empty()
            && let Err(why) = check_rule(says, schema, is_root, old_is_optional, Wanted::Text)
        {
            let why = why.replace("compilation failed", "messageExpression compilation failed");
            self.causes.push(Cause::invalid(at, &says.into(), &why));
        }
    }
}

/// What is wrong with a regular expression, where that is certain: the library here knows less than a real server's.
fn broken(pattern: &str) -> Option<String> {
    let mut escaped = pattern.chars().scan(false, |is_escaped, char| {
        let told = is_escaped.then_some(char);
        *is_escaped = !*is_escaped && char == '\\';
        Some(told)
    });
    let is_plain = |char: char| char.is_ascii_punctuation() || "dDsSwWbBnrt".contains(char);
    if pattern.contains("(?") || escaped.any(|char| char.is_some_and(|char| !is_plain(char))) {
        return None;
    }
    regex_lite::Regex::new(pattern).err().map(|error| error.to_string())
}

/// Whether a schema says nothing but a type, or that it is one of two.
fn names_types_alone(schema: &Value) -> bool {
    let Some(map) = schema.as_object() else { return false };
    map.keys().all(|key| ["type", "anyOf"].contains(&key.as_str()))
        && map.get("anyOf").and_then(Value::as_array).into_iter().flatten().all(names_types_alone)
}

/// Whether a path as `.spec.names['a-b']` leads to a field of a schema.
fn leads_to_a_field(schema: &Value, path: &str) -> bool {
    let mut at = schema;
    let mut rest = path;
    while !rest.is_empty() {
        let (name, after) = if let Some(inner) = rest.strip_prefix("['") {
            match inner.split_once("']") {
                Some(found) => found,
                None => return false,
            }
        } else if let Some(inner) = rest.strip_prefix('.') {
            inner.split_at(inner.find(['.', '[']).unwrap_or(inner.len()))
        } else {
            return false;
        };
        let fields = at["properties"].as_object();
        let field = fields.and_then(|fields| {
            fields
                .get(name)
                .or_else(|| fields.iter().find(|(known, _)| field_name(known) == name).map(|(_, field)| field))
        });
        at = match field {
            Some(field) => field,
            None if at["additionalProperties"].is_object() => &at["additionalProperties"],
            None => return false,
        };
        rest = after;
    }
    !path.is_empty()
}
