//! What others have of an object: the fields that the server says are theirs, and the marks of tools that reconcile it.

use std::collections::{BTreeMap, BTreeSet};

use ksail_model::{Others, Path, Step};
use serde_json::{Map, Value as Json};

use crate::wire::text;
use crate::{FIELD_MANAGER, taints};

/// How many fields of one owner are named; of more, the parts that they are in.
const MOST_FIELDS: usize = 20;

/// Managers of tools that bring objects back to what a repository declares.
const RECONCILERS: [(&str, &str); 5] = [
    ("kustomize-controller", FLUX),
    ("helm-controller", FLUX),
    ("argocd-controller", ARGO),
    ("argocd-application-controller", ARGO),
    ("argocd-server", ARGO),
];
const FLUX: &str = "Flux";
const ARGO: &str = "Argo CD";

/// Labels by which Flux knows what it applied: the kind of what applied it, its name and its namespace.
const FLUX_LABELS: [(&str, &str, &str); 2] = [
    ("Kustomization", "kustomize.toolkit.fluxcd.io/name", "kustomize.toolkit.fluxcd.io/namespace"),
    ("HelmRelease", "helm.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/namespace"),
];
/// By which Argo CD knows it: `<application>:<group>/<kind>:<namespace>/<name>`, or the application alone.
const ARGO_TRACKING: &str = "argocd.argoproj.io/tracking-id";
const ARGO_INSTANCE: &str = "argocd.argoproj.io/instance";

/// Which tool a mark is of, and what in it applied the object.
fn marks(object: &Json) -> BTreeMap<&'static str, String> {
    let label = |name: &str| text(object, &["metadata", "labels", name]);
    let annotation = |name: &str| text(object, &["metadata", "annotations", name]);
    let mut marks = BTreeMap::new();
    for (kind, name, namespace) in FLUX_LABELS {
        if let Some(name) = label(name) {
            let namespace = label(namespace).map_or_else(String::new, |namespace| format!("{namespace}/"));
            marks.insert(FLUX, format!("{FLUX} ({kind} {namespace}{name})"));
        }
    }
    let tracked = annotation(ARGO_TRACKING).map(|id| id.split(':').next().unwrap_or(id));
    if let Some(application) = tracked.or_else(|| annotation(ARGO_INSTANCE)).or_else(|| label(ARGO_INSTANCE)) {
        marks.insert(ARGO, format!("{ARGO} (Application {application})"));
    }
    marks
}

/// What others have of an object. What the object says of its state is nobody's concern.
pub(crate) fn others(object: &Json) -> Vec<Others> {
    let mut marks = marks(object);
    let entries = object["metadata"]["managedFields"].as_array().map_or(&[][..], Vec::as_slice);
    let is_ours = |entry: &Json| entry["manager"] == FIELD_MANAGER && entry["operation"] == "Apply";
    let ours = entries.iter().find(|entry| is_ours(entry)).and_then(|entry| entry["fieldsV1"].as_object());
    let mut owned: BTreeMap<(String, bool), BTreeSet<Path>> = BTreeMap::new();
    let is_nobodys = |entry: &Json| entry["subresource"] == "status" || entry["manager"] == taints::MANAGER;
    for entry in entries.iter().filter(|entry| !is_ours(entry) && !is_nobodys(entry)) {
        let (Some(manager), Some(fields)) = (entry["manager"].as_str(), entry["fieldsV1"].as_object()) else {
            continue;
        };
        let tool = RECONCILERS.iter().find(|(name, _)| *name == manager).map(|(_, tool)| *tool);
        let owner = match tool {
            Some(tool) => marks.remove(tool).unwrap_or_else(|| format!("{tool} ({manager})")),
            None => manager.to_owned(),
        };
        let mut paths = BTreeSet::new();
        leaves(fields, ours, &Path::root(), &mut paths);
        // Whoever adds a taint to a node, or takes its own away, writes the whole list; what is declared stays in it.
        paths.remove(&Path::key("spec").child_key("taints"));
        if !paths.is_empty() || tool.is_some() {
            owned.entry((owner, tool.is_some())).or_default().extend(paths);
        }
    }
    let told = owned.into_iter().map(|((owner, reconciles), paths)| Others { owner, fields: few(paths), reconciles });
    // A tool may apply as somebody else; its mark tells.
    told.chain(marks.into_values().map(|owner| Others { owner, fields: Vec::new(), reconciles: true })).collect()
}

