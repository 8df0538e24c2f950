//! Plans and applies some objects on a real API server, and dies at a given step.
//!
//! `step-kill-objects FOLDER (first|changed|destroy) [STEP]`, with KSAIL_TEST_KUBECONFIG: beside the steps of the state, the begin
//! and end of each provider call are steps, and the moments before and after each of its requests that change something. What it
//! ends with is what `step-kill` ends with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ksail_kinds::BuiltinKinds;
use ksail_model::{
    Address, Condition, Declaration, DeclaredGraph, Edge, ForceOn, Identity, Lifecycle, Origin, Origins, Ownership,
    Preview, ProviderConfig, Strength, Value,
};
use ksail_provider::{
    Applied, CallContext, CallError, Connector, CreateRequest, DeleteRequest, Deleted, HostSession, ObserveReply,
    Owned, PreviewRequest, Provider, Target, UpdateRequest, WaitRequest,
};
use ksail_provider_kubernetes::{Connection, KubernetesProvider, ObjectName};
use ksail_test_proxy::Proxy;
use ksail_tests::stepped::{Asked, Failure, Stack, Steps, compare, end};
use serde_json::{Value as Json, json};

/// The label of what a lineage made.
const LINEAGE: &str = "ksail.io/lineage";
/// Of each object, the address in a cluster of this name.
const CLUSTER: &str = "dev";
const PROVIDER: &str = "objects";

/// The provider with a step before and after each call.
struct Stepped(KubernetesProvider, Arc<Steps>);

macro_rules! stepped {
    ($self:ident, $call:ident, $context:ident, $request:ident) => {{
        $self.1.step();
        let reply = $self.0.$call($context, $request).await;
        $self.1.step();
        reply
    }};
}

#[async_trait]
impl Provider for Stepped {
    async fn observe(&self, context: &CallContext, targets: &[Target]) -> Result<ObserveReply, CallError> {
        stepped!(self, observe, context, targets)
    }

    async fn preview(&self, context: &CallContext, requests: &[PreviewRequest]) -> Result<Vec<Preview>, CallError> {
        self.0.preview(context, requests).await
    }

    async fn create(&self, context: &CallContext, request: &CreateRequest) -> Result<Applied, CallError> {
        stepped!(self, create, context, request)
    }

    async fn update(&self, context: &CallContext, request: &UpdateRequest) -> Result<Applied, CallError> {
        stepped!(self, update, context, request)
    }

    async fn delete(&self, context: &CallContext, request: &DeleteRequest) -> Result<Deleted, CallError> {
        stepped!(self, delete, context, request)
    }

    async fn wait(&self, context: &CallContext, request: &WaitRequest) -> Result<Applied, CallError> {
        stepped!(self, wait, context, request)
    }

    async fn list_owned(&self, context: &CallContext) -> Result<Vec<Owned>, CallError> {
        self.0.list_owned(context).await
    }
}

struct Sessions(Arc<Stepped>);

#[async_trait]
impl Connector for Sessions {
    async fn connect(
        &self,
        _name: &str,
        _config: &ProviderConfig,
        _host: Option<&HostSession>,
    ) -> Result<Arc<dyn Provider>, CallError> {
        Ok(Arc::clone(&self.0) as Arc<dyn Provider>)
    }
}

fn declared(manifest: Json, after: &[&Address]) -> Declaration {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let version = text(&manifest["apiVersion"]);
    let name = ObjectName {
        group: version.rsplit_once('/').map_or("", |(group, _)| group).to_owned(),
        kind: text(&manifest["kind"]),
        namespace: manifest["metadata"]["namespace"].as_str().map(str::to_owned),
        name: text(&manifest["metadata"]["name"]),
    };
    let edge = |to: &&Address| Edge {
        to: (*to).clone(),
        condition: Condition::Ready,
        strength: Strength::Hard,
        on_replace: ForceOn::Nothing,
        origin: Origin::Derived { why: "it needs it".into() },
    };
    let mut spec = Value::from(manifest);
    spec.set(&ksail_model::Path::key("fieldManager"), Value::from(ksail_provider_kubernetes::FIELD_MANAGER));
    Declaration {
        address: Address::new(
            CLUSTER,
            "object",
            &[&name.group_kind(), name.namespace.as_deref().unwrap_or("_"), &name.name],
        ),
        kind_version: 1,
        provider: PROVIDER.to_owned(),
        identity: Identity::named(name.to_string()),
        spec,
        host: None,
        edges: after.iter().map(edge).collect(),
        ownership: Ownership::Owned,
        lifecycle: Lifecycle::default(),
        choices: Vec::new(),
        origins: Origins::default(),
    }
}

