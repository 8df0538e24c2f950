//! Images, and what goes wrong with them.

use std::path::Path;

use bollard::query_parameters::ImportImageOptions;
use futures::TryStreamExt as _;
use ksail_kinds::{ContainerSpec, ImageSource, ImageSpec, Restart, Spec as _, full_reference};
use ksail_model::{Address, Digest, Identity, Observation, Ownership, Value};
use ksail_provider::{CallErrorKind, Deleted, Provider as _, Target};
use ksail_provider_docker::{DockerProvider, Endpoint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::engine::{Engine, on_every_engine};
use crate::push::{http, push, pushed};

/// How long an empty tar is.
const EMPTY_TAR: usize = 1024;

pub(crate) fn image(cluster: &str, reference: &str, source: ImageSource) -> Target {
    let spec = ImageSpec { reference: reference.to_owned(), source };
    Target {
        address: Address::new(cluster, "image", &[reference]),
        kind_version: 1,
        identity: Identity::named(reference),
        id: None,
        spec: Some(spec.to_value()),
        ownership: Ownership::Shared,
    }
}

/// An archive that holds an image under this reference, as `docker save` writes it, and its layer.
fn tar_of(reference: &str) -> Vec<u8> {
    let layer = vec![0; EMPTY_TAR];
    let hex = |bytes: &[u8]| Digest::of_bytes(bytes).to_string().trim_start_matches("sha256:").to_owned();
    // The reference in it makes it an image of its own.
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Labels": {"of": reference}},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]},
    });
    let config = config.to_string().into_bytes();
    let name = format!("{}.json", hex(&config));
    let manifest = serde_json::json!([{"Config": name, "RepoTags": [reference], "Layers": ["layer/layer.tar"]}]);
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in
        [(name.as_str(), &config), ("layer/layer.tar", &layer), ("manifest.json", &manifest.to_string().into_bytes())]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Makes an image without any mark.
pub(crate) async fn import(engine: &Engine, reference: &str) {
    let body = bollard::body_full(tar_of(reference).into());
    let options = ImportImageOptions::default();
    engine.docker.import_image(options, body, None).try_collect::<Vec<_>>().await.unwrap();
}

/// Writes an archive that holds the image under this reference, and answers the image's digest.
pub(crate) fn archive(reference: &str, path: &Path) -> String {
    std::fs::write(path, tar_of(reference)).unwrap();
    let archive = ksail_archives::Archive::read(std::fs::File::open(path).unwrap(), std::env::consts::ARCH).unwrap();
    archive.image(&full_reference(reference)).unwrap().digest().to_owned()
}

async fn an_archive_is_loaded_held_and_removed_with_its_last_owner(engine: Engine) {
    let other = engine.sibling();
    let folder = tempfile::tempdir().unwrap();
    let reference = engine.image_name("loaded");
    let digest = archive(&reference, &folder.path().join("image.tar"));
    let source = |digest: &str| ImageSource::Archive { path: "image.tar".to_owned(), digest: digest.to_owned() };
    let target = image("foo", &reference, source(&digest));
    let provider = DockerProvider::new(Endpoint::socket(&engine.socket)).project(folder.path());
    let changed = image("foo", &reference, source("sha256:00"));
    let error = provider.create(&engine.context(), &engine.request(&changed, &[])).await.unwrap_err();
    assert!(error.kind == CallErrorKind::Refused && error.message.contains("not the planned one"), "{error:?}");
    let made = provider.create(&engine.context(), &engine.request(&target, &[])).await.unwrap().seen;
    assert_eq!(Some(&made.fields), target.spec.as_ref());
    assert_eq!(engine.create(&target).await.id, made.id);
    // Another stack needs it too.
    let theirs = image("bar", &reference, ImageSource::Pull {});
    other.create(&theirs).await;
    assert_eq!(engine.see(&target).await.mark, Some(engine.mark(&target)));
    assert_eq!(engine.delete(&target).await, Ok(Deleted::Released));
    assert_eq!(engine.delete(&target).await, Ok(Deleted::Released));
    assert!(other.see(&theirs).await.mark.is_some());
    assert_eq!(other.delete(&theirs).await, Ok(Deleted::Gone));
    assert_eq!(engine.observe(&target).await, Observation::Absent);
    assert_eq!(engine.delete(&target).await, Ok(Deleted::WasAbsent));
    engine.clean().await;
}

async fn a_name_without_a_registry_is_that_of_the_hub(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    // As `docker save` names it. What Podman loads under such a name is this machine's to it.
    let short = format!("{}:1", engine.name("short"));
    let digest = archive(&short, &path);
    let source = ImageSource::Archive { path: path.display().to_string(), digest };
    let target = image("foo", &full_reference(&short), source);
    let made = engine.create(&target).await;
    assert_eq!(Some(&made.fields), target.spec.as_ref());
    assert_eq!(engine.delete(&target).await, Ok(Deleted::Gone));
    assert_eq!(engine.observe(&target).await, Observation::Absent);
    engine.clean().await;
}

