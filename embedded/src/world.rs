//! What the engine keeps: networks, volumes, images, containers; one small file each, written before the answer.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ksail_embedded_kubernetes::Stage;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clusters::Served;
use crate::folder::file_error;
use crate::interface::networks;
use crate::neighbours::{Neighbour, Neighbours};
use crate::{EngineError, digests, durable};

/// The image that is always there, and the only one that can run: a registry.
pub const BUILTIN_IMAGE: &str = "ksail.io/embedded/registry:1";
/// Where a registry keeps its content, as the container sees it.
pub(crate) const REGISTRY_ROOT: &str = "/var/lib/registry";
/// The port on which a registry listens, as the container sees it.
pub(crate) const REGISTRY_PORT: u16 = 5000;

/// A network. Its addresses are simulated.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Network {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: String,
    pub(crate) driver: String,
    pub(crate) internal: bool,
    pub(crate) attachable: bool,
    pub(crate) ipv6: bool,
    pub(crate) subnet: Option<String>,
    pub(crate) gateway: Option<String>,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// A volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub(crate) name: String,
    /// The name of its folder; no file name is made from a name that a client chose.
    pub(crate) folder: String,
    pub(crate) created: String,
    pub(crate) anonymous: bool,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// An image. Its blobs lie in the folder `content`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Image {
    pub(crate) id: String,
    /// Full references by digest.
    pub(crate) digests: Vec<String>,
    pub(crate) size: u64,
    /// The image's configuration, as the OCI specification has it.
    pub(crate) config: Value,
    /// The digests of the blobs that it needs, its configuration among them.
    pub(crate) blobs: Vec<String>,
}

/// How a container is attached to a network.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Attachment {
    /// The network's name or id, as the client gave it.
    pub(crate) network: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) address: Option<Ipv4Addr>,
}

/// What a container sees of a volume or folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerMount {
    pub(crate) kind: MountKind,
    /// A volume's name, or a folder.
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MountKind {
    Volume,
    Bind,
}

/// A container. Its environment stands here as the client gave it, as with every container engine: the file is private
/// to the user.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: String,
    /// The image as the client named it.
    pub(crate) image: String,
    pub(crate) image_id: String,
    /// `Config` as inspection shows it.
    pub(crate) config: Value,
    /// `HostConfig` as inspection shows it.
    pub(crate) host_config: Value,
    pub(crate) mounts: Vec<ContainerMount>,
    pub(crate) attachments: Vec<Attachment>,
    /// Started, and not stopped by hand since.
    pub(crate) wanted: bool,
    pub(crate) started: Option<String>,
    pub(crate) finished: Option<String>,
    pub(crate) exit_code: i64,
    pub(crate) error: String,
}

/// A Kubernetes cluster that the engine serves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KubernetesCluster {
    /// A UUID, and the name of its folder; no file name is made from a name that a client chose.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: String,
    /// The version that it states, such as `v1.36.3`.
    pub(crate) version: String,
    /// The loopback port of its API.
    pub(crate) port: u16,
    /// By which its nodes and pods come to life. Records of before have none.
    #[serde(default)]
    pub(crate) stages: Vec<Stage>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// A port that is really bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BoundPort {
    /// `5000/tcp`.
    pub(crate) container: String,
    pub(crate) address: std::net::SocketAddr,
}

/// A container that runs, in memory only.
pub(crate) struct Running {
    pub(crate) cancel: CancellationToken,
    pub(crate) served: tokio_util::task::TaskTracker,
    pub(crate) ports: Vec<BoundPort>,
    pub(crate) healthy: Arc<AtomicBool>,
    /// Addresses by network id.
    pub(crate) addresses: BTreeMap<String, Ipv4Addr>,
    /// Whether it is paused: it takes connections and answers nothing.
    pub(crate) paused: watch::Sender<bool>,
}

/// All that is kept.
#[derive(Default)]
pub(crate) struct World {
    folder: PathBuf,
    pub(crate) networks: BTreeMap<String, Network>,
    pub(crate) volumes: BTreeMap<String, Volume>,
    pub(crate) images: BTreeMap<String, Image>,
    /// Full references to image ids.
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) containers: BTreeMap<String, Container>,
    pub(crate) running: HashMap<String, Running>,
    /// By name.
    pub(crate) clusters: BTreeMap<String, KubernetesCluster>,
    /// What serves them, by id, and why one is not served.
    pub(crate) served: HashMap<String, Result<Served, String>>,
    /// Who reaches whom by name, kept by [`World::publish_names`].
    pub(crate) neighbours: Neighbours,
}

