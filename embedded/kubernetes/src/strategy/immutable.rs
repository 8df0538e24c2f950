//! What cannot be changed once it is there.

use serde_json::Value;

use crate::registry::Kind;
use crate::status::Cause;

const IMMUTABLE: &str = "field is immutable";

/// Compares a field, by path, and says that it cannot change.
fn fixed(before: &Value, after: &Value, path: &str, causes: &mut Vec<Cause>) {
    let pointer = format!("/{}", path.replace('.', "/"));
    let (old, new) = (before.pointer(&pointer), after.pointer(&pointer));
    if old != new {
        causes.push(Cause::invalid(path, new.unwrap_or(&Value::Null), IMMUTABLE));
    }
}

/// The spec without some of its fields.
fn spec_without(object: &Value, fields: &[&str]) -> Value {
    let mut spec = object["spec"].clone();
    if let Some(map) = spec.as_object_mut() {
        map.retain(|key, _| !fields.contains(&key.as_str()));
    }
    spec
}

pub(crate) fn check(kind: &Kind, before: &Value, after: &Value, causes: &mut Vec<Cause>) {
    match &*kind.store {
        "apps/deployments" | "apps/replicasets" | "apps/daemonsets" => fixed(before, after, "spec.selector", causes),
        "apps/statefulsets" => {
            let free = [
                "replicas",
                "ordinals",
                "template",
                "updateStrategy",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
                "minReadySeconds",
            ];
            if spec_without(before, &free) != spec_without(after, &free) {
                causes.push(Cause::forbidden(
                    "spec",
                    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
                ));
            }
        }
        "batch/jobs" => {
            for path in ["spec.completionMode", "spec.selector", "spec.podFailurePolicy", "spec.backoffLimitPerIndex"] {
                fixed(before, after, path, causes);
            }
            if before["spec"]["completionMode"] != "Indexed" {
                fixed(before, after, "spec.completions", causes);
            }
            let suspended = before["spec"]["suspend"] == true && before["status"]["startTime"].is_null();
            if !suspended {
                fixed(before, after, "spec.template", causes);
            }
        }
        "/configmaps" | "/secrets" => {
            let is = |object: &Value| object["immutable"] == true;
            if is(before) {
                if !is(after) {
                    causes.push(Cause::forbidden("immutable", "field is immutable when `immutable` is set"));
                }
                for field in ["data", "binaryData"] {
                    if before[field] != after[field] {
                        causes.push(Cause::forbidden(field, "field is immutable when `immutable` is set"));
                    }
                }
            }
            if &*kind.store == "/secrets" {
                fixed(before, after, "type", causes);
            }
        }
        "/persistentvolumeclaims" => {
            let free = ["resources", "volumeName", "volumeAttributesClassName"];
            if spec_without(before, &free) != spec_without(after, &free) {
                causes.push(Cause::forbidden(
                    "spec",
                    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
                ));
            }
        }
        "/services" => {
            let address = |object: &Value| object["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
            let external = |object: &Value| object["spec"]["type"] == "ExternalName";
            if !address(before).is_empty() && address(before) != address(after) && !external(before) && !external(after)
            {
                causes.push(Cause::invalid(
                    "spec.clusterIPs[0]",
                    &serde_json::json!([after["spec"]["clusterIP"]]),
                    "may not change once set",
                ));
            }
        }
        "/pods" => {
            let image_free = |object: &Value| {
                let mut spec = spec_without(
                    object,
                    &["activeDeadlineSeconds", "tolerations", "nodeName", "schedulingGates", "ephemeralContainers"],
                );
                for list in ["containers", "initContainers"] {
                    for container in spec[list].as_array_mut().into_iter().flatten() {
                        for field in ["image", "imagePullPolicy", "resources"] {
                            container[field] = Value::Null;
                        }
                    }
                }
                if spec["initContainers"].is_null()
                    && let Some(spec) = spec.as_object_mut()
                {
                    spec.remove("initContainers");
                }
                spec
            };
            if image_free(before) != image_free(after) {
                causes.push(Cause::forbidden(
                    "spec",
                    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
                ));
            }
        }
        "rbac.authorization.k8s.io/rolebindings" | "rbac.authorization.k8s.io/clusterrolebindings"
            if before["roleRef"] != after["roleRef"] =>
        {
            causes.push(Cause::invalid("roleRef", &after["roleRef"], "cannot change roleRef"));
        }
        "storage.k8s.io/storageclasses" => {
            for field in ["provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"] {
                if before[field] != after[field] {
                    causes.push(Cause::forbidden(field, "updates to this field are forbidden."));
                }
            }
        }
        "scheduling.k8s.io/priorityclasses" => {
            for field in ["value", "preemptionPolicy"] {
                if before[field] != after[field] {
                    causes.push(Cause::forbidden(field, "may not be changed in an update."));
                }
            }
        }
        "apiextensions.k8s.io/customresourcedefinitions" => {
            for path in ["spec.group", "spec.scope", "spec.names.plural", "spec.names.kind"] {
                fixed(before, after, path, causes);
            }
        }
        "discovery.k8s.io/endpointslices" => fixed(before, after, "addressType", causes),
        "node.k8s.io/runtimeclasses" => fixed(before, after, "handler", causes),
        "networking.k8s.io/ingressclasses" => fixed(before, after, "spec.controller", causes),
        _ => {}
    }
}
