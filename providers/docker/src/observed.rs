//! From what the engine tells of a container to the fields of its kind.

use std::collections::BTreeMap;

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, EndpointIpamConfig, EndpointSettings, RestartPolicyNameEnum,
};
use ksail_kinds::{HealthCheck, Port, Protocol, RegistrySpec, Spec as _, VolumeSpec};
use ksail_model::{Mark, Path, Secret, Value};

use crate::ipv6;
use crate::labels::{self, Labels};
use crate::log_lines::{holds_secret, withhold};
use crate::pinned::IMAGE;
use crate::plan::{PROXY_PASSWORD, PROXY_URL, PROXY_USER, REGISTRY_DATA, REGISTRY_PATH, REGISTRY_PORT};

/// A container as the engine tells of it.
pub(crate) struct Observed {
    inspect: ContainerInspectResponse,
    env: BTreeMap<String, String>,
}

/// A port that a container publishes.
pub(crate) struct Published {
    container: u16,
    protocol: String,
    pub(crate) address: String,
    pub(crate) host: u16,
}

impl Observed {
    pub(crate) fn new(inspect: ContainerInspectResponse) -> Self {
        let env = inspect
            .config
            .iter()
            .flat_map(|config| config.env.iter().flatten())
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Self { inspect, env }
    }

    pub(crate) fn id(&self) -> &str {
        self.inspect.id.as_deref().unwrap_or_default()
    }

    /// The name, without the slash that the engine puts before it.
    pub(crate) fn name(&self) -> &str {
        self.inspect.name.as_deref().unwrap_or_default().trim_start_matches('/')
    }

    pub(crate) fn labels(&self) -> Option<&Labels> {
        self.inspect.config.as_ref()?.labels.as_ref()
    }