/// The fields of a set that are not ours too.
fn leaves(fields: &Map<String, Json>, ours: Option<&Map<String, Json>>, path: &Path, found: &mut BTreeSet<Path>) {
    for (key, below) in fields {
        let step = match key.split_once(':') {
            Some(("f", name)) => Step::Key(name.to_owned()),
            Some(("k", keys)) => Step::Element(element(keys)),
            Some(("v", value)) => Step::Element(value.trim_matches('"').to_owned()),
            // `.` says that the part itself is theirs.
            _ => continue,
        };
        let path = path.child(step);
        let own = ours.and_then(|ours| ours.get(key));
        match below.as_object().filter(|below| below.keys().any(|key| key != ".")) {
            Some(below) => leaves(below, own.and_then(Json::as_object), &path, found),
            None if own.is_none() => drop(found.insert(path)),
            None => {}
        }
    }
}

/// An element of a list by its keys: the values of these.
fn element(keys: &str) -> String {
    let keys: Map<String, Json> = serde_json::from_str(keys).unwrap_or_default();
    let values = keys.values().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    values.collect::<Vec<_>>().join("/")
}

/// Not more paths than can be told: of many, the parts that they are in.
fn few(paths: BTreeSet<Path>) -> Vec<Path> {
    let deepest = paths.iter().map(|path| path.steps().len()).max().unwrap_or(0);
    let shortened = |depth: usize| -> BTreeSet<Path> {
        paths.iter().map(|path| Path::from(path.steps()[..path.steps().len().min(depth)].to_vec())).collect()
    };
    let fit = (1..=deepest).rev().map(shortened).find(|paths| paths.len() <= MOST_FIELDS);
    fit.unwrap_or_default().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(object: Json, wanted: &[&str]) {
        let told: Vec<String> = others(&object)
            .iter()
            .map(|others| {
                let fields: Vec<String> = others.fields.iter().map(ToString::to_string).collect();
                format!("{}{}: {}", others.owner, if others.reconciles { "!" } else { "" }, fields.join(", "))
            })
            .collect();
        assert_eq!(told, wanted);
    }

    fn entry(manager: &str, operation: &str, subresource: &str, fields: Json) -> Json {
        json!({"manager": manager, "operation": operation, "subresource": subresource, "fieldsV1": fields})
    }

    #[test]
    fn fields_of_others_are_told_and_status_and_ours_are_not() {
        let ours = entry("ksail", "Apply", "", json!({"f:spec": {"f:paused": {}, "f:template": {"f:a": {}}}}));
        let scaled = entry("kube-controller-manager", "Update", "scale", json!({"f:spec": {"f:replicas": {}}}));
        let status = entry("kube-controller-manager", "Update", "status", json!({"f:status": {"f:replicas": {}}}));
        let containers = json!({"k:{\"name\":\"web\"}": {".": {}, "f:image": {}}});
        let edited = entry(
            "kubectl-edit",
            "Update",
            "",
            json!({"f:spec": {"f:paused": {}, "f:template": {"f:containers": containers}}}),
        );
        check(
            json!({"metadata": {"managedFields": [ours, scaled, status, edited]}}),
            &["kube-controller-manager: spec.replicas", "kubectl-edit: spec.template.containers[\"web\"].image"],
        );
        check(json!({}), &[]);
    }

    #[test]
    fn tools_that_reconcile_are_known_by_manager_and_mark() {
        let flux = entry("kustomize-controller", "Apply", "", json!({"f:data": {"f:a": {}}}));
        let labels =
            json!({"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"});
        check(
            json!({"metadata": {"labels": labels, "managedFields": [flux]}}),
            &["Flux (Kustomization flux-system/apps)!: data.a"],
        );
        let tracked = json!({"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:web/shop"});
        check(json!({"metadata": {"annotations": tracked}}), &["Argo CD (Application shop)!: "]);
        check(
            json!({"metadata": {"managedFields": [entry("argocd-controller", "Update", "", json!({"f:data": {"f:a": {}}}))]}}),
            &["Argo CD (argocd-controller)!: data.a"],
        );
    }

    #[test]
    fn many_fields_are_told_by_their_parts() {
        let many: Map<String, Json> = (0..50).map(|index| (format!("f:k{index}"), json!({}))).collect();
        check(
            json!({"metadata": {"managedFields": [entry("them", "Update", "", json!({"f:data": many, "f:immutable": {}}))]}}),
            &["them: data, immutable"],
        );
    }
}
