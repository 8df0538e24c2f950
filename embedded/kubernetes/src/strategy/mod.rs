//! What a real server does for certain kinds, beside their types.

mod access;
pub(crate) mod conversion;
pub(crate) mod definition;
mod definition_rules;
mod immutable;
mod pod;
mod rules;
mod service;
mod structural;

use serde_json::{Map, Value, json};

use crate::api::Api;
use crate::registry::Kind;
use crate::status::{Cause, Status};
use crate::types::{decode, defaults};
use crate::write::Place;

/// Built-in kinds whose objects count the generations of their spec.
const WITH_GENERATION: &[&str] = &[
    "/pods",
    "/replicationcontrollers",
    "/podtemplates",
    "apps/deployments",
    "apps/replicasets",
    "apps/statefulsets",
    "apps/daemonsets",
    "batch/jobs",
    "batch/cronjobs",
    "networking.k8s.io/networkpolicies",
    "networking.k8s.io/ingresses",
    "networking.k8s.io/ingressclasses",
    "policy/poddisruptionbudgets",
    "discovery.k8s.io/endpointslices",
    "flowcontrol.apiserver.k8s.io/flowschemas",
    "flowcontrol.apiserver.k8s.io/prioritylevelconfigurations",
    "admissionregistration.k8s.io/validatingwebhookconfigurations",
    "admissionregistration.k8s.io/mutatingwebhookconfigurations",
    "admissionregistration.k8s.io/validatingadmissionpolicies",
    "admissionregistration.k8s.io/validatingadmissionpolicybindings",
    "admissionregistration.k8s.io/mutatingadmissionpolicies",
    "admissionregistration.k8s.io/mutatingadmissionpolicybindings",
    "apiextensions.k8s.io/customresourcedefinitions",
    "scheduling.k8s.io/priorityclasses",
];

/// Whether objects of a kind count the generations of their spec.
pub(crate) fn has_generation(kind: &Kind) -> bool {
    !kind.is_builtin() || WITH_GENERATION.contains(&&*kind.store)
}

