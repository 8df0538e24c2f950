//! Images, and what goes wrong with them.

use std::path::Path;

use bollard::query_parameters::{CreateImageOptions, RemoveImageOptions};
use futures::{StreamExt as _, TryStreamExt as _};
use ksail_kinds::{ImageSource, ImageSpec, Spec as _};
use ksail_model::{Address, Digest, Identity, Observation, Ownership, Value};
use ksail_provider::{CallErrorKind, Deleted, Provider as _, Target};
use ksail_provider_docker::{DockerProvider, Endpoint};

use crate::engine::{Engine, REGISTRY};

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

/// Makes an image without any mark.
pub(crate) async fn import(engine: &Engine, reference: &str) {
    let (repo, tag) = reference.rsplit_once(':').unwrap();
    let options = CreateImageOptions {
        from_src: Some("-".to_owned()),
        repo: Some(repo.to_owned()),
        tag: Some(tag.to_owned()),
        ..Default::default()
    };
    let empty = bollard::body_full(vec![0; EMPTY_TAR].into());
    engine.docker.create_image(Some(options), Some(empty), None).try_collect::<Vec<_>>().await.unwrap();
}

/// Writes an archive that holds the image under this reference, and answers its digest. The engine has the image no more.
pub(crate) async fn archive(engine: &Engine, reference: &str, path: &Path) -> String {
    import(engine, reference).await;
    let mut bytes = Vec::new();
    let mut stream = engine.docker.export_image(reference);
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    std::fs::write(path, &bytes).unwrap();
    engine.docker.remove_image(reference, None::<RemoveImageOptions>, None).await.unwrap();
    Digest::of_bytes(&bytes).to_string()
}

#[tokio::test]
async fn an_archive_is_loaded_held_and_removed_with_its_last_owner() {
    let Some(engine) = Engine::real().await else { return };
    let other = Engine::at(engine.socket.clone());
    let folder = tempfile::tempdir().unwrap();
    let reference = "reg.example/ksail-test/loaded:1";
    let digest = archive(&engine, reference, &folder.path().join("image.tar")).await;
    let source = |digest: &str| ImageSource::Archive { path: "image.tar".to_owned(), digest: digest.to_owned() };
    let target = image("foo", reference, source(&digest));
    let provider = DockerProvider::new(Endpoint::socket(&engine.socket)).project(folder.path());
    let changed = image("foo", reference, source("sha256:00"));
    let error = provider.create(&engine.context(), &engine.request(&changed, &[])).await.unwrap_err();
    assert!(error.kind == CallErrorKind::Refused && error.message.contains("not the planned one"), "{error:?}");
    let made = provider.create(&engine.context(), &engine.request(&target, &[])).await.unwrap().seen;
    assert_eq!(Some(&made.fields), target.spec.as_ref());
    assert_eq!(engine.create(&target).await.id, made.id);
    // Another stack needs it too.
    let theirs = image("bar", reference, ImageSource::Pull {});
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

#[tokio::test]
async fn an_image_that_was_there_before_us_stays() {
    let Some(engine) = Engine::real().await else { return };
    let target = image("foo", REGISTRY, ImageSource::Present {});
    let made = engine.create(&target).await;
    assert_eq!(Some(&made.fields), target.spec.as_ref());
    let listed = engine.provider.list_owned(&engine.context()).await.unwrap();
    let ours = listed.iter().find(|owned| owned.seen.mark == Some(engine.mark(&target))).unwrap();
    assert_eq!((ours.kind.as_str(), ours.identity.name.as_str()), ("image", REGISTRY));
    assert_eq!(engine.delete(&target).await, Ok(Deleted::Released));
    assert_eq!(engine.see(&target).await.mark, None);
    engine.clean().await;
}

#[tokio::test]
async fn an_image_that_a_container_uses_stays() {
    let Some(engine) = Engine::real().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let reference = "reg.example/ksail-test/used:1";
    let digest = archive(&engine, reference, &folder.path().join("image.tar")).await;
    let path = folder.path().join("image.tar").display().to_string();
    let target = image("foo", reference, ImageSource::Archive { path, digest });
    engine.create(&target).await;
    let body = bollard::models::ContainerCreateBody {
        image: Some(reference.to_owned()),
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

#[tokio::test]
async fn pulls_work_and_say_what_to_do_when_they_do_not() {
    let Some(engine) = Engine::real().await else { return };
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
    let absent = image("foo", "reg.example/ksail-test/absent:1", ImageSource::Present {});
    let error = engine.try_create(&absent).await.unwrap_err();
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("docker pull")), "{error:?}");
    let reference = format!("{endpoint}/ksail-test/app:1");
    import(&engine, &reference).await;
    let options = bollard::query_parameters::PushImageOptions { tag: Some("1".to_owned()), ..Default::default() };
    let name = reference.rsplit_once(':').unwrap().0;
    engine.docker.push_image(name, Some(options), None).try_collect::<Vec<_>>().await.unwrap();
    engine.docker.remove_image(&reference, None::<RemoveImageOptions>, None).await.unwrap();
    let target = image("foo", &reference, ImageSource::Pull {});
    let made = engine.create(&target).await;
    let digest = made.attributes.field("digest").and_then(Value::as_str);
    assert!(digest.is_some_and(|digest| digest.starts_with("sha256:")), "{:?}", made.attributes);
    assert_eq!(engine.delete(&target).await, Ok(Deleted::Gone));
    engine.clean().await;
}
