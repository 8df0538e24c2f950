//! From the spec of a machine to the container that the engine shall make, as kind makes it, and back.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigCgroupnsModeEnum,
    NetworkingConfig, PortBinding, PortMap, RestartPolicy, RestartPolicyNameEnum,
};
use ksail_kinds::{ClusterSpec, MachineMount, MachineRole, MachineSpec, Port, Propagation, Protocol};
use ksail_model::{Mark, Value};

use crate::ipv6;
use crate::labels;
use crate::observed::Observed;
use crate::plan::port_key;
use crate::proxies::variables;

/// By these labels kind finds its nodes, and we what the engine does not tell otherwise.
pub(crate) const CLUSTER: &str = "io.x-k8s.kind.cluster";
pub(crate) const ROLE: &str = "io.x-k8s.kind.role";
/// What is changed in containerd's configuration, as JSON.
const CONTAINERD: &str = "dev.ksail.containerd";
/// What a machine keeps, and what it reads of the engine's machine.
pub(crate) const KEPT: &str = "/var";
const MODULES: &str = "/lib/modules";
/// Options of mounts.
const READ_ONLY: &str = "ro";
const RELABEL: &str = "Z";
const SLAVE: &str = "rslave";
const SHARED: &str = "rshared";
/// By this variable the entrypoint of a node image is told in which domains names are looked for.
const DNS_SEARCH: &str = "KIND_DNS_SEARCH";
/// Where the API server answers on the engine's machine, if that is not the loopback address.
const API_ADDRESS: &str = "dev.ksail.api-address";

/// The request that makes the container of a machine.
pub(crate) fn body(name: &str, spec: &MachineSpec, mark: &Mark, written: &Value) -> ContainerCreateBody {
    let mut all_labels = labels::labels(mark, written);
    all_labels.insert(CLUSTER.to_owned(), spec.cluster.clone());
    all_labels.insert(ROLE.to_owned(), spec.role.word().to_owned());
    if !spec.containerd.is_empty() {
        all_labels.insert(CONTAINERD.to_owned(), serde_json::to_string(&spec.containerd).unwrap_or_default());
    }
    all_labels.extend(spec.api_address.as_ref().map(|address| (API_ADDRESS.to_owned(), address.clone())));
    let ports = ports(spec);
    let mut bindings = PortMap::new();
    for port in &ports {
        let binding = PortBinding { host_ip: Some(port.address.clone()), host_port: Some(port.host.to_string()) };
        bindings.entry(port_key(port)).or_default().get_or_insert_default().push(binding);
    }
    // As binds, so that a folder of the engine's machine that is not there is made, as kind has it.
    let mut binds = vec![format!("{}:{KEPT}", spec.volume), format!("{MODULES}:{MODULES}:ro")];
    binds.extend(spec.mounts.iter().map(bind));
    let mut env = match spec.role {
        MachineRole::ControlPlane => vec!["KUBECONFIG=/etc/kubernetes/admin.conf".to_owned()],
        MachineRole::Worker => Vec::new(),
    };
    env.extend(variables(&spec.proxy));
    env.extend(spec.dns_search.as_ref().map(|domains| format!("{DNS_SEARCH}={}", domains.join(" "))));
    let ipam = EndpointIpamConfig {
        ipv4_address: spec.address.clone(),
        ipv6_address: spec.ipv6_address.clone(),
        ..Default::default()
    };
    let endpoint = EndpointSettings {
        ipam_config: (spec.address.is_some() || spec.ipv6_address.is_some()).then_some(ipam),
        aliases: (!spec.aliases.is_empty()).then(|| spec.aliases.clone()),
        ..Default::default()
    };
    ContainerCreateBody {
        hostname: Some(name.to_owned()),
        image: Some(spec.image.clone()),
        env: Some(env),
        tty: Some(true),
        exposed_ports: Some(ports.iter().map(port_key).collect()),
        labels: Some(all_labels),
        host_config: Some(HostConfig {
            privileged: Some(true),
            security_opt: Some(vec!["seccomp=unconfined".to_owned(), "apparmor=unconfined".to_owned()]),
            tmpfs: Some(["/tmp", "/run"].map(|path| (path.to_owned(), String::new())).into()),
            binds: Some(binds),
            port_bindings: Some(bindings),
            cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
            init: Some(false),
            // It is started with the engine, and not again where it fails.
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::ON_FAILURE),
                maximum_retry_count: Some(1),
            }),
            network_mode: Some(spec.network.clone()),
            sysctls: ipv6::sysctls(spec.ipv6),
            ..Default::default()
        }),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(spec.network.clone(), endpoint)])),
        }),
        ..Default::default()
    }
}

