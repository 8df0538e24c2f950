//! The plain `docker` client and `skopeo`, where they are installed.

use std::path::Path;
use std::process::Command;

use crate::harness::{Client, Engine};

/// Whether a program is there; if it must be and is not, that is a failure.
fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        ksail_test_real::did_not_run(&format!("{program} is not installed"));
    }
    found
}

async fn run(program: &'static str, arguments: Vec<String>) -> String {
    let output = tokio::task::spawn_blocking(move || {
        // A client that waits for ever is a failure, not a hang.
        let output = Command::new("timeout")
            .arg("60")
            .arg(program)
            .args(&arguments)
            .env("DOCKER_CONFIG", "/nonexistent")
            .output()
            .unwrap();
        (arguments, output)
    });
    let (arguments, output) = output.await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {out}{err}");
    out.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_docker_client() {
    if !is_installed("docker") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path()).await;
    let host = format!("unix://{}", std::fs::read_to_string(folder.path().join("socket")).unwrap());
    let docker = async |line: &str| {
        let mut arguments = vec!["-H".to_owned(), host.clone()];
        arguments.extend(line.split(' ').map(str::to_owned));
        run("docker", arguments).await
    };
    assert!(docker("version").await.contains("1.2.3+ksail.embedded"));
    assert!(docker("info").await.contains("simulated"));
    docker("network create --label a=b net").await;
    assert!(docker("network ls --filter label=a=b").await.contains("net"));
    docker("volume create vol").await;
    let image = ksail_embedded::BUILTIN_IMAGE;
    let port = crate::harness::free_port();
    docker(&format!("run -d --name reg --network net -p 127.0.0.1:{port}:5000 -v vol:/var/lib/registry {image}")).await;
    assert!(docker("ps").await.contains(&format!("127.0.0.1:{port}->5000/tcp")));
    Client::new(port).push_image("p/q", "v1", b"by hand").await;
    docker(&format!("pull 127.0.0.1:{port}/p/q:v1")).await;
    assert!(docker("images").await.contains(&format!("127.0.0.1:{port}/p/q")));
    docker(&format!("tag 127.0.0.1:{port}/p/q:v1 other:1")).await;
    docker("rmi other:1").await;
    assert!(docker("network inspect net").await.contains("\"Name\": \"reg\""));
    assert!(docker("logs reg").await.contains("registry serves"));
    docker("stop reg").await;
    assert!(docker("ps -a").await.contains("Exited (0)"));
    docker("start reg").await;
    docker("rm -f reg").await;
    docker("network rm net").await;
    docker("volume rm vol").await;
    engine.stop().await;
}

fn layout(folder: &Path) {
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let write = |bytes: &[u8]| {
        let digest = crate::harness::digest(bytes);
        std::fs::write(blobs.join(&digest[7..]), bytes).unwrap();
        digest
    };
    let (config, layer) = (crate::harness::config(), vec![1; 100_000]);
    let manifest = crate::harness::manifest((&write(&config), config.len()), (&write(&layer), layer.len()), None);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": crate::harness::OCI_MANIFEST, "digest": write(&manifest), "size": manifest.len(),
        "annotations": {"org.opencontainers.image.ref.name": "v1"}}]});
    std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_pushes_copies_and_pulls_through() {
    if !is_installed("skopeo") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path()).await;
    let port = engine.registry("reg", &[]).await;
    let mirror = engine.registry("mirror", &[&format!("REGISTRY_PROXY_REMOTEURL=http://127.0.0.1:{port}")]).await;
    let work = tempfile::tempdir().unwrap();
    layout(work.path());
    let skopeo = async |line: &str| run("skopeo", line.split(' ').map(str::to_owned).collect()).await;
    let policy = "--insecure-policy";
    let source = format!("oci:{}:v1", work.path().display());
    skopeo(&format!("{policy} copy --dest-tls-verify=false {source} docker://localhost:{port}/a/b:v1")).await;
    let plain = "--src-tls-verify=false --dest-tls-verify=false";
    skopeo(&format!("{policy} copy {plain} docker://localhost:{port}/a/b:v1 docker://localhost:{port}/c:v1")).await;
    let pulled = tempfile::tempdir().unwrap();
    let to = format!("dir:{}", pulled.path().display());
    skopeo(&format!("{policy} copy --src-tls-verify=false docker://localhost:{mirror}/a/b:v1 {to}")).await;
    assert!(pulled.path().join("manifest.json").exists());
    assert!(skopeo(&format!("inspect --tls-verify=false docker://localhost:{mirror}/a/b:v1")).await.contains("v1"));
    assert!(skopeo(&format!("list-tags --tls-verify=false docker://localhost:{port}/c")).await.contains("v1"));
    skopeo(&format!("delete --tls-verify=false docker://localhost:{port}/c:v1")).await;
    engine.stop().await;
}
