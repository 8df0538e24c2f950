//! Registries and mirrors: what real clients do with them.

use std::time::Duration;

use bollard::query_parameters::{CreateImageOptions, RemoveImageOptions};
use futures::TryStreamExt as _;
use ksail_kinds::{MirrorSpec, Spec as _};
use ksail_model::{Fingerprint, Identity, Readiness, Secret, Value};
use ksail_provider::{CallErrorKind, CreateRequest, Deleted, Provider as _, Target};

use crate::engine::{Engine, Which, free_port, network_spec, on_every_engine, texts, volume_spec};
use crate::push::push;

const SOON: Duration = Duration::from_secs(30);
/// As long as an apply waits by default.
const LONG: Duration = Duration::from_secs(300);

fn text<'a>(target: &'a Target, field: &str) -> &'a str {
    target.spec.as_ref().and_then(|spec| spec.field(field)).and_then(Value::as_str).unwrap()
}

/// Pulls it again, and forgets it.
async fn pull(engine: &Engine, endpoint: &str, name: &str) {
    let repo = format!("{endpoint}/{name}");
    let options =
        CreateImageOptions { from_image: Some(repo.clone()), tag: Some("1".to_owned()), ..Default::default() };
    engine.docker.create_image(Some(options), None, None).try_collect::<Vec<_>>().await.unwrap();
    engine.docker.remove_image(&format!("{repo}:1"), None::<RemoveImageOptions>, None).await.unwrap();
}

fn endpoint(seen: &ksail_model::Seen) -> String {
    seen.attributes.field("endpoint").and_then(Value::as_str).unwrap().to_owned()
}

fn mirror(engine: &Engine, registry: &Target, fingerprint: &str) -> (Target, MirrorSpec) {
    let mut password = Secret::env("TOKEN");
    password.fingerprint = Some(Fingerprint(fingerprint.to_owned()));
    let spec = MirrorSpec {
        host: "docker.io".to_owned(),
        upstream: format!("http://{}:5000", registry.identity.name),
        username: Value::from("me"),
        password: Value::Secret(password),
        image: engine.registry_image.to_owned(),
        network: text(registry, "network").to_owned(),
        volume: engine.name("mirror-volume"),
        address: "127.0.0.1".to_owned(),
        port: free_port(),
        running: true,
    };
    (engine.target("foo", "mirror", &spec), spec)
}

async fn a_registry_takes_pushes_and_a_mirror_passes_pulls_through(engine: Engine) {
    let registry = engine.registry("foo").await;
    let ready = engine.wait(&registry, SOON).await;
    assert_eq!(ready.readiness, Readiness::Ready);
    assert_eq!(Some(&ready.fields), registry.spec.as_ref());
    let inside = ready.attributes.field("network_endpoint").and_then(Value::as_str);
    assert_eq!(inside, Some(format!("{}:5000", registry.identity.name).as_str()));
    push(&endpoint(&ready), "ksail-test/app").await;
    pull(&engine, &endpoint(&ready), "ksail-test/app").await;
    let (target, _) = mirror(&engine, &registry, "f1");
    engine.create(&engine.target("mirror", "volume", &volume_spec())).await;
    engine.create_with(&target, &[("password", "hush-hush")]).await;
    let mirrored = engine.wait(&target, SOON).await;
    assert_eq!(mirrored.readiness, Readiness::Ready);
    pull(&engine, &endpoint(&mirrored), "ksail-test/app").await;
    engine.clean().await;
}

async fn a_mirror_is_waited_for_until_its_upstream_appears(engine: Engine) {
    let network = engine.target("foo", "network", &network_spec());
    engine.create(&network).await;
    let upstream = engine.name("foo-registry");
    let named = Target { identity: Identity::named(upstream.clone()), spec: None, ..network.clone() };
    let spec = Value::map([("network", Value::from(network.identity.name.clone()))]);
    let (target, _) = mirror(&engine, &Target { spec: Some(spec), ..named }, "f1");
    engine.create_with(&target, &[("password", "hush-hush")]).await;
    // The embedded engine's mirror is ready without its upstream.
    if engine.which != Which::Embedded {
        let Readiness::NotReady(why) = engine.wait(&target, Duration::from_secs(4)).await.readiness else {
            panic!("ready without its upstream");
        };
        let upstream = format!("its upstream http://{upstream}:5000 may be unreachable");
        // At the deadline it may be between two starts, or run for a moment.
        assert!(why.contains("exit code") || why.contains("was started again"), "{why}");
        assert!(why.contains(&upstream) && why.contains("panic:"), "{why}");
        assert!(!why.contains("goroutine"), "{why}");
    }
    let (waited, _) = tokio::join!(engine.wait(&target, SOON), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        engine.registry("foo").await
    });
    assert_eq!(waited.readiness, Readiness::Ready);
    engine.clean().await;
}

