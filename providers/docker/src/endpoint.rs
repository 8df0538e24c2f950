//! Where the engine is.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::digest::sha256_hex;

/// The variables that say where the engine is.
const HOST: &str = "DOCKER_HOST";
const CONTEXT: &str = "DOCKER_CONTEXT";
const TLS_VERIFY: &str = "DOCKER_TLS_VERIFY";
const CERT_PATH: &str = "DOCKER_CERT_PATH";
const CONFIG: &str = "DOCKER_CONFIG";
/// The context that stands for "no context".
const DEFAULT_CONTEXT: &str = "default";

/// One way to talk to an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Transport {
    /// A Unix socket.
    Unix(PathBuf),
    /// A Windows named pipe.
    Pipe(String),
    /// Plain HTTP, `host:port`.
    Tcp(String),
    /// HTTPS with a client certificate, `host:port`.
    Tls {
        /// Host and port.
        address: String,
        /// The folder that holds `ca.pem`, `cert.pem` and `key.pem`.
        folder: PathBuf,
    },
}

impl Transport {
    /// Whether what it leads to publishes its ports on this machine.
    pub(crate) const fn is_local(&self) -> bool {
        matches!(self, Self::Unix(_) | Self::Pipe(_))
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Pipe(path) => write!(f, "npipe://{path}"),
            Self::Tcp(address) | Self::Tls { address, .. } => write!(f, "tcp://{address}"),
        }
    }
}

/// Where the engine is: one place, or several that are tried in order at the first call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) transports: Vec<Transport>,
    /// What named it, for messages (`DOCKER_HOST`, `context colima`).
    pub(crate) named_by: String,
    /// The folder of `config.json`, for credentials of registries.
    pub(crate) config_folder: Option<PathBuf>,
}

