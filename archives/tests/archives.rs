//! Archives as engines write them, read and written anew.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};

use ksail_archives::{Archive, Blob, Chosen, Error, Gathered, LeadsTo, leads_to, write};
use sha2::{Digest as _, Sha256};

const NAME: &str = "docker.io/library/web:1";
const OTHER: &str = "r.example/other:2";

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn hex(bytes: &[u8]) -> String {
    digest(bytes).replace("sha256:", "")
}

/// A file with a tar of these; a text that begins with `->` is a link.
fn packed(entries: &[(String, Vec<u8>)]) -> File {
    let mut tar = tar::Builder::new(tempfile::tempfile().unwrap());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        if let Some(to) = bytes.strip_prefix(b"->") {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, name, std::str::from_utf8(to).unwrap()).unwrap();
        } else {
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
        }
    }
    let mut file = tar.into_inner().unwrap();
    file.rewind().unwrap();
    file
}

fn entry(name: impl Into<String>, bytes: impl AsRef<[u8]>) -> (String, Vec<u8>) {
    (name.into(), bytes.as_ref().to_vec())
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    serde_json::to_vec(&serde_json::json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}})).unwrap()
}

/// Two images that share a layer, as engines before Docker 25 save them: the layer that was written already is a link.
fn saved() -> File {
    let (base, web, other) = (b"base".as_slice(), b"web".as_slice(), b"other".as_slice());
    let (first, second) = (config(&[base, web]), config(&[base, other]));
    let manifest = serde_json::json!([
        {"Config": format!("{}.json", hex(&first)), "RepoTags": ["web:1"], "Layers": ["a/layer.tar", "b/layer.tar"]},
        {"Config": format!("{}.json", hex(&second)), "RepoTags": [OTHER], "Layers": ["c/layer.tar", "d/layer.tar"]},
    ]);
    packed(&[
        entry("a/layer.tar", base),
        entry("b/layer.tar", web),
        entry("c/layer.tar", "->../a/layer.tar"),
        entry("d/layer.tar", other),
        entry(format!("{}.json", hex(&first)), &first),
        entry(format!("{}.json", hex(&second)), &second),
        entry("manifest.json", manifest.to_string()),
    ])
}

fn read(file: File) -> Archive {
    Archive::read(file, "x86_64").unwrap()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn names(bytes: &[u8]) -> Vec<String> {
    let mut tar = tar::Archive::new(bytes);
    tar.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

#[test]
fn what_an_engine_saved_becomes_a_layout_in_which_blobs_stand_once() {
    let archive = read(saved());
    assert_eq!(archive.images().keys().collect::<Vec<_>>(), [NAME, OTHER]);
    let all = [NAME, OTHER].map(|name| Chosen { archive: &archive, from: name, name });
    let bytes = write(&all, Vec::new()).unwrap();
    let names = names(&bytes);
    assert_eq!(names[..3], ["oci-layout", "index.json", "manifest.json"]);
    // Three layers, two configurations, two manifests.
    assert_eq!(names.len(), 3 + 7, "{names:?}");
    let again = read(file_of(&bytes));
    for name in [NAME, OTHER] {
        assert_eq!(again.image(name).unwrap().digest(), archive.image(name).unwrap().digest());
        assert_eq!(again.image(name).unwrap().config_digest(), archive.image(name).unwrap().config_digest());
    }
    let all = [NAME, OTHER].map(|name| Chosen { archive: &again, from: name, name });
    assert_eq!(write(&all, Vec::new()).unwrap(), bytes, "the same images are the same bytes");
}

#[test]
fn one_image_alone_goes_under_the_name_that_is_wanted() {
    let archive = read(saved());
    let bytes = write(&[Chosen { archive: &archive, from: OTHER, name: "docker.io/library/x:3" }], Vec::new()).unwrap();
    let again = read(file_of(&bytes));
    assert_eq!(again.images().keys().collect::<Vec<_>>(), ["docker.io/library/x:3"]);
    assert_eq!(names(&bytes).len(), 3 + 4);
    let mut index = String::new();
    let mut tar = tar::Archive::new(bytes.as_slice());
    tar.entries().unwrap().nth(1).unwrap().unwrap().read_to_string(&mut index).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "docker.io/library/x:3");
    let missing = write(&[Chosen { archive: &archive, from: "gone:1", name: "gone:1" }], Vec::new());
    assert!(matches!(missing, Err(Error::NotHeld(name)) if name == "gone:1"));
}

#[test]
fn a_layer_that_is_not_what_its_image_says_is_refused() {
    let layer = b"as it was".as_slice();
    let config = config(&[layer]);
    let manifest = serde_json::json!([{"Config": "c.json", "RepoTags": ["web:1"], "Layers": ["l.tar"]}]).to_string();
    let torn = packed(&[entry("c.json", &config), entry("l.tar", "as it is!"), entry("manifest.json", manifest)]);
    let archive = read(torn);
    let error = write(&[Chosen { archive: &archive, from: NAME, name: NAME }], Vec::new()).unwrap_err().to_string();
    assert!(error.contains(&digest(layer)) && error.contains("is not what it should be"), "{error}");
}

#[test]
fn packed_layers_are_known_by_what_lies_there() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"a layer").unwrap();
    let layer = gzip.finish().unwrap();
    let config = config(&[b"a layer"]);
    let manifest = serde_json::json!([{"Config": "c.json", "RepoTags": ["web:1"], "Layers": ["l.tar"]}]).to_string();
    let archive = read(packed(&[entry("c.json", &config), entry("l.tar", &layer), entry("manifest.json", manifest)]));
    let bytes = write(&[Chosen { archive: &archive, from: NAME, name: NAME }], Vec::new()).unwrap();
    assert!(names(&bytes).contains(&format!("blobs/sha256/{}", hex(&layer))));
}

