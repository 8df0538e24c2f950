//! Nodes as kubelets make them: taints of ours among those of others.

use ksail_model::{Address, Observation, Path, Preview, Value};
use ksail_provider::Target;
use serde_json::{Value as Json, json};

use crate::cluster::Cluster;

/// How often somebody else changes the node while its taints are written.
const CHANGES: usize = 30;

/// A node that a kubelet has registered, and its declaration with some taints.
struct Node<'a> {
    cluster: &'a Cluster,
    name: String,
    path: String,
}

impl<'a> Node<'a> {
    async fn registered(cluster: &'a Cluster, name: &str, taints: Json) -> Self {
        let name = cluster.name(name);
        let node = Self { cluster, path: format!("/api/v1/nodes/{name}"), name };
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name},
            "spec": {"providerID": node.id(), "taints": taints}});
        cluster.post("/api/v1/nodes", "kubelet", &object).await;
        node
    }

    fn id(&self) -> String {
        format!("kind://docker/x/{}", self.name)
    }

    fn declared(&self, taints: Json) -> Target {
        let manifest = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name},
            "spec": {"providerID": self.id(), "taints": taints}});
        Target { address: Address::new("dev", "node", &["worker-0"]), ..self.cluster.target(&manifest) }
    }

    /// The taints by key and value, without those by which the cluster says that no kubelet reports.
    async fn taints(&self) -> Vec<String> {
        let live = self.cluster.get(&self.path).await.expect("the node");
        let taints = live["spec"]["taints"].as_array().cloned().unwrap_or_default();
        let text = |taint: &Json| {
            format!("{}={}", taint["key"].as_str().unwrap_or_default(), taint["value"].as_str().unwrap_or_default())
        };
        taints.iter().map(text).filter(|taint| !taint.starts_with("node.kubernetes.io/")).collect()
    }
}

fn seen(fields: &Value) -> Json {
    fields.get(&Path::parse("spec.taints").unwrap()).map(Value::to_plain_json).unwrap_or_default()
}

#[tokio::test]
async fn taints_of_ours_come_change_are_mended_and_go_and_those_of_others_stay() {
    let Some(cluster) = Cluster::real().await else { return };
    let theirs = json!({"key": "theirs", "effect": "NoSchedule"});
    let gpu = |value: &str| json!({"key": "gpu", "value": value, "effect": "NoSchedule"});
    let node = Node::registered(&cluster, "tainted", json!([theirs, gpu("a")])).await;
    let target = node.declared(json!([gpu("a")]));
    assert_eq!(cluster.observe(&target).await, Observation::Absent, "not marked yet");
    let made = cluster.create(&target).await.unwrap().seen;
    assert_eq!(seen(&made.fields), json!([gpu("a")]));
    assert_eq!(cluster.seen(&target).await.fields, made.fields);
    assert!(made.others.iter().all(|others| !others.owner.starts_with("ksail")), "{:?}", made.others);
    match cluster.preview(&target, Some(&made)).await {
        Preview::Accepted { fields } => assert_eq!(fields, made.fields),
        other => panic!("{other:?}"),
    }

    // Another value, and one more.
    let more = json!({"key": "more", "effect": "NoSchedule"});
    let target = node.declared(json!([gpu("b"), more]));
    match cluster.preview(&target, Some(&made)).await {
        Preview::Accepted { fields } => assert_eq!(seen(&fields), json!([gpu("b"), more])),
        other => panic!("{other:?}"),
    }
    let made = cluster.update(&target, &made, &["spec.taints"]).await.unwrap().seen;
    assert_eq!(seen(&made.fields), json!([gpu("b"), more]));
    assert_eq!(node.taints().await, ["theirs=", "gpu=b", "more="]);

    // Somebody takes one away and adds one: the first is missed, the other is none of ours.
    let by_hand = json!({"spec": {"taints": [theirs, gpu("b"), {"key": "by-hand", "effect": "NoSchedule"}]}});
    cluster.merge(&node.path, "kubectl-taint", &by_hand).await;
    let now = cluster.seen(&target).await;
    assert_eq!(seen(&now.fields), json!([gpu("b")]));
    let made = cluster.update(&target, &now, &["spec.taints"]).await.unwrap().seen;
    assert_eq!(node.taints().await, ["theirs=", "gpu=b", "by-hand=", "more="]);

    // No longer declared: ours is known to be so until it is gone.
    let bare = node.declared(Json::Null);
    let now = cluster.seen(&bare).await;
    assert_eq!(seen(&now.fields), json!([gpu("b"), more]));
    match cluster.preview(&bare, Some(&now)).await {
        Preview::Accepted { fields } => assert_eq!(seen(&fields), Json::Null),
        other => panic!("{other:?}"),
    }
    let made = cluster.update(&bare, &made, &["spec.taints"]).await.unwrap().seen;
    assert_eq!(seen(&made.fields), Json::Null);
    assert_eq!(node.taints().await, ["theirs=", "by-hand="]);
    cluster.delete(&bare, false).await.unwrap();
}