/// A mount as the engine reads it: source, target, options.
fn bind(mount: &MachineMount) -> String {
    let propagation = match mount.propagation {
        Propagation::None => None,
        Propagation::HostToContainer => Some(SLAVE),
        Propagation::Bidirectional => Some(SHARED),
    };
    let read_only = mount.read_only.then_some(READ_ONLY);
    let relabel = mount.relabel.then_some(RELABEL);
    let options: Vec<&str> = [read_only, relabel, propagation].into_iter().flatten().collect();
    let options = if options.is_empty() { String::new() } else { format!(":{}", options.join(",")) };
    format!("{}:{}{options}", mount.source, mount.target)
}

/// All ports that it publishes.
fn ports(spec: &MachineSpec) -> Vec<Port> {
    let api = spec.port.map(|host| Port {
        container: MachineSpec::API_PORT,
        host,
        address: spec.api_address.clone().unwrap_or_else(|| ClusterSpec::LOOPBACK.to_owned()),
        protocol: Protocol::Tcp,
    });
    api.into_iter().chain(spec.ports.iter().cloned()).collect()
}

/// What containerd reads of who answers pulls of a host.
pub(crate) fn hosts_file(url: &str) -> String {
    format!("[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n")
}

/// By host, who answers pulls, from such files.
pub(crate) fn registries(files: &[(String, String)]) -> BTreeMap<String, String> {
    let of_file = |(path, text): &(String, String)| {
        let host = path.strip_suffix("/hosts.toml")?.rsplit('/').next()?;
        let url = text.lines().find_map(|line| line.trim().strip_prefix("[host.\"")?.strip_suffix("\"]"))?;
        Some((host.to_owned(), url.to_owned()))
    };
    files.iter().filter_map(of_file).collect()
}

impl Observed {
    /// The fields of a machine.
    pub(crate) fn machine_fields(&self, registries: BTreeMap<String, String>) -> Value {
        let label = |name: &str| self.labels().and_then(|labels| labels.get(name)).cloned();
        let (mut volume, mut mounts) = (None, Vec::new());
        for (source, target, read_only) in self.mounts() {
            match target.as_str() {
                KEPT => volume = Some(source),
                MODULES => {}
                _ => {
                    let options = self.mount_options(&target);
                    let propagation = match () {
                        () if options.contains(&SHARED) => Propagation::Bidirectional,
                        () if options.contains(&SLAVE) => Propagation::HostToContainer,
                        () => Propagation::None,
                    };
                    let relabel = options.contains(&RELABEL);
                    mounts.push(MachineMount { source, target, read_only, propagation, relabel });
                }
            }
        }
        // kind's own machines have one without a name.
        let volume = volume.or_else(|| self.anonymous_volume(KEPT).map(str::to_owned));
        let published = self.published();
        let of_kind = || {
            let api = published.iter().find(|port| port.container == MachineSpec::API_PORT && self.mark().is_none())?;
            (api.address != ClusterSpec::LOOPBACK).then(|| api.address.clone())
        };
        let api_address = label(API_ADDRESS).or_else(of_kind);
        let at = api_address.as_deref().unwrap_or(ClusterSpec::LOOPBACK);
        let is_api = |port: &&Port| port.container == MachineSpec::API_PORT && port.address == at;
        let api = published.iter().find(is_api).map(|port| port.host);
        let ports: Vec<&Port> = published.iter().filter(|port| !is_api(port)).collect();
        let network = self.networks().into_iter().next();
        let address = network.as_ref().and_then(|network| self.address(network));
        let ipv6_address =
            network.as_ref().filter(|_| self.speaks_ipv6()).and_then(|network| self.ipv6_address(network));
        let aliases = network.as_ref().map(|network| self.aliases(network)).unwrap_or_default();
        let mut fields = vec![
            ("cluster", Value::from(label(CLUSTER))),
            ("role", Value::from(label(ROLE))),
            ("image", self.image()),
            ("network", Value::from(network)),
            ("address", Value::from(address)),
            ("volume", Value::from(volume)),
            ("running", Value::from(self.is_running())),
        ];
        if self.speaks_ipv6() {
            fields.push(("ipv6", Value::from(true)));
        }
        fields.extend(ipv6_address.map(|address| ("ipv6_address", Value::from(address))));
        fields.extend(api.map(|port| ("port", Value::from(port))));
        fields.extend(api_address.map(|address| ("api_address", Value::from(address))));
        if !aliases.is_empty() {
            fields.push(("aliases", Value::from(aliases)));
        }
        if !ports.is_empty() {
            fields.push(("ports", json(&ports)));
        }
        if !mounts.is_empty() {
            fields.push(("mounts", json(&mounts)));
        }
        let proxies = self.proxies();
        if !proxies.is_empty() {
            fields.push(("proxy", Value::map(proxies)));
        }
        if let Some(domains) = self.environment(DNS_SEARCH) {
            fields.push(("dns_search", json(&domains.split_whitespace().collect::<Vec<_>>())));
        }
        if let Some(patches) = label(CONTAINERD).and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok())
        {
            fields.push(("containerd", Value::from(patches)));
        }
        if !registries.is_empty() {
            fields.push(("registries", Value::map(registries)));
        }
        Value::map(fields)
    }
}

