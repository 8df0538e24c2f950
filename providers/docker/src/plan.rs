//! From the spec of a container, registry or mirror to the container that the engine shall make.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, Mount as EngineMount, MountType, NetworkingConfig, PortBinding,
    PortMap, RestartPolicy, RestartPolicyNameEnum,
};
use ksail_kinds::{
    ContainerSpec, LoadBalancerSpec, MirrorSpec, Mount, Port, Protocol, RegistrySpec, Restart, Spec as _,
};
use ksail_model::{Mark, Path, Value};
use ksail_provider::SecretText;

use crate::ipv6;
use crate::labels::{self, Labels};
use crate::load_balancer;
use crate::network::cause_of;

/// Where a registry keeps its blobs.
pub(crate) const REGISTRY_DATA: &str = "/var/lib/registry";
/// The port that a registry listens on in its container.
pub(crate) const REGISTRY_PORT: u16 = RegistrySpec::PORT;
/// The path that a registry answers once it serves.
pub(crate) const REGISTRY_PATH: &str = "/v2/";
/// Lets blobs be deleted, so that the local registry can be cleaned.
const DELETE_ENABLED: (&str, &str) = ("REGISTRY_STORAGE_DELETE_ENABLED", "true");
pub(crate) const PROXY_URL: &str = "REGISTRY_PROXY_REMOTEURL";
pub(crate) const PROXY_USER: &str = "REGISTRY_PROXY_USERNAME";
pub(crate) const PROXY_PASSWORD: &str = "REGISTRY_PROXY_PASSWORD";

/// A container as it shall be. `env` holds secret texts, so this is never printed.
pub(crate) struct ContainerPlan {
    pub(crate) image: String,
    pub(crate) command: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) ports: Vec<Port>,
    pub(crate) networks: Vec<String>,
    /// Whether it speaks IPv6 too.
    pub(crate) ipv6: bool,
    pub(crate) restart: Restart,
    pub(crate) running: bool,
    /// Labels beside the mark.
    pub(crate) labels: Labels,
}

/// Reads the spec of one of the three kinds; the texts of its secrets are needed to make a container, and not to change
/// or look at one.
pub(crate) fn plan(
    kind: &str,
    spec: &Value,
    secrets: Option<&BTreeMap<Path, SecretText>>,
) -> Result<ContainerPlan, String> {
    match kind {
        "registry" => {
            let spec = RegistrySpec::from_value(spec).map_err(|error| cause_of(&error))?;
            let (key, value) = DELETE_ENABLED;
            Ok(registry(spec, vec![(key.to_owned(), value.to_owned())], Labels::new()))
        }
        "mirror" => {
            let spec = MirrorSpec::from_value(spec).map_err(|error| cause_of(&error))?;
            let mut env = vec![(PROXY_URL.to_owned(), spec.upstream.clone())];
            for (key, field, value) in
                [(PROXY_USER, "username", &spec.username), (PROXY_PASSWORD, "password", &spec.password)]
            {
                if let Some(text) = text(value, &Path::key(field), secrets)? {
                    env.push((key.to_owned(), text));
                }
            }
            let labels = Labels::from([(labels::MIRROR_HOST.to_owned(), spec.host)]);
            let like = RegistrySpec {
                image: spec.image,
                network: spec.network,
                volume: spec.volume,
                address: spec.address,
                port: spec.port,
                running: spec.running,
            };
            Ok(registry(like, env, labels))
        }
        "load-balancer" => {
            Ok(load_balancer::plan(LoadBalancerSpec::from_value(spec).map_err(|error| cause_of(&error))?))
        }
        _ => container(ContainerSpec::from_value(spec).map_err(|error| cause_of(&error))?, secrets),
    }
}

fn registry(spec: RegistrySpec, env: Vec<(String, String)>, labels: Labels) -> ContainerPlan {
    ContainerPlan {
        image: spec.image,
        command: Vec::new(),
        env,
        mounts: vec![Mount { source: spec.volume, target: REGISTRY_DATA.to_owned(), read_only: false }],
        ports: vec![Port { container: REGISTRY_PORT, host: spec.port, address: spec.address, protocol: Protocol::Tcp }],
        networks: vec![spec.network],
        ipv6: false,
        restart: Restart::UnlessStopped,
        running: spec.running,
        labels,
    }
}

