//! What names, labels and annotations may look like.

use serde_json::Value;

use crate::status::Cause;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
/// The longest DNS subdomain.
const MAX_SUBDOMAIN: usize = 253;
/// The longest DNS label, and the longest value of a label.
const MAX_LABEL: usize = 63;
/// All annotations of an object together, in bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| inner(*byte))
        && bytes.last().is_some_and(|byte| inner(*byte))
        && bytes.iter().all(|byte| inner(*byte) || *byte == b'-')
}

fn is_name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Whether a text is a DNS subdomain.
pub(crate) fn is_subdomain(text: &str) -> bool {
    text.len() <= MAX_SUBDOMAIN && text.split('.').all(is_label)
}

/// What is wrong with a DNS label that begins with a letter.
pub(crate) fn dns_1035(text: &str) -> Option<&'static str> {
    const WRONG: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
    let is_good =
        text.len() <= MAX_LABEL && is_label(text) && text.starts_with(|first: char| first.is_ascii_lowercase());
    (!is_good).then_some(WRONG)
}

/// What is wrong with the name of an object.
pub(crate) fn name(group: &str, plural: &str, name: &str) -> Option<String> {
    let too_long = |most: usize| (name.len() > most).then(|| format!("must be no more than {most} characters"));
    match (group, plural) {
        ("", "namespaces" | "services") => too_long(MAX_LABEL).or_else(|| (!is_label(name)).then(|| LABEL.to_owned())),
        ("rbac.authorization.k8s.io", _) => {
            let good = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%']);
            (!good).then(|| "may not be '.' or '..', or contain '/' or '%'".to_owned())
        }
        ("certificates.k8s.io" | "flowcontrol.apiserver.k8s.io", _) if !name.is_empty() => {
            (!is_subdomain(name)).then(|| SUBDOMAIN.to_owned())
        }
        _ => too_long(MAX_SUBDOMAIN).or_else(|| (!is_subdomain(name)).then(|| SUBDOMAIN.to_owned())),
    }
}

/// What is wrong with a label's or annotation's key.
fn key(text: &str) -> Option<String> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if prefix.is_some_and(|prefix| prefix.is_empty()) {
        return Some("prefix part must be non-empty".to_owned());
    }
    if prefix.is_some_and(|prefix| !is_subdomain(prefix)) {
        return Some(format!("prefix part {SUBDOMAIN}"));
    }
    if name.is_empty() {
        return Some("name part must be non-empty".to_owned());
    }
    if name.len() > MAX_LABEL {
        return Some(format!("name part must be no more than {MAX_LABEL} characters"));
    }
    (!is_name_part(name)).then(|| QUALIFIED.to_owned())
}

/// What is wrong with labels.
pub(crate) fn labels(labels: &Value, field: &str, causes: &mut Vec<Cause>) {
    for (name, value) in labels.as_object().into_iter().flatten() {
        if let Some(wrong) = key(name) {
            causes.push(Cause::invalid(field, &name.as_str().into(), &wrong));
        }
        let text = value.as_str().unwrap_or_default();
        if text.len() > MAX_LABEL {
            causes.push(Cause::invalid(field, value, &format!("must be no more than {MAX_LABEL} bytes")));
        } else if !text.is_empty() && !is_name_part(text) {
            causes.push(Cause::invalid(field, value, LABEL_VALUE));
        }
    }
}

/// What is wrong with annotations.
pub(crate) fn annotations(annotations: &Value, field: &str, causes: &mut Vec<Cause>) {
    let mut length = 0;
    for (name, value) in annotations.as_object().into_iter().flatten() {
        if let Some(wrong) = key(&name.to_lowercase()) {
            causes.push(Cause::invalid(field, &name.as_str().into(), &wrong));
        }
        length += name.len() + value.as_str().unwrap_or_default().len();
    }
    if length > MAX_ANNOTATIONS {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            field: field.to_owned(),
            message: format!("Too long: may not be more than {MAX_ANNOTATIONS} bytes"),
        });
    }
}

/// What is wrong with a key of a `ConfigMap` or Secret.
pub(crate) fn data_key(text: &str) -> Option<&'static str> {
    let good = !text.is_empty()
        && text.len() <= MAX_SUBDOMAIN
        && text != "."
        && !text.starts_with("..")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    (!good).then_some("a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')")
}

/// What is wrong with finalizers; what was is the metadata before.
pub(crate) fn finalizers(metadata: &Value, before: Option<&Value>, causes: &mut Vec<Cause>) {
    const FIELD: &str = "metadata.finalizers";
    let of = |metadata: &Value| -> Vec<Value> { metadata["finalizers"].as_array().cloned().unwrap_or_default() };
    let is_good = |text: &str| text.contains('/') || ["orphan", "foregroundDeletion", "kubernetes"].contains(&text);
    for (index, finalizer) in of(metadata).iter().enumerate() {
        if !finalizer.as_str().is_some_and(is_good) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(Cause::invalid(format!("{FIELD}[{index}]"), finalizer, detail));
        }
    }
    let Some(before) = before.filter(|before| !before["deletionTimestamp"].is_null()) else { return };
    let had = of(before);
    let new: Vec<String> = of(metadata).iter().filter(|one| !had.contains(one)).map(Value::to_string).collect();
    if !new.is_empty() {
        let new = new.join(", ");
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{new}}}"
        );
        causes.push(Cause::forbidden(FIELD, &why));
    }
}
