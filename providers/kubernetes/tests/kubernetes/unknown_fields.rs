//! Fields that a kind does not have: refused by the server, at a plan and at an apply.

use ksail_model::Preview;
use ksail_provider::CallErrorKind;
use serde_json::json;

use crate::cluster::Cluster;

#[tokio::test]
async fn fields_that_a_kind_does_not_have_are_refused() {
    let Some(cluster) = Cluster::real().await else { return };
    let metadata = json!({"name": cluster.name("misspelt"), "namespace": "default"});
    let mut with_more = metadata.clone();
    with_more["anotations"] = json!({"a": "b"});
    let container = json!({"name": "web", "image": "web:1", "imagePullPolcy": "Always"});
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}});
    let manifests = [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}, "daata": {"a": "b"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": with_more, "data": {}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata,
            "spec": {"podSelector": {}, "polcyTypes": ["Ingress"]}}),
    ];
    for manifest in manifests {
        let target = cluster.target(&manifest);
        let error = cluster.create(&target).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::Refused, "{error}");
        assert!(error.message.contains("field not declared in schema"), "{error}");
        let Preview::Refused { message, .. } = cluster.preview(&target, None).await else {
            panic!("{manifest} is foretold");
        };
        assert!(message.contains("field not declared in schema"), "{message}");
    }
}
