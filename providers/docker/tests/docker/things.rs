//! Networks, volumes and containers.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::{RemoveContainerOptions, StopContainerOptions};
use ksail_kinds::{ContainerSpec, HealthCheck, Mount, NetworkSpec, Port, Protocol, Restart, Spec as _};
use ksail_model::{Fingerprint, Mark, Observation, Readiness, Secret, Value};
use ksail_provider::{CallErrorKind, CreateRequest, Deleted, PortInUse, Provider as _, Target};

use crate::engine::{Engine, Which, free_port, mark_labels, network_spec, on_every_engine, texts, volume_spec};

async fn networks_are_made_seen_and_deleted(engine: Engine) {
    let spec = NetworkSpec { subnet: Some("10.99.7.0/24".to_owned()), internal: true, ..network_spec() };
    let target = engine.target("foo", "network", &spec);
    let made = engine.create(&target).await;
    assert_eq!(made.fields, spec.to_value());
    assert_eq!(made.attributes.field("gateway").and_then(Value::as_str), Some("10.99.7.1"));
    let overlapping = Target { identity: engine.target("bar", "network", &spec).identity, ..target.clone() };
    let error = engine.try_create(&overlapping).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("subnet")), "{error:?}");
    assert_eq!(engine.delete(&target).await, Ok(Deleted::Gone));
    assert_eq!(engine.delete(&target).await, Ok(Deleted::WasAbsent));
    assert_eq!(engine.observe(&target).await, Observation::Absent);
    engine.clean().await;
}

/// The embedded engine has networks of IPv4 alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_of_both_families_is_made_and_seen() {
    let Some(engine) = Engine::docker().await else { return };
    let spec = NetworkSpec {
        subnet: Some("10.99.8.0/24".to_owned()),
        given: Some("10.99.8.128/25".to_owned()),
        ipv6_subnet: Some("fd99:8::/64".to_owned()),
        ipv6_given: Some("fd99:8::1:0/112".to_owned()),
        ..network_spec()
    };
    let target = engine.target("both", "network", &spec);
    let made = engine.create(&target).await;
    assert_eq!(made.fields, spec.to_value());
    let other = NetworkSpec { subnet: Some("10.99.9.0/24".to_owned()), ..spec };
    let overlapping = engine.target("other", "network", &other);
    let error = engine.try_create(&overlapping).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused, "its IPv6 subnet is taken: {error:?}");
    assert_eq!(engine.delete(&target).await, Ok(Deleted::Gone));
    engine.clean().await;
}

async fn of_two_networks_of_ours_with_one_name_the_older_stays(engine: Engine) {
    let target = engine.target("foo", "network", &network_spec());
    // As an engine leaves them to which a create was sent twice at once.
    let mut ids = Vec::new();
    for _ in 0..2 {
        let body = NetworkCreateRequest {
            name: target.identity.name.clone(),
            labels: Some(mark_labels("network", &engine.mark(&target))),
            ..Default::default()
        };
        ids.push(engine.docker.create_network(body).await.map(|reply| reply.id));
    }
    let [Ok(first), second] = ids.as_slice() else { panic!("{ids:?}") };
    let request = engine.request(&target, &[]);
    let seen = engine.provider.create(&engine.context(), &request).await.unwrap().seen;
    assert_eq!(seen.id.as_ref(), Some(first));
    // An engine that refuses the second has nothing to clear up.
    if second.is_ok() {
        assert_eq!(engine.delete(&target).await, Ok(Deleted::Gone));
        assert_eq!(engine.delete(&target).await, Ok(Deleted::Gone));
    }
    engine.clean().await;
}

async fn a_used_network_and_volume_are_kept_and_their_users_named(engine: Engine) {
    let registry = engine.registry("foo").await;
    let user = format!("container `{}`", registry.identity.name);
    for kind in ["network", "volume"] {
        let target = engine.target_of("foo", kind, Value::Null);
        let error = engine.delete(&target).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::Refused);
        assert!(error.message.contains(&user), "{error:?}");
    }
    engine.clean().await;
}

async fn an_older_generation_is_neither_taken_nor_deleted_for_a_newer(engine: Engine) {
    let target = engine.target("foo", "volume", &volume_spec());
    engine.create(&target).await;
    let newer = Mark { generation: 2, ..engine.mark(&target) };
    let request = CreateRequest { mark: newer.clone(), ..engine.request(&target, &[]) };
    let error = engine.provider.create(&engine.context(), &request).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert!(error.message.contains("generation 1"), "{error:?}");
    let mut deletion = engine.deletion(&target, None);
    deletion.mark = newer;
    assert_eq!(engine.provider.delete(&engine.context(), &deletion).await, Ok(Deleted::WasAbsent));
    assert!(engine.volumes().await.contains(&target.identity.name));
    engine.clean().await;
}