/// Writes an archive that holds the image by the digest of its manifest alone, and answers its reference with a tag beside.
fn archive_by_digest(engine: &Engine, path: &Path) -> (String, String) {
    let tagged = engine.image_name("pinned");
    let digest = archive(&tagged, path);
    let name = format!("{tagged}@{digest}");
    let held = ksail_archives::Archive::read(std::fs::File::open(path).unwrap(), std::env::consts::ARCH).unwrap();
    let chosen = [ksail_archives::Chosen { archive: &held, from: &tagged, name: &name }];
    let bytes = ksail_archives::write(&chosen, Vec::new()).unwrap();
    std::fs::write(path, bytes).unwrap();
    (name, digest)
}

async fn an_image_is_held_by_the_digest_that_names_it(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    let (reference, digest) = archive_by_digest(&engine, &path);
    let source = ImageSource::Archive { path: path.display().to_string(), digest: digest.clone() };
    let target = image("foo", &reference, source);
    let made = engine.create(&target).await;
    assert_eq!(Some(&made.fields), target.spec.as_ref());
    assert_eq!(made.attributes.field("digest").and_then(Value::as_str), Some(digest.as_str()));
    assert_eq!(engine.create(&target).await.id, made.id, "it is there now");
    // Without the tag it is the same image, for the digest says which one.
    let untagged = reference.replace(":1@", "@");
    assert_eq!(engine.see(&image("bar", &untagged, ImageSource::Pull {})).await.id, made.id);
    if engine.which != crate::engine::Which::Embedded {
        let spec = ContainerSpec {
            image: reference.clone(),
            command: vec!["/none".to_owned()],
            env: std::collections::BTreeMap::new(),
            mounts: Vec::new(),
            ports: Vec::new(),
            networks: Vec::new(),
            restart: Restart::No,
            running: false,
            health: None,
        };
        let user = engine.target("user", "container", &spec);
        let seen = engine.create(&user).await;
        assert_eq!(seen.fields.field("image").and_then(Value::as_str), Some(reference.as_str()));
        assert_eq!(engine.delete(&user).await, Ok(Deleted::Gone));
    }
    assert_eq!(engine.delete(&target).await, Ok(Deleted::Gone));
    assert_eq!(engine.observe(&target).await, Observation::Absent);
    engine.clean().await;
}

async fn what_a_digest_names_comes_from_its_registry(engine: Engine) {
    let registry = engine.registry("foo").await;
    let ready = engine.wait(&registry, std::time::Duration::from_secs(20)).await;
    let endpoint = ready.attributes.field("endpoint").and_then(Value::as_str).unwrap();
    push(endpoint, "ksail-test/app").await;
    let manifest = pushed().manifest;
    let one = |architecture: &str| {
        serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": manifest.len(),
            "digest": Digest::of_bytes(&manifest).to_string(), "platform": {"os": "linux", "architecture": architecture},
        })
    };
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [one("s390x"), one(own)]});
    let index = index.to_string();
    let put = http().put(format!("http://{endpoint}/v2/ksail-test/app/manifests/2")).header("Content-Type", INDEX);
    assert_eq!(put.body(index.clone()).send().await.unwrap().status(), 201);

    let folder = tempfile::tempdir().unwrap();
    let save =
        async |name: &str| engine.provider.save_images(&engine.context(), &[name.to_owned()], folder.path()).await;
    for (content, has_index) in [(index.as_bytes(), true), (manifest.as_slice(), false)] {
        let digest = Digest::of_bytes(content).to_string();
        let name = format!("{endpoint}/ksail-test/app:7@{digest}");
        let saved = save(&name).await.unwrap();
        assert!(saved.of_engine.is_none() && saved.pulled.is_empty());
        let archive = saved.of_registries.unwrap();
        let held = archive.image(&name).unwrap();
        assert_eq!((held.digest(), held.has_index()), (digest.as_str(), has_index));
        let chosen = [ksail_archives::Chosen { archive: &archive, from: &name, name: &name }];
        ksail_archives::write(&chosen, Vec::new()).unwrap();
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left in the folder");
    let unknown = format!("{endpoint}/ksail-test/app@{}", Digest::of_bytes(b"another"));
    let error = save(&unknown).await.err().unwrap();
    assert!(error.message.contains("does not know") && error.hint.unwrap().contains("by a tag"), "{}", error.message);
    let nobody = format!("localhost:{}/a@{}", crate::engine::free_port(), Digest::of_bytes(b"another"));
    let error = save(&nobody).await.err().unwrap();
    assert!(error.message.contains("cannot be reached"), "{}", error.message);
    assert!(error.hint.unwrap().contains("comes from its registry"));
    engine.clean().await;
}

