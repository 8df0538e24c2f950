//! What a real server asks of the definition of a custom resource beside its type.

use serde_json::Value;

use super::structural;
use crate::status::Cause;
use crate::types::names;

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const SIMPLE_PATH: &str = "must be a simple json path starting with .";

/// Where a part of all versions is judged: once if it is the same for all, else in each.
fn places<'v>(versions: &'v [Value], part: &str, name: &str) -> Vec<(String, &'v Value)> {
    match versions {
        [first, others @ ..] if others.iter().all(|other| other[part] == first[part]) => {
            vec![(format!("spec.{name}"), &first[part])]
        }
        _ => {
            let place =
                |(index, version): (usize, &'v Value)| (format!("spec.versions[{index}].{part}"), &version[part]);
            versions.iter().enumerate().map(place).collect()
        }
    }
}

/// Checks a definition.
pub(super) fn check(definition: &Value, causes: &mut Vec<Cause>) {
    let spec = &definition["spec"];
    named(definition, causes);
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let stored = versions.iter().filter(|version| version["storage"] == true).count();
    if stored != 1 {
        let why = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", &spec["versions"], why));
    }
    let name_of = |version: &Value| version["name"].as_str().unwrap_or_default().to_owned();
    for (index, version) in versions.iter().enumerate() {
        let name = name_of(version);
        if let Some(wrong) = names::dns_1035(&name) {
            causes.push(Cause::invalid(format!("spec.versions[{index}].name"), &version["name"], wrong));
            if index == 0 {
                causes.push(Cause::invalid("spec.version", &version["name"], wrong));
            }
        }
        if versions[..index].iter().any(|other| name_of(other) == name) {
            causes.push(Cause::invalid("spec.versions", &spec["versions"], "must contain unique version names"));
        }
    }
    for (path, schema) in places(versions, "schema", "validation") {
        let path = format!("{path}.openAPIV3Schema");
        match &schema["openAPIV3Schema"] {
            Value::Object(_) => structural::check(&schema["openAPIV3Schema"], &path, causes),
            // The place of one that is missing is that of a version.
            _ => {
                let missing = |at: usize| format!("spec.versions[{at}].schema.openAPIV3Schema");
                let path = if path.starts_with("spec.validation") { missing(0) } else { path };
                causes.push(Cause::required(path, ""));
            }
        }
    }
    for (path, columns) in places(versions, "additionalPrinterColumns", "additionalPrinterColumns") {
        for (index, column) in columns.as_array().into_iter().flatten().enumerate() {
            printer_column(column, &format!("{path}[{index}]"), causes);
        }
    }
    for (path, subresources) in places(versions, "subresources", "subresources") {
        scale(&subresources["scale"], &format!("{path}.scale"), causes);
    }
    conversion(&spec["conversion"], causes);
    if spec["preserveUnknownFields"] == true {
        let why =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        causes.push(Cause::invalid("spec.preserveUnknownFields", &Value::Bool(true), why));
    }
}

fn named(definition: &Value, causes: &mut Vec<Cause>) {
    let (spec, names) = (&definition["spec"], &definition["spec"]["names"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (text(&spec["group"]), text(&names["plural"]));
    if text(&definition["metadata"]["name"]) != format!("{plural}.{group}") {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", &definition["metadata"]["name"], detail));
    }
    if !group.is_empty() && !group.contains('.') {
        causes.push(Cause::invalid("spec.group", &spec["group"], "should be a domain with at least one dot"));
    }
    if let Some(scope) = spec["scope"].as_str().filter(|scope| !["", "Cluster", "Namespaced"].contains(scope)) {
        causes.push(Cause::not_supported("spec.scope", &scope.into(), &["Cluster", "Namespaced"].map(Value::from)));
    }
    let mixed = |text: &str| {
        let wrong = names::dns_1035(&text.to_lowercase())?;
        Some(format!("may have mixed case, but should otherwise match: {wrong}"))
    };
    for field in ["plural", "singular"] {
        if let Some(wrong) =
            Some(text(&names[field])).filter(|name| !name.is_empty()).and_then(|name| names::dns_1035(&name))
        {
            causes.push(Cause::invalid(format!("spec.names.{field}"), &names[field], wrong));
        }
    }
    for field in ["kind", "listKind"] {
        if let Some(wrong) = Some(text(&names[field])).filter(|name| !name.is_empty()).and_then(|name| mixed(&name)) {
            causes.push(Cause::invalid(format!("spec.names.{field}"), &names[field], &wrong));
        }
    }
    if !text(&names["kind"]).is_empty() && names["kind"] == names["listKind"] {
        let why = "kind and listKind may not be the same";
        causes.push(Cause::invalid("spec.names.listKind", &names["listKind"], why));
    }
    for field in ["shortNames", "categories"] {
        for (index, name) in names[field].as_array().into_iter().flatten().enumerate() {
            if let Some(wrong) = names::dns_1035(name.as_str().unwrap_or_default()) {
                causes.push(Cause::invalid(format!("spec.names.{field}[{index}]"), name, wrong));
            }
        }
    }
}

fn printer_column(column: &Value, path: &str, causes: &mut Vec<Cause>) {
    let of = &column["type"];
    if of.as_str().is_some_and(|of| !of.is_empty() && !COLUMN_TYPES.contains(&of)) {
        let detail = format!("must be one of {}", COLUMN_TYPES.join(","));
        causes.push(Cause::invalid(format!("{path}.type"), of, &detail));
    }
    if column["jsonPath"].as_str().is_some_and(|path| !path.is_empty() && !path.starts_with('.')) {
        causes.push(Cause::invalid(format!("{path}.JSONPath"), &column["jsonPath"], SIMPLE_PATH));
    }
}

fn scale(scale: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (field, below) in [("specReplicasPath", ".spec"), ("statusReplicasPath", ".status"), ("labelSelectorPath", "")]
    {
        let Some(text) = scale[field].as_str().filter(|text| !text.is_empty()) else { continue };
        let at = format!("{path}.{field}");
        let is_below = |below: &str| text.strip_prefix(below).is_some_and(|rest| rest.starts_with('.'));
        if !text.starts_with('.') {
            causes.push(Cause::invalid(at, &scale[field], SIMPLE_PATH));
        } else if below.is_empty() && !is_below(".spec") && !is_below(".status") {
            causes.push(Cause::invalid(at, &scale[field], "should be a json path under either .spec or .status"));
        } else if !below.is_empty() && !is_below(below) {
            causes.push(Cause::invalid(at, &scale[field], &format!("should be a json path under {below}")));
        }
    }
}

fn conversion(conversion: &Value, causes: &mut Vec<Cause>) {
    match conversion["strategy"].as_str() {
        Some("Webhook") => {
            let webhook = &conversion["webhook"];
            if !webhook["clientConfig"].is_object() {
                let why = "required when strategy is set to Webhook";
                causes.push(Cause::required("spec.conversion.webhookClientConfig", why));
            }
            if webhook["conversionReviewVersions"].as_array().is_none_or(Vec::is_empty) {
                causes.push(Cause::required("spec.conversion.conversionReviewVersions", ""));
            }
        }
        Some("None") | None => {}
        Some(other) => {
            let allowed = ["None", "Webhook"].map(Value::from);
            causes.push(Cause::not_supported("spec.conversion.strategy", &other.into(), &allowed));
        }
    }
}
