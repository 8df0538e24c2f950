//! Whether the subnet that a network shall have is free on the engine and on its machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bollard::models::Network;
use ipnet::IpNet;
use ksail_model::{Preview, Value};
use ksail_provider::{CallError, PreviewRequest};

use crate::call::Call;
use crate::network::{find, list};
use crate::podman;

/// The fields of a network that ask for a subnet.
const IPV6: &str = "ipv6_subnet";
const SUBNETS: [&str; 2] = ["subnet", IPV6];
/// The flags of a route that is in use, and of one to this machine itself, or to whoever is next.
const UP: u32 = 1;
const LOCAL: u32 = 0x8000_0000;
const ANYCAST: u32 = 0x0010_0000;

fn overlaps(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// A route of this machine: its range and its device.
#[derive(Debug, PartialEq, Eq)]
struct Route {
    range: IpNet,
    device: String,
}

/// What stands in the way of networks that shall be made; of other requests nothing can be said.
pub(crate) async fn preview(call: &Call, requests: &[PreviewRequest]) -> Result<Vec<Preview>, CallError> {
    let networks = list(call).await?;
    let routes = if call.session.local { routes_here() } else { Vec::new() };
    let judged = |request| match misnamed(request).filter(|_| call.session.is_podman) {
        Some(refused) => refused,
        None => judge(request, &networks, &routes, &call.context.lineage),
    };
    Ok(requests.iter().map(judged).collect())
}

/// Whether a request asks for a network of which the engine can tell something: one with a subnet of its own, or with a name that not
/// every engine takes.
pub(crate) fn asks(request: &PreviewRequest) -> bool {
    let is_new_network = request.target.address.kind() == "network" && request.current.is_none();
    is_new_network && (wanted(request).next().is_some() || misnamed(request).is_some())
}

/// Why Podman makes no network of this name.
fn misnamed(request: &PreviewRequest) -> Option<Preview> {
    let name = Some(request.target.identity.name.as_str()).filter(|name| podman::refuses_name(name))?;
    Some(Preview::Refused {
        message: format!("Podman has no network `{name}`: the word means something else there"),
        hint: Some("give the cluster another name (metadata.name)".to_owned()),
    })
}

fn wanted(request: &PreviewRequest) -> impl Iterator<Item = &str> {
    let spec = request.target.spec.as_ref();
    SUBNETS.into_iter().filter_map(move |field| spec?.field(field).and_then(Value::as_str))
}

fn judge(request: &PreviewRequest, networks: &[Network], routes: &[Route], lineage: &str) -> Preview {
    let ranges = wanted(request).filter_map(|text| Some((text, text.parse::<IpNet>().ok()?)));
    let mut judged = ranges.map(|(text, range)| of_range(request, (text, &range), networks, routes, lineage));
    judged.find(|preview| *preview != Preview::Unavailable).unwrap_or(Preview::Unavailable)
}

fn of_range(
    request: &PreviewRequest,
    (text, range): (&str, &IpNet),
    networks: &[Network],
    routes: &[Route],
    lineage: &str,
) -> Preview {
    // What bears the name is judged by whose it is, not by its subnet.
    let same = find(networks, &request.target.identity, lineage).and_then(|network| network.id.as_ref());
    for network in networks.iter().filter(|network| same.is_none() || network.id.as_ref() != same) {
        let subnets = network.ipam.iter().flat_map(|ipam| ipam.config.iter().flatten());
        for subnet in subnets.filter_map(|config| config.subnet.as_deref()) {
            if subnet.parse().is_ok_and(|other| overlaps(&other, range)) {
                let name = network.name.as_deref().unwrap_or_default();
                return refused(
                    &format!("its subnet {text} overlaps {subnet} of the network `{name}`"),
                    &format!("`docker network rm {name}` if nothing needs it; "),
                );
            }
        }
    }
    // A wider route stands behind ours, which is narrower and so counts first; one within ours would lose what it leads to.
    let is_bridge = |route: &Route| route.device.starts_with("br-") || route.device.starts_with("docker");
    match routes.iter().find(|route| range.contains(&route.range) && !is_bridge(route)) {
        Some(route) => refused(
            &format!("its subnet {text} is where this machine's {} leads to already", route.device),
            "`ip route` tells what is there; ",
        ),
        None => Preview::Unavailable,
    }
}

fn refused(message: &str, first: &str) -> Preview {
    let hint = format!("{first}a cluster of another name (metadata.name) has another subnet");
    Preview::Refused { message: message.to_owned(), hint: Some(hint) }
}

/// Whether a network that is there would have to speak IPv6 from now on, or no more: what is on it was told its addresses when it was
/// made, and nodes are of their cluster by them.
pub(crate) fn preview_of_family(request: &PreviewRequest) -> Preview {
    let (Some(current), Some(wanted)) = (&request.current, &request.target.spec) else { return Preview::Unavailable };
    let [is, shall] = [current, wanted].map(|spec| spec.field(IPV6).and_then(Value::as_str));
    let told = match (is, shall) {
        (None, Some(_)) => "it speaks IPv4, and IPv6 is declared",
        (Some(_), None) => "it speaks IPv6, and IPv4 alone is declared",
        (Some(is), Some(shall)) if is != shall => "it has another IPv6 subnet than what is declared",
        _ => return Preview::Unavailable,
    };
    Preview::Refused {
        message: format!("a cluster keeps the families of its addresses: {told}"),
        hint: Some(
            "let `ipFamily` of `kind.yaml` be what it was; or make the cluster anew with nothing of what is in it: \
             `ksail destroy`, then `ksail apply`"
                .to_owned(),
        ),
    }
}

fn routes_here() -> Vec<Route> {
    let table = |name: &str| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default();
    let mut all = routes(&table("route"));
    all.extend(ipv6_routes(&table("ipv6_route")));
    all
}

/// The routes of the kernel's table, but for the default one.
fn routes(table: &str) -> Vec<Route> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let hex = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
        let (address, mask) = (Ipv4Addr::from(hex(1)?.swap_bytes()), hex(7)?.swap_bytes());
        let range = range(address.into(), mask.count_ones())?;
        (hex(3)? & UP != 0 && mask != 0).then(|| Route { range, device: fields[0].to_owned() })
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// The same of IPv6, whose table is another one.
fn ipv6_routes(table: &str) -> Vec<Route> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let hex = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
        let address = Ipv6Addr::from(u128::from_str_radix(fields.first()?, 16).ok()?);
        let (bits, flags) = (hex(1)?, hex(8)?);
        let range = range(address.into(), bits)?;
        let is_to_others = flags & UP != 0 && flags & (LOCAL | ANYCAST) == 0;
        (is_to_others && bits > 0)
            .then(|| Route { range, device: fields.last().map(|&name| name.to_owned()).unwrap_or_default() })
    };
    table.lines().filter_map(line).collect()
}