/// A record that has a file.
pub(crate) trait Stored: Serialize + DeserializeOwned {
    const FOLDER: &'static str;
    /// The name of its file, without suffix: hexadecimal digits or a UUID.
    fn file(&self) -> &str;
}

impl Stored for Network {
    const FOLDER: &'static str = "networks";
    fn file(&self) -> &str {
        &self.id
    }
}

impl Stored for Volume {
    const FOLDER: &'static str = "volumes";
    fn file(&self) -> &str {
        &self.folder
    }
}

impl Stored for Image {
    const FOLDER: &'static str = "images";
    fn file(&self) -> &str {
        digests::hex_of(&self.id).unwrap_or_default()
    }
}

impl Stored for Container {
    const FOLDER: &'static str = "containers";
    fn file(&self) -> &str {
        &self.id
    }
}

impl Stored for KubernetesCluster {
    const FOLDER: &'static str = "clusters";
    fn file(&self) -> &str {
        &self.id
    }
}

/// Now, as the interface writes times.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// 64 random hexadecimal digits.
pub(crate) fn new_id() -> String {
    digests::sha256_hex(format!("{}{}", uuid::Uuid::new_v4(), uuid::Uuid::new_v4()).as_bytes())
}

impl World {
    /// Reads what was kept, and removes what was never finished.
    pub(crate) fn open(folder: &Path) -> Result<Self, EngineError> {
        let state = folder.join("state");
        let by_id = |item: &Network| item.id.clone();
        let tags_path = state.join("tags.json");
        let tags = match durable::read(&tags_path).map_err(file_error(&tags_path))? {
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| EngineError::Broken { path: tags_path.clone(), source })?,
            None => BTreeMap::new(),
        };
        let mut world = Self {
            folder: folder.to_owned(),
            networks: load(&state, by_id)?,
            volumes: load(&state, |item: &Volume| item.name.clone())?,
            images: load(&state, |item: &Image| item.id.clone())?,
            containers: load(&state, |item: &Container| item.id.clone())?,
            tags,
            running: HashMap::new(),
            clusters: load(&state, |item: &KubernetesCluster| item.name.clone())?,
            served: HashMap::new(),
            neighbours: Neighbours::default(),
        };
        world.add_builtin()?;
        let images = &world.images;
        world.tags.retain(|_, id| images.contains_key(id));
        world.sweep()?;
        Ok(world)
    }

    fn add_builtin(&mut self) -> Result<(), EngineError> {
        let image = builtin_image();
        self.tags.insert(BUILTIN_IMAGE.to_owned(), image.id.clone());
        self.images.insert(image.id.clone(), image);
        if self.networks.is_empty() {
            for (name, driver, subnet) in
                [("bridge", "bridge", Some("172.17.0.0/16")), ("host", "host", None), ("none", "null", None)]
            {
                let network = Network {
                    id: new_id(),
                    name: name.to_owned(),
                    created: now(),
                    driver: driver.to_owned(),
                    internal: false,
                    attachable: false,
                    ipv6: false,
                    subnet: subnet.map(str::to_owned),
                    gateway: subnet.map(|_| "172.17.0.1".to_owned()),
                    options: BTreeMap::new(),
                    labels: BTreeMap::new(),
                };
                self.save(&network).map_err(|source| EngineError::File { path: self.folder.join("state"), source })?;
                self.networks.insert(network.id.clone(), network);
            }
        }
        Ok(())
    }

    /// Removes data that no record names: what a kill left between making a folder and its record, or after
    /// removing the record.
    fn sweep(&self) -> Result<(), EngineError> {
        let volumes: Vec<&str> = self.volumes.values().map(|volume| volume.folder.as_str()).collect();
        sweep_folder(&self.folder.join("volumes"), |name| volumes.contains(&name))?;
        sweep_folder(&self.folder.join("containers"), |name| self.containers.contains_key(name))?;
        let clusters: Vec<&str> = self.clusters.values().map(|cluster| cluster.id.as_str()).collect();
        sweep_folder(&self.folder.join("clusters"), |id| clusters.contains(&id))?;
        let blobs: std::collections::HashSet<&str> =
            self.images.values().flat_map(|image| &image.blobs).filter_map(|digest| digests::hex_of(digest)).collect();
        sweep_folder(&self.folder.join("content"), |name| blobs.contains(name))
    }

    fn path<T: Stored>(&self, item: &T) -> PathBuf {
        self.folder.join("state").join(T::FOLDER).join(format!("{}.json", item.file()))
    }

    /// Writes a record. Blocking; it is small.
    pub(crate) fn save<T: Stored>(&self, item: &T) -> std::io::Result<()> {
        let path = self.path(item);
        if let Some(folder) = path.parent() {
            durable::make_folder(folder)?;
        }
        durable::write(&path, &serde_json::to_vec(item)?)
    }

    /// Removes a record.
    pub(crate) fn erase<T: Stored>(&self, item: &T) -> std::io::Result<()> {
        durable::remove(&self.path(item)).map(|_| ())
    }

    /// Writes the tags: all at once, so that a tag that moves is never on two images, or on none.
    pub(crate) fn save_tags(&self) -> std::io::Result<()> {
        durable::write(&self.folder.join("state/tags.json"), &serde_json::to_vec(&self.tags)?)
    }

    /// Tells all containers that run who their neighbours are now. To be called after each change of it.
    pub(crate) fn publish_names(&self) {
        let all = self.containers.values().filter_map(|container| {
            let running = self.running.get(&container.id)?;
            let names = container.attachments.iter().filter_map(|attachment| {
                let of = |network: &&Network| networks::is_of(attachment, network) && !networks::is_predefined(network);
                let network = self.networks.values().find(of)?;
                let short = container.id.get(..12).unwrap_or_default();
                let names = attachment.aliases.iter().map(String::as_str).chain([container.name.as_str(), short]);
                Some((network.id.clone(), names.map(str::to_owned).collect()))
            });
            let ports = running
                .ports
                .iter()
                .filter_map(|port| Some((port.container.split('/').next()?.parse().ok()?, port.address)));
            Some((container.id.clone(), Neighbour { names: names.collect(), ports: ports.collect() }))
        });
        self.neighbours.set(all.collect());
    }

    /// Where a volume's data lies.
    pub(crate) fn volume_data(&self, volume: &Volume) -> PathBuf {
        self.folder.join("volumes").join(&volume.folder).join("_data")
    }

    /// Where a container's own data lies.
    pub(crate) fn container_data(&self, id: &str) -> PathBuf {
        self.folder.join("containers").join(id)
    }

    /// Where a cluster's data lies.
    pub(crate) fn cluster_data(&self, id: &str) -> PathBuf {
        self.folder.join("clusters").join(id)
    }

    /// Where a blob of an image lies.
    pub(crate) fn content(&self, hex: &str) -> PathBuf {
        self.folder.join("content").join(hex)
    }
}

