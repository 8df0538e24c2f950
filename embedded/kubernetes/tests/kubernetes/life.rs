//! What becomes of objects.

use serde_json::{Value, json};

use crate::harness::Served;

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_goes_with_its_owner_and_stays_when_it_is_orphaned() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::open(folder.path()).await;
    let client = &served.client;
    let maps = "/api/v1/namespaces/default/configmaps";
    for (owner, how) in [("background", "Background"), ("foreground", "Foreground"), ("orphaned", "Orphan")] {
        let made = client.post(maps, &json!({"metadata": {"name": owner}})).await;
        let reference = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": made.body["metadata"]["uid"], "blockOwnerDeletion": true}]);
        let child = format!("{owner}-child");
        client.post(maps, &json!({"metadata": {"name": child, "ownerReferences": reference}})).await;
        let options = json!({"propagationPolicy": how});
        client.ask("DELETE", &format!("{maps}/{owner}"), "application/json", Some(&options)).await;
        client.until(&format!("{maps}/{owner}"), |answer| answer.code == 404).await;
        if how == "Orphan" {
            let left = client.get(&format!("{maps}/{child}")).await;
            assert_eq!((left.code, &left.body["metadata"]["ownerReferences"]), (200, &Value::Null));
        } else {
            client.until(&format!("{maps}/{child}"), |answer| answer.code == 404).await;
        }
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_is_served_pruned_defaulted_and_judged() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::open(folder.path()).await;
    let client = &served.client;
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1}, "color": {"type": "string", "default": "red", "enum": ["red", "blue"]},
        }},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
        "versions": [version("v1", true), version("v1beta1", false)],
    }});
    let made = client.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    assert_eq!(made.code, 201, "{:?}", made.body);
    let things = "/apis/example.com/v1/namespaces/default/things";
    let thing = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"size": 2, "unknown": 1}, "status": {"x": 1}});
    let made = client.post(things, &thing).await;
    assert_eq!(made.code, 201, "{:?}", made.body);
    assert_eq!(made.body["spec"], json!({"size": 2, "color": "red"}));
    assert_eq!(made.body.get("status"), None);
    let beta = client.get("/apis/example.com/v1beta1/namespaces/default/things/t").await;
    assert_eq!(beta.body["apiVersion"], "example.com/v1beta1");
    let wrong = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "w"}, "spec": {"size": 0, "color": "green"}});
    let refused = client.post(things, &wrong).await;
    assert_eq!(refused.code, 422);
    let causes = refused.body["details"]["causes"].as_array().unwrap();
    let fields: Vec<&Value> = causes.iter().map(|cause| &cause["field"]).collect();
    assert_eq!(fields, ["spec.color", "spec.size"]);
    served.stop().await;
    // Another life of the process serves it from the start.
    let served = Served::open(folder.path()).await;
    assert_eq!(served.client.get(&format!("{things}/t")).await.code, 200);
    served.client.delete("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.com").await;
    served.client.until(&format!("{things}/t"), |answer| answer.code == 404).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_that_keeps_what_it_does_not_know_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::open(folder.path()).await;
    let client = &served.client;
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({"metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    client.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    let things = "/apis/example.com/v1/namespaces/default/things";
    let thing =
        json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"size": [2]}});
    let made = client.post(things, &thing).await;
    assert_eq!(made.body["spec"], json!({"size": [2]}), "{made:?}");
    // All fields of a type, as clients of typed languages send them.
    let mut update = made.body.clone();
    update["metadata"]["uid"] = "".into();
    update["metadata"]["resourceVersion"] = "".into();
    update["spec"]["size"] = 3.into();
    let updated = client.ask("PUT", &format!("{things}/t"), "application/json", Some(&update)).await;
    assert_eq!((updated.code, &updated.body["metadata"]["uid"]), (200, &made.body["metadata"]["uid"]), "{updated:?}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_in_pages_is_of_one_moment() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::open(folder.path()).await;
    let client = &served.client;
    let maps = "/api/v1/namespaces/default/configmaps";
    for index in 0..5 {
        client.post(maps, &json!({"metadata": {"name": format!("m{index}"), "labels": {"paged": "x"}}})).await;
    }
    let first = client.get(&format!("{maps}?limit=2&labelSelector=paged%3Dx")).await.body;
    client.post(maps, &json!({"metadata": {"name": "m9", "labels": {"paged": "x"}}})).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = client.get(&format!("{maps}?limit=20&labelSelector=paged%3Dx&continue={token}")).await.body;
    let names = |list: &Value| -> Vec<String> {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&first), ["m0", "m1"]);
    assert_eq!(names(&rest), ["m2", "m3", "m4"]);
    assert_eq!(first["metadata"]["resourceVersion"], rest["metadata"]["resourceVersion"]);
    assert_eq!(client.get(&format!("{maps}?continue=ksail-99")).await.code, 410);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workloads_of_all_kinds_come_to_life_and_go_with_their_node() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::open(folder.path()).await;
    let client = &served.client;
    client.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await;
    let template = |app: &str, more: Value| {
        let mut spec = json!({"containers": [{"name": "a", "image": "x"}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"metadata": {"labels": {"app": app}}, "spec": spec})
    };
    let selector = |app: &str| json!({"matchLabels": {"app": app}});
    let apps = "/apis/apps/v1/namespaces/default";
    let claims = json!([{"metadata": {"name": "d"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
    let mounted =
        json!({"containers": [{"name": "a", "image": "x", "volumeMounts": [{"name": "d", "mountPath": "/d"}]}]});
    let numbered = json!({"metadata": {"name": "db"}, "spec": {"serviceName": "db", "replicas": 2, "selector": selector("db"), "template": template("db", mounted), "volumeClaimTemplates": claims}});
    let everywhere = json!({"metadata": {"name": "agent"}, "spec": {"selector": selector("agent"), "template": template("agent", json!({}))}});
    let once = json!({"metadata": {"name": "once"}, "spec": {"completions": 3, "parallelism": 2, "template": {"spec": template("", json!({"restartPolicy": "Never"}))["spec"]}}});
    let service = json!({"metadata": {"name": "db"}, "spec": {"type": "LoadBalancer", "selector": {"app": "db"}, "ports": [{"port": 80}]}});
    for (path, object) in [
        (format!("{apps}/statefulsets"), numbered),
        (format!("{apps}/daemonsets"), everywhere),
        ("/apis/batch/v1/namespaces/default/jobs".to_owned(), once),
        ("/api/v1/namespaces/default/services".to_owned(), service),
    ] {
        let made = client.post(&path, &object).await;
        assert_eq!(made.code, 201, "{path}: {:?}", made.body);
    }
    let status = |field: &'static str, wanted: i64| {
        move |answer: &crate::harness::Answer| answer.body["status"][field] == wanted
    };
    client.until(&format!("{apps}/statefulsets/db"), status("readyReplicas", 2)).await;
    client.until(&format!("{apps}/daemonsets/agent"), status("numberReady", 1)).await;
    client.until("/apis/batch/v1/namespaces/default/jobs/once", status("succeeded", 3)).await;
    let bound = |answer: &crate::harness::Answer| answer.body["status"]["phase"] == "Bound";
    client.until("/api/v1/namespaces/default/persistentvolumeclaims/d-db-1", bound).await;
    let addressed =
        |answer: &crate::harness::Answer| answer.body["status"]["loadBalancer"]["ingress"][0]["ip"].is_string();
    client.until("/api/v1/namespaces/default/services/db", addressed).await;
    let both = |answer: &crate::harness::Answer| {
        answer.body["subsets"][0]["addresses"].as_array().is_some_and(|list| list.len() == 2)
    };
    client.until("/api/v1/namespaces/default/endpoints/db", both).await;
    client.delete("/api/v1/nodes/n").await;
    client.until(&format!("{apps}/daemonsets/agent"), status("desiredNumberScheduled", 0)).await;
    // Their owner makes them anew, and they wait for a node.
    let waits = |answer: &crate::harness::Answer| {
        answer.body["status"]["conditions"][0]["reason"] == "Unschedulable" && answer.body["spec"]["nodeName"].is_null()
    };
    client.until(&format!("{PODS}/db-0"), waits).await;
    let options = json!({"propagationPolicy": "Foreground"});
    client.ask("DELETE", &format!("{apps}/statefulsets/db"), "application/json", Some(&options)).await;
    client.until(&format!("{apps}/statefulsets/db"), |answer| answer.code == 404).await;
    assert_eq!(client.get(&format!("{PODS}/db-0")).await.code, 404);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_held_says_by_what() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::open(folder.path()).await;
    let client = &served.client;
    client.post("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}})).await;
    let held = |name: &str, finalizers: Value| json!({"metadata": {"name": name, "finalizers": finalizers}});
    let (maps, secrets) = ("/api/v1/namespaces/shop/configmaps", "/api/v1/namespaces/shop/secrets");
    client.post(maps, &held("a", json!(["example.com/a"]))).await;
    client.post(secrets, &held("a", json!(["example.com/a", "example.com/b"]))).await;
    client.delete("/api/v1/namespaces/shop").await;
    let waits = |wanted: &'static str| {
        move |answer: &crate::harness::Answer| answer.body["status"]["conditions"].to_string().contains(wanted)
    };
    let both = "configmaps. has 1 resource instances, secrets. has 1 resource instances";
    let answer = client.until("/api/v1/namespaces/shop", waits(both)).await;
    assert_eq!(answer.body["status"]["phase"], "Terminating");
    let held = "example.com/a in 2 resource instances, example.com/b in 1 resource instances";
    assert!(waits(held)(&answer), "{answer:?}");
    let free = json!({"metadata": {"finalizers": null}});
    client.ask("PATCH", &format!("{secrets}/a"), "application/merge-patch+json", Some(&free)).await;
    client.until("/api/v1/namespaces/shop", waits("remaining: configmaps. has 1 resource instances")).await;
    client.ask("PATCH", &format!("{maps}/a"), "application/merge-patch+json", Some(&free)).await;
    client.until("/api/v1/namespaces/shop", |answer| answer.code == 404).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_leave_a_node_by_taints_that_they_do_not_bear() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::open(folder.path()).await;
    let client = &served.client;
    client.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await;
    let pod = |name: &str, tolerations: Value| json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "x"}], "tolerations": tolerations}});
    let bears = |seconds: Value| json!([{"key": "gone", "operator": "Exists", "tolerationSeconds": seconds}]);
    for (name, tolerations) in [("none", json!([])), ("soon", bears(json!(1))), ("all", bears(Value::Null))] {
        client.post(PODS, &pod(name, tolerations)).await;
        client.until(&format!("{PODS}/{name}"), |answer| answer.body["status"]["phase"] == "Running").await;
    }
    let taints = json!({"spec": {"taints": [{"key": "gone", "effect": "NoExecute"}]}});
    client.ask("PATCH", "/api/v1/nodes/n", "application/merge-patch+json", Some(&taints)).await;
    client.until(&format!("{PODS}/none"), |answer| answer.code == 404).await;
    client.until(&format!("{PODS}/soon"), |answer| answer.code == 404).await;
    assert_eq!(client.get(&format!("{PODS}/all")).await.body["status"]["phase"], "Running");
    served.stop().await;
}