/// A custom kind with an object of it, one that cannot change in place, one that changes, one that goes and one that comes.
fn graph(lineage: &str, is_changed: bool) -> DeclaredGraph {
    let value = if is_changed { "2" } else { "1" };
    let config = |name: &str, more: Json| {
        let name = format!("{lineage}-{name}");
        let mut manifest =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}});
        manifest.as_object_mut().expect("a map").extend(more.as_object().cloned().unwrap_or_default());
        manifest
    };
    let group = format!("{lineage}.example.com");
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = declared(
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("things.{group}")},
            "spec": {
                "group": group, "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
            },
        }),
        &[],
    );
    let settings = declared(config("settings", json!({"data": {"value": value}})), &[]);
    let fixed = declared(config("fixed", json!({"immutable": true, "data": {"value": value}})), &[&settings.address]);
    let thing = declared(
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "Thing", "metadata": {"name": "thing", "namespace": "default"},
            "spec": {"value": value},
        }),
        &[&definition.address, &fixed.address],
    );
    let moving = declared(config(if is_changed { "late" } else { "early" }, json!({})), &[&settings.address]);
    let all = [definition, settings, fixed, thing, moving];
    DeclaredGraph {
        declarations: all.into_iter().map(|declaration| (declaration.address.clone(), Arc::new(declaration))).collect(),
        providers: BTreeMap::from([(PROVIDER.to_owned(), ProviderConfig::default())]),
        ..DeclaredGraph::default()
    }
}

/// What carries the lineage's label, by the server's own lists.
async fn listed(client: &kube::Client, lineage: &str) -> Result<Vec<String>, Failure> {
    let group = format!("{lineage}.example.com");
    let mut found = Vec::new();
    for (kind, collection) in [
        ("ConfigMap".to_owned(), "/api/v1/configmaps".to_owned()),
        (
            "apiextensions.k8s.io.CustomResourceDefinition".to_owned(),
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions".to_owned(),
        ),
        (format!("{group}.Thing"), format!("/apis/{group}/v1/things")),
    ] {
        let request =
            http::Request::get(format!("{collection}?labelSelector={LINEAGE}%3D{lineage}")).body(Vec::new())?;
        let list: Json = match client.request(request).await {
            Ok(list) => list,
            // The kind is gone, and its objects with it.
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            Err(error) => return Err(error.into()),
        };
        for item in list["items"].as_array().into_iter().flatten() {
            let metadata = &item["metadata"];
            let namespace = metadata["namespace"].as_str().unwrap_or("_");
            found.push(format!("{kind}/{namespace}/{}", metadata["name"].as_str().unwrap_or_default()));
        }
    }
    Ok(found)
}

async fn run() -> Result<u64, Failure> {
    let asked = Asked::read(std::env::args().skip(1))?;
    let kubeconfig = PathBuf::from(std::env::var("KSAIL_TEST_KUBECONFIG")?);
    let config = kube::config::Kubeconfig::read_from(&kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default()).await?;
    let client = kube::Client::try_from(config)?;
    // All runs in a folder are of one lineage, and no other is.
    let name = asked.folder.file_name().and_then(|name| name.to_str()).ok_or("a folder with a name")?;
    let lineage = format!("steps-{}", name.trim_start_matches('.').to_lowercase());
    // It is part of this process: what dies, dies before the request is sent, or when the server has done it.
    let steps = Arc::clone(&asked.steps);
    let proxy = Proxy::with(&kubeconfig, move || steps.step()).await?;
    let connection = Connection { kubeconfig: vec![proxy.kubeconfig(&asked.folder)?], context: None };
    let provider = Stepped(KubernetesProvider::new(connection), Arc::clone(&asked.steps));
    let declared =
        if asked.goal == "destroy" { DeclaredGraph::default() } else { graph(&lineage, asked.goal == "changed") };
    let stack = Stack {
        declared,
        schemas: Arc::new(BuiltinKinds),
        connector: Arc::new(Sessions(Arc::new(provider))),
        lineage: lineage.clone(),
        timeout: Duration::from_secs(30),
    };
    let passed = asked.run(&stack).await?;
    compare(listed(&client, &lineage).await?, &stack.declared)?;
    Ok(passed)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    end(run().await)
}
