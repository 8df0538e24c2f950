//! What a real server asks of certain kinds beside their types.

use serde_json::Value;

use super::{access, definition_rules};
use crate::http::selectors::LabelSelector;
use crate::registry::Kind;
use crate::status::Cause;
use crate::types::names;

pub(crate) fn check(kind: &Kind, object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    match &*kind.store {
        "apps/deployments" | "apps/replicasets" | "apps/statefulsets" | "apps/daemonsets" => {
            not_negative(&spec["replicas"], "spec.replicas", causes);
            selects_template(spec, causes);
            let mut with_claims = spec["template"].clone();
            // A claim's template is a volume of every pod.
            for claim in spec["volumeClaimTemplates"].as_array().into_iter().flatten() {
                let mut volumes = with_claims["spec"]["volumes"].as_array().cloned().unwrap_or_default();
                volumes.push(serde_json::json!({"name": claim["metadata"]["name"]}));
                with_claims["spec"]["volumes"] = Value::Array(volumes);
            }
            template(&with_claims, "spec.template", Some(&["Always"]), causes);
        }
        "batch/jobs" => template(&spec["template"], "spec.template", Some(&["OnFailure", "Never"]), causes),
        "batch/cronjobs" => {
            if spec["schedule"].as_str().unwrap_or_default().split_whitespace().count() != 5
                && !spec["schedule"].as_str().unwrap_or_default().starts_with('@')
                && !spec["schedule"].as_str().unwrap_or_default().is_empty()
            {
                let detail = format!(
                    "expected exactly 5 fields, found {}: {}",
                    spec["schedule"].as_str().unwrap_or_default().split_whitespace().count(),
                    spec["schedule"]
                );
                causes.push(Cause::invalid("spec.schedule", &spec["schedule"], &detail));
            }
            let job = &spec["jobTemplate"]["spec"]["template"];
            template(job, "spec.jobTemplate.spec.template", Some(&["OnFailure", "Never"]), causes);
        }
        "/replicationcontrollers" => template(&spec["template"], "spec.template", Some(&["Always"]), causes),
        "/pods" => pod(spec, "spec", causes),
        "/services" => service(spec, causes),
        "/configmaps" | "/secrets" => {
            for field in ["data", "binaryData"] {
                for key in object[field].as_object().into_iter().flatten().map(|(key, _)| key) {
                    if let Some(wrong) = names::data_key(key) {
                        causes.push(Cause::invalid(format!("{field}[{key}]"), &key.as_str().into(), wrong));
                    }
                }
            }
        }
        "/persistentvolumeclaims" => {
            if spec["accessModes"].as_array().is_none_or(Vec::is_empty) {
                causes.push(Cause::required("spec.accessModes", "at least 1 access mode is required"));
            }
            if spec["resources"]["requests"].get("storage").is_none() {
                causes.push(Cause::required("spec.resources[storage]", ""));
            }
        }
        "/events" => {
            let about = &object["involvedObject"]["namespace"];
            let wanted = object["metadata"]["namespace"].as_str().unwrap_or_default();
            let fits = about.as_str().is_none_or(|about| about == wanted || (about.is_empty() && wanted == "default"));
            if !fits {
                causes.push(Cause::invalid("involvedObject.namespace", about, "does not match event.namespace"));
            }
        }
        "certificates.k8s.io/certificatesigningrequests" => {
            use base64::Engine as _;
            let request = spec["request"].as_str().unwrap_or_default();
            let text = base64::engine::general_purpose::STANDARD.decode(request).unwrap_or_default();
            if !text.starts_with(b"-----BEGIN CERTIFICATE REQUEST-----") {
                let detail = "PEM block type must be CERTIFICATE REQUEST";
                causes.push(Cause::invalid("spec.request", &spec["request"], detail));
            }
        }
        "apiextensions.k8s.io/customresourcedefinitions" => definition_rules::check(object, causes),
        "rbac.authorization.k8s.io/roles" => access::role(object, true, causes),
        "rbac.authorization.k8s.io/clusterroles" => access::role(object, false, causes),
        "rbac.authorization.k8s.io/rolebindings" => access::binding(object, true, causes),
        "rbac.authorization.k8s.io/clusterrolebindings" => access::binding(object, false, causes),
        _ => {}
    }
}

fn not_negative(value: &Value, path: &str, causes: &mut Vec<Cause>) {
    if value.as_i64().is_some_and(|number| number < 0) {
        causes.push(Cause::invalid(path, value, "must be greater than or equal to 0"));
    }
}