/// A layout with an index of two platforms, of which only one is there, as engines save what they pulled.
#[test]
fn of_several_platforms_the_one_that_is_there_is_taken() {
    let layer = b"a layer".as_slice();
    let config = config(&[layer]);
    let of = |bytes: &[u8]| serde_json::json!({"mediaType": "x", "digest": digest(bytes), "size": bytes.len()});
    let manifest = serde_json::json!({"schemaVersion": 2, "config": of(&config), "layers": [of(layer)]}).to_string();
    let mut there = of(manifest.as_bytes());
    there["platform"] = serde_json::json!({"os": "linux", "architecture": "arm64"});
    let mut away = of(b"another");
    away["platform"] = serde_json::json!({"os": "linux", "architecture": "amd64"});
    let list = serde_json::json!({"schemaVersion": 2, "manifests": [away, there]}).to_string();
    let mut named = of(list.as_bytes());
    named["mediaType"] = "application/vnd.oci.image.index.v1+json".into();
    named["annotations"] = serde_json::json!({"io.containerd.image.name": NAME});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [named]}).to_string();
    let blob = |bytes: &[u8]| entry(format!("./blobs/sha256/{}", hex(bytes)), bytes);
    let archive = read(packed(&[
        entry("./index.json", index),
        blob(list.as_bytes()),
        blob(manifest.as_bytes()),
        blob(&config),
        blob(layer),
    ]));
    assert_eq!(archive.image(NAME).unwrap().digest(), digest(manifest.as_bytes()));
    assert_eq!(archive.image(NAME).unwrap().config_digest(), digest(&config));
}

#[test]
fn what_is_no_archive_of_images_says_so() {
    let refused = |file: File| Archive::read(file, "x86_64").err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused(packed(&[entry("a", "b")])).contains("neither manifest.json nor index.json"));
    assert!(refused(packed(&[entry("manifest.json", "[]")])).contains("no names"));
    assert!(refused(packed(&[entry("manifest.json", "{")])).starts_with("manifest.json: "));
    let lacks = r#"[{"Config": "c.json", "RepoTags": ["a:1"], "Layers": []}]"#;
    assert!(refused(packed(&[entry("manifest.json", lacks)])).contains("the configuration of `docker.io/library/a:1`"));
    assert!(refused(file_of(&[0x1f, 0x8b, 8])).contains("gunzip"));
    assert!(refused(file_of(&[7; 2048])).contains("cannot be read"));
}