    /// The text of a variable of its environment.
    pub(crate) fn environment(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str)
    }

    pub(crate) fn mark(&self) -> Option<Mark> {
        labels::mark(self.labels())
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.labels()?.get(name).map(String::as_str)
    }

    fn status(&self) -> ContainerStateStatusEnum {
        self.inspect.state.as_ref().and_then(|state| state.status).unwrap_or(ContainerStateStatusEnum::EMPTY)
    }

    /// Whether the engine keeps it running; one that it starts again and again is.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.status(), ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::RESTARTING)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.status() == ContainerStateStatusEnum::PAUSED
    }

    /// How often the engine started it again by itself since it was last started by somebody.
    pub(crate) fn restarts_so_far(&self) -> u32 {
        self.inspect.restart_count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
    }

    /// Whether its process ended and the engine is about to start it again.
    pub(crate) fn is_restarting(&self) -> bool {
        self.status() == ContainerStateStatusEnum::RESTARTING
    }

    /// Whether it is there and nothing of it runs.
    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.status(), ContainerStateStatusEnum::CREATED | ContainerStateStatusEnum::EXITED)
    }

    pub(crate) fn is_being_removed(&self) -> bool {
        matches!(self.status(), ContainerStateStatusEnum::REMOVING | ContainerStateStatusEnum::DEAD)
    }

    /// Why it does not run, if it does not; without its log.
    pub(crate) fn not_running(&self) -> Option<String> {
        let state = self.inspect.state.clone().unwrap_or_default();
        let code = state.exit_code.unwrap_or_default();
        let error = state.error.filter(|error| !error.is_empty());
        let error = error.map(|error| format!(" ({})", withhold(&error, &self.secret_texts()))).unwrap_or_default();
        match self.status() {
            ContainerStateStatusEnum::RUNNING => None,
            ContainerStateStatusEnum::RESTARTING => {
                let times = match self.restarts_so_far() {
                    0 | 1 => String::new(),
                    times => format!(" ({times} restarts so far)"),
                };
                Some(format!("its process ends again and again{times}, last with exit code {code}{error}"))
            }
            ContainerStateStatusEnum::EXITED => Some(format!("its process ended with exit code {code}{error}")),
            ContainerStateStatusEnum::CREATED => Some(format!("it was not started{error}")),
            ContainerStateStatusEnum::PAUSED => Some("it is paused".to_owned()),
            ContainerStateStatusEnum::REMOVING | ContainerStateStatusEnum::DEAD => {
                Some("it is being removed".to_owned())
            }
            other => Some(format!("it is in the state `{other}`")),
        }
    }

    /// Of one that runs: that it was started again by the engine.
    pub(crate) fn ended_before(&self) -> Option<String> {
        let restarts = self.restarts_so_far();
        let counted = if restarts == 1 { "once".to_owned() } else { format!("{restarts} times") };
        (self.not_running().is_none() && restarts > 0)
            .then(|| format!("its process ended {counted} and was started again"))
    }

    /// What else may keep it from running, where its kind tells.
    pub(crate) fn not_running_hint(&self, kind: &str) -> Option<String> {
        let upstream = self.env.get(PROXY_URL).filter(|_| kind == "mirror" && !self.is_paused())?;
        // One that ends again and again may run at the moment.
        self.not_running().or_else(|| self.ended_before())?;
        let upstream = if holds_secret(upstream, &self.secret_texts()) { "" } else { upstream };
        let named = ["its upstream", upstream].join(" ");
        Some(format!("{} may be unreachable: the registry checks it at start", named.trim_end()))
    }

    /// Texts that may stand in no message: the values of variables that were declared as secrets, and of a container
    /// without a mark all values.
    pub(crate) fn secret_texts(&self) -> Vec<&str> {
        let marked = self.mark().is_some();
        self.env.iter().filter(|(key, _)| !marked || self.is_secret(key)).map(|(_, value)| value.as_str()).collect()
    }

    fn is_secret(&self, variable: &str) -> bool {
        let path = match variable {
            PROXY_USER => Path::key("username"),
            PROXY_PASSWORD => return true,
            _ => Path::root(),
        };
        let env = Path::key("env").child_key(variable);
        labels::secret(self.labels(), &path).or_else(|| labels::secret(self.labels(), &env)).is_some()
    }

    /// The names of the networks that were asked for; the engine's default one is not among them.
    pub(crate) fn networks(&self) -> Vec<String> {
        let mode = self.inspect.host_config.as_ref().and_then(|host| host.network_mode.as_deref()).unwrap_or("default");
        let is_default = |name: &str| matches!(mode, "" | "default" | "bridge") && matches!(name, "bridge" | "podman");
        let mut names: Vec<String> =
            self.endpoints().map(|(name, _)| name.clone()).filter(|name| !is_default(name)).collect();
        // The network that it was made with comes first.
        names.sort_by_key(|name| (name != mode, name.clone()));
        names
    }

    fn endpoints(&self) -> impl Iterator<Item = (&String, &bollard::models::EndpointSettings)> {
        self.inspect.network_settings.iter().flat_map(|settings| settings.networks.iter().flatten())
    }

    /// The ports that it publishes when it runs.
    pub(crate) fn ports(&self) -> Vec<Published> {
        let bindings = self.inspect.host_config.as_ref().and_then(|host| host.port_bindings.as_ref());
        let mut ports: Vec<Published> = bindings
            .iter()
            .flat_map(|map| map.iter())
            .filter_map(|(key, bindings)| {
                let (container, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
                Some((container.parse().ok()?, protocol, bindings.as_ref()?))
            })
            .flat_map(|(container, protocol, bindings)| {
                bindings.iter().map(move |binding| Published {
                    container,
                    protocol: protocol.to_owned(),
                    address: binding.host_ip.clone().unwrap_or_default(),
                    host: binding.host_port.as_ref().and_then(|port| port.parse().ok()).unwrap_or_default(),
                })
            })
            .collect();
        ports.sort_by(|a, b| (a.container, &a.protocol, a.host).cmp(&(b.container, &b.protocol, b.host)));
        ports
    }

    /// The same, as the kinds have them.
    pub(crate) fn published(&self) -> Vec<Port> {
        let protocol = |name: &str| match name {
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        let port = |port: Published| Port {
            container: port.container,
            host: port.host,
            address: port.address,
            protocol: protocol(&port.protocol),
        };
        self.ports().into_iter().map(port).collect()
    }

    /// Its address on a network: the one that was asked for, else the one that it has.
    pub(crate) fn address(&self, network: &str) -> Option<String> {
        self.address_of(network, |asked| &asked.ipv4_address, |endpoint| &endpoint.ip_address)
    }

    /// Its IPv6 address on a network, in the same way.
    pub(crate) fn ipv6_address(&self, network: &str) -> Option<String> {
        self.address_of(network, |asked| &asked.ipv6_address, |endpoint| &endpoint.global_ipv6_address)
    }

    fn address_of(
        &self,
        network: &str,
        asked: fn(&EndpointIpamConfig) -> &Option<String>,
        has: fn(&EndpointSettings) -> &Option<String>,
    ) -> Option<String> {
        let (_, endpoint) = self.endpoints().find(|(name, _)| *name == network)?;
        let said = |address: &Option<String>| address.clone().filter(|address| !address.is_empty());
        endpoint.ipam_config.as_ref().and_then(|ipam| said(asked(ipam))).or_else(|| said(has(endpoint)))
    }

    /// Whether it was made to speak IPv6.
    pub(crate) fn speaks_ipv6(&self) -> bool {
        self.inspect.host_config.as_ref().is_some_and(ipv6::is_spoken)
    }

    /// When it was started last, in seconds since the epoch.
    pub(crate) fn started_at(&self) -> Option<i32> {
        let text = self.inspect.state.as_ref()?.started_at.as_deref()?;
        seconds(text).and_then(|seconds| i32::try_from(seconds).ok()).filter(|seconds| *seconds > 0)
    }

    /// The options with which something is mounted at a path.
    pub(crate) fn mount_options(&self, target: &str) -> Vec<&str> {
        let mut mounts = self.inspect.mounts.iter().flatten();
        let mode =
            mounts.find(|mount| mount.destination.as_deref() == Some(target)).and_then(|mount| mount.mode.as_deref());
        mode.unwrap_or_default().split(',').collect()
    }

    /// What is mounted, without the anonymous volumes of the image: source, target, read-only.
    pub(crate) fn mounts(&self) -> Vec<(String, String, bool)> {
        let mut mounts: Vec<(String, String, bool)> = self
            .inspect
            .mounts
            .iter()
            .flatten()
            .filter_map(|mount| {
                let source = match mount.typ.as_deref() {
                    Some("volume") => mount.name.clone()?,
                    _ => mount.source.clone()?,
                };
                (!VolumeSpec::is_anonymous(&source))
                    .then(|| (source, mount.destination.clone().unwrap_or_default(), mount.rw == Some(false)))
            })
            .collect();
        mounts.sort_by(|a, b| a.1.cmp(&b.1));
        mounts
    }

    /// The volume without a name of its own that is mounted at a path, by the id that the engine gave it.
    pub(crate) fn anonymous_volume(&self, target: &str) -> Option<&str> {
        let mut mounts = self.inspect.mounts.iter().flatten();
        let mount = mounts.find(|mount| mount.destination.as_deref() == Some(target))?;
        mount.name.as_deref().filter(|name| VolumeSpec::is_anonymous(name))
    }

    pub(crate) fn image(&self) -> Value {
        if let Some(reference) = self.label(IMAGE) {
            return Value::from(reference);
        }
        Value::from(self.inspect.config.as_ref().and_then(|config| config.image.clone()))
    }

    /// The value of a variable as a leaf of the spec: the text, or the fingerprint of the secret that was declared.
    fn variable(&self, variable: &str, path: &Path, declared: Option<&Value>) -> Value {
        if let Some(secret) = labels::secret(self.labels(), path) {
            return Value::Secret(secret);
        }
        match (self.env.get(variable), declared) {
            (None, _) => Value::Null,
            // Without a mark there is no fingerprint, and the text is nobody's business.
            (Some(_), Some(Value::Secret(_))) => Value::Secret(Secret { parts: Vec::new(), fingerprint: None }),
            (Some(_), _) if variable == PROXY_PASSWORD => {
                Value::Secret(Secret { parts: Vec::new(), fingerprint: None })
            }
            (Some(text), _) => Value::from(text.clone()),
        }
    }

    /// The fields of its kind. The declared spec tells which of the variables and arguments of a container without our labels
    /// are of interest.
    pub(crate) fn fields(&self, kind: &str, declared: Option<&Value>) -> Value {
        match kind {
            "registry" => self.registry_fields(),
            "mirror" => self.mirror_fields(declared),
            "load-balancer" => self.load_balancer_fields(),
            _ => self.container_fields(declared),
        }
    }

    fn registry_fields(&self) -> Value {
        let port = self.ports().into_iter().find(|port| port.container == REGISTRY_PORT);
        let volume = self.mounts().into_iter().find(|(_, target, _)| target == REGISTRY_DATA);
        Value::map([
            ("image", self.image()),
            ("network", Value::from(self.networks().into_iter().next())),
            ("volume", Value::from(volume.map(|(source, ..)| source))),
            ("address", Value::from(port.as_ref().map(|port| port.address.clone()))),
            ("port", Value::from(port.map(|port| port.host))),
            ("running", Value::from(self.is_running())),
        ])
    }

    fn mirror_fields(&self, declared: Option<&Value>) -> Value {
        let Value::Map(mut fields) = self.registry_fields() else { return Value::Null };
        let declared = |field: &str| declared.and_then(|spec| spec.field(field));
        fields.insert("host".to_owned(), Value::from(self.label(labels::MIRROR_HOST).map(str::to_owned)));
        fields.insert("upstream".to_owned(), Value::from(self.env.get(PROXY_URL).cloned()));
        for (field, variable) in [("username", PROXY_USER), ("password", PROXY_PASSWORD)] {
            let value = self.variable(variable, &Path::key(field), declared(field));
            if !value.is_null() {
                fields.insert(field.to_owned(), value);
            }
        }
        Value::Map(fields)
    }

    fn container_fields(&self, declared: Option<&Value>) -> Value {
        let mut fields = BTreeMap::from([
            ("image".to_owned(), self.image()),
            ("restart".to_owned(), self.restart()),
            ("running".to_owned(), Value::from(self.is_running())),
        ]);
        let mut insert = |key: &str, value: Value| {
            let empty = match &value {
                Value::Null => true,
                Value::List(list) => list.is_empty(),
                Value::Map(map) => map.is_empty(),
                _ => false,
            };
            if !empty {
                fields.insert(key.to_owned(), value);
            }
        };
        insert("command", self.command(declared));
        insert("env", self.declared_env(declared));
        insert(
            "mounts",
            Value::List(
                self.mounts()
                    .into_iter()
                    .map(|(source, target, read_only)| {
                        Value::map([
                            ("source", Value::from(source)),
                            ("target", Value::from(target)),
                            ("read_only", Value::from(read_only)),
                        ])
                    })
                    .collect(),
            ),
        );
        insert(
            "ports",
            Value::List(
                self.ports()
                    .into_iter()
                    .map(|port| {
                        Value::map([
                            ("container", Value::from(port.container)),
                            ("host", Value::from(port.host)),
                            ("address", Value::from(port.address)),
                            ("protocol", Value::from(port.protocol)),
                        ])
                    })
                    .collect(),
            ),
        );
        insert("networks", Value::from(self.networks()));
        let health = self.label(labels::HEALTH).and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        insert("health", health.map_or(Value::Null, Value::from));
        Value::Map(fields.into())
    }

    fn command(&self, declared: Option<&Value>) -> Value {
        let own = match self.label(labels::OWN_COMMAND) {
            Some(own) => own == "true",
            None => declared.and_then(|spec| spec.field("command")).is_some_and(|value| !value.is_null()),
        };
        let command = self.inspect.config.as_ref().and_then(|config| config.cmd.clone()).filter(|_| own);
        Value::from(command.unwrap_or_default())
    }

    fn declared_env(&self, declared: Option<&Value>) -> Value {
        let declared = declared.and_then(|spec| spec.field("env")).and_then(Value::as_map);
        let names: Vec<String> = match self.label(labels::ENV_NAMES) {
            Some(names) => serde_json::from_str(names).unwrap_or_default(),
            None => declared.iter().flat_map(|map| map.keys().cloned()).collect(),
        };
        let at = Path::key("env");
        Value::Map(
            names
                .into_iter()
                .map(|name| {
                    let value =
                        self.variable(&name, &at.child_key(name.clone()), declared.and_then(|map| map.get(&name)));
                    (name, value)
                })
                .filter(|(_, value)| !value.is_null())
                .collect(),
        )
    }

    /// The names that a network knows it by beside its own, which may be the beginning of its id.
    pub(crate) fn aliases(&self, network: &str) -> Vec<String> {
        let endpoint = self.endpoints().find(|(name, _)| *name == network);
        let own = |alias: &String| *alias == self.name() || self.id().starts_with(alias.as_str());
        let aliases = endpoint.and_then(|(_, endpoint)| endpoint.aliases.clone()).unwrap_or_default();
        aliases.into_iter().filter(|alias| !own(alias)).collect()
    }

    fn restart(&self) -> Value {
        let policy = self.inspect.host_config.as_ref().and_then(|host| host.restart_policy.clone());
        match policy.and_then(|policy| policy.name) {
            None | Some(RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO) => Value::from("no"),
            Some(other) => Value::from(other.to_string()),
        }
    }

    /// What only the engine can tell.
    pub(crate) fn attributes(&self, kind: &str) -> Value {
        let mut attributes = BTreeMap::from([("id".to_owned(), Value::from(self.id()))]);
        if kind == "container" {
            let addresses: BTreeMap<String, Value> = self
                .endpoints()
                .filter_map(|(name, endpoint)| {
                    let address = endpoint.ip_address.clone().filter(|address| !address.is_empty())?;
                    Some((name.clone(), Value::from(address)))
                })
                .collect();
            attributes.insert("addresses".to_owned(), Value::Map(addresses.into()));
        } else if let Some(port) = self.ports().into_iter().find(|port| port.container == REGISTRY_PORT) {
            let outside = RegistrySpec::endpoint(&port.address, port.host);
            let inside = RegistrySpec::network_endpoint(self.name());
            if kind == RegistrySpec::KIND {
                let hosting = RegistrySpec::hosting(&outside, &inside);
                attributes.insert(RegistrySpec::HOSTING.to_owned(), Value::from(hosting));
            }
            attributes.insert("endpoint".to_owned(), Value::from(outside));
            attributes.insert("network_endpoint".to_owned(), Value::from(inside));
        }
        Value::Map(attributes.into())
    }

    /// Where it is asked over HTTP whether it is healthy: address and port on the engine's machine, and the path.
    pub(crate) fn health(&self, kind: &str) -> Option<(String, u16, String)> {
        let check = match kind {
            "registry" | "mirror" => HealthCheck { port: REGISTRY_PORT, path: REGISTRY_PATH.to_owned() },
            _ => serde_json::from_str(self.label(labels::HEALTH)?).ok()?,
        };
        let port = self.ports().into_iter().find(|port| port.container == check.port && port.protocol == "tcp")?;
        let address = match port.address.as_str() {
            "" | "0.0.0.0" => "127.0.0.1".to_owned(),
            "::" => "::1".to_owned(),
            other => other.to_owned(),
        };
        Some((address, port.host, check.path))
    }

    /// Whether the engine starts it again by itself.
    pub(crate) fn restarts(&self) -> bool {
        self.restart() != Value::from("no")
    }
}

/// The seconds since the epoch of a time as the engine writes it.
fn seconds(text: &str) -> Option<i64> {
    Some(text.parse::<jiff::Timestamp>().ok()?.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(config: serde_json::Value, host: serde_json::Value, mounts: serde_json::Value) -> Observed {
        let text = serde_json::json!({
            "Id": "abc", "Name": "/x", "Config": config, "HostConfig": host, "Mounts": mounts,
            "State": {"Status": "running", "Running": true},
            "NetworkSettings": {"Networks": {"dev": {"IPAddress": "10.0.0.2"}}},
        });
        Observed::new(serde_json::from_value(text).unwrap())
    }

    #[test]
    fn image_defaults_are_not_reported() {
        let config = |labels: serde_json::Value| {
            serde_json::json!({
                "Image": "i", "Cmd": ["serve"], "Env": ["PATH=/bin", "A=1", "TOKEN=hush"], "Labels": labels,
            })
        };
        let host = serde_json::json!({"NetworkMode": "dev", "RestartPolicy": {"Name": "unless-stopped"}});
        let mounts = serde_json::json!([
            {"Type": "volume", "Name": "a".repeat(64), "Source": "/x", "Destination": "/anonymous", "RW": true},
            {"Type": "volume", "Name": "data", "Source": "/y", "Destination": "/data", "RW": false},
        ]);
        let ours = observed(
            config(serde_json::json!({
                "dev.ksail.lineage": "l", "dev.ksail.address": "dev/container/x", "dev.ksail.operation": "o",
                "dev.ksail.generation": "1", "dev.ksail.env": r#"["A","TOKEN"]"#, "dev.ksail.own-command": "false",
                "dev.ksail.fingerprint.env.TOKEN": "f00",
            })),
            host.clone(),
            mounts.clone(),
        );
        let json = serde_json::to_value(ours.fields("container", None)).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "image": "i", "restart": "unless-stopped", "running": true, "networks": ["dev"],
                "env": {"A": "1", "TOKEN": {"$secret": {"parts": [], "fingerprint": "f00"}}},
                "mounts": [{"source": "data", "target": "/data", "read_only": true}],
            })
        );
        assert_eq!(ours.secret_texts(), ["hush"]);
        let foreign = observed(config(serde_json::json!({})), host, mounts);
        let declared = Value::map([("env", Value::map([("TOKEN", Value::Secret(Secret::env("T")))]))]);
        let fields = foreign.fields("container", Some(&declared));
        assert!(!serde_json::to_string(&fields).unwrap().contains("hush"));
        assert_eq!(fields.field("command"), None);
        assert!(foreign.secret_texts().contains(&"hush"));
    }

    #[test]
    fn a_mirror_that_ends_again_and_again_names_exit_code_and_upstream() {
        let text = serde_json::json!({
            "State": {"Status": "restarting", "ExitCode": 2, "Error": "exec of me failed"},
            "Config": {
                "Env": ["REGISTRY_PROXY_REMOTEURL=https://ghcr.io", "REGISTRY_PROXY_USERNAME=me"],
                "Labels": {
                    "dev.ksail.lineage": "l", "dev.ksail.address": "dev/mirror/x", "dev.ksail.operation": "o",
                    "dev.ksail.generation": "1", "dev.ksail.fingerprint.username": "f00",
                },
            },
        });
        let observed = Observed::new(serde_json::from_value(text).unwrap());
        let why = observed.not_running().unwrap();
        assert!(why.contains("exit code 2") && !why.contains("of me"), "{why}");
        let hint = observed.not_running_hint("mirror").unwrap();
        assert_eq!(hint, "its upstream https://ghcr.io may be unreachable: the registry checks it at start");
        assert_eq!(observed.not_running_hint("registry"), None);
    }

    #[test]
    fn a_restart_policy_reads_as_its_name() {
        for (policy, wanted) in [("", "no"), ("no", "no"), ("always", "always"), ("unless-stopped", "unless-stopped")] {
            let host = serde_json::json!({"RestartPolicy": {"Name": policy}});
            let observed = observed(serde_json::json!({}), host, serde_json::json!([]));
            assert_eq!(observed.restart(), Value::from(wanted));
        }
    }
}
