//! Networks. Their addresses are simulated: nothing is changed on the machine.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use axum::body::Body;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::query::{Query, read_json, texts};
use super::reply::{ApiError, Reply, empty, json_reply, ok};
use crate::engine::Engine;
use crate::world::{Attachment, Network, World, new_id, now};

/// The subnets from which a network gets one: 172.18.0.0/16 to 172.31.0.0/16, then 192.168.0.0/20 and on.
fn pools() -> impl Iterator<Item = Subnet> {
    let large = (18..=31).map(|second| Subnet { base: u32::from(Ipv4Addr::new(172, second, 0, 0)), prefix: 16 });
    let small = (0..16).map(|third| Subnet { base: u32::from(Ipv4Addr::new(192, 168, third * 16, 0)), prefix: 20 });
    large.chain(small)
}

/// An IPv4 subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet {
    base: u32,
    pub(crate) prefix: u8,
}

impl Subnet {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let (address, prefix): (Ipv4Addr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        if !(1..=30).contains(&prefix) {
            return None;
        }
        let base = u32::from(address);
        (base & Self { base, prefix }.rest() == 0).then_some(Self { base, prefix })
    }

    const fn rest(self) -> u32 {
        (1 << (32 - self.prefix)) - 1
    }

    fn overlaps(self, other: Self) -> bool {
        self.base <= other.base + other.rest() && other.base <= self.base + self.rest()
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        let number = u32::from(address);
        number > self.base && number < self.base + self.rest()
    }

    /// The addresses of hosts, without those of the network and of broadcast.
    fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.base + 1..self.base + self.rest()).map(Ipv4Addr::from)
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct CreateNetwork {
    name: String,
    driver: Option<String>,
    internal: Option<bool>,
    attachable: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    ipv6: Option<bool>,
    #[serde(rename = "IPAM")]
    ipam: Option<Ipam>,
    #[serde(deserialize_with = "texts")]
    options: BTreeMap<String, String>,
    #[serde(deserialize_with = "texts")]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Ipam {
    config: Option<Vec<IpamConfig>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct IpamConfig {
    subnet: Option<String>,
    gateway: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Connect {
    container: String,
    force: bool,
    endpoint_config: Option<EndpointConfig>,
}

/// How a client wants a container attached.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct EndpointConfig {
    aliases: Option<Vec<String>>,
    #[serde(rename = "IPAMConfig")]
    ipam: Option<EndpointIpam>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct EndpointIpam {
    #[serde(rename = "IPv4Address")]
    address: Option<String>,
}

impl EndpointConfig {
    /// What is kept of it.
    pub(crate) fn attachment(self, network: &str) -> Result<Attachment, ApiError> {
        let address = match self.ipam.and_then(|ipam| ipam.address).filter(|text| !text.is_empty()) {
            Some(text) => Some(text.parse().map_err(|_| ApiError::bad(format!("invalid IPv4 address: {text}")))?),
            None => None,
        };
        Ok(Attachment { network: network.to_owned(), aliases: self.aliases.unwrap_or_default(), address })
    }
}

/// Finds a network by id, name, or the beginning of its id.
pub(crate) fn find<'a>(world: &'a World, name: &str) -> Result<&'a Network, ApiError> {
    let by_id = world.networks.get(name);
    let by_name = || world.networks.values().find(|network| network.name == name);
    let by_start = || {
        let mut found = world.networks.values().filter(|network| !name.is_empty() && network.id.starts_with(name));
        found.next().filter(|_| found.next().is_none())
    };
    by_id.or_else(by_name).or_else(by_start).ok_or_else(|| ApiError::not_found(format!("network {name} not found")))
}

/// Chooses an address for a container that runs, the lowest free one unless it asks for one.
pub(crate) fn allocate(
    world: &World,
    network: &Network,
    wanted: Option<Ipv4Addr>,
) -> Result<Option<Ipv4Addr>, ApiError> {
    let Some(subnet) = network.subnet.as_deref().and_then(Subnet::parse) else { return Ok(None) };
    let gateway = network.gateway.as_deref().and_then(|text| text.parse().ok());
    let taken: Vec<Ipv4Addr> = world
        .running
        .values()
        .filter_map(|running| running.addresses.get(&network.id).copied())
        .chain(gateway)
        .collect();
    if let Some(address) = wanted {
        if !subnet.contains(address) {
            return Err(ApiError::bad(format!(
                "invalid endpoint settings: no configured subnet contains IP address {address}"
            )));
        }
        if taken.contains(&address) {
            return Err(ApiError::forbidden("Address already in use"));
        }
        return Ok(Some(address));
    }
    let free = subnet.hosts().find(|address| !taken.contains(address));
    free.map(Some).ok_or_else(|| ApiError::server(format!("no available IPv4 addresses on network {}", network.name)))
}