/// Whether a change is a new generation: anything but metadata and status differs.
pub(crate) fn bumps_generation(kind: &Kind, before: &Value, after: &Value) -> bool {
    let rest = |of: &Value| -> Map<String, Value> {
        let counted = |key: &str| key != "metadata" && !(key == "status" && (kind.is_builtin() || kind.has_status()));
        of.as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| counted(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let annotations =
        &*kind.store == "apps/deployments" && before["metadata"]["annotations"] != after["metadata"]["annotations"];
    let labels = &*kind.store == "discovery.k8s.io/endpointslices"
        && before["metadata"]["labels"] != after["metadata"]["labels"];
    annotations || labels || rest(before) != rest(after)
}

/// Whether nothing holds an object that was deleted any more.
pub(crate) fn is_gone(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    let full = object["kind"] == "Namespace" && !empty(&object["spec"]["finalizers"]);
    let graceful = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() != 0;
    let held = full || graceful || !empty(&metadata["finalizers"]);
    metadata.get("deletionTimestamp").is_some() && !held
}

/// What is wrong with an object beside what its schema says.
pub(crate) fn validate(place: &Place, object: &Value, before: Option<&Value>, causes: &mut Vec<Cause>) {
    let kind = &place.kind;
    if kind.is_builtin() {
        rules::check(kind, object, causes);
        if let Some(before) = before {
            immutable::check(place, before, object, causes);
        }
    }
}

/// What a kind without a status subresource has in it is part of it; all else is written by status only.
fn reset_status(kind: &Kind, object: &mut Value) {
    if kind.has_status()
        && !kind.is("", "nodes")
        && let Some(map) = object.as_object_mut()
    {
        map.remove("status");
    }
}

impl Api {
    /// Before an object is validated for the first time.
    pub(crate) fn prepare_create(&self, place: &Place, object: &mut Value) -> Result<Vec<String>, Status> {
        let kind = &place.kind;
        reset_status(kind, object);
        if kind.is_builtin() {
            // The status is again what every object of the kind begins with.
            decode::decode(&kind.types, kind.of(), object, decode::Decoded::Builtin);
            defaults::builtin(&kind.types, kind.of(), object);
        }
        match &*kind.store {
            "/namespaces" => {
                object["spec"]["finalizers"] = json!(["kubernetes"]);
                object["status"]["phase"] = "Active".into();
            }
            "/pods" => return self.admit_pod(place, object),
            "/persistentvolumeclaims" => {
                self.default_storage_class(object);
                protect(object, "kubernetes.io/pvc-protection");
            }
            "/persistentvolumes" => {
                protect(object, "kubernetes.io/pv-protection");
                object["status"]["lastPhaseTransitionTime"] = crate::api::now().into();
            }
            "batch/jobs" => job_selector(object),
            "apiextensions.k8s.io/customresourcedefinitions" => definition::prepare(object, None),
            "apiregistration.k8s.io/apiservices" => {}
            _ => {}
        }
        Ok(Vec::new())
    }

    /// Before a changed object is validated.
    pub(crate) fn prepare_update(
        &self,
        place: &Place,
        before: &Value,
        object: &mut Value,
    ) -> Result<Vec<String>, Status> {
        let kind = &place.kind;
        match &*kind.store {
            "/pods" if place.subresource.is_empty() => pod::give_tolerations(object),
            "/services" if place.subresource.is_empty() => service::keep_allocated(before, object),
            "apiextensions.k8s.io/customresourcedefinitions" => definition::prepare(object, Some(before)),
            "/namespaces" if place.subresource != "finalize" => {
                object["spec"]["finalizers"] = before["spec"]["finalizers"].clone();
                if object["spec"]["finalizers"].is_null()
                    && let Some(spec) = object["spec"].as_object_mut()
                {
                    spec.remove("finalizers");
                }
            }
            "apps/daemonsets" => {
                use crate::types::defaults::TEMPLATE_GENERATION;
                let count = &before["metadata"]["annotations"][TEMPLATE_GENERATION];
                let count = count.as_str().and_then(|count| count.parse::<i64>().ok()).unwrap_or(1);
                let changed = before["spec"]["template"] != object["spec"]["template"];
                object["metadata"]["annotations"][TEMPLATE_GENERATION] =
                    (count + i64::from(changed)).to_string().into();
            }
            _ => {}
        }
        Ok(Vec::new())
    }

    fn default_storage_class(&self, claim: &mut Value) {
        if claim["spec"].get("storageClassName").is_some() {
            return;
        }
        let (_, classes) = self.store.list("storage.k8s.io/storageclasses", None);
        let default = classes.iter().find(|(_, entry)| {
            entry.object()["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
        });
        if let Some(((_, name), _)) = default {
            claim["spec"]["storageClassName"] = (&**name).into();
        }
    }
}

/// What is in use is not deleted.
fn protect(object: &mut Value, finalizer: &str) {
    let mut list = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    if !list.iter().any(|have| have == finalizer) {
        list.push(finalizer.into());
    }
    object["metadata"]["finalizers"] = Value::Array(list);
}

/// `stringData` is only written: it becomes `data`.
pub(crate) fn string_data(secret: &mut Value) {
    use base64::Engine as _;
    let Some(Value::Object(texts)) = secret.as_object_mut().and_then(|secret| secret.remove("stringData")) else {
        return;
    };
    for (key, text) in texts {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or_default());
        secret["data"][key] = encoded.into();
    }
}

/// A job selects its pods by its own uid, unless it says how.
fn job_selector(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let uid = job["metadata"]["uid"].clone();
    let name = job["metadata"]["name"].clone();
    let spec = &mut job["spec"];
    if spec["selector"].is_null() {
        spec["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
    }
    let metadata = &mut spec["template"]["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        metadata["labels"][key] = value.clone();
    }
    // A job without labels has those of its pods.
    let labels = metadata["labels"].clone();
    if job["metadata"]["labels"].as_object().is_none_or(Map::is_empty) {
        job["metadata"]["labels"] = labels;
    }
}