/// An index of two platforms of which this one is there, with all blobs.
struct Listed {
    index: Vec<u8>,
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

fn listed() -> Listed {
    let layer = b"a layer".to_vec();
    let config = config(&[&layer]);
    let of = |bytes: &[u8]| serde_json::json!({"mediaType": "x", "digest": digest(bytes), "size": bytes.len()});
    let manifest = serde_json::json!({"schemaVersion": 2, "config": of(&config), "layers": [of(&layer)]}).to_string();
    let mut there = of(manifest.as_bytes());
    there["platform"] = serde_json::json!({"os": "linux", "architecture": "amd64"});
    let mut away = of(b"another");
    away["platform"] = serde_json::json!({"os": "linux", "architecture": "arm64"});
    let mut told = of(b"how it was built");
    told["platform"] = serde_json::json!({"os": "unknown", "architecture": "unknown"});
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": LIST, "manifests": [told, away, there]});
    Listed { index: index.to_string().into_bytes(), manifest: manifest.into_bytes(), config, layer }
}

const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Gathers it as it would come from a registry.
fn gathered(listed: &Listed, name: &str) -> Archive {
    let mut archive = Gathered::default();
    let mut bytes = Vec::new();
    let mut put = |archive: &mut Gathered, content: &[u8]| {
        let blob = Blob { digest: digest(content), size: content.len() as u64 };
        let before = archive.begin(&blob);
        if let Some(before) = &before {
            bytes.extend_from_slice(before);
            bytes.extend_from_slice(content);
            bytes.extend(Gathered::end(&blob));
        }
        assert_eq!(archive.begin(&blob), None, "it is there now");
        blob
    };
    let root = put(&mut archive, &listed.index);
    archive.name(name, &root, &listed.index);
    let manifest = put(&mut archive, &listed.manifest);
    assert_eq!(leads_to(&listed.index, "x86_64").unwrap(), LeadsTo::Platform(manifest));
    let blobs = vec![put(&mut archive, &listed.config), put(&mut archive, &listed.layer)];
    assert_eq!(leads_to(&listed.manifest, "x86_64").unwrap(), LeadsTo::Blobs(blobs));
    bytes.extend(archive.finish().unwrap());
    read(file_of(&bytes))
}

#[test]
fn an_image_that_is_named_by_the_digest_of_an_index_keeps_the_index() {
    let listed = listed();
    let name = format!("r.example/web:1@{}", digest(&listed.index));
    let archive = gathered(&listed, &name);
    let canonical = format!("r.example/web@{}", digest(&listed.index));
    assert_eq!(archive.images().keys().collect::<Vec<_>>(), [&canonical]);
    let image = archive.image(&name).unwrap();
    assert_eq!((image.digest(), image.has_index()), (digest(&listed.index).as_str(), true));
    // Written anew it is the same, under that name only, and what an engine reads of it has no name.
    let other = format!("docker.io/mirrored/web@{}", digest(&listed.index));
    let bytes = write(&[Chosen { archive: &archive, from: &name, name: &other }], Vec::new()).unwrap();
    assert_eq!(names(&bytes).len(), 3 + 4);
    let again = read(file_of(&bytes));
    assert_eq!(again.image(&other).unwrap().digest(), digest(&listed.index));
    assert_eq!(again.image(&other).unwrap().config_digest(), digest(&listed.config));
    assert_eq!(again.images().len(), 1);
    let wrong = format!("r.example/web@{}", digest(b"another"));
    let refused = write(&[Chosen { archive: &archive, from: &name, name: &wrong }], Vec::new());
    assert!(matches!(refused, Err(Error::NotHeld(name)) if name == wrong));
}

#[test]
fn by_the_digest_of_its_manifest_it_needs_no_index() {
    let listed = listed();
    let archive = gathered(&listed, "r.example/web:1");
    // By a tag it is known by its manifest, whatever leads there.
    let image = archive.image("r.example/web:1").unwrap();
    assert_eq!((image.digest(), image.has_index()), (digest(&listed.manifest).as_str(), false));
    let name = format!("r.example/web@{}", digest(&listed.manifest));
    let bytes = write(&[Chosen { archive: &archive, from: "r.example/web:1", name: &name }], Vec::new()).unwrap();
    assert_eq!(read(file_of(&bytes)).image(&name).unwrap().digest(), digest(&listed.manifest));
    assert_eq!(names(&bytes).len(), 3 + 3);
}

#[test]
fn a_name_that_is_a_digest_must_be_that_of_the_image() {
    let listed = listed();
    let (named, wanted) = (digest(&listed.index), digest(b"another"));
    let root = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": LIST, "digest": named, "size": listed.index.len(),
        "annotations": {"io.containerd.image.name": format!("r.example/web@{wanted}")},
    }]});
    let blob = |bytes: &[u8]| entry(format!("blobs/sha256/{}", hex(bytes)), bytes);
    let blobs = [&listed.index, &listed.manifest, &listed.config, &listed.layer].map(|bytes| blob(bytes));
    let mut entries = vec![entry("index.json", root.to_string())];
    entries.extend(blobs);
    let error = Archive::read(packed(&entries), "x86_64").err().unwrap().to_string();
    assert!(error.contains(&named) && error.contains(&wanted), "{error}");
}

#[test]
fn an_index_without_this_platform_says_so() {
    let listed = listed();
    let error = leads_to(&listed.index, "s390x").unwrap_err().to_string();
    assert!(error.contains("no image for linux on s390x"), "{error}");
    assert!(leads_to(b"{}", "x86_64").is_err());
}
