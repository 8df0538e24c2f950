//! Tables, as kubectl shows them. The columns are those of a real server; what stands in their cells is made here.

use serde_json::{Value, json};

use super::router::Asked;
use crate::registry::Kind;

/// What stands in a cell of which nothing is known.
const NONE: &str = "<none>";
const UNKNOWN: &str = "<unknown>";

/// Objects as a table, with as much of each object as the request asks for.
pub(crate) fn table(kind: &Kind, objects: &[Value], metadata: Value, asked: &Asked) -> Value {
    table_with(kind, objects, metadata, asked.query("includeObject").unwrap_or("Metadata"))
}

/// Objects as a table.
pub(crate) fn table_with(kind: &Kind, objects: &[Value], metadata: Value, include: &str) -> Value {
    let columns: Vec<Value> = kind
        .resource
        .columns
        .iter()
        .map(|column| {
            json!({"name": column.name, "type": column.of, "format": column.format, "description": "", "priority": column.priority})
        })
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells: Vec<Value> = kind
                .resource
                .columns
                .iter()
                .enumerate()
                .map(|(index, column)| cell(kind, index, &column.name, object))
                .collect();
            let mut row = json!({"cells": cells});
            match include {
                "None" => row["object"] = Value::Null,
                "Object" => row["object"] = object.clone(),
                _ => row["object"] = super::read::metadata_only(object),
            }
            row
        })
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows})
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => NONE.to_owned(),
        Value::String(text) if text.is_empty() => NONE.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// How long ago a time was, as people say it.
fn age(time: &Value) -> String {
    let Some(time) = time.as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok()) else {
        return UNKNOWN.to_owned();
    };
    duration((jiff::Timestamp::now().as_second() - time.as_second()).max(0))
}