async fn a_mirror_without_its_upstream_is_given_up_long_before_the_deadline(engine: Engine) {
    // The embedded engine's mirror is ready without its upstream.
    if engine.which == Which::Embedded {
        return;
    }
    let network = engine.target("foo", "network", &network_spec());
    engine.create(&network).await;
    let spec = Value::map([("network", Value::from(network.identity.name.clone()))]);
    let nowhere = Target { identity: Identity::named("nowhere.invalid"), spec: Some(spec), ..network.clone() };
    let (target, _) = mirror(&engine, &nowhere, "f1");
    engine.create_with(&target, &[("password", "hush-hush")]).await;
    for _ in 0..2 {
        let began = std::time::Instant::now();
        let Readiness::NotReady(why) = engine.wait(&target, LONG).await.readiness else {
            panic!("ready without its upstream");
        };
        assert!(began.elapsed() < LONG / 4, "{:?}", began.elapsed());
        assert!(why.contains("restarts so far") && why.contains("http://nowhere.invalid:5000"), "{why}");
        assert!(why.contains("its log says: "), "{why}");
    }
    engine.clean().await;
}

async fn a_changed_credential_or_upstream_is_seen_and_replaced(engine: Engine) {
    let registry = engine.registry("foo").await;
    let (target, spec) = mirror(&engine, &registry, "f1");
    let secrets = [("password", "hush-hush")];
    let made = engine.create_with(&target, &secrets).await;
    let mut wanted = spec.to_value();
    let observed = Secret::observed(Fingerprint("f1".to_owned()));
    wanted.set(&ksail_model::Path::key("password"), Value::Secret(observed));
    assert_eq!(made.fields, wanted);
    let (rotated, _) = mirror(&engine, &registry, "f2");
    let rotated = Target { identity: target.identity.clone(), ..rotated };
    // The same generation with another password is a thing that must be replaced, not taken for the wanted one.
    let error = engine.provider.create(&engine.context(), &engine.request(&rotated, &secrets)).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.message.contains("password") || error.message.contains("port"), "{error:?}");
    assert_eq!(engine.delete(&target).await, Ok(Deleted::Gone));
    let moved = MirrorSpec { upstream: "http://elsewhere:5000".to_owned(), ..spec };
    let moved = engine.target("foo", "mirror", &moved);
    let request = CreateRequest { secrets: texts(&[("password", "new-hush")]), ..engine.request(&moved, &[]) };
    let made = engine.provider.create(&engine.context(), &request).await.unwrap().seen;
    assert_eq!(made.fields.field("upstream").and_then(Value::as_str), Some("http://elsewhere:5000"));
    engine.clean().await;
}

async fn a_secret_without_its_text_is_refused_before_anything_is_made(engine: Engine) {
    let registry = engine.registry("foo").await;
    let (target, _) = mirror(&engine, &registry, "f1");
    let error = engine.try_create(&target).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.message.contains("`password`"), "{error:?}");
    assert!(!engine.containers().await.contains(&target.identity.name));
    engine.clean().await;
}

async fn two_clusters_keep_their_blobs_apart(engine: Engine) {
    let (one, two) = (engine.registry("foo").await, engine.registry("bar").await);
    let (at_one, at_two) = (engine.wait(&one, SOON).await, engine.wait(&two, SOON).await);
    push(&endpoint(&at_one), "ksail-test/app").await;
    let repo = format!("{}/ksail-test/app", endpoint(&at_two));
    let options = CreateImageOptions { from_image: Some(repo), tag: Some("1".to_owned()), ..Default::default() };
    let pulled = engine.docker.create_image(Some(options), None, None).try_collect::<Vec<_>>().await;
    assert!(pulled.is_err(), "the other cluster's registry has it too");
    // Blobs outlive the container, and go with the volume.
    assert_eq!(engine.delete(&one).await, Ok(Deleted::Gone));
    engine.create(&one).await;
    let again = engine.wait(&one, SOON).await;
    pull(&engine, &endpoint(&again), "ksail-test/app").await;
    engine.clean().await;
}

on_every_engine!(
    a_mirror_without_its_upstream_is_given_up_long_before_the_deadline,
    a_mirror_is_waited_for_until_its_upstream_appears,
    a_registry_takes_pushes_and_a_mirror_passes_pulls_through,
    a_changed_credential_or_upstream_is_seen_and_replaced,
    a_secret_without_its_text_is_refused_before_anything_is_made,
    two_clusters_keep_their_blobs_apart,
);
