//! The families of addresses that a cluster speaks, and its ranges: kind's defaults for each family, and what contradicts itself.

use core::net::IpAddr;

use ipnet::IpNet;
use ksail_kinds::ClusterSpec;
use serde::Deserialize;

use super::wire::{Problem, given};

/// The ranges of pods and of services that kind gives a cluster of IPv4 and one of IPv6; one of both has both.
const POD_SUBNETS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/56"];
const SERVICE_SUBNETS: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];
/// How kube-proxy works, as kind has it.
const KUBE_PROXY_MODE: &str = "iptables";

/// A version of the internet protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V4,
    V6,
}

/// Which addresses a cluster has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Family {
    #[default]
    V4,
    V6,
    /// Both.
    Dual,
}

impl Family {
    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "" | "ipv4" => Self::V4,
            "ipv6" => Self::V6,
            "dual" => Self::Dual,
            _ => return None,
        })
    }

    /// Whether its machines need IPv6.
    pub(crate) fn has_v6(self) -> bool {
        self != Self::V4
    }

    /// Where published ports listen where nothing is said, as kind has it.
    pub(super) fn any_address(self) -> &'static str {
        match self {
            Self::V4 | Self::Dual => "0.0.0.0",
            Self::V6 => "::",
        }
    }

    fn loopback(self) -> &'static str {
        match self {
            Self::V4 | Self::Dual => ClusterSpec::LOOPBACK,
            Self::V6 => ClusterSpec::LOOPBACK_V6,
        }
    }

    fn of_each(self, [v4, v6]: [&str; 2]) -> String {
        match self {
            Self::V4 => v4.to_owned(),
            Self::V6 => v6.to_owned(),
            Self::Dual => format!("{v4},{v6}"),
        }
    }
}

/// What the file says of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Networking {
    pub(crate) family: Family,
    pub(crate) api_port: Option<u16>,
    /// Where the API is published; `None`: at the loopback address of IPv4.
    pub(crate) api_address: Option<String>,
    /// Ranges, of two families with a comma between them.
    pub(crate) pod_subnet: String,
    pub(crate) service_subnet: String,
    pub(crate) kube_proxy_mode: String,
    pub(crate) dns_search: Option<Vec<String>>,
    pub(crate) has_no_default_cni: bool,
}

impl Default for Networking {
    fn default() -> Self {
        Wire::default().read(&mut Vec::new())
    }
}

impl Networking {
    /// The families of a machine's own addresses, the one by which it is known first: that of the first range of services.
    pub(crate) fn versions(&self) -> &'static [Version] {
        match self.family {
            Family::V4 => &[Version::V4],
            Family::V6 => &[Version::V6],
            Family::Dual if version_of(&self.service_subnet) == Some(Version::V6) => &[Version::V6, Version::V4],
            Family::Dual => &[Version::V4, Version::V6],
        }
    }
}

fn version_of(ranges: &str) -> Option<Version> {
    Some(match ranges.split(',').next()?.parse().ok()? {
        IpNet::V4(_) => Version::V4,
        IpNet::V6(_) => Version::V6,
    })
}

/// Its shape in the file.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Wire {
    ip_family: Option<String>,
    api_server_port: Option<i32>,
    api_server_address: Option<String>,
    pod_subnet: Option<String>,
    service_subnet: Option<String>,
    #[serde(rename = "disableDefaultCNI")]
    disable_default_cni: bool,
    kube_proxy_mode: Option<String>,
    dns_search: Option<Vec<String>>,
}

impl Wire {
    /// What it means, with what is wrong with it on the side.
    pub(super) fn read(self, problems: &mut Vec<Problem>) -> Networking {
        let wanted = self.ip_family.unwrap_or_default();
        let family = Family::read(&wanted).unwrap_or_else(|| {
            let what = format!("`{wanted}` is no family of addresses");
            problems.push(Problem::at("networking.ipFamily", what, "write `ipv4`, `ipv6` or `dual`"));
            Family::default()
        });
        let mut range = |field: &'static str, given: Option<String>, own: [&str; 2]| {
            let text = given.unwrap_or_else(|| family.of_each(own));
            match ranges(&text, family) {
                Ok(ranges) => (text, ranges),
                Err(why) => {
                    let hint = format!("`{}` is what kind takes where nothing is said", family.of_each(own));
                    problems.push(Problem::at(field, why, &hint));
                    (text, Vec::new())
                }
            }
        };
        let (pod_subnet, pods) = range("networking.podSubnet", given(self.pod_subnet), POD_SUBNETS);
        let (service_subnet, services) = range("networking.serviceSubnet", given(self.service_subnet), SERVICE_SUBNETS);
        let overlap = pods.iter().find_map(|pods| Some((pods, services.iter().find(|other| overlaps(pods, other))?)));
        if let Some((pods, services)) = overlap {
            let what = format!("the services' range {services} and the pods' range {pods} overlap");
            problems.push(Problem::at("networking.serviceSubnet", what, "give them ranges that are apart"));
        }
        let api_address = given(self.api_server_address).unwrap_or_else(|| family.loopback().to_owned());
        if api_address.parse::<IpAddr>().is_err() {
            let what = format!("`{api_address}` is no address for `apiServerAddress`");
            problems.push(Problem::at("networking.apiServerAddress", what, "write an address of this machine"));
        }
        Networking {
            family,
            api_port: self.api_server_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
            api_address: Some(api_address).filter(|address| address != ClusterSpec::LOOPBACK),
            pod_subnet,
            service_subnet,
            kube_proxy_mode: given(self.kube_proxy_mode).unwrap_or_else(|| KUBE_PROXY_MODE.to_owned()),
            dns_search: self.dns_search,
            has_no_default_cni: self.disable_default_cni,
        }
    }
}

