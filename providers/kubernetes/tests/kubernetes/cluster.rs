//! The cluster, and what the tests ask of it past the provider.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::Request;
use ksail_model::{Address, Identity, Mark, Observation, Ownership, Path, Preview, Seen, Value};
use ksail_provider::{
    Applied, CallContext, CallError, CreateRequest, DeleteRequest, Deleted, PreviewRequest, Provider, SecretText,
    Target, UpdateRequest, WaitRequest,
};
use ksail_provider_kubernetes::{Connection, KubernetesProvider, ObjectName};
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A lineage of its own on the cluster.
pub(crate) struct Cluster {
    pub(crate) client: kube::Client,
    pub(crate) provider: KubernetesProvider,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) lineage: String,
}

/// The kubeconfig of the test-bed. Where there is none, the test says so; with KSAIL_REQUIRE_REAL that is a failure.
pub(crate) fn kubeconfig() -> Option<PathBuf> {
    let how = "testbed/kubernetes.sh up; testbed/kubernetes.sh env";
    ksail_test_real::variable("KSAIL_TEST_KUBECONFIG", how).map(PathBuf::from)
}

pub(crate) fn connection(kubeconfig: &std::path::Path) -> Connection {
    Connection { kubeconfig: vec![kubeconfig.to_owned()], context: None }
}

impl Cluster {
    pub(crate) async fn real() -> Option<Self> {
        Some(Self::new(kubeconfig()?).await)
    }

    pub(crate) async fn new(kubeconfig: PathBuf) -> Self {
        let config = kube::config::Kubeconfig::read_from(&kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
        let client = kube::Client::try_from(config).unwrap();
        let provider = KubernetesProvider::new(connection(&kubeconfig));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let lineage = format!("test-{}-{number}", std::process::id());
        Self { client, provider, kubeconfig, lineage }
    }

    /// A name that nothing else uses.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.lineage)
    }

    pub(crate) fn context(&self) -> CallContext {
        CallContext {
            lineage: self.lineage.clone(),
            operation: Some("op-1".to_owned()),
            timeout: Duration::from_secs(60),
            cancel: CancellationToken::new(),
        }
    }

    /// A target of a manifest. The manifest's spec is declared as the compiler declares it.
    pub(crate) fn target(&self, manifest: &Json) -> Target {
        let group = manifest["apiVersion"].as_str().unwrap().rsplit_once('/').map_or("", |(group, _)| group);
        let metadata = &manifest["metadata"];
        let name = ObjectName {
            group: group.to_owned(),
            kind: manifest["kind"].as_str().unwrap().to_owned(),
            namespace: metadata["namespace"].as_str().map(str::to_owned),
            name: metadata["name"].as_str().unwrap().to_owned(),
        };
        let namespace = name.namespace.as_deref().unwrap_or("_");
        Target {
            address: Address::new("dev", "object", &[&name.group_kind(), namespace, &name.name]),
            kind_version: 1,
            identity: Identity::named(name.to_string()),
            id: None,
            spec: Some(spec(manifest)),
            ownership: Ownership::Owned,
        }
    }

    pub(crate) fn mark(&self, target: &Target) -> Mark {
        Mark {
            lineage: self.lineage.clone(),
            address: target.address.clone(),
            operation: "op-1".to_owned(),
            generation: 1,
        }
    }

    pub(crate) async fn create(&self, target: &Target) -> Result<Applied, CallError> {
        let request = CreateRequest { target: target.clone(), mark: self.mark(target), secrets: BTreeMap::new() };
        self.provider.create(&self.context(), &request).await
    }

    pub(crate) async fn update(&self, target: &Target, current: &Seen, changed: &[&str]) -> Result<Applied, CallError> {
        let request = UpdateRequest {
            target: Target { id: current.id.clone(), ..target.clone() },
            mark: self.mark(target),
            current: current.fields.clone(),
            changed: changed.iter().map(|path| Path::parse(path).unwrap()).collect(),
            secrets: BTreeMap::<Path, SecretText>::new(),
        };
        self.provider.update(&self.context(), &request).await
    }

    pub(crate) async fn observe(&self, target: &Target) -> Observation {
        let reply = self.provider.observe(&self.context(), std::slice::from_ref(target)).await.unwrap();
        reply.observations.into_iter().next().unwrap()
    }

    pub(crate) async fn seen(&self, target: &Target) -> Seen {
        match self.observe(target).await {
            Observation::Present(seen) => *seen,
            other => panic!("{} is {other:?}", target.address),
        }
    }

    pub(crate) async fn preview(&self, target: &Target, current: Option<&Seen>) -> Preview {
        let request = PreviewRequest {
            target: target.clone(),
            current: current.map(|seen| seen.fields.clone()),
            comes_after: Vec::new(),
        };
        self.provider.preview(&self.context(), &[request]).await.unwrap().remove(0)
    }

    pub(crate) async fn wait(&self, target: &Target, timeout: Duration) -> Result<Applied, CallError> {
        let context = CallContext { timeout, ..self.context() };
        self.provider.wait(&context, &WaitRequest { target: target.clone() }).await
    }

    pub(crate) async fn delete(&self, target: &Target, adopted: bool) -> Result<Deleted, CallError> {
        let request =
            DeleteRequest { target: target.clone(), mark: self.mark(target), adopted, attributes: Value::empty_map() };
        self.provider.delete(&self.context(), &request).await
    }

    /// A request past the provider.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &Json,
    ) -> Result<Json, kube::Error> {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        let request = Request::builder().method(method).uri(path).header("content-type", content_type).body(body);
        self.client.request(request.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Option<Json> {
        match self.ask("GET", path, "application/json", &Json::Null).await {
            Ok(json) => Some(json),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// As kubectl does it on the client's side.
    pub(crate) async fn post(&self, collection: &str, manager: &str, body: &Json) -> Json {
        self.ask("POST", &format!("{collection}?fieldManager={manager}"), "application/json", body).await.unwrap()
    }

    pub(crate) async fn merge(&self, path: &str, manager: &str, body: &Json) -> Json {
        let path = format!("{path}?fieldManager={manager}");
        self.ask("PATCH", &path, "application/merge-patch+json", body).await.unwrap()
    }
}

/// A manifest as a spec.
pub(crate) fn spec(manifest: &Json) -> Value {
    let mut spec = Value::from(manifest.clone());
    spec.set(&Path::key("fieldManager"), Value::from("ksail"));
    spec
}
