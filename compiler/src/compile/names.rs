//! Names by which what listens on ports 80 and 443 of a node is reached, an ingress or a gateway: every name that ends in an address and
//! `nip.io` leads to that address, or `sslip.io` to one of IPv6, so that none has to be written anywhere.

use core::net::IpAddr;

use ksail_kinds::{ClusterSpec, Port, Protocol};
use ksail_model::Value;

/// Who answers for such names, of either family.
const SERVICE: &str = "nip.io";
const SERVICE_V6: &str = "sslip.io";
/// The ports of nodes, and by which scheme they are spoken to.
const SCHEMES: [(u16, &str); 2] = [(80, "http"), (443, "https")];
/// Stands for any name.
const ANY: &str = "NAME";

/// By scheme, where published ports of nodes lead; of several the first.
pub(super) fn ingress(ports: &[Port]) -> Option<Value> {
    let of_scheme = |(container, scheme): (u16, &'static str)| {
        // One that is chosen later is told by an output of its own.
        let is_it = |port: &&Port| port.container == container && port.protocol == Protocol::Tcp && port.host > 0;
        let port = ports.iter().find(is_it)?;
        let address = address(&port.address)?;
        let suffix = if port.host == container { String::new() } else { format!(":{}", port.host) };
        Some((scheme, format!("{scheme}://{ANY}.{address}{suffix}")))
    };
    let found: Vec<_> = SCHEMES.into_iter().filter_map(of_scheme).collect();
    (!found.is_empty()).then(|| Value::map(found))
}

/// What a name ends in that leads to an address; where all are listened on, to that of this machine.
fn address(listened: &str) -> Option<String> {
    let address: IpAddr = ClusterSpec::reached_at(listened).parse().ok()?;
    Some(match address {
        IpAddr::V4(address) => format!("{address}.{SERVICE}"),
        IpAddr::V6(address) => format!("{}.{SERVICE_V6}", address.to_string().replace(':', "-")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(container: u16, host: u16, address: &str) -> Port {
        Port { container, host, address: address.to_owned(), protocol: Protocol::Tcp }
    }

    #[test]
    fn names_lead_to_the_published_ports() {
        let ports = [port(80, 8080, "0.0.0.0"), port(443, 443, "192.168.1.4"), port(80, 81, "127.0.0.1")];
        let wanted = [("http", "http://NAME.127.0.0.1.nip.io:8080"), ("https", "https://NAME.192.168.1.4.nip.io")];
        assert_eq!(ingress(&ports), Some(Value::map(wanted)));
        assert_eq!(ingress(&[port(80, 0, "0.0.0.0")]), None);
        assert_eq!(ingress(&[port(30080, 80, "0.0.0.0")]), None);
        let of_ipv6 = |address: &str| ingress(&[port(80, 8080, address)]);
        assert_eq!(of_ipv6("::"), Some(Value::map([("http", "http://NAME.--1.sslip.io:8080")])));
        assert_eq!(of_ipv6("fd00::a"), Some(Value::map([("http", "http://NAME.fd00--a.sslip.io:8080")])));
    }
}
