//! What is served: groups, versions, resources.

use serde_json::{Value, json};

use super::reply::{self, Reply};
use super::router::Asked;
use crate::api::Api;
use crate::registry::{Kind, Registry};
use crate::status::Status;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

impl Api {
    /// The version that the server states: that of the types, and that it is a simulation.
    pub(crate) fn version(&self) -> String {
        format!("{}+ksail.embedded", self.settings.version)
    }

    pub(crate) fn version_info(&self) -> Value {
        let version = self.version();
        let mut parts = version.trim_start_matches('v').split('.');
        let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        json!({
            "major": major, "minor": minor, "emulationMajor": major, "emulationMinor": minor,
            "minCompatibilityMajor": major, "minCompatibilityMinor": minor,
            "gitVersion": version, "gitCommit": "", "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
        })
    }
}

/// Whether the aggregated form is accepted, and before the plain one.
fn aggregated(asked: &Asked) -> bool {
    let accept = asked.header(axum::http::header::ACCEPT);
    for part in accept.split(',') {
        let plain: String = part.chars().filter(|of| !of.is_whitespace()).collect();
        if plain.contains("as=APIGroupDiscoveryList")
            && plain.contains("v=v2;") | plain.ends_with("v=v2")
            && plain.starts_with("application/json")
        {
            return true;
        }
        if plain == "application/json" {
            return false;
        }
    }
    false
}

fn group_json(name: &str, versions: &[String]) -> Value {
    let of = |version: &String| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    json!({
        "name": name,
        "versions": versions.iter().map(of).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(of),
    })
}

/// The paths that there are.
pub(crate) fn paths(registry: &Registry) -> Reply {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for (group, versions) in registry.groups.iter().filter(|(group, _)| !group.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
    }
    paths.extend(["/healthz", "/livez", "/openapi/v3", "/readyz", "/version"].map(str::to_owned));
    reply::json(200, &json!({"paths": paths}))
}

/// `/api`.
pub(crate) fn core(registry: &Registry, asked: &Asked) -> Reply {
    if aggregated(asked) {
        return aggregated_list(registry, true);
    }
    reply::json(
        200,
        &json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": asked.header(axum::http::header::HOST)}],
        }),
    )
}

/// `/apis`.
pub(crate) fn groups(registry: &Registry, asked: &Asked) -> Reply {
    if aggregated(asked) {
        return aggregated_list(registry, false);
    }
    let groups: Vec<Value> = registry
        .groups
        .iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| group_json(group, versions))
        .collect();
    reply::json(200, &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
}

/// `/apis/<group>`.
pub(crate) fn group(registry: &Registry, group: &str) -> Result<Reply, Status> {
    let found = registry.groups.iter().find(|(name, _)| name == group && !name.is_empty());
    let (name, versions) = found.ok_or_else(Status::no_such_path)?;
    let mut body = group_json(name, versions);
    body["kind"] = "APIGroup".into();
    body["apiVersion"] = "v1".into();
    Ok(reply::json(200, &body))
}

/// `/apis/<group>/<version>`.
pub(crate) fn resources(registry: &Registry, group: &str, version: &str) -> Result<Reply, Status> {
    let kinds = registry.of_version(group, version).ok_or_else(Status::no_such_path)?;
    let mut resources = Vec::new();
    for kind in kinds.values() {
        let of = &kind.resource;
        let mut main = json!({
            "name": of.plural, "singularName": of.singular, "namespaced": of.namespaced, "kind": of.kind, "verbs": of.verbs,
        });
        if !of.short_names.is_empty() {
            main["shortNames"] = json!(of.short_names);
        }
        if !of.categories.is_empty() {
            main["categories"] = json!(of.categories);
        }
        resources.push(main);
        for sub in &of.subresources {
            let mut part = json!({
                "name": format!("{}/{}", of.plural, sub.name), "singularName": "", "namespaced": of.namespaced,
                "kind": sub.kind, "verbs": sub.verbs,
            });
            if (sub.group.as_str(), sub.version.as_str()) != (group, version) {
                part["group"] = sub.group.as_str().into();
                part["version"] = sub.version.as_str().into();
            }
            resources.push(part);
        }
    }
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut body = json!({"kind": "APIResourceList", "groupVersion": api_version, "resources": resources});
    if !group.is_empty() {
        body["apiVersion"] = "v1".into();
    }
    Ok(reply::json(200, &body))
}

fn aggregated_resource(kind: &Kind) -> Value {
    let of = &kind.resource;
    let mut body = json!({
        "resource": of.plural, "singularResource": of.singular, "verbs": of.verbs,
        "scope": if of.namespaced { "Namespaced" } else { "Cluster" },
        "responseKind": {"group": of.group, "version": of.version, "kind": of.kind},
    });
    if !of.short_names.is_empty() {
        body["shortNames"] = json!(of.short_names);
    }
    if !of.categories.is_empty() {
        body["categories"] = json!(of.categories);
    }
    if !of.subresources.is_empty() {
        let part = |sub: &ksail_kubernetes_schema::Subresource| json!({"subresource": sub.name, "verbs": sub.verbs, "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind}});
        body["subresources"] = of.subresources.iter().map(part).collect();
    }
    body
}

fn aggregated_list(registry: &Registry, core: bool) -> Reply {
    let mut items = Vec::new();
    for (group, versions) in registry.groups.iter().filter(|(group, _)| group.is_empty() == core) {
        let of_version = |version: &String| {
            let kinds = registry.of_version(group, version);
            let resources: Vec<Value> =
                kinds.into_iter().flat_map(|kinds| kinds.values()).map(|kind| aggregated_resource(kind)).collect();
            json!({"version": version, "freshness": "Current", "resources": resources})
        };
        let mut metadata = json!({});
        if !group.is_empty() {
            metadata["name"] = group.as_str().into();
        }
        items.push(json!({"metadata": metadata, "versions": versions.iter().map(of_version).collect::<Vec<_>>()}));
    }
    let body = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items});
    reply::typed(200, AGGREGATED, body.to_string())
}

/// Who issues the tokens of service accounts.
pub(crate) fn issuer() -> Reply {
    let issuer = crate::tokens::ISSUER;
    reply::json(
        200,
        &json!({
            "issuer": issuer, "jwks_uri": format!("{issuer}/openid/v1/jwks"), "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["HS256"],
        }),
    )
}
