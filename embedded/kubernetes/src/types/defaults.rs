//! What a value is when it is not given: what the schema says, and what a real server sets in code.

use ksail_kubernetes_schema::{Object, Shape, TypeId, Types};
use serde_json::{Map, Value, json};

use super::decode::is_zero;

/// Sets the defaults of a built-in object.
pub(crate) fn builtin(types: &Types, of: TypeId, value: &mut Value) {
    match (types.shape(of), value) {
        (Shape::List { items, .. }, Value::Array(list)) if has_objects(types, *items) => {
            for item in list {
                builtin(types, *items, item);
            }
        }
        (Shape::Map { values, .. }, Value::Object(map)) if has_objects(types, *values) => {
            for item in map.values_mut() {
                builtin(types, *values, item);
            }
        }
        (Shape::Object(object), Value::Object(map)) => {
            in_code(&object.name, map);
            from_schema(object, map);
            for (key, item) in map.iter_mut() {
                if let Some(field) = object.fields.get(key.as_str()) {
                    builtin(types, field.of, item);
                }
            }
        }
        _ => {}
    }
}

fn has_objects(types: &Types, of: TypeId) -> bool {
    matches!(types.shape(of), Shape::Object(_) | Shape::List { .. } | Shape::Map { .. })
}

fn from_schema(object: &Object, map: &mut Map<String, Value>) {
    for (name, field) in &object.fields {
        // A zero default only says that the field is always written.
        if let Some(default) = field.default.as_ref().filter(|default| !is_zero(default))
            && map.get(&**name).is_none_or(is_zero)
        {
            map.insert(name.to_string(), default.clone());
        }
    }
}

/// Sets the defaults of a custom resource.
pub(crate) fn custom(types: &Types, of: TypeId, value: &mut Value) {
    match (types.shape(of), value) {
        (Shape::List { items, .. }, Value::Array(list)) => {
            for item in list {
                custom(types, *items, item);
            }
        }
        (Shape::Map { values, .. }, Value::Object(map)) => {
            for item in map.values_mut() {
                custom(types, *values, item);
            }
        }
        (Shape::Object(object), Value::Object(map)) => {
            for (name, field) in &object.fields {
                if let Some(default) = &field.default
                    && map.get(&**name).is_none_or(|value| value.is_null() && !types.node(field.of).nullable)
                {
                    map.insert(name.to_string(), default.clone());
                }
                if let Some(item) = map.get_mut(&**name) {
                    custom(types, field.of, item);
                }
            }
        }
        _ => {}
    }
}

/// Sets fields that are not there.
fn set<const N: usize>(map: &mut Map<String, Value>, defaults: [(&str, Value); N]) {
    for (name, value) in defaults {
        if map.get(name).is_none_or(Value::is_null) {
            map.insert(name.to_owned(), value);
        }
    }
}

/// Sets a text that is not there or empty.
fn text(map: &mut Map<String, Value>, name: &str, value: &str) {
    if map.get(name).is_none_or(is_zero) {
        map.insert(name.to_owned(), value.into());
    }
}

fn inner<'a>(map: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(name).and_then(Value::as_object_mut)
}

fn is(map: &Map<String, Value>, name: &str, value: &str) -> bool {
    map.get(name).and_then(Value::as_str) == Some(value)
}

fn in_code(name: &str, map: &mut Map<String, Value>) {
    let Some(name) = name.strip_prefix("io.k8s.api.") else { return elsewhere(name, map) };
    let (group, name) = name.split_once('.').unwrap_or((name, ""));
    match group {
        "core" => core(name, map),
        "apps" => apps(name, map),
        "batch" => batch(name, map),
        _ => others(group, name, map),
    }
}

