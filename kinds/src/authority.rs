//! Addresses with ports, as URLs and programs write them.

/// A host or an address with a port: an address of IPv6 stands in brackets.
#[must_use]
pub fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::host_and_port;

    #[test]
    fn only_addresses_of_ipv6_stand_in_brackets() {
        for (host, told) in [("dev", "dev:1"), ("10.0.0.2", "10.0.0.2:1"), ("fd00::2", "[fd00::2]:1")] {
            assert_eq!(host_and_port(host, 1), told);
        }
    }
}
