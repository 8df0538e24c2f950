//! The engine interface, by bollard.

use std::collections::HashMap;

use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest,
    VolumeCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, ListContainersOptionsBuilder, ListNetworksOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptions, RemoveVolumeOptions, TagImageOptionsBuilder,
};
use bytes::Bytes;
use futures::TryStreamExt as _;
use ksail_embedded::BUILTIN_IMAGE;
use serde_json::json;

use crate::harness::{Client, Engine, body, config, digest, free_port};

/// The status and message of a refusal.
fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> (u16, String) {
    match result.unwrap_err() {
        Error::DockerResponseServerError { status_code, message } => (status_code, message),
        other => panic!("{other:?}"),
    }
}

fn network(name: &str, subnet: Option<&str>) -> NetworkCreateRequest {
    let config = subnet.map(|subnet| vec![IpamConfig { subnet: Some(subnet.to_owned()), ..Default::default() }]);
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        labels: Some([("k".to_owned(), name.to_owned())].into()),
        ipam: Some(Ipam { config, ..Default::default() }),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path()).await;
    let version = engine.docker.version().await.unwrap();
    assert_eq!(version.version.unwrap(), "1.2.3+ksail.embedded");
    let info = engine.docker.info().await.unwrap();
    assert!(info.operating_system.unwrap().contains("simulated"));
    let page = Client::new(engine.port).get("/").await.text().await.unwrap();
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    assert_eq!((page["simulated"].as_bool(), page["id"].as_str()), (Some(true), info.id.as_deref()));
    assert_eq!(page["nonce_digest"], digest(b"nonce"));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_and_volumes() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path()).await;
    let docker = &engine.docker;
    docker.create_network(network("one", None)).await.unwrap();
    docker.create_network(network("two", Some("10.9.0.0/24"))).await.unwrap();
    assert_eq!(refusal(docker.create_network(network("one", None)).await).0, 409);
    assert_eq!(refusal(docker.create_network(network("three", Some("10.9.0.0/16"))).await).0, 403);
    assert_eq!(refusal(docker.remove_network("bridge").await).0, 403);
    let filters = HashMap::from([("label".to_owned(), vec!["k=two".to_owned()])]);
    let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let found = docker.list_networks(Some(options)).await.unwrap();
    assert_eq!(found.iter().map(|network| network.name.as_deref().unwrap()).collect::<Vec<_>>(), ["two"]);

    engine.registry("reg", &[]).await;
    let connect = NetworkConnectRequest { container: "reg".to_owned(), ..Default::default() };
    docker.connect_network("two", connect).await.unwrap();
    let seen = docker.inspect_container("reg", None).await.unwrap();
    let networks = seen.network_settings.unwrap().networks.unwrap();
    assert_eq!(networks["two"].ip_address.as_deref(), Some("10.9.0.2"));
    assert_eq!(refusal(docker.remove_network("two").await).0, 403);
    let disconnect = NetworkDisconnectRequest { container: "reg".to_owned(), force: None };
    docker.disconnect_network("two", disconnect).await.unwrap();
    docker.remove_network("two").await.unwrap();
    assert_eq!(refusal(docker.remove_network("two").await).0, 404);

    let volume = VolumeCreateRequest { name: Some("v1".to_owned()), ..Default::default() };
    let first = docker.create_volume(volume.clone()).await.unwrap();
    assert_eq!(docker.create_volume(volume).await.unwrap(), first, "creation is idempotent");
    assert_eq!(refusal(docker.remove_volume("reg-data", None::<RemoveVolumeOptions>).await).0, 409);
    docker.remove_volume("v1", None::<RemoveVolumeOptions>).await.unwrap();
    assert_eq!(refusal(docker.inspect_volume("v1").await).0, 404);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_from_creation_to_removal() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path()).await;
    let docker = &engine.docker;
    let port = engine.registry("reg", &["A=b"]).await;
    let named = |name: &str| Some(CreateContainerOptionsBuilder::default().name(name).build());
    assert_eq!(refusal(docker.create_container(named("reg"), body("reg", port, &[])).await).0, 409);
    let unknown = ContainerCreateBody { image: Some("nginx:1".to_owned()), ..Default::default() };
    assert_eq!(refusal(docker.create_container(named("nx"), unknown).await).0, 404);

    engine.create("second", port, &[]).await;
    let (status, message) = refusal(docker.start_container("second", None).await);
    assert_eq!(status, 500);
    assert!(message.contains("port is already allocated") && message.contains(&port.to_string()), "{message}");

    let seen = docker.inspect_container("reg", None).await.unwrap();
    assert!(seen.config.unwrap().env.unwrap().contains(&"A=b".to_owned()));
    assert_eq!(seen.name.as_deref(), Some("/reg"));
    let ports = seen.network_settings.unwrap().ports.unwrap();
    let expected = port.to_string();
    assert_eq!(ports["5000/tcp"].as_ref().unwrap()[0].host_port.as_deref(), Some(expected.as_str()));

    let list = async |all: bool, label: &str| {
        let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
        let options = ListContainersOptionsBuilder::default().all(all).filters(&filters).build();
        docker.list_containers(Some(options)).await.unwrap().len()
    };
    assert_eq!((list(true, "app").await, list(false, "app").await, list(true, "app=second").await), (2, 1, 1));

    let (status, _) = refusal(docker.remove_container("reg", None).await);
    assert_eq!(status, 409);
    let waiting = docker.wait_container("reg", None).try_collect::<Vec<_>>();
    let (waited, stopped) = tokio::join!(waiting, async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        docker.stop_container("reg", None).await
    });
    stopped.unwrap();
    assert_eq!(waited.unwrap()[0].status_code, 0);
    assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_ok(), "the port is free once the container stopped");
    docker.start_container("second", None).await.unwrap();
    docker.restart_container("second", None).await.unwrap();
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    docker.remove_container("second", Some(options)).await.unwrap();
    docker.remove_container("reg", None).await.unwrap();
    assert_eq!(refusal(docker.inspect_container("reg", None).await).0, 404);
    docker.inspect_volume("reg-data").await.unwrap();
    engine.stop().await;
}