fn container(spec: ContainerSpec, secrets: Option<&BTreeMap<Path, SecretText>>) -> Result<ContainerPlan, String> {
    let at = Path::key("env");
    let mut env = Vec::with_capacity(spec.env.len());
    for (key, value) in &spec.env {
        if let Some(text) = text(value, &at.child_key(key.clone()), secrets)? {
            env.push((key.clone(), text));
        }
    }
    let names: Vec<&String> = spec.env.keys().collect();
    let mut labels = Labels::from([
        (labels::ENV_NAMES.to_owned(), json(&names)),
        (labels::OWN_COMMAND.to_owned(), (!spec.command.is_empty()).to_string()),
    ]);
    if let Some(health) = &spec.health {
        labels.insert(labels::HEALTH.to_owned(), json(health));
    }
    Ok(ContainerPlan {
        image: spec.image,
        command: spec.command,
        env,
        mounts: spec.mounts,
        ports: spec.ports,
        networks: spec.networks,
        ipv6: false,
        restart: spec.restart,
        running: spec.running,
        labels,
    })
}

/// The text of a leaf; `None` where it is left out. A secret without its text stays out where none are needed.
fn text(value: &Value, path: &Path, secrets: Option<&BTreeMap<Path, SecretText>>) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(value) => Ok(Some(value.to_string())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Secret(_) => match secrets {
            None => Ok(None),
            Some(secrets) => match secrets.get(path) {
                Some(text) => Ok(Some(text.expose().to_owned())),
                None => Err(format!("the text of the secret at `{path}` was not given")),
            },
        },
        _ => Err(format!("`{path}` must be a text")),
    }
}

/// How the engine names a restart policy.
pub(crate) fn restart_policy(restart: Restart) -> RestartPolicy {
    let name = match restart {
        Restart::No => RestartPolicyNameEnum::NO,
        Restart::UnlessStopped => RestartPolicyNameEnum::UNLESS_STOPPED,
    };
    RestartPolicy { name: Some(name), maximum_retry_count: None }
}

/// How the engine names a port of a container.
pub(crate) fn port_key(port: &Port) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    format!("{}/{protocol}", port.container)
}

impl ContainerPlan {
    /// The request that makes it. Only its first network stands in there: engines before API 1.44 take no more.
    pub(crate) fn body(&self, mark: &Mark, spec: &Value) -> ContainerCreateBody {
        let mut all_labels = labels::labels(mark, spec);
        all_labels.extend(self.labels.clone());
        let mut bindings = PortMap::new();
        for port in &self.ports {
            let binding = PortBinding { host_ip: Some(port.address.clone()), host_port: Some(port.host.to_string()) };
            bindings.entry(port_key(port)).or_default().get_or_insert_default().push(binding);
        }
        let mounts = self
            .mounts
            .iter()
            .map(|mount| EngineMount {
                target: Some(mount.target.clone()),
                source: Some(mount.source.clone()),
                typ: Some(if mount.source.starts_with('/') { MountType::BIND } else { MountType::VOLUME }),
                read_only: Some(mount.read_only),
                ..Default::default()
            })
            .collect();
        let first = self.networks.first();
        ContainerCreateBody {
            image: Some(self.image.clone()),
            cmd: (!self.command.is_empty()).then(|| self.command.clone()),
            env: Some(self.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
            exposed_ports: Some(self.ports.iter().map(port_key).collect()),
            labels: Some(all_labels),
            host_config: Some(HostConfig {
                mounts: Some(mounts),
                port_bindings: Some(bindings),
                restart_policy: Some(restart_policy(self.restart)),
                network_mode: first.cloned(),
                sysctls: ipv6::sysctls(self.ipv6),
                ..Default::default()
            }),
            networking_config: first.map(|network| NetworkingConfig {
                endpoints_config: Some(HashMap::from([(network.clone(), EndpointSettings::default())])),
            }),
            ..Default::default()
        }
    }
}

/// The JSON text of what always has one.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
