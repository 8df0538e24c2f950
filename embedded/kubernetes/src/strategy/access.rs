//! What a real server asks of the objects of RBAC beside their types.

use serde_json::Value;

use crate::status::Cause;

const GROUP: &str = "rbac.authorization.k8s.io";

fn is_empty(value: &Value) -> bool {
    value.as_array().is_none_or(Vec::is_empty)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn one_of(value: &Value, allowed: &[&str], path: String, causes: &mut Vec<Cause>) {
    if !allowed.contains(&text(value)) {
        // In this order, as a real server names them.
        let allowed: Vec<String> = allowed.iter().map(|word| format!("{word:?}")).collect();
        let message = format!("Unsupported value: {:?}: supported values: {}", text(value), allowed.join(", "));
        causes.push(Cause { reason: "FieldValueNotSupported", field: path, message });
    }
}

/// The rules of a Role (`namespaced`) or a ClusterRole.
pub(crate) fn role(object: &Value, namespaced: bool, causes: &mut Vec<Cause>) {
    for (index, rule) in object["rules"].as_array().into_iter().flatten().enumerate() {
        let path = format!("rules[{index}]");
        if is_empty(&rule["verbs"]) {
            causes.push(Cause::required(format!("{path}.verbs"), "verbs must contain at least one value"));
        }
        if !is_empty(&rule["nonResourceURLs"]) {
            let urls = &rule["nonResourceURLs"];
            let path = format!("{path}.nonResourceURLs");
            if namespaced {
                causes.push(Cause::invalid(path.clone(), urls, "namespaced rules cannot apply to non-resource URLs"));
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !is_empty(&rule[*field])) {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                causes.push(Cause::invalid(path, urls, detail));
            }
            continue;
        }
        for (field, what) in [("apiGroups", "api group"), ("resources", "resource")] {
            if is_empty(&rule[field]) {
                let detail = format!("resource rules must supply at least one {what}");
                causes.push(Cause::required(format!("{path}.{field}"), &detail));
            }
        }
    }
}

/// The role and the subjects of a RoleBinding (`namespaced`) or a ClusterRoleBinding.
pub(crate) fn binding(object: &Value, namespaced: bool, causes: &mut Vec<Cause>) {
    let role = &object["roleRef"];
    one_of(&role["apiGroup"], &[GROUP], "roleRef.apiGroup".to_owned(), causes);
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    one_of(&role["kind"], kinds, "roleRef.kind".to_owned(), causes);
    for (index, subject) in object["subjects"].as_array().into_iter().flatten().enumerate() {
        let path = format!("subjects[{index}]");
        match text(&subject["kind"]) {
            "ServiceAccount" => {
                one_of(&subject["apiGroup"], &[""], format!("{path}.apiGroup"), causes);
                if !namespaced && text(&subject["namespace"]).is_empty() {
                    causes.push(Cause::required(format!("{path}.namespace"), ""));
                }
            }
            "User" | "Group" => one_of(&subject["apiGroup"], &[GROUP], format!("{path}.apiGroup"), causes),
            _ => one_of(&subject["kind"], &["ServiceAccount", "User", "Group"], format!("{path}.kind"), causes),
        }
    }
}
