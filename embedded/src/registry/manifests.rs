//! What a registry reads of a manifest: its media type, what it refers to, its subject.

use serde_json::{Value, json};

use crate::digests;

/// An OCI image index, which also is the shape of a list of referrers.
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image manifest.
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A manifest as it was pushed.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) hex: String,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

/// The media type that a manifest states or, where it states none, that its shape tells.
pub(crate) fn media_type_of(bytes: &[u8]) -> Option<String> {
    let json: Value = serde_json::from_slice(bytes).ok()?;
    if let Some(stated) = json.get("mediaType").and_then(Value::as_str) {
        return Some(stated.to_owned());
    }
    if json.get("manifests").is_some_and(Value::is_array) {
        return Some(OCI_INDEX.to_owned());
    }
    json.get("config").is_some_and(Value::is_object).then(|| OCI_MANIFEST.to_owned())
}

/// The hexadecimal digest of a manifest's subject.
pub(crate) fn subject_of(bytes: &[u8]) -> Option<String> {
    let json: Value = serde_json::from_slice(bytes).ok()?;
    digests::hex_of(json.get("subject")?.get("digest")?.as_str()?).map(str::to_owned)
}

/// What a manifest needs in its repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) blobs: Vec<String>,
    pub(crate) manifests: Vec<String>,
}

/// Why a manifest is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("the manifest is not JSON")]
    NotJson(#[source] serde_json::Error),
    #[error("the manifest's schema version is not 2")]
    Schema,
    #[error("the content type `{header}` is not the manifest's media type `{body}`")]
    MediaType { header: String, body: String },
    #[error("the manifest has neither config nor manifests")]
    Shape,
    #[error("`{0}` is not a sha256 digest")]
    Digest(String),
}

/// Reads what a manifest needs, and checks that it is one.
pub(crate) fn needs(bytes: &[u8], content_type: &str) -> Result<Needs, ManifestError> {
    let json: Value = serde_json::from_slice(bytes).map_err(ManifestError::NotJson)?;
    if json.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
        return Err(ManifestError::Schema);
    }
    if let Some(stated) = json.get("mediaType").and_then(Value::as_str)
        && stated != content_type
    {
        return Err(ManifestError::MediaType { header: content_type.to_owned(), body: stated.to_owned() });
    }
    let digest = |descriptor: &Value| {
        let text = descriptor.get("digest").and_then(Value::as_str).unwrap_or_default();
        digests::hex_of(text).map(str::to_owned).ok_or_else(|| ManifestError::Digest(text.to_owned()))
    };
    let mut needs = Needs::default();
    if let Some(manifests) = json.get("manifests").and_then(Value::as_array) {
        for descriptor in manifests {
            needs.manifests.push(digest(descriptor)?);
        }
    } else if let Some(config) = json.get("config") {
        needs.blobs.push(digest(config)?);
        for layer in json.get("layers").and_then(Value::as_array).into_iter().flatten() {
            // A layer with addresses of its own need not be here.
            if layer.get("urls").and_then(Value::as_array).is_none_or(Vec::is_empty) {
                needs.blobs.push(digest(layer)?);
            }
        }
    } else {
        return Err(ManifestError::Shape);
    }
    Ok(needs)
}

/// The descriptor under which a manifest stands in the list of its subject's referrers.
pub(crate) fn referrer(manifest: &Manifest) -> Value {
    let json: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    let stated =
        |value: Option<&Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let mut descriptor = json!({
        "mediaType": manifest.media_type,
        "digest": format!("sha256:{}", manifest.hex),
        "size": manifest.bytes.len(),
    });
    let config = json.get("config").and_then(|config| config.get("mediaType"));
    if let Some(artifact) = stated(json.get("artifactType")).or_else(|| stated(config)) {
        descriptor["artifactType"] = Value::String(artifact);
    }
    if let Some(annotations) = json.get("annotations").filter(|value| value.is_object()) {
        descriptor["annotations"] = annotations.clone();
    }
    descriptor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_that_lies_of_its_type_is_refused() {
        let hex = digests::sha256_hex(b"{}");
        let body = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"digest": format!("sha256:{hex}")}, "layers": []});
        let bytes = serde_json::to_vec(&body).unwrap();
        assert_eq!(needs(&bytes, OCI_MANIFEST).unwrap().blobs, [hex]);
        assert!(matches!(needs(&bytes, OCI_INDEX), Err(ManifestError::MediaType { .. })));
        assert!(matches!(needs(b"[1]", OCI_INDEX), Err(ManifestError::Schema)));
        assert!(matches!(needs(b"{", OCI_INDEX), Err(ManifestError::NotJson(_))));
        assert!(matches!(needs(br#"{"schemaVersion":2}"#, OCI_INDEX), Err(ManifestError::Shape)));
    }
}
