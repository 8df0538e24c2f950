//! The contract's suite on a real API server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ksail_conformance::suite::{Breakage, Case, Change, Gap, Limits, Outside, Setup, Subject, Way, run_way};
use ksail_model::{Fingerprint, Identity, Mark, Path, Secret, Value};
use ksail_provider::{Provider, SecretText, Target};
use ksail_provider_kubernetes::{Connection, KubernetesProvider};
use serde_json::{Value as Json, json};

use crate::cluster::{Cluster, connection, spec};

const PASSWORD: &str = "hush-hush-hush";
/// The seed of the injected faults.
const SEED: u64 = 0x006b_7361_696c;

/// One kind of object.
struct OneKind {
    cluster: Cluster,
    kind: &'static str,
}

struct Place {
    cluster: Cluster,
    plural: &'static str,
    kind: &'static str,
}

fn secret(fingerprint: &str) -> Value {
    let mut secret = Secret::env("TOKEN");
    secret.fingerprint = Some(Fingerprint(fingerprint.to_owned()));
    Value::Secret(secret)
}

fn texts(path: &str) -> BTreeMap<Path, SecretText> {
    BTreeMap::from([(Path::parse(path).unwrap(), SecretText::new(PASSWORD.to_owned()))])
}

fn change(spec: Value, changed: &str) -> Change {
    Change { spec, secrets: BTreeMap::new(), changed: vec![Path::parse(changed).unwrap()] }
}

fn manifest(kind: &str, name: &str, rest: Json) -> Json {
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}});
    object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    object
}

impl OneKind {
    fn case(&self, cluster: &Cluster) -> Case {
        let name = cluster.name("c");
        let of = |rest: Json| manifest(self.kind, &name, rest);
        let (first, second, third) = match self.kind {
            "ConfigMap" => (
                json!({"data": {"a": "1", "b": "2"}, "immutable": true}),
                json!({"data": {"a": "1", "b": "2"}, "immutable": true, "metadata": {"name": name, "namespace": "default", "labels": {"x": "y"}}}),
                Some(json!({"data": {"a": "changed", "b": "2"}, "immutable": true})),
            ),
            "Service" => (
                json!({"spec": {"ports": [{"port": 80, "name": "a"}], "selector": {"app": "x"}}}),
                json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}], "selector": {"app": "x"}}}),
                None,
            ),
            _ => (
                json!({"type": "Opaque"}),
                json!({"type": "Opaque", "metadata": {"name": name, "namespace": "default", "labels": {"x": "y"}}}),
                None,
            ),
        };
        let target = cluster.target(&of(first));
        let absent = Target {
            identity: Identity::named(format!("{}/default/{}", self.kind, cluster.name("absent"))),
            ..target.clone()
        };
        let mut case = Case::new(target, absent);
        let changed = if self.kind == "Service" { "spec.ports" } else { "metadata.labels" };
        case.change = Some(change(spec(&of(second)), changed));
        case.replacement = third.map(|third| change(spec(&of(third)), "data.a"));
        if self.kind == "Secret" {
            let path = Path::parse("stringData.password").unwrap();
            let with = |spec: &mut Value, print: &str| {
                spec.set(&path, secret(print));
            };
            with(case.target.spec.as_mut().unwrap(), "f1");
            case.secrets = texts("stringData.password");
            let change = case.change.as_mut().unwrap();
            with(&mut change.spec, "f1");
            change.secrets = texts("stringData.password");
        }
        case
    }
}

#[async_trait]
impl Subject for OneKind {
    fn name(&self) -> String {
        format!("kubernetes, {}", self.kind)
    }

    fn kinds(&self) -> Vec<String> {
        vec!["object".to_owned()]
    }

    async fn fresh(&self, _kind: &str) -> Result<Setup, Gap> {
        let cluster = Cluster::new(self.cluster.kubeconfig.clone()).await;
        let case = self.case(&cluster);
        let provider = Arc::new(KubernetesProvider::new(connection(&cluster.kubeconfig)));
        let lineage = cluster.lineage.clone();
        let plural = match self.kind {
            "ConfigMap" => "configmaps",
            "Service" => "services",
            _ => "secrets",
        };
        Ok(Setup { provider, lineage, case, outside: Box::new(Place { cluster, plural, kind: self.kind }) })
    }