fn container(engine: &Engine, networks: Vec<String>) -> ContainerSpec {
    let mut secret = Secret::env("TOKEN");
    secret.fingerprint = Some(Fingerprint("f1".to_owned()));
    ContainerSpec {
        image: engine.registry_image.to_owned(),
        command: Vec::new(),
        env: BTreeMap::from([
            ("PLAIN".to_owned(), Value::from("a=b")),
            ("REGISTRY_HTTP_SECRET".to_owned(), Value::Secret(secret)),
        ]),
        mounts: vec![Mount { source: engine.name("data"), target: "/var/lib/registry".to_owned(), read_only: false }],
        ports: vec![Port {
            container: 5000,
            host: free_port(),
            address: "127.0.0.1".to_owned(),
            protocol: Protocol::Tcp,
        }],
        networks,
        restart: Restart::No,
        running: true,
        health: Some(HealthCheck { port: 5000, path: "/v2/".to_owned() }),
    }
}

async fn containers_are_made_seen_changed_in_place_and_deleted(engine: Engine) {
    let (one, two) =
        (engine.target("one", "network", &network_spec()), engine.target("two", "network", &network_spec()));
    engine.create(&one).await;
    engine.create(&two).await;
    let (one, two) = (one.identity.name, two.identity.name);
    let mut spec = container(&engine, vec![one.clone()]);
    let target = engine.target("foo", "container", &spec);
    let made = engine.create_with(&target, &[("env.REGISTRY_HTTP_SECRET", "hush-hush")]).await;
    let mut wanted = spec.to_value();
    let seen = Secret::observed(Fingerprint("f1".to_owned()));
    wanted.set(&ksail_model::Path::parse("env.REGISTRY_HTTP_SECRET").unwrap(), Value::Secret(seen));
    assert_eq!(made.fields, wanted);
    let ready = engine.wait(&target, Duration::from_secs(20)).await;
    assert_eq!(ready.readiness, Readiness::Ready);
    assert!(ready.attributes.field("addresses").and_then(|map| map.field(&one)).is_some(), "{:?}", ready.attributes);
    spec.networks = vec![one.clone(), two.clone()];
    let changed = engine.update(&engine.target("foo", "container", &spec), &made, "networks").await.unwrap();
    assert_eq!(changed.fields.field("networks"), Some(&Value::from(vec![one, two.clone()])));
    spec.networks = vec![two];
    spec.restart = Restart::UnlessStopped;
    let changed = engine.update(&engine.target("foo", "container", &spec), &made, "networks").await;
    if engine.which == Which::Podman {
        let error = changed.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::Refused);
        assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("--replace foo/container/main")), "{error:?}");
        spec.restart = Restart::No;
    } else {
        let changed = changed.unwrap();
        assert_eq!(changed.fields.field("restart").and_then(Value::as_str), Some("unless-stopped"));
    }
    let changed = engine.update(&engine.target("foo", "container", &spec), &made, "networks").await.unwrap();
    assert_eq!(changed.fields.field("networks"), Some(&Value::from(spec.networks.clone())));
    spec.running = false;
    let stopped = engine.update(&engine.target("foo", "container", &spec), &made, "running").await.unwrap();
    assert_eq!(stopped.fields.field("running"), Some(&Value::from(false)));
    assert_eq!(stopped.fields.field("ports"), made.fields.field("ports"));
    let error = engine.update(&target, &made, "image").await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused);
    assert_eq!(engine.delete(&target).await, Ok(Deleted::Gone));
    assert_eq!(engine.delete(&target).await, Ok(Deleted::WasAbsent));
    engine.clean().await;
}

async fn what_changed_by_hand_is_seen_and_repaired(engine: Engine) {
    let registry = engine.registry("foo").await;
    let made = engine.wait(&registry, Duration::from_secs(20)).await;
    let name = registry.identity.name.clone();
    engine.docker.stop_container(&name, None::<StopContainerOptions>).await.unwrap();
    let stopped = engine.see(&registry).await;
    assert_eq!(stopped.fields.field("running"), Some(&Value::from(false)));
    assert!(!stopped.readiness.is_ready());
    assert_eq!(engine.update(&registry, &stopped, "running").await.unwrap().fields, made.fields);
    if engine.pause(&name).await {
        let paused = engine.see(&registry).await;
        assert_eq!(paused.fields.field("running"), Some(&Value::from(false)));
        assert_eq!(engine.update(&registry, &paused, "running").await.unwrap().fields, made.fields);
    }
    assert_eq!(engine.wait(&registry, Duration::from_secs(20)).await.readiness, Readiness::Ready);
    let options = RemoveContainerOptions { force: true, ..Default::default() };
    engine.docker.remove_container(&name, Some(options)).await.unwrap();
    assert_eq!(engine.observe(&registry).await, Observation::Absent);
    engine.clean().await;
}

