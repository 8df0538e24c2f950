//! Networks. Docker lets several have one name, so they are looked for in the list and told apart by marks.

use std::net::IpAddr;
use std::time::Duration;

use bollard::models::{Ipam, IpamConfig, Network, NetworkCreateRequest};
use ipnet::IpNet;
use ksail_kinds::{NetworkSpec, Spec as _};
use ksail_model::{Identity, Mark, Readiness, Seen, Value};
use ksail_provider::{CallError, CreateRequest, DeleteRequest, Deleted};

use crate::call::{Call, Failed};
use crate::compare::same_where_fixed;
use crate::labels;
use crate::ownership::{Found, may_complete, may_delete};
use crate::podman;

/// The engine's own network, and the option that says how large a packet may be.
const DEFAULT_NETWORK: &str = "bridge";
const MTU: &str = "com.docker.network.driver.mtu";
/// How often one is asked for again that was not made for a reason that passes, and the pause before.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// All networks of the engine.
pub(crate) async fn list(call: &Call) -> Result<Vec<Network>, CallError> {
    call.list("list networks", || call.session.docker.list_networks(None)).await
}

/// The network of an identity: by id where one is given, else by name, and among several the one of the lineage, then the
/// oldest.
pub(crate) fn find<'a>(networks: &'a [Network], identity: &Identity, lineage: &str) -> Option<&'a Network> {
    let of_lineage = |network: &Network| mark(network).is_some_and(|mark| mark.lineage == lineage);
    networks
        .iter()
        .filter(|network| match &identity.id {
            Some(id) => network.id.as_ref() == Some(id) || network.name.as_ref() == Some(id) || is_prefix(id, network),
            None => network.name.as_ref() == Some(&identity.name),
        })
        .min_by_key(|network| (!of_lineage(network), age(network)))
}

/// Shorter beginnings of ids are too easily names.
const SHORT_ID: usize = 12;

fn is_prefix(id: &str, network: &Network) -> bool {
    id.len() >= SHORT_ID && network.id.as_ref().is_some_and(|full| full.starts_with(id))
}

/// Orders by age; equal on every machine.
fn age(network: &Network) -> (String, String) {
    (network.created.clone().unwrap_or_default(), network.id.clone().unwrap_or_default())
}

pub(crate) fn mark(network: &Network) -> Option<Mark> {
    labels::mark(network.labels.as_ref())
}

/// What is seen of a network. That somebody else's has IPv6 is told where it is declared: otherwise it is their matter.
pub(crate) fn seen(network: &Network, declared: Option<&Value>) -> Seen {
    let of_family = |is_v6: bool| {
        let mut ranges = network.ipam.iter().flat_map(|ipam| ipam.config.iter().flatten());
        ranges.find(|config| config.subnet.as_ref().is_some_and(|subnet| subnet.contains(':') == is_v6))
    };
    let given =
        |range: Option<&IpamConfig>| range.and_then(|config| config.ip_range.clone()).filter(|range| !range.is_empty());
    let ipv4 = of_family(false);
    let subnet = Value::from(ipv4.and_then(|config| config.subnet.clone()));
    let gateway = ipv4.and_then(|config| config.gateway.clone());
    let kept = |label: &str| network.labels.as_ref()?.get(label).cloned();
    let is_asked = declared.is_some_and(|spec| spec.field("ipv6_subnet").is_some());
    let ipv6 = of_family(true).filter(|_| is_asked || mark(network).is_some());
    let mut fields = vec![
        ("driver", Value::from(network.driver.clone())),
        ("subnet", subnet.clone()),
        ("internal", Value::from(network.internal.unwrap_or_default())),
    ];
    let told = [
        ("given", given(ipv4).or_else(|| kept(labels::GIVEN))),
        ("ipv6_subnet", ipv6.and_then(|config| config.subnet.clone())),
        ("ipv6_given", given(ipv6).or_else(|| kept(labels::GIVEN_IPV6))),
    ];
    fields.extend(told.into_iter().filter_map(|(field, value)| Some((field, Value::from(value?)))));
    Seen {
        id: network.id.clone(),
        fields: Value::map(fields),
        attributes: Value::map([
            ("id", Value::from(network.id.clone())),
            ("name", Value::from(network.name.clone())),
            ("subnet", subnet),
            ("gateway", Value::from(gateway)),
        ]),
        mark: mark(network),
        readiness: Readiness::Ready,
        others: Vec::new(),
    }
}

fn found(network: &Network) -> &str {
    network.id.as_deref().unwrap_or_default()
}