fn range(address: IpAddr, bits: u32) -> Option<IpNet> {
    IpNet::new(address, u8::try_from(bits).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use bollard::models::{Ipam, IpamConfig};
    use ksail_model::{Address, Identity, Ownership};
    use ksail_provider::Target;

    use super::*;

    const TABLE: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
        tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n\
        br-1\t0007960A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
        eth1\t0008960A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";

    fn network(name: &str, subnet: &str) -> Network {
        let config = vec![IpamConfig { subnet: Some(subnet.to_owned()), ..Default::default() }];
        Network {
            id: Some(name.to_owned()),
            name: Some(name.to_owned()),
            ipam: Some(Ipam { config: Some(config), ..Default::default() }),
            ..Default::default()
        }
    }

    fn request(subnet: &str) -> PreviewRequest {
        let target = Target {
            address: Address::new("dev", "network", &["main"]),
            kind_version: 1,
            identity: Identity::named("dev"),
            id: None,
            spec: Some(Value::map([("subnet", subnet)])),
            ownership: Ownership::Owned,
        };
        PreviewRequest { target, current: None, comes_after: Vec::new() }
    }

    fn why(subnet: &str, networks: &[Network]) -> Option<String> {
        match judge(&request(subnet), networks, &routes(TABLE), "l") {
            Preview::Refused { message, .. } => Some(message),
            _ => None,
        }
    }

    #[test]
    fn the_kernels_routes_are_read() {
        let read: Vec<(String, u8)> =
            routes(TABLE).into_iter().map(|route| (route.device, route.range.prefix_len())).collect();
        let wanted = [("tun0", 8), ("br-1", 24), ("eth1", 24)];
        assert_eq!(read, wanted.map(|(device, bits)| (device.to_owned(), bits)));
    }

    const IPV6_TABLE: &str = "\
        fd010000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000003 00000000 00000001     eth0\n\
        fd01000000000000000000000000000a 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000003 00000000 80200001     eth0\n\
        fd020000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000003 00000000 00000001 br-1a2b3c\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd010000000000000000000000000001 00000400 00000003 00000000 00000003     eth0\n";

    #[test]
    fn an_ipv6_subnet_is_looked_at_as_the_other_is() {
        let read: Vec<String> = ipv6_routes(IPV6_TABLE).into_iter().map(|route| route.range.to_string()).collect();
        assert_eq!(read, ["fd01::/64", "fd02::/64"], "but for the default one, and this machine's own");
        let why = |ipv6: &str, networks: &[Network]| {
            let mut request = request("10.151.3.0/24");
            let spec = [("subnet", "10.151.3.0/24"), ("ipv6_subnet", ipv6)];
            request.target.spec = Some(Value::map(spec));
            match judge(&request, networks, &ipv6_routes(IPV6_TABLE), "l") {
                Preview::Refused { message, .. } => Some(message),
                _ => None,
            }
        };
        let others = [network("four", "10.150.0.0/16"), network("six", "fd00:1::/48")];
        let told = "its subnet fd00:1:0:7::/64 overlaps fd00:1::/48 of the network `six`";
        assert_eq!(why("fd00:1:0:7::/64", &others).as_deref(), Some(told));
        assert!(why("fd01::/64", &others).unwrap().contains("this machine's eth0"));
        assert_eq!(why("fd02::/64", &others), None, "the engine's own bridges are its networks");
        assert_eq!(why("fd03::/64", &others), None);
    }

    #[test]
    fn a_network_keeps_the_families_of_its_addresses() {
        let why = |is: Option<&str>, shall: Option<&str>| {
            let spec = |ipv6: Option<&str>| Value::map([("ipv6_subnet", Value::from(ipv6.map(str::to_owned)))]);
            let mut request = request("10.151.3.0/24");
            (request.current, request.target.spec) = (Some(spec(is)), Some(spec(shall)));
            match preview_of_family(&request) {
                Preview::Refused { message, .. } => Some(message),
                _ => None,
            }
        };
        assert!(why(None, Some("fd01::/64")).unwrap().ends_with("it speaks IPv4, and IPv6 is declared"));
        assert!(why(Some("fd01::/64"), None).unwrap().ends_with("it speaks IPv6, and IPv4 alone is declared"));
        assert!(why(Some("fd01::/64"), Some("fd02::/64")).is_some());
        assert_eq!(why(Some("fd01::/64"), Some("fd01::/64")), None);
        assert_eq!(why(None, None), None);
        assert_eq!(preview_of_family(&request("10.151.3.0/24")), Preview::Unavailable, "it is yet to be made");
    }

    #[test]
    fn a_subnet_that_another_network_has_is_refused() {
        let others = [network("old", "10.150.0.0/16"), network("six", "fd00::/64")];
        assert_eq!(
            why("10.150.3.0/24", &others).unwrap(),
            "its subnet 10.150.3.0/24 overlaps 10.150.0.0/16 of the network `old`"
        );
        assert_eq!(why("10.151.3.0/24", &others), None);
        // The network itself, that is there already, is not in its own way.
        assert_eq!(why("10.151.3.0/24", &[network("dev", "10.151.3.0/24")]), None);
    }

    #[test]
    fn routes_within_a_subnet_stand_in_its_way_and_wider_ones_do_not() {
        assert!(why("10.150.8.0/24", &[]).unwrap().contains("eth1"));
        assert_eq!(why("10.150.7.0/24", &[]), None, "the engine's own bridges are its networks");
        assert_eq!(why("10.150.9.0/24", &[]), None, "tun0 leads to all of 10.0.0.0/8, and ours is narrower");
    }
}