/// Why it cannot be told where the engine is.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address has a scheme that is not served.
    #[error("docker endpoint `{address}` ({named_by}) cannot be used: {why}")]
    Unsupported {
        /// The address.
        address: String,
        /// What named it.
        named_by: String,
        /// Why, with what to do instead.
        why: &'static str,
    },
    /// A named context does not exist.
    #[error("docker context `{name}` does not exist: {path} is not there")]
    NoContext {
        /// The context.
        name: String,
        /// Where its description would be.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is not a docker {what}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A key or certificate is missing.
    #[error("docker endpoint `{address}` needs {path}, which is not there")]
    NoCertificate {
        /// The address.
        address: String,
        /// The missing file.
        path: PathBuf,
    },
    /// A setting is not known.
    #[error("the docker provider has no setting `{0}`: it knows `host` and `context`")]
    UnknownSetting(String),
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct ContextFile {
    #[serde(rename = "Endpoints")]
    endpoints: ContextEndpoints,
}

#[derive(Deserialize)]
struct ContextEndpoints {
    docker: ContextEndpoint,
}

#[derive(Deserialize)]
struct ContextEndpoint {
    #[serde(rename = "Host", default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

impl Endpoint {
    /// The engine behind a Unix socket.
    pub fn socket(path: impl Into<PathBuf>) -> Self {
        Self {
            transports: vec![Transport::Unix(path.into())],
            named_by: "the engine's socket".to_owned(),
            config_folder: None,
        }
    }

    /// Tells where the engine is, in this order: the setting `host`, the setting `context`, `DOCKER_HOST` (with
    /// `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH`), `DOCKER_CONTEXT`, the current context of `config.json`, and else the
    /// known sockets: Docker, Docker Desktop, colima, OrbStack, rootless Docker, Podman. Nothing is connected to yet.
    ///
    /// # Errors
    ///
    /// A context that is not there, an address of a kind that is not served (`ssh://`), a file that cannot be read.
    pub fn resolve(
        settings: &BTreeMap<String, String>,
        environment: &dyn Fn(&str) -> Option<String>,
        home: Option<&Path>,
    ) -> Result<Self, EndpointError> {
        if let Some(unknown) = settings.keys().find(|key| !matches!(key.as_str(), "host" | "context")) {
            return Err(EndpointError::UnknownSetting(unknown.clone()));
        }
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let folder = variable(CONFIG).map(PathBuf::from).or_else(|| home.map(|home| home.join(".docker")));
        let tls = variable(TLS_VERIFY)
            .and_then(|_| variable(CERT_PATH).map(PathBuf::from).or_else(|| folder.clone()))
            .or_else(|| variable(CERT_PATH).map(PathBuf::from));
        let at =
            |transports: Vec<Transport>, named_by: String| Self { transports, named_by, config_folder: folder.clone() };
        if let Some(host) = settings.get("host") {
            let named_by = "the setting `host`".to_owned();
            return Ok(at(vec![transport(host, tls, &named_by)?], named_by));
        }
        if let Some(name) = settings.get("context").filter(|name| *name != DEFAULT_CONTEXT) {
            return Ok(at(vec![context(name, folder.as_deref())?], format!("context {name}")));
        }
        if !settings.contains_key("context") {
            if let Some(host) = variable(HOST) {
                return Ok(at(vec![transport(&host, tls, HOST)?], HOST.to_owned()));
            }
            let named = match variable(CONTEXT) {
                Some(name) => Some(name),
                None => current_context(folder.as_deref())?,
            };
            if let Some(name) = named.filter(|name| name != DEFAULT_CONTEXT) {
                return Ok(at(vec![context(&name, folder.as_deref())?], format!("context {name}")));
            }
        }
        Ok(at(known_places(&variable, home), "the known sockets".to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, transport) in self.transports.iter().enumerate() {
            write!(f, "{}{transport}", if position > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// Reads an address as `DOCKER_HOST` holds it.
fn transport(address: &str, tls: Option<PathBuf>, named_by: &str) -> Result<Transport, EndpointError> {
    let unsupported =
        |why| Err(EndpointError::Unsupported { address: address.to_owned(), named_by: named_by.to_owned(), why });
    match address.split_once("://") {
        Some(("unix", path)) => Ok(Transport::Unix(path.into())),
        None if address.starts_with('/') => Ok(Transport::Unix(address.into())),
        Some(("npipe", path)) if cfg!(windows) => Ok(Transport::Pipe(path.to_owned())),
        Some((scheme @ ("tcp" | "http" | "https"), rest)) => {
            let address = rest.trim_end_matches('/').to_owned();
            match tls {
                Some(folder) => with_certificates(address, folder),
                None if scheme == "https" => {
                    unsupported("https needs DOCKER_CERT_PATH, a folder with ca.pem, cert.pem and key.pem")
                }
                None => Ok(Transport::Tcp(address)),
            }
        }
        Some(("ssh", _)) => unsupported(
            "ssh is not served; forward the socket (`ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock HOST`) and set \
             DOCKER_HOST=unix:///tmp/docker.sock",
        ),
        _ => unsupported("it must begin with unix://, tcp:// or, on Windows, npipe://"),
    }
}

fn with_certificates(address: String, folder: PathBuf) -> Result<Transport, EndpointError> {
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        let path = folder.join(file);
        if !path.is_file() {
            return Err(EndpointError::NoCertificate { address, path });
        }
    }
    Ok(Transport::Tls { address, folder })
}

/// Reads a file that may be absent.
fn read(path: &Path) -> Result<Option<Vec<u8>>, EndpointError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(EndpointError::Unreadable { path: path.to_owned(), source }),
    }
}

fn current_context(folder: Option<&Path>) -> Result<Option<String>, EndpointError> {
    let Some(path) = folder.map(|folder| folder.join("config.json")) else { return Ok(None) };
    let Some(bytes) = read(&path)? else { return Ok(None) };
    serde_json::from_slice::<ConfigFile>(&bytes)
        .map(|config| config.current_context.filter(|name| !name.is_empty()))
        .map_err(|source| EndpointError::Malformed { path, what: "configuration", source })
}

/// Reads a context: its description and its TLS material are in folders named by the SHA-256 of its name.
fn context(name: &str, folder: Option<&Path>) -> Result<Transport, EndpointError> {
    let contexts = folder.unwrap_or(Path::new(".docker")).join("contexts");
    let key = sha256_hex(name.as_bytes());
    let path = contexts.join("meta").join(&key).join("meta.json");
    let Some(bytes) = read(&path)? else { return Err(EndpointError::NoContext { name: name.to_owned(), path }) };
    let endpoint = serde_json::from_slice::<ContextFile>(&bytes)
        .map_err(|source| EndpointError::Malformed { path, what: "context", source })?
        .endpoints
        .docker;
    let named_by = format!("context {name}");
    let tls = contexts.join("tls").join(&key).join("docker");
    if endpoint.skip_tls_verify {
        return Err(EndpointError::Unsupported {
            address: endpoint.host,
            named_by,
            why: "SkipTLSVerify is not served; give the context the engine's CA",
        });
    }
    transport(&endpoint.host, tls.is_dir().then_some(tls), &named_by)
}

/// Where engines are commonly found.
fn known_places(variable: &dyn Fn(&str) -> Option<String>, home: Option<&Path>) -> Vec<Transport> {
    if cfg!(windows) {
        return vec![Transport::Pipe("//./pipe/docker_engine".to_owned())];
    }
    let runtime = variable("XDG_RUNTIME_DIR").map(PathBuf::from);
    let in_home = |path: &str| home.map(|home| home.join(path));
    let in_runtime = |path: &str| runtime.as_ref().map(|runtime| runtime.join(path));
    [
        Some(PathBuf::from("/var/run/docker.sock")),
        in_home(".docker/run/docker.sock"),
        in_home(".colima/default/docker.sock"),
        in_home(".orbstack/run/docker.sock"),
        in_runtime("docker.sock"),
        in_runtime("podman/podman.sock"),
        Some(PathBuf::from("/run/podman/podman.sock")),
    ]
    .into_iter()
    .flatten()
    .map(Transport::Unix)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(
        settings: &[(&str, &str)],
        environment: &[(&str, &str)],
        home: &Path,
    ) -> Result<(Vec<Transport>, String), EndpointError> {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let lookup =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Endpoint::resolve(&settings, &lookup, Some(home)).map(|endpoint| (endpoint.transports, endpoint.named_by))
    }

    fn write_context(home: &Path, name: &str, host: &str) -> PathBuf {
        let key = sha256_hex(name.as_bytes());
        let contexts = home.join(".docker/contexts");
        let meta = contexts.join("meta").join(&key);
        std::fs::create_dir_all(&meta).unwrap();
        let text = format!(
            r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}","SkipTLSVerify":false}}}}}}"#
        );
        std::fs::write(meta.join("meta.json"), text).unwrap();
        contexts.join("tls").join(&key).join("docker")
    }

    fn unix(path: &str) -> Vec<Transport> {
        vec![Transport::Unix(path.into())]
    }

    #[test]
    fn settings_win_over_environment_and_contexts() {
        let home = tempfile::tempdir().unwrap();
        write_context(home.path(), "far", "unix:///far.sock");
        std::fs::write(home.path().join(".docker/config.json"), r#"{"currentContext":"far","auths":{}}"#).unwrap();
        let env = [("DOCKER_HOST", "unix:///env.sock"), ("DOCKER_CONTEXT", "nowhere")];
        let at = |settings: &[(&str, &str)], environment: &[(&str, &str)]| {
            resolve(settings, environment, home.path()).unwrap().0
        };
        assert_eq!(at(&[("host", "unix:///set.sock")], &env), unix("/set.sock"));
        assert_eq!(at(&[("context", "far")], &env), unix("/far.sock"));
        assert_eq!(at(&[], &env), unix("/env.sock"));
        assert_eq!(at(&[], &[("DOCKER_CONTEXT", "far")]), unix("/far.sock"));
        assert_eq!(at(&[], &[]), unix("/far.sock"));
        assert_eq!(at(&[("context", "default")], &env)[0], Transport::Unix("/var/run/docker.sock".into()));
        assert_eq!(at(&[], &[("DOCKER_CONTEXT", "default")]).len(), 5);
    }

    #[test]
    fn sockets_are_tried_in_a_fixed_order() {
        let home = tempfile::tempdir().unwrap();
        let (transports, named_by) = resolve(&[], &[("XDG_RUNTIME_DIR", "/run/user/7")], home.path()).unwrap();
        let texts: Vec<String> = transports.iter().map(ToString::to_string).collect();
        let home = home.path().display();
        assert_eq!(
            texts,
            [
                "unix:///var/run/docker.sock".to_owned(),
                format!("unix://{home}/.docker/run/docker.sock"),
                format!("unix://{home}/.colima/default/docker.sock"),
                format!("unix://{home}/.orbstack/run/docker.sock"),
                "unix:///run/user/7/docker.sock".to_owned(),
                "unix:///run/user/7/podman/podman.sock".to_owned(),
                "unix:///run/podman/podman.sock".to_owned(),
            ]
        );
        assert_eq!(named_by, "the known sockets");
    }

    #[test]
    fn tls_needs_all_its_files() {
        let home = tempfile::tempdir().unwrap();
        let certificates = home.path().join("certificates");
        std::fs::create_dir(&certificates).unwrap();
        let path = certificates.to_str().unwrap();
        let env = [("DOCKER_HOST", "tcp://far:2376"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", path)];
        let error = resolve(&[], &env, home.path()).unwrap_err();
        assert!(error.to_string().contains("ca.pem, which is not there"), "{error}");
        for file in ["ca.pem", "cert.pem", "key.pem"] {
            std::fs::write(certificates.join(file), "").unwrap();
        }
        let (transports, _) = resolve(&[], &env, home.path()).unwrap();
        assert_eq!(transports, [Transport::Tls { address: "far:2376".to_owned(), folder: certificates.clone() }]);
        let (transports, _) = resolve(&[], &[("DOCKER_HOST", "tcp://far:2375")], home.path()).unwrap();
        assert_eq!(transports, [Transport::Tcp("far:2375".to_owned())]);
        let tls = write_context(home.path(), "secure", "tcp://far:2376");
        std::fs::create_dir_all(&tls).unwrap();
        for file in ["ca.pem", "cert.pem", "key.pem"] {
            std::fs::write(tls.join(file), "").unwrap();
        }
        let (transports, _) = resolve(&[("context", "secure")], &[], home.path()).unwrap();
        assert_eq!(transports, [Transport::Tls { address: "far:2376".to_owned(), folder: tls }]);
    }

    #[test]
    fn what_cannot_be_used_is_said_with_a_way_out() {
        let home = tempfile::tempdir().unwrap();
        let check = |settings: &[(&str, &str)], wanted: &str| {
            let error = resolve(settings, &[], home.path()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        };
        check(&[("host", "ssh://me@far")], "ssh -nNT -L");
        check(&[("host", "https://far:1")], "DOCKER_CERT_PATH");
        check(&[("host", "far:1")], "it must begin with unix://");
        check(&[("context", "gone")], "docker context `gone` does not exist");
        check(&[("hots", "unix:///x")], "no setting `hots`");
        write_context(home.path(), "over-ssh", "ssh://me@far");
        check(&[("context", "over-ssh")], "context over-ssh");
        std::fs::write(home.path().join(".docker/config.json"), "{").unwrap();
        check(&[], "is not a docker configuration");
    }
}
