//! What is declared: `configuration` and `relevant_attributes`.

use std::collections::BTreeSet;

use ksail_model::{Declaration, Ownership, Path, Reference, Schemas, Step, Value};
use ksail_plan::{Plan, PlanNode};
use serde_json::{Map, Value as Json};

use crate::mask::Mask;

use super::resources::full_provider_name;
use super::values::{is_sensitive, object, plain};

/// The declarations with their providers and outputs.
pub(super) fn configuration(plan: &Plan, schemas: &dyn Schemas) -> Json {
    let declared: Vec<(&PlanNode, &Declaration)> =
        plan.nodes.values().filter_map(|node| Some((node, node.declaration.as_deref()?))).collect();
    let used: BTreeSet<&str> = declared.iter().map(|(_, declaration)| declaration.provider.as_str()).collect();
    let providers: Map<String, Json> = used
        .into_iter()
        .map(|name| {
            let kind = plan.providers.get(name).map_or(name, |config| &config.kind);
            let provider = object([("name", name.into()), ("full_name", full_provider_name(kind).into())]);
            (name.to_owned(), Json::Object(provider))
        })
        .collect();
    let mut module = Map::new();
    super::insert_list(
        &mut module,
        "resources",
        declared.into_iter().map(|(node, declaration)| resource(node, declaration, schemas)).collect(),
    );
    if !plan.outputs.is_empty() {
        let outputs = plan
            .outputs
            .iter()
            .map(|(name, value)| (name.clone(), Json::Object(object([("expression", expression(value))]))));
        module.insert("outputs".to_owned(), Json::Object(outputs.collect()));
    }
    let mut out = object([("root_module", Json::Object(module))]);
    if !providers.is_empty() {
        out.insert("provider_config".to_owned(), Json::Object(providers));
    }
    Json::Object(out)
}

fn resource(node: &PlanNode, declaration: &Declaration, schemas: &dyn Schemas) -> Json {
    let address = &declaration.address;
    let mode = if declaration.ownership == Ownership::Read { "data" } else { "managed" };
    let mut out = object([
        ("address", address.as_str().into()),
        ("mode", mode.into()),
        ("type", address.kind().into()),
        ("name", address.name().into()),
        ("provider_config_key", declaration.provider.as_str().into()),
        ("schema_version", declaration.kind_version.into()),
    ]);
    let spec = Mask::new(schemas.schema(address.kind()), &node.changes).apply(&declaration.spec, &Path::root());
    if let Some(fields) = spec.as_map().filter(|fields| !fields.is_empty()) {
        let expressions = fields.iter().map(|(key, value)| (key.clone(), expression(value)));
        out.insert("expressions".to_owned(), Json::Object(expressions.collect()));
    }
    let needs: Vec<Json> = declaration
        .host
        .iter()
        .chain(declaration.edges.iter().map(|edge| &edge.to))
        .map(|to| to.as_str().into())
        .collect();
    super::insert_list(&mut out, "depends_on", needs);
    Json::Object(out)
}

/// What a field is made of. A sensitive one says nothing of itself.
fn expression(value: &Value) -> Json {
    let references = value.references();
    if value.any_leaf(&is_sensitive) {
        return Json::Object(Map::new());
    }
    if references.is_empty() {
        return Json::Object(object([("constant_value", plain(value))]));
    }
    let mut names: Vec<Json> = Vec::new();
    for reference in references {
        names.push(named(reference).into());
        names.push(reference.address.as_str().into());
    }
    Json::Object(object([("references", Json::Array(names))]))
}

fn named(reference: &Reference) -> String {
    if reference.path.is_root() {
        return reference.address.to_string();
    }
    format!("{}.{}", reference.address, reference.path)
}

/// The attributes that others are made of.
pub(super) fn relevant_attributes(plan: &Plan) -> Vec<Json> {
    let specs = plan.nodes.values().filter_map(|node| node.declaration.as_ref()).map(|declaration| &declaration.spec);
    let used: BTreeSet<(&str, &Path)> = specs
        .chain(plan.outputs.values())
        .flat_map(Value::references)
        .map(|reference| (reference.address.as_str(), &reference.path))
        .collect();
    used.into_iter()
        .map(|(resource, path)| {
            let steps = path.steps().iter().map(|step| match step {
                Step::Key(key) | Step::Element(key) => Json::from(key.as_str()),
                Step::Index(index) => Json::from(*index),
                Step::Any => Json::from("*"),
            });
            Json::Object(object([("resource", resource.into()), ("attribute", Json::Array(steps.collect()))]))
        })
        .collect()
}
