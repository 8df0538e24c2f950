//! Claims on images that are not there yet. Whether an image was there before us cannot be told once it has come and the
//! call that brought it was cut off. So a small image of our own gets the tag of a claim first, and goes with it.

use bollard::query_parameters::ImportImageOptions;
use futures::StreamExt as _;
use ksail_provider::CallError;

use crate::call::Call;
use crate::digest::sha256_hex;
use crate::owner_tag::OwnerTag;

/// An empty tar: the one layer of the image.
const LAYER: [u8; 1024] = [0; 1024];
/// Where the layer lies in the archive.
const LAYER_PATH: &str = "layer/layer.tar";

/// Puts a claim onto the engine.
pub(crate) async fn put(call: &Call, what: &str, claim: &OwnerTag) -> Result<(), CallError> {
    let doing = format!("claim {what}");
    let Some((repo, tag)) = claim.write() else {
        return Err(call
            .refused(&doing, "address and reference are too long for a tag")
            .hint("give it a shorter address"));
    };
    let archive =
        archive(&format!("{repo}:{tag}")).map_err(|error| call.refused(&doing, &format!("no archive: {error}")))?;
    let options = ImportImageOptions { quiet: true, ..Default::default() };
    let mut progress = call.session.docker.import_image(options, bollard::body_full(archive.into()), None);
    let done = async {
        while let Some(step) = progress.next().await {
            if let Some(error) = step?.error_detail.and_then(|detail| detail.message) {
                return Err(bollard::errors::Error::DockerStreamError { error });
            }
        }
        Ok(())
    };
    call.change(&doing, done).await.map_err(|failed| failed.into_error(call, &doing))
}

/// An archive as `docker save` writes it. The reference in its configuration makes it an image of its own.
fn archive(reference: &str) -> std::io::Result<Vec<u8>> {
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Labels": {"dev.ksail.claim": reference}},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256_hex(&LAYER))]},
    });
    let config = config.to_string().into_bytes();
    let name = format!("{}.json", sha256_hex(&config));
    let manifest = serde_json::json!([{"Config": name, "RepoTags": [reference], "Layers": [LAYER_PATH]}]).to_string();
    let mut tar = tar::Builder::new(Vec::new());
    let files = [(name.as_str(), config.as_slice()), (LAYER_PATH, &LAYER), ("manifest.json", manifest.as_bytes())];
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, bytes)?;
    }
    tar.into_inner()
}