fn sweep_folder(folder: &Path, keep: impl Fn(&str) -> bool) -> Result<(), EngineError> {
    for entry in std::fs::read_dir(folder).map_err(file_error(folder))? {
        let entry = entry.map_err(file_error(folder))?;
        if entry.file_name().to_str().is_some_and(&keep) {
            continue;
        }
        let path = entry.path();
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(file_error(&path))?;
    }
    Ok(())
}

fn load<T: Stored>(state: &Path, key: impl Fn(&T) -> String) -> Result<BTreeMap<String, T>, EngineError> {
    let folder = state.join(T::FOLDER);
    durable::make_folder(&folder).map_err(file_error(&folder))?;
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).map_err(file_error(&folder))? {
        let path = entry.map_err(file_error(&folder))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let bytes = std::fs::read(&path).map_err(file_error(&path))?;
            let item: T = serde_json::from_slice(&bytes).map_err(|source| EngineError::Broken { path, source })?;
            found.insert(key(&item), item);
        } else {
            // A temporary file of a write that was cut.
            std::fs::remove_file(&path).map_err(file_error(&path))?;
        }
    }
    Ok(found)
}

/// The id of the built-in image.
pub(crate) fn builtin_id() -> String {
    builtin_image().id
}

fn builtin_image() -> Image {
    let config = json!({
        "created": "2026-01-01T00:00:00Z",
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "REGISTRY_STORAGE_DELETE_ENABLED=true"],
            "Entrypoint": ["/registry"],
            "Cmd": ["serve"],
            "ExposedPorts": {format!("{REGISTRY_PORT}/tcp"): {}},
            "Labels": {
                "org.opencontainers.image.title": "ksail embedded registry",
                "org.opencontainers.image.description": "a registry that runs inside the embedded engine; it has no layers",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": []},
    });
    let id = format!("sha256:{}", digests::sha256_hex(config.to_string().as_bytes()));
    Image { id, digests: Vec::new(), size: 0, config, blobs: Vec::new() }
}

/// This machine's architecture, as images name it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