pub(crate) async fn create(call: &Call, request: &CreateRequest, spec: &Value) -> Result<Seen, CallError> {
    let name = &request.target.identity.name;
    let what = format!("network `{name}`");
    let typed = NetworkSpec::from_value(spec).map_err(|error| call.refused(&what, &cause_of(&error)))?;
    let existing = list(call).await?;
    if let Some(network) = find(&existing, &request.target.identity, &request.mark.lineage) {
        return adopt(call, &what, network, request, spec);
    }
    let mut labels = labels::labels(&request.mark, spec);
    if call.session.is_podman {
        let kept = [(labels::GIVEN, &typed.given), (labels::GIVEN_IPV6, &typed.ipv6_given)];
        labels.extend(kept.into_iter().filter_map(|(label, given)| Some((label.to_owned(), given.clone()?))));
    }
    let body = NetworkCreateRequest {
        name: name.clone(),
        options: mtu(&existing).map(|mtu| [(MTU.to_owned(), mtu)].into()),
        driver: Some(typed.driver),
        internal: Some(typed.internal),
        enable_ipv6: typed.ipv6_subnet.is_some().then_some(true),
        ipam: ipam([(typed.subnet, typed.given), (typed.ipv6_subnet, typed.ipv6_given)]),
        labels: Some(labels),
        ..Default::default()
    };
    let doing = format!("create {what}");
    let mut tries = 0;
    let refusal = loop {
        match call.change(&doing, call.session.docker.create_network(body.clone())).await {
            Ok(_) => break None,
            Err(Failed::Answered { message, .. }) if tries < TRIES && podman::is_passing(&message) => {
                tries += 1;
                call.pause(&doing, PAUSE).await?;
            }
            Err(Failed::Answered { status, message }) => break Some(refusal(call, &doing, status, &message)),
            Err(Failed::Error(error)) => return Err(error),
        }
    };
    settle(call, &what, request, spec, refusal).await
}

/// The largest packet of the engine's default network, if it says so: what leads out of a machine is often a tunnel that takes
/// less than an Ethernet does, and the engine does not tell other networks by itself.
fn mtu(networks: &[Network]) -> Option<String> {
    let default = networks.iter().find(|network| network.name.as_deref() == Some(DEFAULT_NETWORK))?;
    default.options.as_ref()?.get(MTU).cloned()
}

/// The ranges of a network, each with the part that addresses are given from; `None` where the engine chooses.
fn ipam(ranges: [(Option<String>, Option<String>); 2]) -> Option<Ipam> {
    let range = |(subnet, given): (Option<String>, Option<String>)| {
        let subnet = subnet?;
        // Engines take the first address as the gateway, and report it only where it was given.
        let gateway = first_address(&subnet);
        Some(IpamConfig { gateway, subnet: Some(subnet), ip_range: given, ..Default::default() })
    };
    let config: Vec<IpamConfig> = ranges.into_iter().filter_map(range).collect();
    (!config.is_empty()).then(|| Ipam { config: Some(config), ..Default::default() })
}

/// The first address of a subnet in CIDR notation that is not that of the subnet itself.
fn first_address(subnet: &str) -> Option<String> {
    let first = match subnet.parse().ok()? {
        IpNet::V4(subnet) => IpAddr::from(subnet.network().to_bits().checked_add(1)?.to_be_bytes()),
        IpNet::V6(subnet) => IpAddr::from(subnet.network().to_bits().checked_add(1)?.to_be_bytes()),
    };
    Some(first.to_string())
}

/// Looks at what is there after a create was answered: one network of ours, whichever call made it. Where two calls made one
/// each, the older stays.
async fn settle(
    call: &Call,
    what: &str,
    request: &CreateRequest,
    spec: &Value,
    refusal: Option<CallError>,
) -> Result<Seen, CallError> {
    let after = list(call).await?;
    let is_ours = |network: &&Network| {
        network.name.as_ref() == Some(&request.target.identity.name)
            && mark(network).is_some_and(|mark| {
                (&mark.lineage, &mark.address, mark.generation)
                    == (&request.mark.lineage, &request.mark.address, request.mark.generation)
            })
    };
    let mut ours: Vec<&Network> = after.iter().filter(is_ours).collect();
    ours.sort_by_key(|network| age(network));
    for extra in ours.iter().skip(1) {
        remove(call, what, extra).await?;
    }
    match (ours.first(), refusal) {
        (Some(network), _) => Ok(seen(network, Some(spec))),
        (None, refusal) => match find(&after, &request.target.identity, &request.mark.lineage) {
            Some(network) => adopt(call, what, network, request, spec),
            None => Err(refusal.unwrap_or_else(|| {
                CallError::indeterminate(format!("{what} was made on the engine at {} and is gone again", call.place()))
            })),
        },
    }
}

fn adopt(call: &Call, what: &str, network: &Network, request: &CreateRequest, spec: &Value) -> Result<Seen, CallError> {
    let what = format!("{what} on the engine at {}", call.place());
    let seen = seen(network, Some(spec));
    may_complete(&what, &Found { id: found(network), mark: seen.mark.as_ref() }, &request.mark)?;
    same_where_fixed(&what, "network", spec, &seen.fields)?;
    Ok(seen)
}

fn refusal(call: &Call, doing: &str, status: u16, message: &str) -> CallError {
    let error = call.answered(doing, status, message);
    if message.contains("overlap") || podman::is_subnet_taken(message) {
        error.hint("give the network another `subnet`: another network has this one")
    } else if message.contains("fully subnetted") || message.contains("non-overlapping") {
        error.hint("the engine has no free subnet left: `docker network prune`, or give the network a `subnet`")
    } else if message.contains("ip6tables") {
        error.hint(
            "the engine's machine cannot translate addresses of IPv6: `sudo modprobe ip6table_nat`, and start the engine again",
        )
    } else if message.contains("IPv6") {
        error.hint("the engine's machine has IPv6 turned off: `sudo sysctl -w net.ipv6.conf.all.disable_ipv6=0`")
    } else {
        error
    }
}