/// A duration in seconds, in at most two units.
pub(crate) fn duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let two = |big: i64, one: &str, rest: i64, other: &str| {
        if rest == 0 { format!("{big}{one}") } else { format!("{big}{one}{rest}{other}") }
    };
    match seconds {
        _ if seconds < 2 * MINUTE => format!("{seconds}s"),
        _ if seconds < 10 * MINUTE => two(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        _ if seconds < 3 * HOUR => format!("{}m", seconds / MINUTE),
        _ if seconds < 8 * HOUR => two(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        _ if seconds < 2 * DAY => format!("{}h", seconds / HOUR),
        _ if seconds < 8 * DAY => two(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        _ if seconds < 2 * YEAR => format!("{}d", seconds / DAY),
        _ if seconds < 8 * YEAR => two(seconds / YEAR, "y", seconds % YEAR / DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

/// A selector as kubectl writes it.
fn selector(value: &Value) -> String {
    let labels = if value["matchLabels"].is_object() || value["matchExpressions"].is_array() {
        &value["matchLabels"]
    } else {
        value
    };
    let mut parts: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for expression in list(&value["matchExpressions"]) {
        let values: Vec<&str> = list(&expression["values"]).iter().filter_map(Value::as_str).collect();
        let key = expression["key"].as_str().unwrap_or_default();
        parts.push(match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    if parts.is_empty() { NONE.to_owned() } else { parts.join(",") }
}

fn joined<'a>(values: impl Iterator<Item = &'a Value>) -> String {
    let all: Vec<String> = values.map(text).collect();
    if all.is_empty() { NONE.to_owned() } else { all.join(",") }
}

fn modes(value: &Value) -> String {
    let short = |mode: &Value| match mode.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    list(value).iter().map(short).collect::<Vec<_>>().join(",")
}

fn cell(kind: &Kind, index: usize, column: &str, object: &Value) -> Value {
    let metadata = &object["metadata"];
    if let Some(custom) = &kind.custom {
        return match (index, custom.printer_columns.get(index.wrapping_sub(1))) {
            (0, _) => metadata["name"].clone(),
            (_, None) => age(&metadata["creationTimestamp"]).into(),
            (_, Some(column)) => custom_cell(column, object),
        };
    }
    let (spec, status) = (&object["spec"], &object["status"]);
    let template = &spec["template"]["spec"];
    match (&*kind.store, column) {
        ("/events", "Name") => metadata["name"].clone(),
        (_, "Name") => metadata["name"].clone(),
        (_, "Age") => age(&metadata["creationTimestamp"]).into(),
        (_, "Created At") => metadata["creationTimestamp"].clone(),
        (_, "Containers") => {
            joined(list(&containers_of(kind, object)["containers"]).iter().map(|container| &container["name"])).into()
        }
        (_, "Images") => {
            joined(list(&containers_of(kind, object)["containers"]).iter().map(|container| &container["image"])).into()
        }
        ("/configmaps", "Data") => (count(&object["data"]) + count(&object["binaryData"])).into(),
        ("/secrets", "Data") => count(&object["data"]).into(),
        ("/secrets", "Type") => text(&object["type"]).into(),
        ("/namespaces", "Status") => status["phase"].clone(),
        ("/pods", _) => pod(column, object),
        ("/nodes", _) => node(column, object),
        ("/services", _) => service(column, object),
        ("/persistentvolumeclaims" | "/persistentvolumes", _) => volume(column, object),
        ("/events", _) => event(column, object),
        ("/endpoints", "Endpoints") => endpoints(object).into(),
        ("discovery.k8s.io/endpointslices", "AddressType") => object["addressType"].clone(),
        ("discovery.k8s.io/endpointslices", "Ports") => {
            let ports = list(&object["ports"]);
            if ports.is_empty() { "<unset>".into() } else { joined(ports.iter().map(|port| &port["port"])).into() }
        }
        ("discovery.k8s.io/endpointslices", "Endpoints") => {
            let addresses: Vec<String> =
                list(&object["endpoints"]).iter().flat_map(|endpoint| list(&endpoint["addresses"])).map(text).collect();
            shortened(&addresses, "<unset>").into()
        }
        ("apps/deployments", "Ready") => {
            format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"])).into()
        }
        ("apps/deployments", "Up-to-date") => number(&status["updatedReplicas"]).into(),
        ("apps/deployments", "Available") => number(&status["availableReplicas"]).into(),
        ("apps/statefulsets", "Ready") => {
            format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"])).into()
        }
        ("apps/replicasets" | "/replicationcontrollers", "Desired") => number(&spec["replicas"]).into(),
        ("apps/replicasets" | "/replicationcontrollers", "Current") => number(&status["replicas"]).into(),
        ("apps/replicasets" | "/replicationcontrollers", "Ready") => number(&status["readyReplicas"]).into(),
        ("apps/daemonsets", "Desired") => number(&status["desiredNumberScheduled"]).into(),
        ("apps/daemonsets", "Current") => number(&status["currentNumberScheduled"]).into(),
        ("apps/daemonsets", "Ready") => number(&status["numberReady"]).into(),
        ("apps/daemonsets", "Up-to-date") => number(&status["updatedNumberScheduled"]).into(),
        ("apps/daemonsets", "Available") => number(&status["numberAvailable"]).into(),
        ("apps/daemonsets", "Node Selector") => selector(&template["nodeSelector"]).into(),
        ("apps/controllerrevisions", "Controller") => {
            let owner = list(&metadata["ownerReferences"]).iter().find(|owner| owner["controller"] == true);
            owner.map_or_else(
                || NONE.into(),
                |owner| format!("{}/{}", text(&owner["kind"]).to_lowercase(), text(&owner["name"])).into(),
            )
        }
        ("apps/controllerrevisions", "Revision") => object["revision"].clone(),
        ("batch/jobs", _) => job(column, object),
        ("batch/cronjobs", "Schedule") => spec["schedule"].clone(),
        ("batch/cronjobs", "Timezone") => text(&spec["timeZone"]).into(),
        ("batch/cronjobs", "Suspend") => if spec["suspend"] == true { "True" } else { "False" }.into(),
        ("batch/cronjobs", "Active") => count(&status["active"]).into(),
        ("batch/cronjobs", "Last Schedule") => {
            if status["lastScheduleTime"].is_null() {
                NONE.into()
            } else {
                age(&status["lastScheduleTime"]).into()
            }
        }
        ("autoscaling/horizontalpodautoscalers", "Reference") => {
            format!("{}/{}", text(&spec["scaleTargetRef"]["kind"]), text(&spec["scaleTargetRef"]["name"])).into()
        }
        ("autoscaling/horizontalpodautoscalers", "Targets") => targets(spec).into(),
        ("autoscaling/horizontalpodautoscalers", "MinPods") => spec["minReplicas"].to_string().into(),
        ("autoscaling/horizontalpodautoscalers", "MaxPods") => spec["maxReplicas"].clone(),
        ("autoscaling/horizontalpodautoscalers", "Replicas") => number(&status["currentReplicas"]).into(),
        ("policy/poddisruptionbudgets", "Min Available") => available(&spec["minAvailable"]),
        ("policy/poddisruptionbudgets", "Max Unavailable") => available(&spec["maxUnavailable"]),
        ("policy/poddisruptionbudgets", "Allowed Disruptions") => number(&status["disruptionsAllowed"]).into(),
        ("networking.k8s.io/ingresses", _) => ingress(column, object),
        ("networking.k8s.io/networkpolicies", "Pod-Selector") => selector(&spec["podSelector"]).into(),
        ("networking.k8s.io/ingressclasses", "Controller") => spec["controller"].clone(),
        ("networking.k8s.io/ingressclasses", "Parameters") => text(&spec["parameters"]["name"]).into(),
        ("networking.k8s.io/servicecidrs", "CIDRs") => joined(list(&spec["cidrs"]).iter()).into(),
        ("rbac.authorization.k8s.io/rolebindings" | "rbac.authorization.k8s.io/clusterrolebindings", _) => {
            binding(column, object)
        }
        ("storage.k8s.io/storageclasses", "Provisioner") => object["provisioner"].clone(),
        ("storage.k8s.io/storageclasses", "ReclaimPolicy") => object["reclaimPolicy"].clone(),
        ("storage.k8s.io/storageclasses", "VolumeBindingMode") => object["volumeBindingMode"].clone(),
        ("storage.k8s.io/storageclasses", "AllowVolumeExpansion") => (object["allowVolumeExpansion"] == true).into(),
        ("storage.k8s.io/csidrivers", "AttachRequired") => spec["attachRequired"].clone(),
        ("storage.k8s.io/csidrivers", "PodInfoOnMount") => spec["podInfoOnMount"].clone(),
        ("storage.k8s.io/csidrivers", "StorageCapacity") => spec["storageCapacity"].clone(),
        ("storage.k8s.io/csidrivers", "RequiresRepublish") => (spec["requiresRepublish"] == true).into(),
        ("storage.k8s.io/csidrivers", "Modes") => joined(list(&spec["volumeLifecycleModes"]).iter()).into(),
        ("storage.k8s.io/csidrivers", "TokenRequests") => "<unset>".into(),
        ("storage.k8s.io/csinodes", "Drivers") => count(&spec["drivers"]).into(),
        ("scheduling.k8s.io/priorityclasses", "Value") => object["value"].clone(),
        ("scheduling.k8s.io/priorityclasses", "Global-Default") => (object["globalDefault"] == true).into(),
        ("scheduling.k8s.io/priorityclasses", "PreemptionPolicy") => object["preemptionPolicy"].clone(),
        ("node.k8s.io/runtimeclasses", "Handler") => object["handler"].clone(),
        ("coordination.k8s.io/leases", "Holder") => spec["holderIdentity"].clone(),
        (_, "Webhooks") => count(&object["webhooks"]).into(),
        (_, "Validations") => count(&spec["validations"]).into(),
        (_, "Mutations") => count(&spec["mutations"]).into(),
        (_, "ParamKind") => match spec["paramKind"]["kind"].as_str() {
            Some(kind) => format!("{}/{kind}", text(&spec["paramKind"]["apiVersion"])).into(),
            None => "<unset>".into(),
        },
        (_, "PolicyName") => spec["policyName"].clone(),
        ("apiregistration.k8s.io/apiservices", "Service") => match spec["service"]["name"].as_str() {
            Some(name) => format!("{}/{name}", text(&spec["service"]["namespace"])).into(),
            None => "Local".into(),
        },
        ("apiregistration.k8s.io/apiservices", "Available") => {
            let found = list(&status["conditions"]).iter().find(|condition| condition["type"] == "Available");
            found.map_or_else(|| UNKNOWN.into(), |condition| condition["status"].clone())
        }
        ("/podtemplates", "Pod Labels") => selector(&object["template"]["metadata"]["labels"]).into(),
        ("/resourcequotas", "Request" | "Limit") => quota(column, object).into(),
        (_, "Selector") => selector(&spec["selector"]).into(),
        _ => NONE.into(),
    }
}

fn containers_of<'a>(kind: &Kind, object: &'a Value) -> &'a Value {
    match &*kind.store {
        "batch/cronjobs" => &object["spec"]["jobTemplate"]["spec"]["template"]["spec"],
        "/podtemplates" => &object["template"]["spec"],
        _ => &object["spec"]["template"]["spec"],
    }
}

fn available(value: &Value) -> Value {
    if value.is_null() { "N/A".into() } else { text(value).into() }
}

fn custom_cell(column: &Value, object: &Value) -> Value {
    let path = column["jsonPath"].as_str().unwrap_or_default();
    let found = json_path(object, path);
    match (column["type"].as_str().unwrap_or_default(), found) {
        (_, None) => Value::Null,
        ("date", Some(value)) => age(&value).into(),
        ("integer" | "number" | "boolean", Some(value)) => value,
        (_, Some(Value::String(text))) => text.into(),
        (_, Some(value)) => value.to_string().into(),
    }
}

/// The first value of a simple JSON path: `.a.b[0]`, `.a[?(@.type=="X")].b`, `.a['b']`.
fn json_path(object: &Value, path: &str) -> Option<Value> {
    let mut at = object;
    let mut rest = path.trim_start_matches('$');
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (step, after) = inner.split_once(']')?;
            rest = after;
            if let Some(filter) = step.strip_prefix("?(@.") {
                let (field, wanted) = filter.trim_end_matches(')').split_once("==")?;
                let wanted = wanted.trim().trim_matches(['"', '\'']);
                at = at.as_array()?.iter().find(|item| text(&item[field.trim()]) == wanted)?;
            } else if let Ok(index) = step.parse::<usize>() {
                at = at.get(index)?;
            } else if step == "*" {
                at = at.get(0)?;
            } else {
                at = at.get(step.trim_matches(['"', '\'']))?;
            }
            continue;
        }
        let inner = rest.strip_prefix('.').unwrap_or(rest);
        let mut end = inner.len();
        let bytes = inner.as_bytes();
        for (index, byte) in bytes.iter().enumerate() {
            // A dot within a name is escaped.
            if (*byte == b'.' && (index == 0 || bytes[index - 1] != b'\\')) || *byte == b'[' {
                end = index;
                break;
            }
        }
        let (step, after) = inner.split_at(end);
        rest = after;
        if !step.is_empty() {
            at = at.get(step.replace("\\.", "."))?;
        }
    }
    (!at.is_null()).then(|| at.clone())
}

/// What an autoscaler looks at. Nobody measures it.
fn targets(spec: &Value) -> String {
    let metrics = list(&spec["metrics"]).iter().filter(|metric| metric["type"] == "Resource");
    let of_metrics = metrics.map(|metric| {
        let (name, target) = (text(&metric["resource"]["name"]), &metric["resource"]["target"]);
        match target["averageUtilization"].as_i64() {
            Some(share) => format!("{name}: {UNKNOWN}/{share}%"),
            None => format!("{name}: {UNKNOWN}/{}", text(&target["averageValue"])),
        }
    });
    let share = spec["targetCPUUtilizationPercentage"].as_i64().map(|share| format!("cpu: {UNKNOWN}/{share}%"));
    let all: Vec<String> = of_metrics.chain(share).collect();
    if all.is_empty() { UNKNOWN.to_owned() } else { all.join(", ") }
}

fn pod(column: &str, object: &Value) -> Value {
    let (spec, status) = (&object["spec"], &object["status"]);
    let statuses = list(&status["containerStatuses"]);
    match column {
        "Ready" => {
            // Sidecars are containers that begin first.
            let sidecars =
                list(&spec["initContainers"]).iter().filter(|container| container["restartPolicy"] == "Always");
            let names: Vec<&Value> = sidecars.map(|container| &container["name"]).collect();
            let begun = list(&status["initContainerStatuses"]).iter().filter(|one| names.contains(&&one["name"]));
            let ready = statuses.iter().chain(begun).filter(|container| container["ready"] == true).count();
            format!("{ready}/{}", list(&spec["containers"]).len() + names.len()).into()
        }
        "Status" => {
            if object["metadata"].get("deletionTimestamp").is_some() {
                return "Terminating".into();
            }
            let reason = statuses.iter().find_map(|container| {
                let state = &container["state"];
                state["waiting"]["reason"]
                    .as_str()
                    .or(state["terminated"]["reason"].as_str())
                    .filter(|_| status["phase"] != "Running" || state["running"].is_null())
            });
            reason.or(status["reason"].as_str()).or(status["phase"].as_str()).unwrap_or_default().into()
        }
        "Restarts" => {
            let restarts: i64 = statuses.iter().map(|container| number(&container["restartCount"])).sum();
            restarts.to_string().into()
        }
        "IP" => text(&status["podIP"]).into(),
        "Node" => text(&spec["nodeName"]).into(),
        "Nominated Node" => text(&status["nominatedNodeName"]).into(),
        _ => NONE.into(),
    }
}

fn node(column: &str, object: &Value) -> Value {
    let info = &object["status"]["nodeInfo"];
    let address = |of: &str| {
        let found = list(&object["status"]["addresses"]).iter().find(|address| address["type"] == of);
        found.map_or_else(|| NONE.into(), |address| address["address"].clone())
    };
    match column {
        "Status" => {
            let ready = list(&object["status"]["conditions"]).iter().find(|condition| condition["type"] == "Ready");
            let mut status = match ready.map(|condition| condition["status"].as_str().unwrap_or_default()) {
                Some("True") => "Ready".to_owned(),
                Some(_) => "NotReady".to_owned(),
                None => "Unknown".to_owned(),
            };
            if object["spec"]["unschedulable"] == true {
                status.push_str(",SchedulingDisabled");
            }
            status.into()
        }
        "Roles" => {
            let labels = object["metadata"]["labels"].as_object();
            let roles: Vec<&str> = labels
                .into_iter()
                .flatten()
                .filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/"))
                .collect();
            if roles.is_empty() { NONE.into() } else { roles.join(",").into() }
        }
        "Version" => info["kubeletVersion"].as_str().unwrap_or_default().into(),
        "Internal-IP" => address("InternalIP"),
        "External-IP" => address("ExternalIP"),
        "OS-Image" => or_unknown(&info["osImage"]),
        "Kernel-Version" => or_unknown(&info["kernelVersion"]),
        "Container-Runtime" => or_unknown(&info["containerRuntimeVersion"]),
        _ => NONE.into(),
    }
}

fn or_unknown(value: &Value) -> Value {
    value.as_str().filter(|text| !text.is_empty()).unwrap_or(UNKNOWN).into()
}

fn service(column: &str, object: &Value) -> Value {
    let spec = &object["spec"];
    match column {
        "Type" => spec["type"].clone(),
        "Cluster-IP" => text(&spec["clusterIP"]).into(),
        "External-IP" => match spec["type"].as_str().unwrap_or_default() {
            "ExternalName" => spec["externalName"].clone(),
            "LoadBalancer" => {
                let addresses = list(&object["status"]["loadBalancer"]["ingress"]);
                if addresses.is_empty() {
                    "<pending>".into()
                } else {
                    joined(addresses.iter().map(|ingress| &ingress["ip"])).into()
                }
            }
            _ => joined(list(&spec["externalIPs"]).iter()).into(),
        },
        "Port(s)" => {
            let ports: Vec<String> = list(&spec["ports"])
                .iter()
                .map(|port| match port["nodePort"].as_i64() {
                    Some(node) if node > 0 => format!("{}:{node}/{}", port["port"], text(&port["protocol"])),
                    _ => format!("{}/{}", port["port"], text(&port["protocol"])),
                })
                .collect();
            if ports.is_empty() { NONE.into() } else { ports.join(",").into() }
        }
        "Selector" => selector(&spec["selector"]).into(),
        _ => NONE.into(),
    }
}

fn volume(column: &str, object: &Value) -> Value {
    let (spec, status) = (&object["spec"], &object["status"]);
    let or_empty = |value: &Value| Value::from(value.as_str().unwrap_or_default());
    let claim = object["kind"] == "PersistentVolumeClaim";
    match column {
        "Status" => status["phase"].clone(),
        "Volume" => or_empty(&spec["volumeName"]),
        "Capacity" => or_empty(if claim { &status["capacity"]["storage"] } else { &spec["capacity"]["storage"] }),
        "Access Modes" => modes(if claim { &status["accessModes"] } else { &spec["accessModes"] }).into(),
        "Reclaim Policy" => or_empty(&spec["persistentVolumeReclaimPolicy"]),
        "Claim" => match spec["claimRef"]["name"].as_str() {
            Some(name) => format!("{}/{name}", text(&spec["claimRef"]["namespace"])).into(),
            None => "".into(),
        },
        "StorageClass" => or_empty(&spec["storageClassName"]),
        "VolumeAttributesClass" => "<unset>".into(),
        "Reason" => or_empty(&status["reason"]),
        "VolumeMode" => text(&spec["volumeMode"]).into(),
        _ => NONE.into(),
    }
}

fn event(column: &str, object: &Value) -> Value {
    let either =
        |core: &str, own: &str| if object[core].is_null() { object[own].clone() } else { object[core].clone() };
    let about = either("involvedObject", "regarding");
    match column {
        "Last Seen" => {
            let times = [&object["lastTimestamp"], &object["deprecatedLastTimestamp"], &object["eventTime"]];
            let seen = times.into_iter().find(|time| time.is_string());
            seen.map_or_else(|| UNKNOWN.into(), |time| age(time).into())
        }
        "First Seen" => age(&either("firstTimestamp", "deprecatedFirstTimestamp")).into(),
        "Type" => object["type"].clone(),
        "Reason" => object["reason"].clone(),
        "Object" => format!("{}/{}", text(&about["kind"]).to_lowercase(), text(&about["name"])).into(),
        "Subobject" => about["fieldPath"].as_str().unwrap_or_default().into(),
        "Source" => text(&either("source", "deprecatedSource")["component"]).into(),
        "Message" => either("message", "note"),
        "Count" => either("count", "deprecatedCount"),
        _ => NONE.into(),
    }
}

fn shortened(addresses: &[String], empty: &str) -> String {
    match addresses.len() {
        0 => empty.to_owned(),
        1..=3 => addresses.join(","),
        more => format!("{} + {} more...", addresses[..3].join(","), more - 3),
    }
}

fn endpoints(object: &Value) -> String {
    let mut all = Vec::new();
    for subset in list(&object["subsets"]) {
        for address in list(&subset["addresses"]) {
            let ports = list(&subset["ports"]);
            if ports.is_empty() {
                all.push(text(&address["ip"]));
            }
            all.extend(ports.iter().map(|port| format!("{}:{}", text(&address["ip"]), port["port"])));
        }
    }
    shortened(&all, NONE)
}

fn job(column: &str, object: &Value) -> Value {
    let (spec, status) = (&object["spec"], &object["status"]);
    match column {
        "Status" => {
            let conditions = list(&status["conditions"]);
            let has =
                |of: &str| conditions.iter().any(|condition| condition["type"] == of && condition["status"] == "True");
            let phase = ["Complete", "Failed", "Suspended"].into_iter().find(|of| has(of)).unwrap_or("Running");
            phase.into()
        }
        "Completions" => match spec["completions"].as_i64() {
            Some(wanted) => format!("{}/{wanted}", number(&status["succeeded"])).into(),
            None => format!("{}/1 of {}", number(&status["succeeded"]), number(&spec["parallelism"])).into(),
        },
        "Duration" => {
            let second = |time: &Value| {
                time.as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok()).map(jiff::Timestamp::as_second)
            };
            match (second(&status["startTime"]), second(&status["completionTime"])) {
                (Some(from), Some(to)) => duration(to - from).into(),
                (Some(_), None) => age(&status["startTime"]).into(),
                _ => "".into(),
            }
        }
        "Selector" => selector(&spec["selector"]).into(),
        _ => NONE.into(),
    }
}

fn ingress(column: &str, object: &Value) -> Value {
    let spec = &object["spec"];
    match column {
        "Class" => text(&spec["ingressClassName"]).into(),
        "Hosts" => {
            let hosts: Vec<String> =
                list(&spec["rules"]).iter().filter_map(|rule| rule["host"].as_str()).map(str::to_owned).collect();
            if hosts.is_empty() { "*".into() } else { hosts.join(",").into() }
        }
        "Address" => {
            let addresses = list(&object["status"]["loadBalancer"]["ingress"]);
            if addresses.is_empty() { "".into() } else { joined(addresses.iter().map(|ingress| &ingress["ip"])).into() }
        }
        "Ports" => if count(&spec["tls"]) > 0 { "80, 443" } else { "80" }.into(),
        _ => NONE.into(),
    }
}

fn binding(column: &str, object: &Value) -> Value {
    let of = |kind: &str| {
        let named = list(&object["subjects"]).iter().filter(|subject| subject["kind"] == kind);
        let names: Vec<String> = named
            .map(|subject| match subject["namespace"].as_str() {
                Some(namespace) if kind == "ServiceAccount" => format!("{namespace}/{}", text(&subject["name"])),
                _ => text(&subject["name"]),
            })
            .collect();
        Value::from(names.join(", "))
    };
    match column {
        "Role" => format!("{}/{}", text(&object["roleRef"]["kind"]), text(&object["roleRef"]["name"])).into(),
        "Users" => of("User"),
        "Groups" => of("Group"),
        "ServiceAccounts" => of("ServiceAccount"),
        _ => NONE.into(),
    }
}

fn quota(column: &str, object: &Value) -> String {
    let hard = object["status"]["hard"].as_object().or(object["spec"]["hard"].as_object());
    let parts: Vec<String> = hard
        .into_iter()
        .flatten()
        .filter(|(name, _)| name.starts_with("limits") == (column == "Limit"))
        .map(|(name, limit)| {
            let used = object["status"]["used"][name].as_str().unwrap_or("0");
            format!("{name}: {used}/{}", text(limit))
        })
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::{duration, json_path};
    use serde_json::json;

    #[test]
    fn durations_are_short() {
        for (seconds, said) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (200_000, "2d7h"),
            (864_000, "10d"),
        ] {
            assert_eq!(duration(seconds), said);
        }
    }

    #[test]
    fn paths_lead_to_values() {
        let object = json!({"a": {"b": [{"type": "X", "c": 1}, {"type": "Y", "c": 2}], "d.e": "f"}});
        assert_eq!(json_path(&object, ".a.b[1].c"), Some(json!(2)));
        assert_eq!(json_path(&object, ".a.b[?(@.type==\"Y\")].c"), Some(json!(2)));
        assert_eq!(json_path(&object, ".a.d\\.e"), Some(json!("f")));
        assert_eq!(json_path(&object, ".x.y"), None);
    }
}
