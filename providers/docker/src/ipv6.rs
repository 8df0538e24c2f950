//! What a container needs for IPv6, and what the engine's machine has of it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use bollard::models::HostConfig;

/// What turns IPv6 on in a container, as kind has it: engines leave it off where they think that it is not needed.
const SYSCTLS: [(&str, &str); 2] = [("net.ipv6.conf.all.disable_ipv6", "0"), ("net.ipv6.conf.all.forwarding", "1")];
/// Where the kernel says whether it has IPv6, and whether that is turned off.
const OF_KERNEL: &str = "/proc/sys/net/ipv6";
const IS_OFF: &str = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
/// The parts of the kernel of which one must be there for addresses of IPv6 to be translated, which services and pods need.
const OF_NAT: [&str; 2] = ["ip6table_nat", "nft_chain_nat"];

/// How a machine stands to IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv6 {
    /// It speaks it.
    On,
    /// It is turned off.
    Off,
    /// The kernel has none.
    Missing,
    /// It speaks it, and cannot translate addresses.
    WithoutNat,
}

/// The settings of a container that speaks IPv6.
pub(crate) fn sysctls(is_wanted: bool) -> Option<HashMap<String, String>> {
    is_wanted.then(|| SYSCTLS.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
}

/// Whether a container was made to speak it.
pub(crate) fn is_spoken(host: &HostConfig) -> bool {
    let (name, value) = SYSCTLS[0];
    host.sysctls.as_ref().and_then(|all| all.get(name)).is_some_and(|set| set == value)
}

/// How this machine stands to it, where that can be told.
pub(crate) fn here() -> Option<Ipv6> {
    if !Path::new(OF_KERNEL).exists() {
        return Path::new("/proc/sys/net").exists().then_some(Ipv6::Missing);
    }
    match fs::read_to_string(IS_OFF).ok()?.trim() {
        "0" if has_nat_here() == Some(false) => Some(Ipv6::WithoutNat),
        "0" => Some(Ipv6::On),
        _ => Some(Ipv6::Off),
    }
}

fn has_nat_here() -> Option<bool> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let list = |name: &str| fs::read_to_string(format!("/lib/modules/{}/{name}", kernel.trim())).unwrap_or_default();
    has_nat(&fs::read_to_string("/proc/modules").ok()?, &[list("modules.dep"), list("modules.builtin")])
}

/// Whether one of the modules is loaded, or can be: by the kernel's list of the first, and its lists of the others.
fn has_nat(loaded: &str, available: &[String]) -> Option<bool> {
    let is_of_nat = |line: &str| {
        let path = line.split([':', ' ']).next().unwrap_or_default();
        let name = path.rsplit('/').next().and_then(|file| file.split(".ko").next()).unwrap_or_default();
        OF_NAT.contains(&name)
    };
    if loaded.lines().any(is_of_nat) {
        return Some(true);
    }
    let is_known = available.iter().any(|list| !list.is_empty());
    is_known.then(|| available.iter().flat_map(|list| list.lines()).any(is_of_nat))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_was_made_for_ipv6_is_known_by_its_settings() {
        let host = |is_wanted| HostConfig { sysctls: sysctls(is_wanted), ..Default::default() };
        assert!(is_spoken(&host(true)));
        assert!(!is_spoken(&host(false)));
    }

    #[test]
    fn translation_is_there_where_a_module_is_loaded_or_could_be() {
        let available = |dep: &str| [dep.to_owned(), "kernel/net/ipv4/ip_tables.ko\n".to_owned()];
        let with = "kernel/net/ipv6/netfilter/ip6table_nat.ko.xz: kernel/net/netfilter/nf_nat.ko.xz\n";
        assert_eq!(has_nat("nft_chain_nat 16384 2 - Live 0x0\n", &available("")), Some(true));
        assert_eq!(has_nat("overlay 1 0 - Live 0x0\n", &available(with)), Some(true));
        assert_eq!(has_nat("overlay 1 0 - Live 0x0\n", &available("")), Some(false));
        assert_eq!(has_nat("overlay 1 0 - Live 0x0\n", &[String::new(), String::new()]), None, "nothing tells");
    }
}
