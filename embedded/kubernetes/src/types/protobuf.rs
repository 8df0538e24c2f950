//! Objects of built-in kinds in protobuf, which some clients send. Answers are JSON, which all of them take too.

use base64::Engine as _;
use ksail_kubernetes_schema::{Format, Numbered, Numbers, Object, Shape, TypeId, Types, builtin};
use serde_json::{Map, Value};

/// How every body begins.
const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may lie in each other.
const MAX_DEPTH: u32 = 64;

/// What a field of a message holds.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in order.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next field; the outer `None` is the end, the inner one a message that cannot be read.
    fn read(&mut self) -> Option<Option<(u32, Wire<'a>)>> {
        if self.0.is_empty() {
            return None;
        }
        let mut read = || {
            let key = self.varint()?;
            let number = u32::try_from(key >> 3).ok()?;
            let wire = match key & 7 {
                0 => Wire::Number(self.varint()?),
                1 => Wire::Number(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
                2 => {
                    let length = usize::try_from(self.varint()?).ok()?;
                    Wire::Bytes(self.take(length)?)
                }
                5 => Wire::Number(u64::from(u32::from_le_bytes(self.take(4)?.try_into().ok()?))),
                _ => return None,
            };
            Some((number, wire))
        };
        Some(read())
    }
}

/// The last field of a number in a message.
fn field(message: &[u8], wanted: u32) -> Option<Wire<'_>> {
    let mut fields = Fields(message);
    let mut found = None;
    while let Some(field) = fields.read() {
        let (number, wire) = field?;
        if number == wanted {
            found = Some(wire);
        }
    }
    found
}

fn bytes(message: &[u8], wanted: u32) -> Option<&[u8]> {
    match field(message, wanted)? {
        Wire::Bytes(bytes) => Some(bytes),
        Wire::Number(_) => None,
    }
}

fn text(message: &[u8], wanted: u32) -> String {
    String::from_utf8_lossy(bytes(message, wanted).unwrap_or_default()).into_owned()
}

fn number(message: &[u8], wanted: u32) -> i64 {
    match field(message, wanted) {
        Some(Wire::Number(number)) => number.cast_signed(),
        _ => 0,
    }
}

/// Decodes a body: an envelope that names the kind, and the object. `None` if it cannot be read, or its kind is not built in.
pub(crate) fn decode(body: &[u8]) -> Option<Value> {
    let envelope = body.strip_prefix(MAGIC)?;
    let about = bytes(envelope, 1)?;
    let (api_version, kind) = (text(about, 1), text(about, 2));
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let catalog = builtin();
    let of = catalog.kind(group, version, &kind)?;
    let object = catalog.types.object(of)?;
    let mut map = Map::new();
    message(&catalog.types, object, &object.numbers, bytes(envelope, 2).unwrap_or_default(), &mut map, 0)?;
    map.insert("apiVersion".to_owned(), api_version.into());
    map.insert("kind".to_owned(), kind.into());
    Some(Value::Object(map))
}

fn message(
    types: &Types,
    object: &Object,
    numbers: &Numbers,
    data: &[u8],
    into: &mut Map<String, Value>,
    depth: u32,
) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut fields = Fields(data);
    while let Some(field) = fields.read() {
        let (number, wire) = field?;
        match (numbers.0.get(&number), wire) {
            // What is not known is left out, as unknown fields of JSON are.
            (None, _) => {}
            (Some(Numbered::Inline(inner)), Wire::Bytes(data)) => message(types, object, inner, data, into, depth + 1)?,
            (Some(Numbered::Inline(_)), Wire::Number(_)) => return None,
            (Some(Numbered::Field(name)), wire) => {
                let Some(known) = object.fields.get(name) else { continue };
                match types.shape(known.of) {
                    Shape::List { items, .. } => {
                        let item = value(types, *items, &wire, depth)?;
                        let list = into.entry(name.to_string()).or_insert_with(|| Value::Array(Vec::new()));
                        list.as_array_mut()?.push(item);
                    }
                    Shape::Map { values, .. } if *values != TypeId::ANY => {
                        let Wire::Bytes(entry) = wire else { return None };
                        let item = entry_value(types, *values, entry, depth)?;
                        let map = into.entry(name.to_string()).or_insert_with(|| Value::Object(Map::new()));
                        map.as_object_mut()?.insert(text(entry, 1), item);
                    }
                    _ => {
                        into.insert(name.to_string(), value(types, known.of, &wire, depth)?);
                    }
                }
            }
        }
    }
    Some(())
}