#[tokio::test]
async fn taints_are_written_while_others_change_the_node() {
    let Some(cluster) = Cluster::real().await else { return };
    let node = Node::registered(&cluster, "busy", json!([])).await;
    let target =
        |value: usize| node.declared(json!([{"key": "ours", "value": value.to_string(), "effect": "NoSchedule"}]));
    let mut made = cluster.create(&target(0)).await.unwrap().seen;
    let others = async {
        for change in 0..CHANGES {
            let note = json!({"metadata": {"annotations": {"example.com/change": change.to_string()}}});
            cluster.merge(&node.path, "somebody", &note).await;
        }
    };
    let ours = async {
        for value in 1..=CHANGES / 3 {
            made = cluster.update(&target(value), &made, &["spec.taints"]).await.unwrap().seen;
        }
    };
    futures::join!(others, ours);
    assert_eq!(node.taints().await, [format!("ours={}", CHANGES / 3)]);
    let live = cluster.get(&node.path).await.unwrap();
    assert_eq!(live["metadata"]["annotations"]["example.com/change"], (CHANGES - 1).to_string());
    cluster.delete(&target(CHANGES / 3), false).await.unwrap();
}

#[tokio::test]
async fn a_node_that_others_made_is_imported_with_what_people_put_on_it() {
    let Some(cluster) = Cluster::real().await else { return };
    let node = Node::registered(&cluster, "imported", json!([{"key": "theirs", "effect": "NoSchedule"}])).await;
    let by_hand = json!({"metadata": {"labels": {"by-hand": "x"}}});
    cluster.merge(&node.path, "kubectl-label", &by_hand).await;
    let mut target = node.declared(Json::Null);
    assert_eq!(cluster.observe(&target).await, Observation::Absent, "it is not looked for as what is imported");
    // An import knows it by its name first, then by its id.
    target.id = Some(target.identity.name.clone());
    target.identity.id.clone_from(&target.id);
    let found = cluster.seen(&target).await;
    assert_eq!(found.mark, None);
    assert_eq!(found.fields.get(&Path::parse("metadata.labels").unwrap()), None, "{:?}", found.fields);
    target.id.clone_from(&found.id);
    target.identity.id.clone_from(&found.id);
    let Preview::Accepted { fields } = cluster.preview(&target, Some(&found)).await else { panic!("no preview") };
    let manager = Path::key("fieldManager");
    assert_eq!(
        (found.fields.get(&manager), fields.get(&manager)),
        (Some(&Value::from("kubectl-label")), Some(&Value::from("ksail")))
    );
    let ours = cluster.update(&target, &found, &["fieldManager"]).await.unwrap().seen;
    assert!(ours.mark.is_some());
    assert_eq!(ours.fields, fields);
    let live = cluster.get(&node.path).await.unwrap();
    assert_eq!(live["metadata"]["labels"]["by-hand"], "x");
    assert_eq!(node.taints().await, ["theirs="]);
    cluster.delete(&target, true).await.unwrap();
}
