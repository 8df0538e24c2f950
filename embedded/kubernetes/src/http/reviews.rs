//! Reviews: requests that are answered and not kept. Everything is allowed here.

use serde_json::{Value, json};

use crate::api::Api;
use crate::registry::Kind;
use crate::status::Status;
use crate::tokens::User;

/// The answer to a review; `None` if the kind is none.
pub(crate) fn review(api: &Api, kind: &Kind, object: &Value, user: &User) -> Option<Result<Value, Status>> {
    let mut answer = object.clone();
    answer["apiVersion"] = kind.api_version.as_str().into();
    answer["kind"] = kind.kind().into();
    match (kind.group(), kind.plural()) {
        ("authorization.k8s.io", "selfsubjectaccessreviews" | "subjectaccessreviews" | "localsubjectaccessreviews") => {
            answer["status"] = json!({"allowed": true, "reason": "the embedded cluster allows everything"});
        }
        ("authorization.k8s.io", "selfsubjectrulesreviews") => {
            answer["status"] = json!({
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}], "incomplete": false,
            });
        }
        ("authentication.k8s.io", "selfsubjectreviews") => {
            answer["status"] = json!({"userInfo": info(user)});
        }
        ("authentication.k8s.io", "tokenreviews") => {
            let token = object["spec"]["token"].as_str().unwrap_or_default();
            answer["status"] = match api.user(token) {
                Some(user) => json!({"authenticated": true, "user": info(&user), "audiences": [crate::tokens::ISSUER]}),
                None => json!({"authenticated": false, "error": "the token is not one of this cluster", "user": {}}),
            };
        }
        _ => return None,
    }
    Some(Ok(answer))
}

fn info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    info
}
