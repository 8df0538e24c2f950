//! OpenAPI schemas → types.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::checks::Checks;
use crate::types::{Field, Format, ListMerge, Node, Numbers, Object, PatchMerge, Shape, TypeId, Types, Zero};

/// How references to named schemas begin.
const REFERENCE: &str = "#/components/schemas/";

/// What the Go types say of zero values: by OpenAPI name and field.
pub(crate) type Zeros = HashMap<String, GoType>;

/// What the Go type of a name says: what becomes of zero values, and the numbers of fields in protobuf.
#[derive(Debug, Clone, Default)]
pub(crate) struct GoType {
    pub(crate) zeros: HashMap<String, Zero>,
    pub(crate) numbers: Numbers,
}

impl Types {
    /// Adds named schemas, which may refer to each other.
    pub(crate) fn add_named(&mut self, schemas: &Map<String, Value>, zeros: &Zeros) {
        // Each name has its place before any is read, because they refer to each other in circles.
        for name in schemas.keys() {
            let id = self.push(Node::default());
            self.names.insert(name.as_str().into(), id);
        }
        for (name, schema) in schemas {
            let node = self.read_named(name, schema, zeros.get(name));
            let id = self.names[name.as_str()];
            self.nodes[id.0 as usize] = node;
        }
    }

    /// Adds the schema of a custom resource (`openAPIV3Schema`) for one kind, and answers its type. `apiVersion`, `kind` and
    /// `metadata` have the types that every object has.
    #[must_use]
    pub fn add_schema(&mut self, schema: &Value) -> TypeId {
        let mut node = self.read(schema, "", true);
        if matches!(node.shape, Shape::Any | Shape::Map { .. }) {
            // One without fields that keeps what it does not know reads as a map of anything.
            let open = matches!(node.shape, Shape::Any | Shape::Map { values: TypeId::ANY, .. });
            node.shape = Shape::Object(Box::new(Object { open, ..Object::default() }));
        }
        if let Shape::Object(object) = &mut node.shape {
            object.embedded = true;
            self.add_object_fields(object);
        }
        self.push(node)
    }

    /// Adds the schema of a value within a custom resource, and answers its type.
    #[must_use]
    pub fn add_place(&mut self, schema: &Value) -> TypeId {
        self.place(schema, true)
    }

    /// The fields that every object has.
    fn add_object_fields(&mut self, object: &mut Object) {
        let text = self.push(Node { shape: Shape::Text(Format::Plain), ..Node::default() });
        let metadata = self.named("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").unwrap_or(TypeId::ANY);
        for (name, of) in [("apiVersion", text), ("kind", text), ("metadata", metadata)] {
            let field = Field { of, default: None, zero: Zero::Kept, patch: PatchMerge::default() };
            object.fields.insert(name.into(), field);
        }
    }

    fn push(&mut self, node: Node) -> TypeId {
        let id = TypeId(u32::try_from(self.nodes.len()).expect("fewer types than a schema can name"));
        self.nodes.push(node);
        id
    }

    fn read_named(&mut self, name: &str, schema: &Value, go: Option<&GoType>) -> Node {
        let mut node = self.read(schema, name, false);
        match &mut node.shape {
            Shape::Object(object) => {
                object.numbers = go.map(|go| go.numbers.clone()).unwrap_or_default();
                for (name, zero) in go.into_iter().flat_map(|go| &go.zeros) {
                    if let Some(field) = object.fields.get_mut(name.as_str()) {
                        field.zero = *zero;
                    }
                }
            }
            Shape::Text(format @ Format::Time) if name.ends_with(".MicroTime") => *format = Format::MicroTime,
            Shape::Any if is_quantity(schema) => node.shape = Shape::Quantity,
            _ => {}
        }
        node
    }

    /// The type of a place: a reference, or a schema that stands there.
    fn place(&mut self, schema: &Value, custom: bool) -> TypeId {
        let all = schema.get("allOf").and_then(Value::as_array);
        let reference = schema.get("$ref").or_else(|| match all.map(Vec::as_slice) {
            Some([one]) => one.get("$ref"),
            _ => None,
        });
        if let Some(name) = reference.and_then(Value::as_str).and_then(|name| name.strip_prefix(REFERENCE)) {
            return self.named(name).unwrap_or(TypeId::ANY);
        }
        let node = self.read(schema, "", custom);
        self.push(node)
    }