fn overlaps(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// The ranges of a text, which are one of each family.
fn ranges(text: &str, family: Family) -> Result<Vec<IpNet>, String> {
    let one = |part: &str| part.parse::<IpNet>().map_err(|_| format!("`{part}` is no range of addresses"));
    let ranges = text.split(',').map(one).collect::<Result<Vec<_>, _>>()?;
    let count = |is_v6: bool| ranges.iter().filter(|range| range.addr().is_ipv6() == is_v6).count();
    let (v4, v6) = (count(false), count(true));
    let why = match (family, v4, v6) {
        (Family::V4, 1, 0) | (Family::V6, 0, 1) | (Family::Dual, 1, 1) => return Ok(ranges),
        (Family::V4, 0, _) => "is of IPv6, and the cluster of IPv4 (`ipFamily`)",
        (Family::V6, _, 0) => "is of IPv4, and the cluster of IPv6 (`ipFamily: ipv6`)",
        (Family::V4 | Family::V6, ..) => {
            "is more than one range, and only a cluster of both families has two (`ipFamily: dual`)"
        }
        (Family::Dual, ..) => "is not one range of IPv4 and one of IPv6, as `ipFamily: dual` has them",
    };
    Err(format!("`{text}` {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Networking, String> {
        let mut problems = Vec::new();
        let read = wire(text).read(&mut problems);
        match problems.first() {
            None => Ok(read),
            Some(problem) => Err(problem.to_string()),
        }
    }

    /// `a=b c=d`, as the file has it.
    fn wire(text: &str) -> Wire {
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap();
            (key.to_owned(), serde_json::Value::from(value))
        };
        serde_json::from_value(text.split_whitespace().map(pair).collect()).unwrap()
    }

    #[test]
    fn each_family_has_the_ranges_of_kind() {
        for (text, pods, services, api) in [
            ("", "10.244.0.0/16", "10.96.0.0/16", None),
            ("ipFamily=ipv6", "fd00:10:244::/56", "fd00:10:96::/112", Some("::1")),
            ("ipFamily=dual", "10.244.0.0/16,fd00:10:244::/56", "10.96.0.0/16,fd00:10:96::/112", None),
        ] {
            let read = read(text).unwrap();
            assert_eq!((read.pod_subnet.as_str(), read.service_subnet.as_str()), (pods, services), "{text}");
            assert_eq!(read.api_address.as_deref(), api, "{text}");
        }
    }

    #[test]
    fn the_first_range_of_services_says_which_address_comes_first() {
        assert_eq!(read("ipFamily=dual").unwrap().versions(), [Version::V4, Version::V6]);
        let turned = read("ipFamily=dual serviceSubnet=fd00:1::/112,10.1.0.0/16").unwrap();
        assert_eq!(turned.versions(), [Version::V6, Version::V4]);
        assert_eq!(read("ipFamily=ipv6").unwrap().versions(), [Version::V6]);
    }

    #[test]
    fn the_api_may_be_published_by_either_family() {
        // Where ports cannot be published by IPv6, kind's own documentation advises this.
        assert_eq!(read("ipFamily=ipv6 apiServerAddress=127.0.0.1").unwrap().api_address, None);
        assert_eq!(read("apiServerAddress=::1").unwrap().api_address.as_deref(), Some("::1"));
    }

    #[test]
    fn what_contradicts_itself_is_told_with_its_place() {
        for (text, place, why) in [
            ("ipFamily=both", "ipFamily", "`both` is no family"),
            ("podSubnet=fd00::/56", "podSubnet", "is of IPv6, and the cluster of IPv4"),
            ("ipFamily=ipv6 serviceSubnet=10.1.0.0/16", "serviceSubnet", "is of IPv4, and the cluster of IPv6"),
            ("podSubnet=10.1.0.0/16,fd00::/56", "podSubnet", "more than one range"),
            ("ipFamily=dual podSubnet=10.1.0.0/16", "podSubnet", "not one range of IPv4 and one of IPv6"),
            ("ipFamily=dual podSubnet=10.1.0.0/16,10.2.0.0/16", "podSubnet", "not one range of IPv4 and one of IPv6"),
            ("podSubnet=10.1.0.0", "podSubnet", "`10.1.0.0` is no range"),
            ("podSubnet=10.0.0.0/8", "serviceSubnet", "10.96.0.0/16 and the pods' range 10.0.0.0/8 overlap"),
            ("apiServerAddress=here", "apiServerAddress", "`here` is no address"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.starts_with(&format!("networking.{place}: ")) && told.contains(why), "{text}: {told}");
        }
    }
}
