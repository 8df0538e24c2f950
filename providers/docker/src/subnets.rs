//! Whether the subnet that a network shall have is free on the engine and on its machine.

use std::net::Ipv4Addr;

use bollard::models::Network;
use ksail_model::{Preview, Value};
use ksail_provider::{CallError, PreviewRequest};

use crate::call::Call;
use crate::network::{find, list};

/// The flag of a route that is in use.
const UP: u32 = 1;

/// A range of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u32,
    bits: u32,
}

impl Range {
    fn new(address: Ipv4Addr, bits: u32) -> Option<Self> {
        let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits)?).unwrap_or_default();
        Some(Self { first: u32::from(address) & mask, bits })
    }

    fn read(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        Self::new(address.parse().ok()?, bits.parse().ok()?)
    }

    /// Whether all of another range is in this one.
    fn holds(self, other: Self) -> bool {
        self.bits <= other.bits && Self::new(Ipv4Addr::from(other.first), self.bits) == Some(self)
    }

    fn overlaps(self, other: Self) -> bool {
        self.holds(other) || other.holds(self)
    }
}

/// A route of this machine: its range and its device.
#[derive(Debug, PartialEq, Eq)]
struct Route {
    range: Range,
    device: String,
}

/// What stands in the way of networks that shall be made; of other requests nothing can be said.
pub(crate) async fn preview(call: &Call, requests: &[PreviewRequest]) -> Result<Vec<Preview>, CallError> {
    let networks = list(call).await?;
    let routes = if call.session.local { routes_here() } else { Vec::new() };
    Ok(requests.iter().map(|request| judge(request, &networks, &routes, &call.context.lineage)).collect())
}

/// Whether a request asks for a subnet of its own.
pub(crate) fn asks(request: &PreviewRequest) -> bool {
    request.target.address.kind() == "network" && request.current.is_none() && wanted(request).is_some()
}

fn wanted(request: &PreviewRequest) -> Option<&str> {
    request.target.spec.as_ref()?.field("subnet").and_then(Value::as_str)
}

fn judge(request: &PreviewRequest, networks: &[Network], routes: &[Route], lineage: &str) -> Preview {
    let Some((text, range)) = wanted(request).and_then(|text| Some((text, Range::read(text)?))) else {
        return Preview::Unavailable;
    };
    // What bears the name is judged by whose it is, not by its subnet.
    let same = find(networks, &request.target.identity, lineage).and_then(|network| network.id.as_ref());
    for network in networks.iter().filter(|network| same.is_none() || network.id.as_ref() != same) {
        let subnets = network.ipam.iter().flat_map(|ipam| ipam.config.iter().flatten());
        for subnet in subnets.filter_map(|config| config.subnet.as_deref()) {
            if Range::read(subnet).is_some_and(|other| other.overlaps(range)) {
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
    match routes.iter().find(|route| range.holds(route.range) && !is_bridge(route)) {
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

fn routes_here() -> Vec<Route> {
    routes(&std::fs::read_to_string("/proc/net/route").unwrap_or_default())
}

/// The routes of the kernel's table, but for the default one.
fn routes(table: &str) -> Vec<Route> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let hex = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
        let (address, mask) = (Ipv4Addr::from(hex(1)?.swap_bytes()), hex(7)?.swap_bytes());
        let range = Range::new(address, mask.count_ones())?;
        (hex(3)? & UP != 0 && mask != 0).then(|| Route { range, device: fields[0].to_owned() })
    };
    table.lines().skip(1).filter_map(line).collect()
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
        let read: Vec<(String, u32)> =
            routes(TABLE).into_iter().map(|route| (route.device, route.range.bits)).collect();
        let wanted = [("tun0", 8), ("br-1", 24), ("eth1", 24)];
        assert_eq!(read, wanted.map(|(device, bits)| (device.to_owned(), bits)));
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