    fn read(&mut self, schema: &Value, name: &str, custom: bool) -> Node {
        let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
        let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
        let atomic = text("x-kubernetes-map-type") == "atomic";
        let open = flag("x-kubernetes-preserve-unknown-fields");
        let format = text("format");
        let shape = if flag("x-kubernetes-int-or-string") || format == "int-or-string" {
            Shape::IntOrString
        } else {
            match text("type") {
                "boolean" => Shape::Boolean,
                "integer" => Shape::Integer { small: format == "int32" },
                "number" => Shape::Number,
                "string" => Shape::Text(match format {
                    "byte" if !custom => Format::Bytes,
                    "date-time" if !custom => Format::Time,
                    _ => Format::Plain,
                }),
                "array" => {
                    let items = schema.get("items").map_or(TypeId::ANY, |items| self.place(items, custom));
                    Shape::List { items, merge: list_merge(schema) }
                }
                "object" => self.read_object(schema, name, custom, atomic, open),
                _ => Shape::Any,
            }
        };
        Node {
            shape,
            nullable: flag("nullable"),
            allowed: schema.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            checks: if custom { Checks::read(schema) } else { None },
        }
    }

    fn read_object(&mut self, schema: &Value, name: &str, custom: bool, atomic: bool, open: bool) -> Shape {
        let properties = schema.get("properties").and_then(Value::as_object);
        let embedded = schema.get("x-kubernetes-embedded-resource").and_then(Value::as_bool).unwrap_or(false);
        match (properties, schema.get("additionalProperties")) {
            (None, Some(values)) if values.is_object() => Shape::Map { values: self.place(values, custom), atomic },
            (None, Some(Value::Bool(true))) => Shape::Map { values: TypeId::ANY, atomic },
            // Built-in types without fields hold what others define; those of custom resources hold nothing unless they say so.
            (None, _) if !custom || (open && !embedded) => match name.is_empty() && !custom {
                true => Shape::Map { values: TypeId::ANY, atomic },
                false if is_empty_struct(name, custom) => {
                    Shape::Object(Box::new(Object { atomic, name: name.into(), ..Object::default() }))
                }
                false => Shape::Map { values: TypeId::ANY, atomic },
            },
            (properties, _) => {
                let mut object = Object { atomic, open, embedded, name: name.into(), ..Object::default() };
                for (name, field) in properties.into_iter().flatten() {
                    let of = self.place(field, custom);
                    let default = field.get("default").cloned();
                    let field = Field { of, default, zero: Zero::Kept, patch: patch_merge(field) };
                    object.fields.insert(name.as_str().into(), field);
                }
                let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
                object.required = required.filter_map(Value::as_str).map(Into::into).collect();
                if embedded {
                    self.add_object_fields(&mut object);
                }
                Shape::Object(Box::new(object))
            }
        }
    }
}

/// Whether a built-in type without fields is one that never has any, not one that holds what others define.
fn is_empty_struct(name: &str, custom: bool) -> bool {
    !custom && !name.ends_with(".FieldsV1") && !name.ends_with(".RawExtension")
}

fn is_quantity(schema: &Value) -> bool {
    let kinds = schema.get("oneOf").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    matches!(kinds, [one, other] if one["type"] == "string" && other["type"] == "number")
}

fn list_merge(schema: &Value) -> ListMerge {
    match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListMerge::Set,
        Some("map") => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten();
            ListMerge::Map(keys.filter_map(Value::as_str).map(Into::into).collect())
        }
        _ => ListMerge::Atomic,
    }
}

fn patch_merge(field: &Value) -> PatchMerge {
    let strategies = field.get("x-kubernetes-patch-strategy").and_then(Value::as_str).unwrap_or_default();
    let has = |strategy: &str| strategies.split(',').any(|one| one == strategy);
    PatchMerge {
        merge: has("merge"),
        retain_keys: has("retainKeys"),
        replace: has("replace"),
        key: field.get("x-kubernetes-patch-merge-key").and_then(Value::as_str).map(Into::into),
    }
}