async fn what_cannot_start_is_refused_and_leaves_nothing(engine: Engine) {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut spec = container(&engine, Vec::new());
    spec.ports[0].host = holder.local_addr().unwrap().port();
    let target = engine.target("foo", "container", &spec);
    let request = engine.request(&target, &[("env.REGISTRY_HTTP_SECRET", "hush-hush")]);
    let error = engine.provider.create(&engine.context(), &request).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::Refused, "{error:?}");
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("port")), "{error:?}");
    assert_eq!(engine.observe(&target).await, Observation::Absent);
    spec.image = "docker.io/ksail-test/none:1".to_owned();
    let target = engine.target("foo", "container", &spec);
    let request = CreateRequest { target, secrets: texts(&[("env.REGISTRY_HTTP_SECRET", "hush-hush")]), ..request };
    let error = engine.provider.create(&engine.context(), &request).await.unwrap_err();
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("docker pull")), "{error:?}");
    engine.clean().await;
}

async fn what_ends_at_once_says_why_without_its_secrets(engine: Engine) {
    // The embedded engine runs nothing that could end.
    if engine.which == Which::Embedded {
        return;
    }
    let mut spec = container(&engine, Vec::new());
    // The registry quotes the configuration that it cannot read.
    spec.env.insert("REGISTRY_LOG_LEVEL".to_owned(), spec.env["REGISTRY_HTTP_SECRET"].clone());
    let target = engine.target("foo", "container", &spec);
    let secrets = [("env.REGISTRY_HTTP_SECRET", "hush-hush"), ("env.REGISTRY_LOG_LEVEL", "whisper-whisper")];
    // Whether it still runs when it is looked at is chance.
    engine.provider.create(&engine.context(), &engine.request(&target, &secrets)).await.unwrap();
    let waited = engine.wait(&target, Duration::from_secs(20)).await;
    let Readiness::NotReady(why) = waited.readiness else { panic!("ready with a wrong configuration") };
    assert!(why.contains("exit code") && why.contains("its log says"), "{why}");
    assert!(!why.contains("whisper-whisper") && !why.contains("hush-hush"), "{why}");
    engine.clean().await;
}

async fn ports_are_told_with_what_holds_them(engine: Engine) {
    let registry = engine.registry("foo").await;
    let port = registry.spec.as_ref().and_then(|spec| spec.field("port")).and_then(Value::as_i64).unwrap();
    let port = u16::try_from(port).unwrap();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = holder.local_addr().unwrap().port();
    let ports = [port, other, free_port()];
    let name = &registry.identity.name;
    let held = engine.provider.ports_in_use(&engine.context(), &ports).await.unwrap();
    let name_of_this = std::fs::read_to_string("/proc/self/comm").unwrap();
    let this = format!("{} (pid {})", name_of_this.trim(), std::process::id());
    let told = |held: Vec<PortInUse>| held.into_iter().map(|taken| (taken.port, taken.holder)).collect::<Vec<_>>();
    assert!(held[0].lineage.is_some() && held[1].lineage.is_none(), "{held:?}");
    assert_eq!(told(held), [(port, format!("container `{name}`")), (other, this)]);
    engine.docker.stop_container(name, None::<StopContainerOptions>).await.unwrap();
    let held = engine.provider.ports_in_use(&engine.context(), &[port]).await.unwrap();
    assert!(held[0].lineage.is_some(), "{held:?}");
    assert_eq!(told(held), [(port, format!("container `{name}`, which is stopped"))]);
    engine.clean().await;
}

on_every_engine!(
    networks_are_made_seen_and_deleted,
    of_two_networks_of_ours_with_one_name_the_older_stays,
    a_used_network_and_volume_are_kept_and_their_users_named,
    an_older_generation_is_neither_taken_nor_deleted_for_a_newer,
    containers_are_made_seen_changed_in_place_and_deleted,
    what_changed_by_hand_is_seen_and_repaired,
    what_cannot_start_is_refused_and_leaves_nothing,
    what_ends_at_once_says_why_without_its_secrets,
    ports_are_told_with_what_holds_them,
);
