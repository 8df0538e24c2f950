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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_token_of_the_cluster_is_told_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::open(folder.path()).await;
    let admin = &served.client;
    for token in [None, Some(""), Some("wrong"), Some("a.b.c")] {
        let nobody = admin.with_token(token);
        assert_eq!(nobody.get("/api/v1/namespaces").await.code, 401, "{token:?}");
        assert_eq!(nobody.post(MAPS, &json!({"metadata": {"name": "m"}})).await.code, 401, "{token:?}");
    }
    assert_eq!(admin.get(&format!("{MAPS}/m")).await.code, 404);

    // A service account has tokens of its own, as long as it is there.
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    admin.post(accounts, &json!({"metadata": {"name": "robot"}})).await;
    let made = admin.post(&format!("{accounts}/robot/token"), &json!({"spec": {}})).await;
    let token = made.body["status"]["token"].as_str().unwrap();
    let robot = admin.with_token(Some(token));
    let review = |token: &str| json!({"spec": {"token": token}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let told = admin.post(reviews, &review(token)).await.body;
    assert_eq!(told["status"]["user"]["username"], "system:serviceaccount:default:robot", "{told}");
    let told = robot.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await.body;
    assert_eq!(told["status"]["userInfo"]["username"], "system:serviceaccount:default:robot", "{told}");
    admin.delete(&format!("{accounts}/robot")).await;
    admin.post(accounts, &json!({"metadata": {"name": "robot"}})).await;
    assert_eq!(robot.get("/api/v1/namespaces").await.code, 401, "another account of the name is not it");
    assert_eq!(admin.post(reviews, &review(token)).await.body["status"]["authenticated"], false);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_made_of_what_they_shall_begin_with() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::open(folder.path()).await;
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let made = served.client.post(MAPS, &json!({"metadata": {"generateName": "part-"}})).await;
        let name = made.body["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.strip_prefix("part-").is_some_and(|rest| rest.len() == 5), "{name}");
        assert_eq!((made.code, &made.body["metadata"]["generateName"]), (201, &"part-".into()));
        assert_eq!(served.client.get(&format!("{MAPS}/{name}")).await.code, 200);
        names.insert(name);
    }
    assert_eq!(names.len(), 20);
    served.stop().await;
}
