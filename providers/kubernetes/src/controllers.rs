//! Whether a controller works on an object, where a cluster may have none: what nobody works on is as ready as it can be.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::call::Call;
use crate::discovery::Api;
use crate::name::ObjectName;
use crate::readiness::{condition_is, text_of_class};
use crate::wire::{at, text};

/// How many Ingresses are looked at for a sign of their controller.
const MOST_INGRESSES: usize = 500;
/// When conditions were set that a definition gives as defaults: nobody has written them.
const NEVER: &str = "1970-01-01T00:00:00Z";

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// What was found of the classes of a kind.
#[derive(Default)]
pub(crate) struct Controllers(BTreeMap<String, bool>);

/// Whether only a controller that may not be there can make such an object ready.
pub(crate) fn may_have_none(name: &ObjectName) -> bool {
    matches!((name.group.as_str(), name.kind.as_str()), ("networking.k8s.io", "Ingress") | (GATEWAY_GROUP, "Gateway"))
}

impl Controllers {
    /// Whether nobody is seen to work on an object that is not ready. What is being deleted is worked on by the server.
    pub(crate) async fn have_none(&mut self, call: &Call, api: &Api, name: &ObjectName, object: &Json) -> bool {
        if !may_have_none(name) || text(object, &["metadata", "deletionTimestamp"]).is_some() || is_written(object) {
            return false;
        }
        let class = text_of_class(object).unwrap_or_default().to_owned();
        if let Some(works) = self.0.get(&class) {
            return !works;
        }
        let works = match name.kind.as_str() {
            "Gateway" => has_controller(call, &class).await,
            _ => gives_addresses(call, api, name, &class).await,
        };
        self.0.insert(class, works);
        !works
    }
}

/// Whether somebody has written its status.
fn is_written(object: &Json) -> bool {
    let managers = at(object, &["metadata", "managedFields"]).and_then(Json::as_array);
    let is_of_status = |entry: &Json| entry["subresource"] == "status";
    if managers.is_some_and(|managers| managers.iter().any(is_of_status)) {
        return true;
    }
    let conditions = at(object, &["status", "conditions"]).and_then(Json::as_array);
    conditions.is_some_and(|list| list.iter().any(|condition| condition["lastTransitionTime"] != NEVER))
}

/// A controller accepts the classes that are its own.
async fn has_controller(call: &Call, class: &str) -> bool {
    let name = ObjectName {
        group: GATEWAY_GROUP.to_owned(),
        kind: "GatewayClass".to_owned(),
        namespace: None,
        name: class.to_owned(),
    };
    let what = "look at its class";
    let Ok(Some(api)) = call.api(what, &name, None).await else { return false };
    matches!(call.read(what, &api.object(&name)).await, Ok(Some(class)) if condition_is(&class, "Accepted", "True"))
}

/// An IngressClass has no status: that its controller gives addresses is seen only of the others that have one.
async fn gives_addresses(call: &Call, api: &Api, name: &ObjectName, class: &str) -> bool {
    for namespace in [None, name.namespace.as_deref()] {
        let path = format!("{}?limit={MOST_INGRESSES}", api.collection(namespace));
        // Without the right to look everywhere, its own namespace is looked at.
        let Ok(Some(list)) = call.read("look at the other Ingresses", &path).await else { continue };
        return list["items"].as_array().into_iter().flatten().any(|other| {
            text_of_class(other).unwrap_or_default() == class
                && at(other, &["status", "loadBalancer", "ingress"])
                    .and_then(Json::as_array)
                    .is_some_and(|it| !it.is_empty())
        });
    }
    false
}
