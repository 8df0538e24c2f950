//! The addresses that kubeadm is told of a node whose machine has none of its own choosing: in a cluster that kind made, the engine gives
//! them. Where it speaks IPv4 alone kubeadm finds out by itself; of IPv6 it has to be told.

use ipnet::IpNet;
use ksail_model::{Path, Value};
use ksail_provider::CallError;

use crate::call::Call;
use crate::container::inspect;

/// The argument of the kubelet that tells them.
const NODE_IP: &str = "node-ip";

/// The configuration of a machine with its addresses in it, where they are missing and needed.
pub(crate) async fn told(call: &Call, machine: &str, config: Vec<Value>) -> Result<Vec<Value>, CallError> {
    if config.iter().all(|document| has_node_ip(document) != Some(false)) {
        return Ok(config);
    }
    let Some(observed) = inspect(call, machine).await?.filter(crate::observed::Observed::speaks_ipv6) else {
        return Ok(config);
    };
    let network = observed.networks().into_iter().next().unwrap_or_default();
    let addresses = ordered(&config, observed.address(&network), observed.ipv6_address(&network));
    Ok(config.into_iter().map(|document| with_addresses(document, &addresses)).collect())
}

fn is_registration(document: &Value) -> bool {
    matches!(document.field("kind").and_then(Value::as_str), Some("InitConfiguration" | "JoinConfiguration"))
}

fn arguments() -> Path {
    Path::key("nodeRegistration").child_key("kubeletExtraArgs")
}

/// Whether a document says the addresses; `None` of one that is not for that.
fn has_node_ip(document: &Value) -> Option<bool> {
    is_registration(document).then(|| match document.get(&arguments()) {
        Some(Value::List(list)) => list.iter().any(|one| one.field("name").and_then(Value::as_str) == Some(NODE_IP)),
        Some(Value::Map(map)) => map.get(NODE_IP).is_some(),
        _ => false,
    })
}

/// The addresses of the families that services have, in their order.
fn ordered(config: &[Value], ipv4: Option<String>, ipv6: Option<String>) -> Vec<String> {
    let at = Path::key("networking").child_key("serviceSubnet");
    let ranges = config.iter().find_map(|document| document.get(&at)).and_then(Value::as_str).unwrap_or_default();
    let of = |range: &str| match range.parse() {
        Ok(IpNet::V6(_)) => ipv6.clone(),
        _ => ipv4.clone(),
    };
    ranges.split(',').filter_map(of).collect()
}

fn with_addresses(mut document: Value, addresses: &[String]) -> Value {
    let Some(first) = addresses.first() else { return document };
    if has_node_ip(&document) != Some(false) {
        return document;
    }
    let both = Value::from(addresses.join(","));
    match document.get(&arguments()).cloned() {
        Some(Value::Map(_)) => document.set(&arguments().child_key(NODE_IP), both),
        Some(Value::List(mut list)) => {
            list.push(Value::map([("name", Value::from(NODE_IP)), ("value", both)]));
            document.set(&arguments(), Value::List(list))
        }
        _ => return document,
    };
    for place in [Path::key("localAPIEndpoint"), Path::key("controlPlane").child_key("localAPIEndpoint")] {
        if document.get(&place).is_some() {
            document.set(&place.child_key("advertiseAddress"), Value::from(first.as_str()));
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn told(services: &str, arguments: Json) -> Json {
        let config = [
            Value::from(json!({"kind": "ClusterConfiguration", "networking": {"serviceSubnet": services}})),
            Value::from(json!({
                "kind": "JoinConfiguration", "nodeRegistration": {"kubeletExtraArgs": arguments},
                "controlPlane": {"localAPIEndpoint": {"bindPort": 6443}},
            })),
        ];
        let addresses = ordered(&config, Some("10.1.0.3".to_owned()), Some("fc00::3".to_owned()));
        with_addresses(config[1].clone(), &addresses).to_plain_json()
    }

    #[test]
    fn a_node_of_ipv6_is_told_its_addresses_in_the_order_of_services() {
        let listed = told("fd00::/112", json!([{"name": "v", "value": "1"}]));
        assert_eq!(listed["nodeRegistration"]["kubeletExtraArgs"][1], json!({"name": "node-ip", "value": "fc00::3"}));
        assert_eq!(listed["controlPlane"]["localAPIEndpoint"]["advertiseAddress"], "fc00::3");
        let mapped = told("10.96.0.0/16,fd00::/112", json!({"v": "1"}));
        assert_eq!(mapped["nodeRegistration"]["kubeletExtraArgs"]["node-ip"], "10.1.0.3,fc00::3");
        assert_eq!(mapped["controlPlane"]["localAPIEndpoint"]["advertiseAddress"], "10.1.0.3");
        let turned = told("fd00::/112,10.96.0.0/16", json!({"v": "1"}));
        assert_eq!(turned["nodeRegistration"]["kubeletExtraArgs"]["node-ip"], "fc00::3,10.1.0.3");
    }

    #[test]
    fn what_is_said_already_stays() {
        let said = json!({"node-ip": "fc00::9"});
        assert_eq!(told("fd00::/112", said.clone())["nodeRegistration"]["kubeletExtraArgs"], said);
    }
}