fn selects_template(spec: &Value, causes: &mut Vec<Cause>) {
    let labels = &spec["template"]["metadata"]["labels"];
    let selector = LabelSelector::of(&spec["selector"]);
    let empty = selector.as_ref().is_some_and(LabelSelector::is_empty);
    if spec["selector"].is_object() && empty {
        causes.push(Cause::invalid("spec.selector", &spec["selector"], "empty selector is invalid for deployment"));
    } else if !selector.is_some_and(|selector| selector.matches(labels)) {
        causes.push(Cause::invalid(
            "spec.template.metadata.labels",
            labels,
            "`selector` does not match template `labels`",
        ));
    }
}

fn template(template: &Value, path: &str, policies: Option<&[&str]>, causes: &mut Vec<Cause>) {
    names::labels(&template["metadata"]["labels"], &format!("{path}.metadata.labels"), causes);
    pod(&template["spec"], &format!("{path}.spec"), causes);
    let policy = &template["spec"]["restartPolicy"];
    if let Some(policies) = policies
        && policy.as_str().is_some_and(|policy| !policies.contains(&policy))
    {
        let allowed: Vec<Value> = policies.iter().map(|policy| (*policy).into()).collect();
        causes.push(Cause::not_supported(format!("{path}.spec.restartPolicy"), policy, &allowed));
    }
}

fn pod(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        causes.push(Cause::required(format!("{path}.containers"), ""));
    }
    let volumes: Vec<&str> =
        spec["volumes"].as_array().into_iter().flatten().filter_map(|volume| volume["name"].as_str()).collect();
    let mut seen = Vec::new();
    for list in ["initContainers", "containers"] {
        for (index, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let path = format!("{path}.{list}[{index}]");
            let name = container["name"].as_str().unwrap_or_default();
            if !name.is_empty() && (!names::is_subdomain(name) || name.contains('.') || name.len() > 63) {
                causes.push(Cause::invalid(format!("{path}.name"), &container["name"], "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"));
            }
            if list == "containers" && seen.contains(&name) {
                // Within one list it was reported as a duplicate already.
                if !spec[list].as_array().into_iter().flatten().take(index).any(|other| other["name"] == name) {
                    causes.push(Cause::duplicate(format!("{path}.name"), &container["name"]));
                }
            }
            seen.push(name);
            if container["image"].as_str().unwrap_or_default().is_empty() {
                causes.push(Cause::required(format!("{path}.image"), ""));
            }
            for (at, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
                if !mount["name"].as_str().is_some_and(|name| volumes.contains(&name)) {
                    causes.push(Cause {
                        reason: "FieldValueNotFound",
                        field: format!("{path}.volumeMounts[{at}].name"),
                        message: format!("Not found: {}", mount["name"]),
                    });
                }
            }
            for (at, port) in container["ports"].as_array().into_iter().flatten().enumerate() {
                let number = port["containerPort"].as_i64().unwrap_or_default();
                if number != 0 && !(1..=65535).contains(&number) {
                    let detail = "must be between 1 and 65535, inclusive";
                    causes.push(Cause::invalid(
                        format!("{path}.ports[{at}].containerPort"),
                        &port["containerPort"],
                        detail,
                    ));
                }
            }
        }
    }
}

fn service(spec: &Value, causes: &mut Vec<Cause>) {
    let of = spec["type"].as_str().unwrap_or_default();
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    if ports.is_empty() && of != "ExternalName" && spec["clusterIP"] != "None" {
        causes.push(Cause::required("spec.ports", ""));
    }
    if of != "LoadBalancer" && spec["loadBalancerSourceRanges"].as_array().is_some_and(|ranges| !ranges.is_empty()) {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        causes.push(Cause::forbidden("spec.LoadBalancerSourceRanges".to_owned(), detail));
    }
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        if ports.len() > 1 && port["name"].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required(format!("{path}.name"), ""));
        }
        if !port["port"].as_i64().is_some_and(|port| (1..=65535).contains(&port)) {
            causes.push(Cause::invalid(
                format!("{path}.port"),
                &port["port"],
                "must be between 1 and 65535, inclusive",
            ));
        }
        if port["targetPort"].as_i64().is_some_and(|port| !(1..=65535).contains(&port)) {
            let detail = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(format!("{path}.targetPort"), &port["targetPort"], detail));
        }
        if of == "ClusterIP" && port["nodePort"].as_i64().is_some_and(|port| port != 0) {
            causes.push(Cause::forbidden(format!("{path}.nodePort"), "may not be used when `type` is 'ClusterIP'"));
        }
        let twice = ports[..index].iter().any(|other| !port["name"].is_null() && other["name"] == port["name"]);
        if twice {
            causes.push(Cause::duplicate(format!("{path}.name"), &port["name"]));
        }
    }
    if of == "ExternalName" && spec["externalName"].as_str().unwrap_or_default().is_empty() {
        causes.push(Cause::required("spec.externalName", ""));
    }
}
