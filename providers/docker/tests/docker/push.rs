//! Pushes to a registry over HTTP, as any client does, past every engine.

use ksail_model::Digest;
use serde_json::json;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What a registry holds of one image: configuration, layer and manifest.
pub(crate) struct Pushed {
    pub(crate) config: Vec<u8>,
    pub(crate) layer: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

/// A client without proxies.
pub(crate) fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// An image of one layer that can be pulled on any engine.
pub(crate) fn pushed() -> Pushed {
    // An empty tar, compressed.
    let tar = vec![0; 1024];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &tar).unwrap();
    let layer = gzip.finish().unwrap();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of_bytes(&tar).to_string()]},
    });
    let config = config.to_string().into_bytes();
    let descriptor = |kind: &str, bytes: &[u8]| {
        json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": Digest::of_bytes(bytes).to_string(), "size": bytes.len(),
        })
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor("config.v1+json", &config),
        "layers": [descriptor("layer.v1.tar+gzip", &layer)],
    });
    Pushed { config, layer, manifest: manifest.to_string().into_bytes() }
}

/// Pushes an image with the tag `1` to the registry at an endpoint of this machine.
pub(crate) async fn push(endpoint: &str, name: &str) {
    let (http, image) = (http(), pushed());
    for blob in [&image.config, &image.layer] {
        let begun = http.post(format!("http://{endpoint}/v2/{name}/blobs/uploads/")).send().await.unwrap();
        let location = begun.headers()["location"].to_str().unwrap();
        let location = reqwest::Url::parse(&format!("http://{endpoint}/")).unwrap().join(location).unwrap();
        let mut location = location.clone();
        location.query_pairs_mut().append_pair("digest", &Digest::of_bytes(blob).to_string());
        let done = http.put(location).body(blob.clone()).send().await.unwrap();
        assert_eq!(done.status(), 201);
    }
    let request = http.put(format!("http://{endpoint}/v2/{name}/manifests/1")).header("Content-Type", MANIFEST);
    let done = request.body(image.manifest).send().await.unwrap();
    assert_eq!(done.status(), 201);
}