async fn an_image_that_was_there_before_us_stays(engine: Engine) {
    let target = image("foo", engine.registry_image, ImageSource::Present {});
    let made = engine.create(&target).await;
    assert_eq!(Some(&made.fields), target.spec.as_ref());
    let listed = engine.provider.list_owned(&engine.context()).await.unwrap();
    let ours = listed.iter().find(|owned| owned.seen.mark == Some(engine.mark(&target))).unwrap();
    assert_eq!((ours.kind.as_str(), ours.identity.name.as_str()), ("image", engine.registry_image));
    assert_eq!(engine.delete(&target).await, Ok(Deleted::Released));
    assert_eq!(engine.see(&target).await.mark, None);
    engine.clean().await;
}

async fn an_image_that_a_container_uses_stays(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let reference = engine.image_name("used");
    let digest = archive(&reference, &folder.path().join("image.tar"));
    let path = folder.path().join("image.tar").display().to_string();
    let target = image("foo", &reference, ImageSource::Archive { path, digest });
    engine.create(&target).await;
    let body = bollard::models::ContainerCreateBody {
        image: Some(reference.clone()),
        cmd: Some(vec!["/none".to_owned()]),
        ..Default::default()
    };
    let name = Some(engine.name("user"));
    let options = bollard::query_parameters::CreateContainerOptions { name, ..Default::default() };
    engine.docker.create_container(Some(options), body).await.unwrap();
    assert_eq!(engine.delete(&target).await, Ok(Deleted::Released));
    assert!(engine.observe(&target).await.seen().is_some());
    engine.clean().await;
}

async fn pulls_work_and_say_what_to_do_when_they_do_not(engine: Engine) {
    let registry = engine.registry("foo").await;
    let ready = engine.wait(&registry, std::time::Duration::from_secs(20)).await;
    let endpoint = ready.attributes.field("endpoint").and_then(Value::as_str).unwrap();
    let missing = image("foo", &format!("{endpoint}/ksail-test/app:none"), ImageSource::Pull {});
    let error = engine.try_create(&missing).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("correct the reference")), "{error:?}");
    let nobody = format!("localhost:{}/ksail-test/app:1", crate::engine::free_port());
    let error = engine.try_create(&image("foo", &nobody, ImageSource::Pull {})).await.unwrap_err();
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("cannot reach")), "{error:?}");
    let absent = image("foo", &engine.image_name("absent"), ImageSource::Present {});
    let error = engine.try_create(&absent).await.unwrap_err();
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("docker pull")), "{error:?}");
    let reference = format!("{endpoint}/ksail-test/app:1");
    push(endpoint, "ksail-test/app").await;
    let target = image("foo", &reference, ImageSource::Pull {});
    let made = engine.create(&target).await;
    let digest = made.attributes.field("digest").and_then(Value::as_str);
    assert!(digest.is_some_and(|digest| digest.starts_with("sha256:")), "{:?}", made.attributes);
    assert_eq!(engine.delete(&target).await, Ok(Deleted::Gone));
    engine.clean().await;
}

/// Stands before an engine. It lets the engine remove a name of an image, but answers as Docker does where an earlier request
/// removes the same image at the same time.
async fn serve_racing(listener: tokio::net::UnixListener, engine: std::path::PathBuf) {
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let engine = engine.clone();
        tokio::spawn(async move {
            let mut server = tokio::net::UnixStream::connect(engine).await.unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).await.unwrap_or(0) > 0 {
                head.push(byte[0]);
            }
            let text = String::from_utf8_lossy(&head).into_owned();
            let Some((line, headers)) = text.split_once("\r\n") else { return };
            server.write_all(format!("{line}\r\nConnection: close\r\n{headers}").as_bytes()).await.unwrap();
            if !line.starts_with("DELETE ") {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                return;
            }
            server.read_to_end(&mut Vec::new()).await.unwrap();
            let body = r#"{"message":"unrecognized image ID sha256:00"}"#;
            let head = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nConnection: close\r\n";
            let reply = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            client.write_all(reply.as_bytes()).await.unwrap();
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_gone_is_removed_whatever_the_engine_said() {
    let engine = Engine::embedded().await;
    let folder = tempfile::tempdir().unwrap();
    let reference = engine.image_name("raced");
    let digest = archive(&reference, &folder.path().join("image.tar"));
    let path = folder.path().join("image.tar").display().to_string();
    let target = image("foo", &reference, ImageSource::Archive { path, digest });
    engine.create(&target).await;
    let socket = folder.path().join("s");
    tokio::spawn(serve_racing(tokio::net::UnixListener::bind(&socket).unwrap(), engine.socket.clone()));
    let raced = DockerProvider::new(Endpoint::socket(&socket));
    assert_eq!(raced.delete(&engine.context(), &engine.deletion(&target, None)).await, Ok(Deleted::Gone));
    assert_eq!(engine.observe(&target).await, Observation::Absent);
}

on_every_engine!(
    an_archive_is_loaded_held_and_removed_with_its_last_owner,
    a_name_without_a_registry_is_that_of_the_hub,
    an_image_is_held_by_the_digest_that_names_it,
    what_a_digest_names_comes_from_its_registry,
    an_image_that_was_there_before_us_stays,
    an_image_that_a_container_uses_stays,
    pulls_work_and_say_what_to_do_when_they_do_not,
);