    fn limits(&self) -> Limits {
        Limits { rounds: 3, settle: Duration::from_millis(300), ..Limits::default() }
    }
}

impl Place {
    fn path(&self, target: &Target) -> String {
        let name = target.identity.name.rsplit('/').next().unwrap_or_default();
        format!("/api/v1/namespaces/default/{}/{name}", self.plural)
    }

    async fn make(&self, target: &Target, metadata: Json) -> Result<Json, Gap> {
        let name = target.identity.name.rsplit('/').next().unwrap_or_default();
        let mut object = manifest(
            self.kind,
            name,
            if self.kind == "Service" { json!({"spec": {"ports": [{"port": 80}]}}) } else { json!({}) },
        );
        object["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        let collection = format!("/api/v1/namespaces/default/{}", self.plural);
        Ok(self.cluster.post(&collection, "kubectl-create", &object).await)
    }
}

#[async_trait]
impl Outside for Place {
    async fn count(&self, target: &Target) -> Result<usize, Gap> {
        Ok(usize::from(self.cluster.get(&self.path(target)).await.is_some()))
    }

    async fn make_unmarked(&self, target: &Target) -> Result<Option<String>, Gap> {
        let made = self.make(target, json!({})).await?;
        Ok(made["metadata"]["uid"].as_str().map(str::to_owned))
    }

    async fn make_marked(&self, target: &Target, mark: &Mark) -> Result<(), Gap> {
        let metadata = json!({
            "labels": {"ksail.io/lineage": mark.lineage},
            "annotations": {
                "ksail.io/address": mark.address.as_str(), "ksail.io/operation": mark.operation,
                "ksail.io/generation": mark.generation.to_string(),
            },
        });
        self.make(target, metadata).await.map(drop)
    }

    async fn state(&self, target: &Target) -> Result<String, Gap> {
        Ok(self.cluster.get(&self.path(target)).await.map_or_else(String::new, |object| object.to_string()))
    }

    async fn broken(&self, how: Breakage) -> Result<Arc<dyn Provider>, Gap> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(Gap::broken)?;
        let port = listener.local_addr().map_err(Gap::broken)?.port();
        if how == Breakage::Silent {
            tokio::spawn(async move {
                let mut held = Vec::new();
                while let Ok((stream, _)) = listener.accept().await {
                    held.push(stream);
                }
            });
        }
        let text = std::fs::read_to_string(&self.cluster.kubeconfig).map_err(Gap::broken)?;
        let line = text.lines().find(|line| line.contains("server:")).unwrap_or_default();
        let folder = std::env::temp_dir().join(format!("{}-{port}.kubeconfig", self.cluster.lineage));
        std::fs::write(&folder, text.replace(line, &format!("      server: https://127.0.0.1:{port}")))
            .map_err(Gap::broken)?;
        Ok(Arc::new(KubernetesProvider::new(Connection { kubeconfig: vec![folder], context: None })))
    }

    async fn clean_up(&self) -> Result<(), Gap> {
        let path = format!("/api/v1/namespaces/default/{}", self.plural);
        let list = self.cluster.get(&path).await.unwrap_or_default();
        for item in list["items"].as_array().into_iter().flatten() {
            let name = item["metadata"]["name"].as_str().unwrap_or_default();
            if name.starts_with(&self.cluster.lineage) {
                let _ = self.cluster.ask("DELETE", &format!("{path}/{name}"), "application/json", &Json::Null).await;
            }
        }
        Ok(())
    }
}

async fn conforms(kind: &'static str) {
    let Some(cluster) = Cluster::real().await else { return };
    let subject = OneKind { cluster, kind };
    let mut failures = Vec::new();
    for way in [Way::Direct, Way::Pipe, Way::Faulty(SEED)] {
        let report = run_way(&subject, way).await;
        assert!(!report.entries().is_empty());
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), "{report}");
        failures.extend(report.failures().map(ToString::to_string));
    }
    assert!(failures.is_empty(), "the provider does not conform:\n{}", failures.join("\n"));
}

/// One after the other: lists of everything are shared by all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_provider_conforms() {
    for kind in ["Secret", "ConfigMap", "Service"] {
        conforms(kind).await;
    }
}