fn tar(files: &[(&str, Vec<u8>)]) -> Bytes {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, path, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap().into()
}

async fn load(engine: &Engine, archive: Bytes) -> Result<(), Error> {
    let body = bollard::body_full(archive);
    engine
        .docker
        .import_image(bollard::query_parameters::ImportImageOptions::default(), body, None)
        .try_collect::<Vec<_>>()
        .await
        .map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_loaded_tagged_pulled_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path()).await;
    let docker = &engine.docker;
    let (config, layer) = (config(), b"layer".to_vec());
    let saved = json!([{"Config": "c.json", "RepoTags": ["demo:1"], "Layers": ["l/layer.tar"]}]).to_string();
    let archive = [("manifest.json", saved.into_bytes()), ("c.json", config.clone()), ("l/layer.tar", layer.clone())];
    load(&engine, tar(&archive)).await.unwrap();
    let seen = docker.inspect_image("docker.io/library/demo:1").await.unwrap();
    assert_eq!((seen.id.as_deref(), seen.repo_tags), (Some(digest(&config).as_str()), Some(vec!["demo:1".to_owned()])));
    assert!(load(&engine, tar(&archive[..1])).await.is_err(), "an archive that lacks files");
    assert!(load(&engine, Bytes::from_static(b"not a tar")).await.is_err());

    let manifest = crate::harness::manifest((&digest(&config), config.len()), (&digest(&layer), layer.len()), None);
    let index = json!({"schemaVersion": 2, "manifests": [{"digest": digest(&manifest), "size": manifest.len(),
        "annotations": {"org.opencontainers.image.ref.name": "x.io/layout:1"}}]});
    let path = |bytes: &[u8]| format!("blobs/sha256/{}", &digest(bytes)[7..]);
    let (manifest_path, config_path, layer_path) = (path(&manifest), path(&config), path(&layer));
    let layout = [
        ("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}".to_vec()),
        ("index.json", index.to_string().into_bytes()),
        (manifest_path.as_str(), manifest),
        (config_path.as_str(), config),
        (layer_path.as_str(), layer),
    ];
    load(&engine, tar(&layout)).await.unwrap();
    docker.inspect_image("x.io/layout:1").await.unwrap();

    let options = TagImageOptionsBuilder::default().repo("other.io/demo").tag("2").build();
    docker.tag_image("demo:1", Some(options)).await.unwrap();
    let id = seen.id.unwrap();
    assert_eq!(refusal(docker.remove_image(&id, None::<RemoveImageOptions>, None).await).0, 409, "several names");
    docker.remove_image("x.io/layout:1", None::<RemoveImageOptions>, None).await.unwrap();
    docker.remove_image("demo:1", None::<RemoveImageOptions>, None).await.unwrap();
    let container = ContainerCreateBody { image: Some("other.io/demo:2".to_owned()), ..Default::default() };
    let created = docker.create_container(None, container).await.unwrap().id;
    let (status, message) = refusal(docker.start_container(&created, None).await);
    assert_eq!(status, 400);
    assert!(message.contains(BUILTIN_IMAGE), "{message}");
    assert_eq!(
        refusal(docker.remove_image("other.io/demo:2", None::<RemoveImageOptions>, None).await).0,
        409,
        "in use"
    );
    docker.remove_container(&created, None).await.unwrap();
    docker.remove_image("other.io/demo:2", None::<RemoveImageOptions>, None).await.unwrap();
    assert_eq!(refusal(docker.inspect_image(&id).await).0, 404);
    assert_eq!(std::fs::read_dir(folder.path().join("content")).unwrap().count(), 0, "no blob is left");
    assert_eq!(refusal(docker.remove_image(BUILTIN_IMAGE, None::<RemoveImageOptions>, None).await).0, 409);

    let port = engine.registry("reg", &[]).await;
    let (pushed, _) = Client::new(port).push_image("p/q", "v1", b"pulled").await;
    let from = format!("127.0.0.1:{port}/p/q");
    let pull = async |tag: &str| {
        let options = CreateImageOptionsBuilder::default().from_image(&from).tag(tag).build();
        docker.create_image(Some(options), None, None).try_collect::<Vec<_>>().await
    };
    let lines = pull("v1").await.unwrap();
    assert!(lines.last().unwrap().status.as_ref().unwrap().contains("Downloaded newer image"));
    let seen = docker.inspect_image(&format!("{from}:v1")).await.unwrap();
    assert_eq!(seen.repo_digests, Some(vec![format!("{from}@{pushed}")]));
    assert!(pull("v1").await.unwrap().last().unwrap().status.as_ref().unwrap().contains("up to date"));
    assert_eq!(refusal(pull("none").await).0, 404);
    let nowhere =
        CreateImageOptionsBuilder::default().from_image(&format!("127.0.0.1:{}/x", free_port())).tag("1").build();
    let (status, message) = refusal(docker.create_image(Some(nowhere), None, None).try_collect::<Vec<_>>().await);
    assert_eq!(status, 500);
    assert!(message.contains("cannot be reached"), "{message}");
    engine.stop().await;
}
