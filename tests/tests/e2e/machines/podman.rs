//! A cluster on Podman: the same plan, by the same code, on an engine that says much otherwise.

use std::path::PathBuf;

use serde_json::Value;

use super::{World, node_version};
use crate::docker::name;
use crate::support::engine::Engine;
use crate::support::project::Project;
use crate::support::{did_not_run, free_port};

/// The socket of a real Podman; says why there is none.
fn socket() -> Option<PathBuf> {
    let host = std::env::var("KSAIL_TEST_PODMAN_HOST").ok();
    let socket = host.as_deref().and_then(|host| host.strip_prefix("unix://")).map(PathBuf::from);
    if socket.is_none() {
        did_not_run("KSAIL_TEST_PODMAN_HOST names no unix:// socket (testbed/podman.sh up; testbed/podman.sh env)");
    }
    socket
}

impl World {
    /// One control plane that takes pods.
    fn on_podman() -> Option<Self> {
        let (socket, version) = (socket()?, node_version()?);
        let cluster = name("p");
        let mut project = Project::empty(free_port());
        project.set_env("DOCKER_HOST", &format!("unix://{}", socket.display()));
        let file = format!(
            "apiVersion: ksail.io/v1alpha1\nkind: Cluster\nmetadata: {{name: {cluster}}}\nspec:\n  cluster:\n    provider: Docker\n    \
             distribution: Vanilla\n    distributionConfig: kind.yaml\n    kubernetesVersion: {version}\n"
        );
        project.write("ksail.yaml", &file);
        let kind = format!(
            "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnetworking:\n  apiServerPort: {}\nkubeadmConfigPatches:\n  - |\n    \
             kind: KubeletConfiguration\n    failCgroupV1: false\n",
            free_port()
        );
        project.write("kind.yaml", &kind);
        Some(Self { project, engine: Engine::at(&socket), cluster, version })
    }
}

#[test]
fn a_cluster_on_podman_is_made_repaired_and_destroyed_to_nothing() {
    let Some(world) = World::on_podman() else { return };
    world.has_contexts();
    world.project.run(&["plan", "--detailed-exitcode"]).code(2);
    world.project.apply();
    world.project.is_settled();
    assert_eq!(world.ready_nodes(), world.nodes(0));
    assert!(world.contexts().contains(&format!("current-context: ksail-{}", world.cluster)));

    // A machine is what it keeps, here too.
    let uid = world.uid(&world.control_plane());
    let path = format!("/containers/{}?force=true", world.control_plane());
    assert_eq!(world.engine.call("DELETE", &path, &Value::Null).0, 204);
    world.project.run(&["plan"]).says(&format!("{}/machine/control-plane-0 will be updated in-place", world.cluster));
    world.project.apply();
    assert_eq!(world.uid(&world.control_plane()), uid);
    world.rests(&world.nodes(0), &|| true);

    world.project.run(&["destroy", "--auto-approve"]).code(0);
    world.is_gone();
}
