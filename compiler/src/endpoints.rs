//! The local registry's and the mirrors' endpoints, read from their texts.

use ksail_model::Value;

use crate::credential::{self, url_parts};
use crate::format::MirrorEntry;

/// What `spec.cluster.localRegistry.registry` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RegistryPlace {
    /// On this machine: it is made. The port, if it is given.
    Local { port: Option<u16>, has_credentials: bool },
    /// Elsewhere: it is used as it is.
    Remote {
        /// `host[:port][/path]`, without scheme and credentials.
        address: String,
    },
}

/// Hosts that are this machine.
const LOCAL_HOSTS: [&str; 4] = ["", "localhost", "127.0.0.1", "[::1]"];

/// Reads `[user:password@]host[:port][/path]`; a scheme before it is allowed.
pub(crate) fn registry_place(text: &str) -> Result<RegistryPlace, String> {
    let parts = url_parts(text.trim());
    let authority = parts.rest.split('/').next().unwrap_or_default();
    let (host, port) = host_and_port(authority)?;
    Ok(if LOCAL_HOSTS.contains(&host) {
        RegistryPlace::Local { port, has_credentials: parts.userinfo.is_some() }
    } else {
        RegistryPlace::Remote { address: parts.rest.trim_end_matches('/').to_owned() }
    })
}

fn host_and_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let colon = match authority.rfind(']') {
        Some(bracket) => authority[bracket..].find(':').map(|at| bracket + at),
        None => authority.find(':'),
    };
    let Some(colon) = colon else { return Ok((authority, None)) };
    match authority[colon + 1..].parse::<u16>() {
        Ok(port) if port > 0 => Ok((&authority[..colon], Some(port))),
        _ => Err("the port is not a number from 1 to 65535".to_owned()),
    }
}

/// A mirror's upstream and the credentials there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upstream {
    /// The URL without credentials.
    pub(crate) url: String,
    pub(crate) username: Value,
    pub(crate) password: Value,
}

/// The upstream of a host where none is given.
pub(crate) fn default_upstream(host: &str) -> String {
    match host {
        "docker.io" | "index.docker.io" => "https://registry-1.docker.io".to_owned(),
        _ => format!("https://{host}"),
    }
}

/// Reads a mirror's upstream and credentials; the fragment says what is wrong.
pub(crate) fn upstream(mirror: &MirrorEntry) -> Result<Upstream, String> {
    let text = mirror.upstream.as_deref().unwrap_or_default().trim();
    let parts = url_parts(text);
    let url = match parts.scheme {
        "" if parts.rest.is_empty() => default_upstream(&mirror.host.to_lowercase()),
        "" => format!("https://{}", parts.rest),
        "https://" | "http://" => format!("{}{}", parts.scheme, parts.rest),
        _ => return Err("the upstream must begin with `https://` or `http://`".to_owned()),
    };
    let authority = parts.rest.split('/').next().unwrap_or_default();
    if !parts.rest.is_empty() || !parts.scheme.is_empty() {
        let (host, _) = host_and_port(authority)?;
        let wrong = |c: char| c.is_whitespace() || matches!(c, '?' | '#' | '@' | '"' | '\\' | '<' | '>');
        if host.is_empty() || parts.rest.contains(wrong) {
            return Err("the upstream must read `https://host[:port][/path]`".to_owned());
        }
    }
    let open = "a credential that is not a reference".to_owned();
    let mut username = Value::Null;
    let mut password = Value::Null;
    if let Some((user, token)) = parts.userinfo {
        username = credential::username(user).map_err(|_| open.clone())?;
        password = token.map(credential::password).transpose().map_err(|_| open.clone())?.into();
    }
    for (field, slot) in [(&mirror.username, &mut username), (&mirror.password, &mut password)] {
        if field.is_some() && !slot.is_null() {
            return Err("credentials stand both in the upstream and beside it".to_owned());
        }
    }
    if let Some(text) = &mirror.username {
        username = credential::username(text).map_err(|_| open.clone())?;
    }
    if let Some(text) = &mirror.password {
        password = credential::password(text).map_err(|_| open)?;
    }
    Ok(Upstream { url: url.trim_end_matches('/').to_owned(), username, password })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_local_or_remote() {
        let local = |port| Ok(RegistryPlace::Local { port, has_credentials: false });
        assert_eq!(registry_place(""), local(None));
        assert_eq!(registry_place("localhost:5050"), local(Some(5050)));
        assert_eq!(registry_place("127.0.0.1/x"), local(None));
        assert_eq!(registry_place("[::1]:5000"), local(Some(5000)));
        let remote = |address: &str| Ok(RegistryPlace::Remote { address: address.to_owned() });
        assert_eq!(registry_place("user:${T}@ghcr.io/org/repo"), remote("ghcr.io/org/repo"));
        assert_eq!(registry_place("https://r.example:5000/"), remote("r.example:5000"));
        assert!(registry_place("localhost:99999").is_err());
        assert!(registry_place("localhost:x").is_err());
    }

    #[test]
    fn upstreams_have_defaults_by_host() {
        let url = |host: &str, given: Option<&str>| {
            let mirror =
                MirrorEntry { host: host.into(), upstream: given.map(str::to_owned), ..MirrorEntry::default() };
            upstream(&mirror).map(|upstream| upstream.url)
        };
        assert_eq!(url("docker.io", None).as_deref(), Ok("https://registry-1.docker.io"));
        assert_eq!(url("Quay.io", None).as_deref(), Ok("https://quay.io"));
        assert_eq!(url("a", Some("b.example:5000/x/")).as_deref(), Ok("https://b.example:5000/x"));
        assert_eq!(url("a", Some("http://b")).as_deref(), Ok("http://b"));
        assert!(url("a", Some("ftp://b")).is_err());
        assert!(url("a", Some("https://")).is_err());
        assert!(url("a", Some("https://b?c")).is_err());
    }

    #[test]
    fn credentials_stand_in_one_place() {
        let mut mirror = MirrorEntry { host: "a".into(), upstream: Some("u:${T}@b".into()), ..MirrorEntry::default() };
        let read = upstream(&mirror).unwrap();
        assert_eq!(read.username, Value::from("u"));
        assert_eq!(read.password, Value::Secret(ksail_model::Secret::env("T")));
        mirror.username = Some("v".into());
        assert!(upstream(&mirror).is_err());
    }
}
