//! Resources before and after: `prior_state` and `planned_values`.

use ksail_model::{Address, Declaration, Ownership, Path, Schemas, Value};
use ksail_plan::{Action, Plan, PlanNode};
use serde_json::{Map, Value as Json};

use super::values::{is_sensitive, is_unknown, marks, object, plain, set};
use super::{STATE_FORMAT_VERSION, TERRAFORM_VERSION};
use crate::mask::Mask;
use crate::outputs::output_changes;

/// What is declared of a node, or was.
pub(super) fn declared(node: &PlanNode) -> Option<&Declaration> {
    node.declaration.as_deref().or(node.record.as_ref().map(|record| record.declaration.as_ref()))
}

/// The whole name of a kind of provider.
pub(super) fn full_provider_name(kind: &str) -> String {
    format!("ksail.io/builtin/{kind}")
}

/// The keys that say which resource it is.
pub(super) fn naming(plan: &Plan, address: &Address, declared: Option<&Declaration>) -> Map<String, Json> {
    let mode = match declared.map(|declaration| declaration.ownership) {
        Some(Ownership::Read) => "data",
        _ => "managed",
    };
    let provider = declared.map_or("unknown", |declaration| &declaration.provider);
    let provider = plan.providers.get(provider).map_or(provider, |config| &config.kind);
    object([
        ("address", address.as_str().into()),
        ("mode", mode.into()),
        ("type", address.kind().into()),
        ("name", address.name().into()),
        ("provider_name", full_provider_name(provider).into()),
    ])
}

fn resource(plan: &Plan, schemas: &dyn Schemas, node: &PlanNode, value: &Value) -> Json {
    let schema = schemas.schema(node.key.address.kind());
    let value = Mask::new(schema, &node.changes).apply(value, &Path::root());
    let mut out = naming(plan, &node.key.address, declared(node));
    out.insert("schema_version".to_owned(), declared(node).map_or(0, |declaration| declaration.kind_version).into());
    out.insert("values".to_owned(), plain(&value));
    out.insert("sensitive_values".to_owned(), marks(&value, is_sensitive));
    set(&mut out, "deposed_key", node.key.deposed.map(|generation| generation.to_string().into()));
    Json::Object(out)
}

fn module(resources: Vec<Json>) -> Json {
    let mut out = Map::new();
    super::insert_list(&mut out, "resources", resources);
    Json::Object(out)
}

enum Side {
    Before,
    After,
}

fn outputs(plan: &Plan, schemas: &dyn Schemas, side: &Side) -> Map<String, Json> {
    let mut out = Map::new();
    for (name, change) in output_changes(plan, schemas) {
        let value = match side {
            Side::Before => change.before,
            Side::After => change.after,
        };
        let Some(value) = value else { continue };
        let sensitive = value.any_leaf(&is_sensitive);
        let known = !sensitive && !value.any_leaf(&is_unknown);
        let mut output = object([("sensitive", sensitive.into())]);
        set(&mut output, "value", known.then(|| plain(&value)));
        out.insert(name, Json::Object(output));
    }
    out
}

fn values_of(plan: &Plan, schemas: &dyn Schemas, side: &Side, resources: Vec<Json>) -> Json {
    let mut out = object([("root_module", module(resources))]);
    let outputs = outputs(plan, schemas, side);
    set(&mut out, "outputs", (!outputs.is_empty()).then_some(Json::Object(outputs)));
    Json::Object(out)
}

/// What is there after the apply; what is blocked stays as it is.
pub(super) fn planned_values(plan: &Plan, schemas: &dyn Schemas) -> Json {
    let resources = plan.nodes.values().filter_map(|node| {
        let value = match node.action {
            Action::Blocked { .. } => node.before.as_ref(),
            Action::Delete | Action::Forget => None,
            _ => node.after.as_ref(),
        };
        Some(resource(plan, schemas, node, value?))
    });
    values_of(plan, schemas, &Side::After, resources.collect())
}

/// What is there before the apply; `None` if nothing is.
pub(super) fn prior_state(plan: &Plan, schemas: &dyn Schemas) -> Option<Json> {
    let resources: Vec<Json> =
        plan.nodes.values().filter_map(|node| Some(resource(plan, schemas, node, node.before.as_ref()?))).collect();
    if resources.is_empty() {
        return None;
    }
    Some(Json::Object(object([
        ("format_version", STATE_FORMAT_VERSION.into()),
        ("terraform_version", TERRAFORM_VERSION.into()),
        ("values", values_of(plan, schemas, &Side::Before, resources)),
    ])))
}