/// The link address that belongs to an address.
pub(crate) fn link_address(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

fn to_json(world: &World, network: &Network, with_containers: bool) -> Value {
    let config = match (&network.subnet, &network.gateway) {
        (Some(subnet), Some(gateway)) => json!([{"Subnet": subnet, "Gateway": gateway}]),
        (Some(subnet), None) => json!([{"Subnet": subnet}]),
        _ => json!([]),
    };
    let mut containers = serde_json::Map::new();
    if with_containers {
        let prefix = network.subnet.as_deref().and_then(Subnet::parse).map_or(0, |subnet| subnet.prefix);
        for (id, running) in &world.running {
            if let (Some(address), Some(container)) = (running.addresses.get(&network.id), world.containers.get(id)) {
                let endpoint = json!({
                    "Name": container.name,
                    "EndpointID": endpoint_id(id, &network.id),
                    "MacAddress": link_address(*address),
                    "IPv4Address": format!("{address}/{prefix}"),
                    "IPv6Address": "",
                });
                containers.insert(id.clone(), endpoint);
            }
        }
    }
    json!({
        "Name": network.name, "Id": network.id, "Created": network.created, "Scope": "local", "Driver": network.driver,
        "EnableIPv4": true, "EnableIPv6": network.ipv6,
        "IPAM": {"Driver": "default", "Options": {}, "Config": config},
        "Internal": network.internal, "Attachable": network.attachable, "Ingress": false,
        "ConfigFrom": {"Network": ""}, "ConfigOnly": false,
        "Containers": containers, "Options": network.options, "Labels": network.labels,
    })
}

/// The id of a container's end of a network.
pub(crate) fn endpoint_id(container: &str, network: &str) -> String {
    crate::digests::sha256_hex(format!("{container} {network}").as_bytes())
}

/// Whether a network is always there.
pub(crate) fn is_predefined(network: &Network) -> bool {
    matches!(network.name.as_str(), "bridge" | "host" | "none")
}

impl Engine {
    pub(super) async fn list_networks(&self, query: &Query) -> Reply {
        let filters = query.filters()?;
        filters.check(&["label", "name", "id", "driver", "type", "scope", "dangling"])?;
        let world = self.world.lock().await;
        let found: Vec<Value> = world
            .networks
            .values()
            .filter(|network| filters.labels(&network.labels) && filters.name("name", &[&network.name]))
            .filter(|network| filters.any("id", |id| network.id.starts_with(id)))
            .filter(|network| filters.any("driver", |driver| network.driver == driver))
            .filter(|_| filters.any("scope", |scope| scope == "local"))
            .filter(|network| filters.any("type", |kind| (kind == "builtin") == is_predefined(network)))
            .filter(|network| {
                let used = world.running.values().any(|running| running.addresses.contains_key(&network.id));
                filters.any("dangling", |wanted| matches!(wanted, "true" | "1") != used)
            })
            .map(|network| to_json(&world, network, false))
            .collect();
        ok(&Value::Array(found))
    }

    pub(super) async fn inspect_network(&self, name: &str) -> Reply {
        let world = self.world.lock().await;
        ok(&to_json(&world, find(&world, name)?, true))
    }

    pub(super) async fn create_network(&self, body: Body) -> Reply {
        let wanted: CreateNetwork = read_json(body).await?;
        if wanted.name.is_empty() {
            return Err(ApiError::bad("network name cannot be empty"));
        }
        let driver = wanted
            .driver
            .filter(|driver| !driver.is_empty() && driver != "default")
            .unwrap_or_else(|| "bridge".to_owned());
        if driver != "bridge" {
            return Err(ApiError::not_found(format!(
                "could not find plugin {driver}: the embedded engine has networks of driver bridge only"
            )));
        }
        let mut world = self.world.lock().await;
        if let Some(network) = world.networks.values().find(|network| network.name == wanted.name) {
            let message = if is_predefined(network) {
                return Err(ApiError::forbidden(format!(
                    "operation is not permitted on predefined {} network ",
                    wanted.name
                )));
            } else {
                format!("network with name {} already exists", wanted.name)
            };
            return Err(ApiError::conflict(message));
        }
        let config =
            wanted.ipam.and_then(|ipam| ipam.config).and_then(|configs| configs.into_iter().next()).unwrap_or_default();
        let (subnet, gateway) = choose_subnet(&world, config)?;
        let network = Network {
            id: new_id(),
            name: wanted.name,
            created: now(),
            driver,
            internal: wanted.internal.unwrap_or_default(),
            attachable: wanted.attachable.unwrap_or_default(),
            ipv6: wanted.ipv6.unwrap_or_default(),
            subnet: Some(subnet.to_string()),
            gateway: Some(gateway.to_string()),
            options: wanted.options,
            labels: wanted.labels,
        };
        world.save(&network)?;
        let reply = json!({"Id": network.id, "Warning": ""});
        world.networks.insert(network.id.clone(), network);
        json_reply(StatusCode::CREATED, &reply)
    }

    pub(super) async fn delete_network(&self, name: &str) -> Reply {
        let mut world = self.world.lock().await;
        let network = find(&world, name)?.clone();
        if is_predefined(&network) {
            return Err(ApiError::forbidden(format!(
                "{} is a pre-defined network and cannot be removed",
                network.name
            )));
        }
        if world.running.values().any(|running| running.addresses.contains_key(&network.id)) {
            return Err(ApiError::forbidden(format!(
                "error while removing network: network {} id {} has active endpoints",
                network.name, network.id
            )));
        }
        world.erase(&network)?;
        world.networks.remove(&network.id);
        empty(StatusCode::NO_CONTENT)
    }

    pub(super) async fn connect_network(&self, name: &str, body: Body) -> Reply {
        let request: Connect = read_json(body).await?;
        let mut world = self.world.lock().await;
        let network = find(&world, name)?.clone();
        let mut container = super::containers::find(&world, &request.container)?.clone();
        if container.attachments.iter().any(|attachment| is_of(attachment, &network)) {
            return Err(ApiError::forbidden(format!(
                "endpoint with name {} already exists in network {}",
                container.name, network.name
            )));
        }
        let attachment = request.endpoint_config.unwrap_or_default().attachment(&network.name)?;
        let address = match world.running.contains_key(&container.id) {
            true => allocate(&world, &network, attachment.address)?,
            false => None,
        };
        container.attachments.push(attachment);
        world.save(&container)?;
        if let (Some(address), Some(running)) = (address, world.running.get_mut(&container.id)) {
            running.addresses.insert(network.id, address);
        }
        world.containers.insert(container.id.clone(), container);
        world.publish_names();
        empty(StatusCode::OK)
    }

    pub(super) async fn disconnect_network(&self, name: &str, body: Body) -> Reply {
        let request: Connect = read_json(body).await?;
        let mut world = self.world.lock().await;
        let network = find(&world, name)?.clone();
        let mut container = match super::containers::find(&world, &request.container) {
            Ok(container) => container.clone(),
            Err(_) if request.force => return empty(StatusCode::OK),
            Err(error) => return Err(error),
        };
        let before = container.attachments.len();
        container.attachments.retain(|attachment| !is_of(attachment, &network));
        if container.attachments.len() == before {
            return Err(ApiError::forbidden(format!(
                "container {} is not connected to network {}",
                container.id, network.name
            )));
        }
        world.save(&container)?;
        if let Some(running) = world.running.get_mut(&container.id) {
            running.addresses.remove(&network.id);
        }
        world.containers.insert(container.id.clone(), container);
        world.publish_names();
        empty(StatusCode::OK)
    }
}

/// Whether an attachment names a network.
pub(crate) fn is_of(attachment: &Attachment, network: &Network) -> bool {
    attachment.network == network.name || attachment.network == network.id
}

fn choose_subnet(world: &World, config: IpamConfig) -> Result<(Subnet, Ipv4Addr), ApiError> {
    let taken: Vec<Subnet> =
        world.networks.values().filter_map(|network| Subnet::parse(network.subnet.as_deref()?)).collect();
    let is_free = |subnet: &Subnet| !taken.iter().any(|other| other.overlaps(*subnet));
    let subnet = match config.subnet.filter(|text| !text.is_empty()) {
        Some(text) => {
            let subnet = Subnet::parse(&text)
                .ok_or_else(|| ApiError::bad(format!("invalid network config: invalid subnet {text}")))?;
            if !is_free(&subnet) {
                return Err(ApiError::forbidden(
                    "invalid pool request: Pool overlaps with other one on this address space",
                ));
            }
            subnet
        }
        None => pools()
            .find(is_free)
            .ok_or_else(|| ApiError::server("all predefined address pools have been fully subnetted"))?,
    };
    let gateway = match config.gateway.filter(|text| !text.is_empty()) {
        Some(text) => {
            let gateway = text.parse().ok().filter(|gateway| subnet.contains(*gateway));
            gateway.ok_or_else(|| ApiError::bad(format!("invalid network config: invalid gateway {text}")))?
        }
        None => Ipv4Addr::from(subnet.base + 1),
    };
    Ok((subnet, gateway))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_read_and_compared() {
        for bad in ["", "10.0.0.0", "10.0.0.1/24", "10.0.0.0/0", "10.0.0.0/31", "fc00::/64"] {
            assert_eq!(Subnet::parse(bad), None, "{bad}");
        }
        let subnet = Subnet::parse("10.0.0.0/24").unwrap();
        assert!(subnet.overlaps(Subnet::parse("10.0.0.128/25").unwrap()));
        assert!(!subnet.overlaps(Subnet::parse("10.0.1.0/24").unwrap()));
        assert_eq!(subnet.hosts().count(), 254);
        assert_eq!(pools().next().unwrap().to_string(), "172.18.0.0/16");
    }
}
