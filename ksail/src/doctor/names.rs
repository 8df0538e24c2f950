//! What is asked for by name: where images come from, and the proxies by which it is reached.

use std::time::Duration;

use ksail_kinds::{MirrorSpec, Spec as _};
use ksail_model::DeclaredGraph;

use super::{Check, Verdict, check};
use crate::settings::Settings;

/// How long a name may take to be resolved.
const NAME_TIMEOUT: Duration = Duration::from_secs(5);
/// Where node images come from.
const REGISTRY: &str = "registry-1.docker.io";
/// Variables that name a proxy.
const PROXIES: [&str; 2] = ["HTTPS_PROXY", "HTTP_PROXY"];

/// A proxy without the credentials that it may be written with.
fn without_credentials(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
        (None, Some((_, place))) => place.to_owned(),
        _ => text.to_owned(),
    }
}

fn set(settings: &Settings, name: &str) -> Option<String> {
    let env = |name: &str| (settings.env)(name).filter(|value| !value.is_empty());
    env(name).or_else(|| env(&name.to_lowercase()))
}

pub(super) fn proxies(settings: &Settings) -> Check {
    let found: Vec<String> = PROXIES
        .iter()
        .filter_map(|name| Some(format!("{name}={}", without_credentials(&set(settings, name)?))))
        .collect();
    if found.is_empty() {
        return check("proxy", Verdict::Good, "none is set", None);
    }
    let found = format!("{}: new machines get it, and reach their cluster past it", found.join(", "));
    check("proxy", Verdict::Good, found, None)
}

/// Whether the names that are asked for are known here: `localhost`, and where images come from.
pub(super) async fn names(settings: &Settings, graph: &DeclaredGraph) -> Vec<Check> {
    let mut checks = Vec::new();
    let local = resolve("localhost").await;
    let is_local = local.as_ref().is_ok_and(|found| found.iter().all(std::net::IpAddr::is_loopback));
    if !is_local {
        let found = "`localhost` is not this machine";
        checks.push(check("dns", Verdict::Bad, found, Some("write `127.0.0.1 localhost` into /etc/hosts")));
    }
    let upstreams = graph.declarations.values().filter(|one| one.address.kind() == MirrorSpec::KIND);
    let mut hosts: Vec<String> = upstreams.filter_map(|one| host_of(one.spec.field("upstream")?.as_str()?)).collect();
    if PROXIES.iter().any(|name| set(settings, name).is_some()) {
        let found = "names are the proxy's to know";
        checks.push(check("dns", Verdict::Skipped, found, None));
        return checks;
    }
    hosts.push(REGISTRY.to_owned());
    hosts.sort();
    hosts.dedup();
    for host in hosts {
        checks.push(match resolve(&host).await {
            Ok(_) => check("dns", Verdict::Good, format!("{host} is known"), None),
            Err(why) => check(
                "dns",
                Verdict::Warning,
                format!("{host} is not known: {why}"),
                Some("without it nothing is pulled from there: check the network and /etc/resolv.conf, or load images by `spec.cluster.importImages`"),
            ),
        });
    }
    checks
}

fn host_of(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', ':']).next().filter(|host| !host.is_empty())?;
    // An address needs no name.
    host.parse::<std::net::IpAddr>().is_err().then(|| host.to_owned())
}

async fn resolve(host: &str) -> Result<Vec<std::net::IpAddr>, String> {
    let found = tokio::time::timeout(NAME_TIMEOUT, tokio::net::lookup_host((host, 443))).await;
    match found {
        Ok(Ok(found)) => Ok(found.map(|address| address.ip()).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", NAME_TIMEOUT.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_credentials_are_told_to_nobody() {
        for (text, told) in [
            ("http://me:secret@proxy:3128", "http://proxy:3128"),
            ("me:secret@proxy:3128", "proxy:3128"),
            ("http://proxy:3128", "http://proxy:3128"),
        ] {
            assert_eq!(without_credentials(text), told);
        }
    }

    #[test]
    fn names_are_asked_for_and_addresses_are_not() {
        assert_eq!(host_of("https://ghcr.io/v2").as_deref(), Some("ghcr.io"));
        assert_eq!(host_of("http://10.0.0.1:5000"), None);
    }
}