/// Removes one network. `false` says that it was gone.
async fn remove(call: &Call, what: &str, network: &Network) -> Result<bool, CallError> {
    let doing = format!("delete {what}");
    let id = &podman::removed_by(&call.session, network);
    match call.change(&doing, call.session.docker.remove_network(id)).await {
        Ok(()) => Ok(true),
        Err(Failed::Answered { status: 404, .. }) => Ok(false),
        Err(Failed::Answered { status, message }) => {
            let error = call.answered(&doing, status, &message);
            let attached = attached(call, id).await?;
            Err(if attached.is_empty() {
                error
            } else {
                call.refused(&doing, &format!("{} still attached", attached.join(", ")))
                    .hint(format!("stop or detach them first: `docker network disconnect {id} CONTAINER`"))
            })
        }
        Err(Failed::Error(error)) => Err(error),
    }
}

async fn attached(call: &Call, id: &str) -> Result<Vec<String>, CallError> {
    let network = call.look("inspect network", || call.session.docker.inspect_network(id, None)).await?;
    let mut names: Vec<String> = network
        .and_then(|network| network.containers)
        .unwrap_or_default()
        .into_values()
        .filter_map(|endpoint| endpoint.name)
        .map(|name| format!("container `{name}` is"))
        .collect();
    names.sort();
    Ok(names)
}

pub(crate) async fn delete(call: &Call, request: &DeleteRequest) -> Result<Deleted, CallError> {
    let what = format!("network `{}`", request.target.identity.name);
    let networks = list(call).await?;
    // What was imported is known by its id: among networks of one name it is that one.
    let by_id = networks.iter().find(|network| request.adopted && network.id == request.target.id);
    let by_name = || find(&networks, &request.target.identity, &request.mark.lineage);
    let Some(network) = by_id.or_else(by_name) else { return Ok(Deleted::WasAbsent) };
    let place = format!("{what} on the engine at {}", call.place());
    let mark = mark(network);
    if !may_delete(&place, &Found { id: found(network), mark: mark.as_ref() }, request)? {
        return Ok(Deleted::WasAbsent);
    }
    Ok(if remove(call, &what, network).await? { Deleted::Gone } else { Deleted::WasAbsent })
}

/// The text of an error with what is beneath it.
pub(crate) fn cause_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_packet_is_that_of_the_default_network() {
        let network = |name: &str, mtu: Option<&str>| Network {
            name: Some(name.to_owned()),
            options: mtu.map(|mtu| [(MTU.to_owned(), mtu.to_owned())].into()),
            ..Default::default()
        };
        let found = mtu(&[network("other", Some("9000")), network("bridge", Some("1400"))]);
        assert_eq!(found.as_deref(), Some("1400"));
        assert_eq!(mtu(&[network("other", Some("9000")), network("bridge", None)]), None);
    }

    #[test]
    fn a_network_tells_of_ipv6_where_that_is_ours_or_asked_for() {
        let network = |labels: Option<labels::Labels>| Network {
            labels,
            ipam: ipam([
                (Some("10.1.0.0/24".to_owned()), None),
                (Some("fd01::/64".to_owned()), Some("fd01::1:0/112".to_owned())),
            ]),
            ..Default::default()
        };
        let told = |network: &Network, declared: Option<&Value>| {
            let fields = seen(network, declared).fields;
            ["subnet", "ipv6_subnet", "ipv6_given"].map(|field| fields.field(field).map(ToString::to_string))
        };
        let both = ["\"10.1.0.0/24\"", "\"fd01::/64\"", "\"fd01::1:0/112\""].map(|text| Some(text.to_owned()));
        let mark = Mark {
            lineage: "l".to_owned(),
            address: ksail_model::Address::new("dev", "network", &["main"]),
            operation: "o".to_owned(),
            generation: 1,
        };
        assert_eq!(told(&network(Some(labels::labels(&mark, &Value::empty_map()))), None), both);
        assert_eq!(told(&network(None), Some(&Value::map([("ipv6_subnet", "fd01::/64")]))), both);
        assert_eq!(told(&network(None), None), [both[0].clone(), None, None]);
    }

    #[test]
    fn the_first_address_of_a_subnet() {
        for (subnet, first) in [
            ("10.99.7.0/24", Some("10.99.7.1")),
            ("10.99.7.77/16", Some("10.99.0.1")),
            ("0.0.0.0/0", Some("0.0.0.1")),
            ("fd00::/64", Some("fd00::1")),
            ("fd00:0:0:7::9/64", Some("fd00:0:0:7::1")),
            ("10.0.0.0/33", None),
            ("10.0.0.0", None),
        ] {
            assert_eq!(first_address(subnet).as_deref(), first, "{subnet}");
        }
    }
}