fn core(name: &str, map: &mut Map<String, Value>) {
    match name {
        "v1.PodSpec" => {
            text(map, "dnsPolicy", "ClusterFirst");
            text(map, "restartPolicy", "Always");
            text(map, "schedulerName", "default-scheduler");
            set(map, [("terminationGracePeriodSeconds", 30.into()), ("securityContext", json!({}))]);
            // Two names of one field.
            match map.get("serviceAccountName").or_else(|| map.get("serviceAccount")).cloned() {
                Some(account) => {
                    map.insert("serviceAccount".to_owned(), account.clone());
                    map.insert("serviceAccountName".to_owned(), account);
                }
                None => {
                    map.remove("serviceAccount");
                }
            }
        }
        "v1.Pod" => pod(map),
        "v1.Container" | "v1.EphemeralContainerCommon" | "v1.EphemeralContainer" => {
            text(map, "terminationMessagePath", "/dev/termination-log");
            text(map, "terminationMessagePolicy", "File");
            let image = map.get("image").and_then(Value::as_str).unwrap_or_default();
            let name = image.rsplit('/').next().unwrap_or_default();
            let latest = !image.contains('@') && (!name.contains(':') || name.ends_with(":latest"));
            text(map, "imagePullPolicy", if latest { "Always" } else { "IfNotPresent" });
        }
        "v1.Probe" => {
            for (name, value) in
                [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
            {
                if map.get(name).is_none_or(is_zero) {
                    map.insert(name.to_owned(), value.into());
                }
            }
        }
        "v1.HTTPGetAction" => {
            text(map, "path", "/");
            text(map, "scheme", "HTTP");
        }
        "v1.GRPCAction" => set(map, [("service", "".into())]),
        "v1.ObjectFieldSelector" => text(map, "apiVersion", "v1"),
        "v1.ConfigMapVolumeSource"
        | "v1.SecretVolumeSource"
        | "v1.DownwardAPIVolumeSource"
        | "v1.ProjectedVolumeSource" => {
            set(map, [("defaultMode", 420.into())]);
        }
        "v1.ServiceAccountTokenProjection" => set(map, [("expirationSeconds", 3600.into())]),
        "v1.HostPathVolumeSource" => set(map, [("type", "".into())]),
        "v1.ResourceFieldSelector" => set(map, [("divisor", "0".into())]),
        "v1.Volume" if map.len() == 1 && map.contains_key("name") => set(map, [("emptyDir", json!({}))]),
        "v1.ServiceSpec" => service(map),
        "v1.Secret" => text(map, "type", "Opaque"),
        "v1.PersistentVolumeClaimSpec" => set(map, [("volumeMode", "Filesystem".into())]),
        "v1.PersistentVolumeClaimStatus" => text(map, "phase", "Pending"),
        "v1.PersistentVolumeSpec" => {
            text(map, "persistentVolumeReclaimPolicy", "Retain");
            set(map, [("volumeMode", "Filesystem".into())]);
        }
        "v1.PersistentVolumeStatus" => text(map, "phase", "Pending"),
        "v1.Namespace" => {
            if let Some(metadata) = inner(map, "metadata")
                && let Some(name) = metadata.get("name").cloned()
            {
                set(metadata, [("labels", json!({}))]);
                if let Some(labels) = inner(metadata, "labels") {
                    labels.insert("kubernetes.io/metadata.name".to_owned(), name);
                }
            }
        }
        "v1.NamespaceStatus" => text(map, "phase", "Active"),
        "v1.EndpointPort" => text(map, "protocol", "TCP"),
        "v1.LimitRangeItem" if is(map, "type", "Container") => limits(map),
        "v1.ReplicationController" => {
            let template = map.get("spec").map_or(Value::Null, |spec| spec["template"]["metadata"]["labels"].clone());
            if template.is_object() {
                if let Some(spec) = inner(map, "spec") {
                    set(spec, [("selector", template.clone()), ("replicas", 1.into())]);
                }
                if let Some(metadata) = inner(map, "metadata") {
                    set(metadata, [("labels", template)]);
                }
            }
        }
        "v1.ReplicationControllerSpec" => set(map, [("replicas", 1.into())]),
        _ => {}
    }
}

fn pod(map: &mut Map<String, Value>) {
    if let Some(status) = inner(map, "status") {
        text(status, "phase", "Pending");
    }
    let Some(spec) = inner(map, "spec") else { return };
    set(spec, [("enableServiceLinks", true.into())]);
    let host = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if host {
                for port in container["ports"].as_array_mut().into_iter().flatten() {
                    let number = port["containerPort"].clone();
                    if let Some(port) = port.as_object_mut() {
                        set(port, [("hostPort", number)]);
                    }
                }
            }
            let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) else { continue };
            let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { continue };
            let requests = resources.entry("requests").or_insert_with(|| json!({}));
            if let Some(requests) = requests.as_object_mut() {
                for (name, limit) in limits {
                    requests.entry(name).or_insert(limit);
                }
            }
        }
        if host && let Some(Value::Array(list)) = spec.get_mut(list) {
            // A pod on the host's network has no other ports than the host's.
            for container in list {
                if let Some(container) = container.as_object_mut()
                    && container.get("ports").is_some_and(Value::is_null)
                {
                    container.remove("ports");
                }
            }
        }
    }
}

