//! The distribution interface.

use serde_json::Value;

use crate::harness::{Client, Engine, OCI_MANIFEST, config, digest, manifest};

async fn json(reply: reqwest::Response) -> Value {
    serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap()
}

async fn code(reply: reqwest::Response) -> String {
    json(reply).await["errors"][0]["code"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn push_pull_list_and_delete() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path()).await;
    let client = Client::new(engine.registry("reg", &[]).await);
    let base = client.get("/v2/").await;
    assert_eq!(base.headers()["Docker-Distribution-Api-Version"], "registry/2.0");
    let (image, layer) = client.push_image("a/b", "v1", b"layer one").await;
    client.push_image("a/b", "v2", b"layer two").await;
    client.push_image("c", "latest", b"layer one").await;

    let by_tag = client.get("/v2/a/b/manifests/v1").await;
    assert_eq!(by_tag.headers()["Docker-Content-Digest"], image.as_str());
    assert_eq!(by_tag.headers()["Content-Type"], OCI_MANIFEST);
    assert_eq!(digest(&by_tag.bytes().await.unwrap()), image);
    let head = client.http.head(client.url(&format!("/v2/a/b/manifests/{image}"))).send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert!(head.headers()["Content-Length"].to_str().unwrap().parse::<u64>().unwrap() > 0);

    assert_eq!(json(client.get("/v2/a/b/tags/list").await).await["tags"], serde_json::json!(["v1", "v2"]));
    let page = client.get("/v2/a/b/tags/list?n=1").await;
    assert!(page.headers()["Link"].to_str().unwrap().contains("last=v1"));
    assert_eq!(json(page).await["tags"], serde_json::json!(["v1"]));
    assert_eq!(json(client.get("/v2/_catalog").await).await["repositories"], serde_json::json!(["a/b", "c"]));

    let blob = format!("/v2/a/b/blobs/{layer}");
    assert_eq!(client.get(&blob).await.bytes().await.unwrap(), "layer one");
    let part = client.http.get(client.url(&blob)).header("Range", "bytes=6-").send().await.unwrap();
    assert_eq!((part.status().as_u16(), part.headers()["Content-Range"].to_str().unwrap()), (206, "bytes 6-8/9"));
    assert_eq!(part.bytes().await.unwrap(), "one");
    let beyond = client.http.get(client.url(&blob)).header("Range", "bytes=99-").send().await.unwrap();
    assert_eq!(beyond.status(), 416);

    let delete = async |path: &str| client.http.delete(client.url(path)).send().await.unwrap();
    assert_eq!(delete("/v2/a/b/manifests/v2").await.status(), 202);
    assert_eq!(code(client.get("/v2/a/b/manifests/v2").await).await, "MANIFEST_UNKNOWN");
    assert_eq!(delete(&format!("/v2/a/b/manifests/{image}")).await.status(), 202);
    assert_eq!(client.get("/v2/a/b/manifests/v1").await.status(), 404, "its tags go with a manifest");
    assert_eq!(delete(&blob).await.status(), 202);
    assert_eq!(code(client.get(&blob).await).await, "BLOB_UNKNOWN");
    assert_eq!(client.get(&format!("/v2/c/blobs/{layer}")).await.status(), 200, "another repository keeps it");
    assert_eq!(code(client.get("/v2/none/tags/list").await).await, "NAME_UNKNOWN");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_in_chunks_resume_mount_and_are_verified() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path()).await;
    let client = Client::new(engine.registry("reg", &["REGISTRY_STORAGE_DELETE_ENABLED=false"]).await);
    let begin = async || {
        let reply = client.http.post(client.url("/v2/x/blobs/uploads/")).send().await.unwrap();
        assert_eq!(reply.status(), 202);
        reply.headers()["Location"].to_str().unwrap().to_owned()
    };
    let patch = async |location: &str, range: &str, body: &'static str| {
        let request = client.http.patch(client.url(location)).header("Content-Range", range).body(body);
        request.send().await.unwrap()
    };
    let location = begin().await;
    let reply = patch(&location, "0-4", "hello").await;
    assert_eq!((reply.status().as_u16(), reply.headers()["Range"].to_str().unwrap()), (202, "0-4"));
    assert_eq!(patch(&location, "7-9", "bad").await.status(), 416, "a gap");
    assert_eq!(client.get(&location).await.headers()["Range"], "0-4");
    assert_eq!(patch(&location, "5-10", " world").await.status(), 202);
    let wanted = digest(b"hello world!");
    let finish = async |location: &str, digest: &str, body: &'static str| {
        client.http.put(client.url(&format!("{location}?digest={digest}"))).body(body).send().await.unwrap()
    };
    let reply = finish(&location, &wanted, "!").await;
    assert_eq!(
        (reply.status().as_u16(), reply.headers()["Docker-Content-Digest"].to_str().unwrap()),
        (201, wanted.as_str())
    );
    assert_eq!(client.get(&format!("/v2/x/blobs/{wanted}")).await.bytes().await.unwrap(), "hello world!");
    assert_eq!(client.get(&location).await.status(), 404, "a finished upload is gone");

    let location = begin().await;
    assert_eq!(code(finish(&location, &wanted, "something else").await).await, "DIGEST_INVALID");
    assert_eq!(client.get(&location).await.status(), 404, "a wrong upload is gone");
    let other = location.replace("/v2/x/", "/v2/y/");
    assert_eq!(client.get(&other).await.status(), 404, "an upload belongs to its repository");
    assert!(!client.get("/v2/x/blobs/uploads/..%2f..%2fx").await.status().is_success());
    let location = begin().await;
    assert_eq!(client.http.delete(client.url(&location)).send().await.unwrap().status(), 204);
    assert_eq!(client.get(&location).await.status(), 404);

    let mount = async |from: &str| {
        let url = client.url(&format!("/v2/y/blobs/uploads/?mount={wanted}&from={from}"));
        client.http.post(url).send().await.unwrap().status().as_u16()
    };
    assert_eq!((mount("none").await, mount("x").await), (202, 201));
    assert_eq!(client.get(&format!("/v2/y/blobs/{wanted}")).await.status(), 200);
    let reply = client.http.delete(client.url(&format!("/v2/y/blobs/{wanted}"))).send().await.unwrap();
    assert_eq!((reply.status().as_u16(), code(reply).await.as_str()), (405, "UNSUPPORTED"));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_are_checked_and_referrers_listed() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path()).await;
    let client = Client::new(engine.registry("reg", &[]).await);
    let (image, layer) = client.push_image("r", "v1", b"layer").await;
    let config_digest = digest(&config());
    let missing = manifest((&config_digest, 1), (&digest(b"nowhere"), 1), None);
    assert_eq!(code(client.put_manifest("r", "bad", missing).await).await, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(code(client.put_manifest("r", "bad", b"{}".to_vec()).await).await, "MANIFEST_INVALID");
    assert_eq!(code(client.put_manifest("r", &digest(b"x"), b"y".to_vec()).await).await, "DIGEST_INVALID");
    assert_eq!(code(client.put_manifest("R", "v1", b"y".to_vec()).await).await, "NAME_INVALID");
    let long = vec![b' '; 5 * 1024 * 1024];
    assert_eq!(client.put_manifest("r", "long", long).await.status(), 413);

    let referrer = manifest((&config_digest, config().len()), (&layer, 5), Some(&image));
    let reply = client.put_manifest("r", &digest(&referrer), referrer.clone()).await;
    assert_eq!((reply.status().as_u16(), reply.headers()["OCI-Subject"].to_str().unwrap()), (201, image.as_str()));
    let list = json(client.get(&format!("/v2/r/referrers/{image}")).await).await;
    assert_eq!(list["manifests"][0]["digest"], digest(&referrer));
    assert_eq!(list["manifests"][0]["artifactType"], "application/x.test");
    let none = client.get(&format!("/v2/r/referrers/{image}?artifactType=other")).await;
    assert_eq!(none.headers()["OCI-Filters-Applied"], "artifactType");
    assert_eq!(json(none).await["manifests"], serde_json::json!([]));
    let none = json(client.get(&format!("/v2/r/referrers/{}", digest(b"?"))).await).await;
    assert_eq!(none["manifests"], serde_json::json!([]));
    engine.stop().await;
}
