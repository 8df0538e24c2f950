//! What cannot be changed once it is there.

use serde_json::Value;

use crate::status::Cause;
use crate::write::Place;

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

/// What of a volume may change; all else is where its data lie.
const FREE_OF_VOLUMES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// The template of a Job without where its pods may go and what they may take, which may change before it has begun.
fn template_without_placement(object: &Value) -> Value {
    let mut spec = object["spec"]["template"]["spec"].clone();
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|key, _| !["affinity", "nodeSelector", "schedulingGates", "tolerations"].contains(&key.as_str()));
    }
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            container["resources"] = Value::Null;
        }
    }
    spec
}

pub(crate) fn check(place: &Place, before: &Value, after: &Value, causes: &mut Vec<Cause>) {
    let kind = &place.kind;
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
            for field in ["completionMode", "selector", "podFailurePolicy", "backoffLimitPerIndex", "successPolicy"] {
                fixed(before, after, &format!("spec.{field}"), causes);
            }
            if before["spec"]["completionMode"] != "Indexed" {
                fixed(before, after, "spec.completions", causes);
            }
            let suspended = before["spec"]["suspend"] == true && before["status"]["startTime"].is_null();
            if !suspended {
                fixed(before, after, "spec.template", causes);
            } else if template_without_placement(before) != template_without_placement(after) {
                causes.push(Cause::invalid("spec.template.spec", &after["spec"]["template"]["spec"], IMMUTABLE));
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
            // A claim that is bound may ask for more; one that waits for its volume may be given one.
            let is_bound = before["status"]["phase"] == "Bound";
            let is_free = before["spec"]["volumeName"].as_str().is_none_or(str::is_empty);
            let fixed_part = |object: &Value| {
                let mut spec = spec_without(object, &["volumeAttributesClassName"]);
                if is_bound && let Some(requests) = spec["resources"]["requests"].as_object_mut() {
                    requests.remove("storage");
                }
                if is_free && let Some(spec) = spec.as_object_mut() {
                    spec.remove("volumeName");
                }
                spec
            };
            if fixed_part(before) != fixed_part(after) {
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
            let balanced = |object: &Value| object["spec"]["type"] == "LoadBalancer";
            let class = |object: &Value| object["spec"]["loadBalancerClass"].clone();
            if balanced(before) && balanced(after) && class(before) != class(after) {
                causes.push(Cause::invalid("spec.loadBalancerClass", &class(after), "may not change once set"));
            }
        }
        "/nodes" => {
            for (field, told) in [("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
                let (old, new) = (&before["spec"][field], &after["spec"][field]);
                if !old.is_null() && old != new {
                    let detail = format!("node updates may not change {told} except from \"\" to valid");
                    causes.push(Cause::forbidden(format!("spec.{field}"), &detail));
                }
            }
        }
        "/persistentvolumes" => {
            if spec_without(before, &FREE_OF_VOLUMES) != spec_without(after, &FREE_OF_VOLUMES) {
                causes.push(Cause::forbidden(
                    "spec.persistentvolumesource",
                    "spec.persistentvolumesource is immutable after creation",
                ));
            }
            if before["spec"]["volumeMode"] != after["spec"]["volumeMode"] {
                causes.push(Cause::invalid("volumeMode", &after["spec"]["volumeMode"], IMMUTABLE));
            }
            let affinity = |object: &Value| object["spec"]["nodeAffinity"].clone();
            if !affinity(before).is_null() && affinity(before) != affinity(after) {
                let detail = "field is immutable, except for updating from beta label to GA";
                causes.push(Cause::invalid("nodeAffinity", &affinity(after), detail));
            }
        }
        "/resourcequotas" => fixed(before, after, "spec.scopes", causes),
        "/pods" => {
            let image_free = |object: &Value| {
                let mut spec = spec_without(
                    object,
                    &["activeDeadlineSeconds", "tolerations", "nodeName", "schedulingGates", "ephemeralContainers"],
                );
                for list in ["containers", "initContainers"] {
                    for container in spec[list].as_array_mut().into_iter().flatten() {
                        container["image"] = Value::Null;
                        if place.subresource == "resize" {
                            container["resources"] = Value::Null;
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
        "apps/controllerrevisions" => fixed(before, after, "data", causes),
        "resource.k8s.io/resourceclaims" | "resource.k8s.io/resourceclaimtemplates" => {
            fixed(before, after, "spec", causes);
        }
        "resource.k8s.io/resourceslices" => {
            for path in ["spec.driver", "spec.pool.name", "spec.nodeName"] {
                fixed(before, after, path, causes);
            }
        }
        "storage.k8s.io/volumeattachments" => fixed(before, after, "spec", causes),
        "storage.k8s.io/volumeattributesclasses" => {
            for field in ["driverName", "parameters"] {
                if before[field] != after[field] {
                    causes.push(Cause::forbidden(field, &format!("updates to {field} are forbidden.")));
                }
            }
        }
        "storage.k8s.io/csistoragecapacities" => {
            for field in ["nodeTopology", "storageClassName"] {
                fixed(before, after, field, causes);
            }
        }
        "storage.k8s.io/csidrivers" => {
            if before["spec"]["attachRequired"] != after["spec"]["attachRequired"] {
                causes.push(Cause::invalid("spec.attachedRequired", &after["spec"]["attachRequired"], IMMUTABLE));
            }
            fixed(before, after, "spec.volumeLifecycleModes", causes);
        }
        "networking.k8s.io/servicecidrs" => fixed(before, after, "spec.cidrs", causes),
        "node.k8s.io/runtimeclasses" => fixed(before, after, "handler", causes),
        "networking.k8s.io/ingressclasses" => fixed(before, after, "spec.controller", causes),
        _ => {}
    }
}