fn service(map: &mut Map<String, Value>) {
    text(map, "sessionAffinity", "None");
    text(map, "type", "ClusterIP");
    if is(map, "sessionAffinity", "ClientIP") {
        set(map, [("sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10800}}))]);
    } else {
        map.remove("sessionAffinityConfig");
    }
    for port in map.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let number = port["port"].clone();
        if let Some(port) = port.as_object_mut() {
            text(port, "protocol", "TCP");
            if port.get("targetPort").is_none_or(is_zero) {
                port.insert("targetPort".to_owned(), number);
            }
        }
    }
    if is(map, "type", "NodePort") || is(map, "type", "LoadBalancer") {
        text(map, "externalTrafficPolicy", "Cluster");
    }
    if is(map, "type", "LoadBalancer") {
        set(map, [("allocateLoadBalancerNodePorts", true.into())]);
    }
    if !is(map, "type", "ExternalName") {
        set(map, [("internalTrafficPolicy", "Cluster".into())]);
    }
}

fn limits(map: &mut Map<String, Value>) {
    let part =
        |map: &Map<String, Value>, name: &str| map.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let mut default = part(map, "default");
    for (name, value) in part(map, "max") {
        default.entry(name).or_insert(value);
    }
    let mut request = part(map, "defaultRequest");
    for (name, value) in default.iter().map(|(name, value)| (name.clone(), value.clone())).chain(part(map, "min")) {
        request.entry(name).or_insert(value);
    }
    for (name, part) in [("default", default), ("defaultRequest", request)] {
        if !part.is_empty() {
            map.insert(name.to_owned(), Value::Object(part));
        }
    }
}

/// Counts the templates of a daemon set.
pub(crate) const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn apps(name: &str, map: &mut Map<String, Value>) {
    match name {
        "v1.DeploymentSpec" => set(
            map,
            [("replicas", 1.into()), ("revisionHistoryLimit", 10.into()), ("progressDeadlineSeconds", 600.into())],
        ),
        "v1.DeploymentStrategy" => {
            text(map, "type", "RollingUpdate");
            if is(map, "type", "RollingUpdate") {
                set(map, [("rollingUpdate", json!({}))]);
                if let Some(rolling) = inner(map, "rollingUpdate") {
                    set(rolling, [("maxUnavailable", "25%".into()), ("maxSurge", "25%".into())]);
                }
            }
        }
        "v1.ReplicaSetSpec" => set(map, [("replicas", 1.into())]),
        "v1.StatefulSetSpec" => {
            text(map, "podManagementPolicy", "OrderedReady");
            set(map, [("replicas", 1.into()), ("revisionHistoryLimit", 10.into())]);
            set(map, [("persistentVolumeClaimRetentionPolicy", json!({}))]);
            for claim in map.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten() {
                claim["apiVersion"] = "v1".into();
                claim["kind"] = "PersistentVolumeClaim".into();
            }
        }
        "v1.StatefulSetPersistentVolumeClaimRetentionPolicy" => {
            text(map, "whenDeleted", "Retain");
            text(map, "whenScaled", "Retain");
        }
        "v1.StatefulSetUpdateStrategy" => {
            text(map, "type", "RollingUpdate");
            if is(map, "type", "RollingUpdate") {
                set(map, [("rollingUpdate", json!({}))]);
                if let Some(rolling) = inner(map, "rollingUpdate") {
                    set(rolling, [("partition", 0.into())]);
                }
            }
        }
        "v1.DaemonSet" => {
            if let Some(metadata) = inner(map, "metadata") {
                set(metadata, [("annotations", json!({}))]);
                if let Some(annotations) = inner(metadata, "annotations") {
                    set(annotations, [(TEMPLATE_GENERATION, "1".into())]);
                }
            }
        }
        "v1.DaemonSetSpec" => set(map, [("revisionHistoryLimit", 10.into())]),
        "v1.DaemonSetUpdateStrategy" => {
            text(map, "type", "RollingUpdate");
            if is(map, "type", "RollingUpdate") {
                set(map, [("rollingUpdate", json!({}))]);
                if let Some(rolling) = inner(map, "rollingUpdate") {
                    set(rolling, [("maxUnavailable", 1.into()), ("maxSurge", 0.into())]);
                }
            }
        }
        _ => {}
    }
}

fn batch(name: &str, map: &mut Map<String, Value>) {
    match name {
        "v1.Job" => {
            let Some(map) = inner(map, "spec") else { return };
            set(map, [("manualSelector", false.into())]);
            let neither = ["completions", "parallelism"].iter().all(|name| map.get(*name).is_none_or(Value::is_null));
            if neither {
                set(map, [("completions", 1.into())]);
            }
            let by_index = map.get("backoffLimitPerIndex").is_some_and(|limit| !limit.is_null());
            let replaced = if map.contains_key("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
            set(
                map,
                [
                    ("parallelism", 1.into()),
                    ("backoffLimit", if by_index { i32::MAX.into() } else { 6.into() }),
                    ("completionMode", "NonIndexed".into()),
                    ("suspend", false.into()),
                    ("podReplacementPolicy", replaced.into()),
                ],
            );
        }
        "v1.PodFailurePolicyOnPodConditionsPattern" => text(map, "status", "True"),
        "v1.CronJobSpec" => {
            text(map, "concurrencyPolicy", "Allow");
            set(
                map,
                [
                    ("suspend", false.into()),
                    ("successfulJobsHistoryLimit", 3.into()),
                    ("failedJobsHistoryLimit", 1.into()),
                ],
            );
        }
        _ => {}
    }
}

fn others(group: &str, name: &str, map: &mut Map<String, Value>) {
    match (group, name) {
        ("autoscaling", "v2.HorizontalPodAutoscalerSpec") => {
            set(map, [("minReplicas", 1.into())]);
            if map.get("metrics").is_none_or(is_zero) {
                let cpu = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
                map.insert("metrics".to_owned(), cpu);
            }
        }
        ("autoscaling", "v1.HorizontalPodAutoscalerSpec") => {
            set(map, [("minReplicas", 1.into()), ("targetCPUUtilizationPercentage", 80.into())]);
        }
        ("autoscaling", "v2.HorizontalPodAutoscalerBehavior") => {
            let up = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]});
            let down =
                json!({"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]});
            for (name, defaults) in [("scaleUp", up), ("scaleDown", down)] {
                set(map, [(name, json!({}))]);
                let Some(rules) = inner(map, name) else { continue };
                for (key, value) in defaults.as_object().into_iter().flatten() {
                    if rules.get(key).is_none_or(Value::is_null) {
                        rules.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        ("networking", "v1.NetworkPolicySpec") if map.get("policyTypes").is_none_or(is_zero) => {
            let egress = map.get("egress").is_some_and(|rules| !is_zero(rules));
            let kinds = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            map.insert("policyTypes".to_owned(), kinds);
        }
        ("networking", "v1.NetworkPolicyPort") => set(map, [("protocol", "TCP".into())]),
        ("networking", "v1.IngressClassParametersReference") => set(map, [("scope", "Cluster".into())]),
        ("rbac", "v1.RoleRef") => text(map, "apiGroup", "rbac.authorization.k8s.io"),
        ("rbac", "v1.Subject") if !is(map, "kind", "ServiceAccount") => {
            text(map, "apiGroup", "rbac.authorization.k8s.io");
        }
        ("storage", "v1.StorageClass") => {
            set(map, [("reclaimPolicy", "Delete".into()), ("volumeBindingMode", "Immediate".into())]);
        }
        ("storage", "v1.CSIDriverSpec") => {
            set(
                map,
                [
                    ("attachRequired", true.into()),
                    ("podInfoOnMount", false.into()),
                    ("storageCapacity", false.into()),
                    ("fsGroupPolicy", "ReadWriteOnceWithFSType".into()),
                    ("requiresRepublish", false.into()),
                    ("seLinuxMount", false.into()),
                ],
            );
            if map.get("volumeLifecycleModes").is_none_or(is_zero) {
                map.insert("volumeLifecycleModes".to_owned(), json!(["Persistent"]));
            }
        }
        ("scheduling", "v1.PriorityClass") => set(map, [("preemptionPolicy", "PreemptLowerPriority".into())]),
        ("admissionregistration", _) => admission(name, map),
        ("discovery", "v1.EndpointPort") => set(map, [("name", "".into()), ("protocol", "TCP".into())]),
        ("flowcontrol", "v1.FlowSchemaSpec") if map.get("matchingPrecedence").is_none_or(is_zero) => {
            map.insert("matchingPrecedence".to_owned(), 1000.into());
        }
        ("flowcontrol", "v1.LimitedPriorityLevelConfiguration") => {
            set(map, [("nominalConcurrencyShares", 30.into()), ("lendablePercent", 0.into())]);
        }
        ("flowcontrol", "v1.ExemptPriorityLevelConfiguration") => {
            set(map, [("nominalConcurrencyShares", 0.into()), ("lendablePercent", 0.into())]);
        }
        ("flowcontrol", "v1.QueuingConfiguration") => {
            for (name, value) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
                if map.get(name).is_none_or(is_zero) {
                    map.insert(name.to_owned(), value.into());
                }
            }
        }
        ("resource", "v1.ExactDeviceRequest" | "v1.DeviceSubRequest") => {
            text(map, "allocationMode", "ExactCount");
            if is(map, "allocationMode", "ExactCount") && map.get("count").is_none_or(is_zero) {
                map.insert("count".to_owned(), 1.into());
            }
        }
        ("resource", "v1.DeviceToleration") => text(map, "operator", "Equal"),
        ("resource", "v1.DeviceTaint") => {}
        _ => {}
    }
}

fn admission(name: &str, map: &mut Map<String, Value>) {
    match name {
        "v1.ValidatingWebhook" | "v1.MutatingWebhook" => {
            set(
                map,
                [
                    ("failurePolicy", "Fail".into()),
                    ("matchPolicy", "Equivalent".into()),
                    ("namespaceSelector", json!({})),
                    ("objectSelector", json!({})),
                    ("timeoutSeconds", 10.into()),
                ],
            );
            if name == "v1.MutatingWebhook" {
                set(map, [("reinvocationPolicy", "Never".into())]);
            }
        }
        "v1.RuleWithOperations" | "v1.NamedRuleWithOperations" => set(map, [("scope", "*".into())]),
        "v1.ServiceReference" => set(map, [("port", 443.into())]),
        "v1.ValidatingAdmissionPolicySpec" | "v1.MutatingAdmissionPolicySpec" => {
            set(map, [("failurePolicy", "Fail".into())]);
        }
        "v1.MatchResources" => set(
            map,
            [("matchPolicy", "Equivalent".into()), ("namespaceSelector", json!({})), ("objectSelector", json!({}))],
        ),
        "v1.ParamRef" => {}
        _ => {}
    }
}

fn elsewhere(name: &str, map: &mut Map<String, Value>) {
    if name.ends_with(".apiregistration.v1.ServiceReference") || name.ends_with(".apiextensions.v1.ServiceReference") {
        set(map, [("port", 443.into())]);
    } else if name.ends_with(".apiextensions.v1.CustomResourceDefinitionSpec") {
        set(map, [("conversion", json!({"strategy": "None"}))]);
        if let Some(names) = inner(map, "names") {
            let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
            text(names, "singular", &kind.to_lowercase());
            text(names, "listKind", &format!("{kind}List"));
        }
    }
}
