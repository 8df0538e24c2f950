//! A registry that holds an image of two platforms, to be named by the digest of its index.

use std::process::Command;

use super::{LOADED, World};
use crate::support::engine::http;
use crate::support::{free_port, wait_until};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// It runs on the engine of the test bed, and goes when this does.
pub(super) struct Source {
    container: String,
    port: u16,
    /// The digest of the index.
    index: String,
}

fn docker(arguments: &[&str]) -> String {
    let host = std::env::var("KSAIL_TEST_DOCKER_HOST").expect("the engine");
    let run = Command::new("docker").args(arguments).env("DOCKER_HOST", &host).output().expect("docker runs");
    assert!(run.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8_lossy(&run.stdout).into_owned()
}

/// All that a container has said.
fn log(container: &str) -> String {
    let host = std::env::var("KSAIL_TEST_DOCKER_HOST").expect("the engine");
    let run = Command::new("docker").args(["logs", container]).env("DOCKER_HOST", &host).output().expect("docker runs");
    [run.stdout, run.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat()
}

impl Source {
    /// Starts one for a world, and pushes to it what the test bed's engine has.
    pub(super) fn start(world: &World) -> Self {
        let (container, port) = (format!("{}-source", world.cluster), free_port());
        let published = format!("127.0.0.1:{port}:5000");
        docker(&["run", "--detach", "--name", &container, "--publish", &published, LOADED]);
        let mut source = Self { container, port, index: String::new() };
        // A port that is published takes connections before anybody listens behind it.
        wait_until("the registry listens", || log(&source.container).contains("listening on"));
        let tag = format!("localhost:{port}/team/web:1");
        docker(&["tag", LOADED, &tag]);
        let pushed = docker(&["push", &tag]);
        docker(&["image", "rm", &tag]);
        let (_, told) = pushed.split_once("digest: ").expect("a digest");
        let mut words = told.split_whitespace();
        let digest = words.next().expect("a digest").to_owned();
        let size: u64 = words.nth(1).expect("a size").parse().expect("a number");
        let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        // A registry takes an index only whose manifests it holds; it does not look for which platforms they are.
        let one = |architecture: &str| {
            serde_json::json!({
                "mediaType": MANIFEST, "digest": digest, "size": size,
                "platform": {"os": "linux", "architecture": architecture},
            })
        };
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [one("s390x"), one(own)]});
        let index = index.to_string();
        let (status, said) = http(port, "PUT", "/v2/team/web/manifests/2", INDEX, index.as_bytes());
        assert_eq!(status, 201, "{}", String::from_utf8_lossy(&said));
        source.index = ksail_model::Digest::of_bytes(index.as_bytes()).to_string();
        source
    }

    /// How the image is called in full.
    pub(super) fn image(&self) -> String {
        format!("localhost:{}/team/web@{}", self.port, self.index)
    }

    /// As a person writes it, with a tag that says nothing.
    pub(super) fn tagged(&self) -> String {
        format!("localhost:{}/team/web:1@{}", self.port, self.index)
    }

    /// A pod that runs it, and is pulled from nowhere.
    pub(super) fn pod(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: pinned, namespace: shop}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
             containers:\n    - {{name: pinned, image: '{}', imagePullPolicy: Never}}\n",
            self.tagged()
        )
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let host = std::env::var("KSAIL_TEST_DOCKER_HOST").unwrap_or_default();
        let mut command = Command::new("docker");
        let _ = command.args(["rm", "--force", "--volumes", &self.container]).env("DOCKER_HOST", host).output();
    }
}
