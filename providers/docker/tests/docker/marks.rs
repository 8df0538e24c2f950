//! Whose things are.

use bollard::models::{ContainerCreateBody, NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::CreateContainerOptions;
use ksail_model::Observation;
use ksail_provider::{CallErrorKind, DeleteRequest, Deleted, Provider as _, Target};

use crate::engine::{Engine, network_spec, on_every_engine, volume_spec};

async fn what_is_not_ours_is_neither_taken_nor_deleted(engine: Engine) {
    let network = engine.target("foo", "network", &network_spec());
    let volume = engine.target("foo", "volume", &volume_spec());
    let body = NetworkCreateRequest { name: network.identity.name.clone(), ..Default::default() };
    engine.docker.create_network(body).await.unwrap();
    let body = VolumeCreateRequest { name: Some(volume.identity.name.clone()), ..Default::default() };
    engine.docker.create_volume(body).await.unwrap();
    let other = engine.sibling();
    let registry = other.registry("foo").await;
    let registry = Target { address: ksail_model::Address::new("mine", "registry", &["local"]), ..registry };
    for target in [network, volume, registry] {
        let error = engine.try_create(&target).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::NotOurs, "{error:?}");
        let named = error.message.contains("carries no mark") || error.message.contains(&other.lineage);
        assert!(named, "{error:?}");
        assert_eq!(engine.delete(&target).await.unwrap_err().kind, CallErrorKind::NotOurs);
        assert!(engine.observe(&target).await.seen().is_some());
    }
    other.clean().await;
    engine.clean().await;
}

async fn what_was_imported_is_deleted_by_its_id_alone(engine: Engine) {
    let name = engine.name("foo-container");
    let body = ContainerCreateBody { image: Some(engine.registry_image.to_owned()), ..Default::default() };
    let options = CreateContainerOptions { name: Some(name), ..Default::default() };
    let id = engine.docker.create_container(Some(options), body).await.unwrap().id;
    let target = engine.target_of("foo", "container", ksail_model::Value::Null);
    let request = |id: &str| DeleteRequest {
        adopted: true,
        target: Target { id: Some(id.to_owned()), ..target.clone() },
        ..engine.deletion(&target, None)
    };
    let error = engine.provider.delete(&engine.context(), &request("another")).await.unwrap_err();
    assert_eq!(error.kind, CallErrorKind::NotOurs);
    assert_eq!(engine.provider.delete(&engine.context(), &request(&id)).await, Ok(Deleted::Gone));
    engine.clean().await;
}

async fn deleting_foo_leaves_foo_bar_and_everything_is_listed(engine: Engine) {
    let shorter = engine.registry("foo").await;
    engine.registry("foo-bar").await;
    let listed = engine.provider.list_owned(&engine.context()).await.unwrap();
    let mut ours: Vec<String> = listed
        .iter()
        .filter_map(|owned| owned.seen.mark.as_ref())
        .filter(|mark| mark.lineage == engine.lineage)
        .map(|mark| mark.address.to_string())
        .collect();
    ours.sort();
    let expected = ["foo-bar/network/main", "foo-bar/registry/main", "foo-bar/volume/main"];
    assert_eq!(ours, [expected, ["foo/network/main", "foo/registry/main", "foo/volume/main"]].concat());
    assert_eq!(engine.delete(&shorter).await, Ok(Deleted::Gone));
    for kind in ["network", "volume"] {
        let target = engine.target_of("foo", kind, ksail_model::Value::Null);
        assert_eq!(engine.delete(&target).await, Ok(Deleted::Gone));
        assert_eq!(engine.observe(&target).await, Observation::Absent);
    }
    assert!(engine.containers().await.contains(&engine.name("foo-bar-registry")));
    assert!(engine.networks().await.contains(&engine.name("foo-bar-network")));
    assert!(engine.volumes().await.contains(&engine.name("foo-bar-volume")));
    engine.clean().await;
}

on_every_engine!(
    what_is_not_ours_is_neither_taken_nor_deleted,
    what_was_imported_is_deleted_by_its_id_alone,
    deleting_foo_leaves_foo_bar_and_everything_is_listed,
);
