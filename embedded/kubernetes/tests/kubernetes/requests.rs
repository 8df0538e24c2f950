//! Requests that no client should make: each is answered, and nothing becomes of it.

use serde_json::json;

use crate::harness::Served;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_object_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::open(folder.path()).await;
    let client = &served.client;
    let made = client.post(MAPS, &json!({"metadata": {"name": "m"}, "data": {"a": "b"}})).await;
    assert_eq!(made.code, 201, "{made:?}");
    let path = format!("{MAPS}/m");
    let json_patch = |at: &str, value: serde_json::Value| json!([{"op": "replace", "path": at, "value": value}]);
    for no_object in [json!([1]), json!("x"), json!(5), json!(true), json!(null)] {
        for (method, at) in [("POST", MAPS), ("PUT", path.as_str()), ("DELETE", path.as_str())] {
            let answer = client.ask(method, at, "application/json", Some(&no_object)).await;
            assert_eq!(
                (answer.code, &answer.body["kind"]),
                (400, &"Status".into()),
                "{method} {no_object}: {answer:?}"
            );
        }
        let patches = [
            ("merge-patch+json", no_object.clone()),
            ("merge-patch+json", json!({"metadata": no_object})),
            ("strategic-merge-patch+json", no_object.clone()),
            ("json-patch+json", json_patch("", no_object.clone())),
            ("json-patch+json", json_patch("/metadata", no_object.clone())),
            ("apply-patch+yaml", no_object.clone()),
        ];
        for (of, patch) in patches {
            let of = format!("application/{of}");
            let at = format!("{path}?fieldManager=t");
            let answer = client.ask("PATCH", &at, &of, Some(&patch)).await;
            assert!((400..500).contains(&answer.code), "{of} {patch}: {answer:?}");
        }
    }
    assert_eq!(client.get(&path).await.body, made.body, "it is as it was");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_that_is_misspelt_is_no_write() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::open(folder.path()).await;
    let client = &served.client;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}});
    client.post(MAPS, &map).await;
    let path = format!("{MAPS}/m");
    let of = "application/apply-patch+yaml";
    for (method, at, of) in [
        ("POST", MAPS, "application/json"),
        ("PUT", path.as_str(), "application/json"),
        ("PATCH", path.as_str(), of),
        ("DELETE", path.as_str(), "application/json"),
    ] {
        let body = (method != "DELETE").then(|| {
            let mut body = map.clone();
            body["metadata"]["labels"] = json!({"changed": "yes"});
            body
        });
        let answer = client.ask(method, &format!("{at}?dryRun=all&fieldManager=t"), of, body.as_ref()).await;
        assert_eq!((answer.code, &answer.body["details"]["causes"][0]["field"]), (422, &"dryRun".into()), "{answer:?}");
    }
    let found = client.get(&path).await;
    assert_eq!((found.code, &found.body["metadata"]["labels"]), (200, &serde_json::Value::Null));
    served.stop().await;
}