/// The value of a map's entry. A list there is a message of its own.
fn entry_value(types: &Types, of: TypeId, entry: &[u8], depth: u32) -> Option<Value> {
    let Shape::List { items, .. } = types.shape(of) else {
        return match field(entry, 2) {
            Some(wire) => value(types, of, &wire, depth),
            None => value(types, of, &Wire::Bytes(&[]), depth),
        };
    };
    let mut list = Vec::new();
    let mut fields = Fields(bytes(entry, 2).unwrap_or_default());
    while let Some(field) = fields.read() {
        list.push(value(types, *items, &field?.1, depth)?);
    }
    Some(Value::Array(list))
}

fn value(types: &Types, of: TypeId, wire: &Wire<'_>, depth: u32) -> Option<Value> {
    let value = match (types.shape(of), wire) {
        (Shape::Boolean, Wire::Number(number)) => Value::Bool(*number != 0),
        (Shape::Integer { .. }, Wire::Number(number)) => number.cast_signed().into(),
        (Shape::Number, Wire::Number(number)) => f64::from_bits(*number).into(),
        (Shape::Text(Format::Plain), Wire::Bytes(bytes)) => std::str::from_utf8(bytes).ok()?.into(),
        (Shape::Text(Format::Bytes), Wire::Bytes(bytes)) => {
            base64::engine::general_purpose::STANDARD.encode(bytes).into()
        }
        // No time at all is an empty message.
        (Shape::Text(Format::Time | Format::MicroTime), Wire::Bytes([])) => Value::Null,
        (Shape::Text(Format::Time | Format::MicroTime), Wire::Bytes(bytes)) => {
            let nanos = i32::try_from(number(bytes, 2)).ok()?;
            jiff::Timestamp::new(number(bytes, 1), nanos).ok()?.to_string().into()
        }
        (Shape::Quantity, Wire::Bytes(bytes)) => text(bytes, 1).into(),
        (Shape::IntOrString, Wire::Bytes(bytes)) if number(bytes, 1) == 0 => number(bytes, 2).into(),
        (Shape::IntOrString, Wire::Bytes(bytes)) => text(bytes, 3).into(),
        (Shape::Object(object), Wire::Bytes(bytes)) => {
            let mut map = Map::new();
            message(types, object, &object.numbers, bytes, &mut map, depth + 1)?;
            Value::Object(map)
        }
        // What others define is JSON in a message.
        (Shape::Any | Shape::Map { .. }, Wire::Bytes(data)) => serde_json::from_slice(bytes(data, 1)?).ok()?,
        _ => return None,
    };
    Some(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn put(number: u32, data: &[u8]) -> Vec<u8> {
        let mut out = vec![u8::try_from(number << 3 | 2).unwrap(), u8::try_from(data.len()).unwrap()];
        out.extend_from_slice(data);
        out
    }

    #[test]
    fn a_pod_is_read() {
        let port = [vec![0x18, 0x50], put(4, b"TCP")].concat();
        let container = [put(1, b"a"), put(2, b"x"), put(6, &port)].concat();
        let volume = [put(1, b"v"), put(2, &put(2, b""))].concat();
        let spec = [put(1, &volume), put(2, &container), put(7, &[put(1, b"k"), put(2, b"v")].concat())].concat();
        let pod = [put(1, &[put(1, b"p"), put(8, b"")].concat()), put(2, &spec)].concat();
        let body = [MAGIC.to_vec(), put(1, &[put(1, b"v1"), put(2, b"Pod")].concat()), put(2, &pod)].concat();
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "creationTimestamp": null},
            "spec": {
                "containers": [{"name": "a", "image": "x", "ports": [{"containerPort": 80, "protocol": "TCP"}]}],
                "volumes": [{"name": "v", "emptyDir": {}}], "nodeSelector": {"k": "v"},
            },
        });
        assert_eq!(decode(&body), Some(expected));
        assert_eq!(decode(&body[..body.len() - 3]), None);
        assert_eq!(decode(b"{}"), None);
    }
}