/// The value of what always has one.
fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).map(Value::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_back_as_they_were_asked_for() {
        let mount = |target: &str, read_only, propagation, relabel| MachineMount {
            source: "/data".to_owned(),
            target: target.to_owned(),
            read_only,
            propagation,
            relabel,
        };
        let wanted = [
            mount("/a", false, Propagation::None, false),
            mount("/b", true, Propagation::HostToContainer, true),
            mount("/c", false, Propagation::Bidirectional, false),
        ];
        let binds: Vec<String> = wanted.iter().map(bind).collect();
        assert_eq!(binds, ["/data:/a", "/data:/b:ro,Z,rslave", "/data:/c:rshared"]);
        // As the engine tells of them.
        let told = |bind: &String| {
            let parts: Vec<&str> = bind.split(':').collect();
            let mode = parts.get(2).copied().unwrap_or_default();
            serde_json::json!({
                "Type": "bind", "Source": parts[0], "Destination": parts[1], "Mode": mode, "RW": !mode.contains("ro,"),
            })
        };
        let inspect = serde_json::json!({
            "Config": {"Env": ["KIND_DNS_SEARCH=a.example b.example"]},
            "Mounts": binds.iter().map(told).collect::<Vec<_>>(),
        });
        let fields = Observed::new(serde_json::from_value(inspect).unwrap()).machine_fields(BTreeMap::new());
        assert_eq!(fields.field("mounts"), Some(&json(&wanted)));
        assert_eq!(fields.field("dns_search"), Some(&json(&["a.example", "b.example"])));
    }

    #[test]
    fn addresses_of_both_families_are_read_back_where_ipv6_is_spoken() {
        let fields = |sysctls: serde_json::Value| {
            let inspect = serde_json::json!({
                "HostConfig": {"NetworkMode": "dev", "Sysctls": sysctls},
                "NetworkSettings": {"Networks": {"dev": {
                    "IPAddress": "10.1.0.2", "GlobalIPv6Address": "fd00::9", "IPAMConfig": {"IPv6Address": "fd00::2"},
                }}},
            });
            let fields = Observed::new(serde_json::from_value(inspect).unwrap()).machine_fields(BTreeMap::new());
            ["address", "ipv6", "ipv6_address"].map(|field| fields.field(field).map(ToString::to_string))
        };
        let both = fields(serde_json::json!({"net.ipv6.conf.all.disable_ipv6": "0"}));
        assert_eq!(both, ["\"10.1.0.2\"", "true", "\"fd00::2\""].map(|text| Some(text.to_owned())));
        // A network of kind has IPv6 whether a cluster speaks it or not.
        assert_eq!(fields(serde_json::Value::Null), [Some("\"10.1.0.2\"".to_owned()), None, None]);
    }

    #[test]
    fn who_answers_pulls_is_read_back_as_it_was_written() {
        let file = |host: &str, url: &str| (format!("certs.d/{host}/hosts.toml"), hosts_file(url));
        let files = [
            file("docker.io", "http://dev-mirror-docker.io:5000"),
            file("localhost:5050", "http://dev-local-registry:5000"),
            ("certs.d/ghcr.io/ca.crt".to_owned(), "x".to_owned()),
        ];
        let wanted = [
            ("docker.io".to_owned(), "http://dev-mirror-docker.io:5000".to_owned()),
            ("localhost:5050".to_owned(), "http://dev-local-registry:5000".to_owned()),
        ];
        assert_eq!(registries(&files), wanted.into());
    }
}
