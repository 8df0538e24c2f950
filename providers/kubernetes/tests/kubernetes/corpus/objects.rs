//! The objects of the corpus: read from their files, as requests of the contract.

use std::collections::BTreeMap;

use ksail_model::{Fingerprint, Path, Preview, Secret, Seen, Value};
use ksail_provider::{
    Applied, CallError, CreateRequest, PreviewRequest, Provider as _, SecretText, Target, UpdateRequest,
};
use serde_json::{Value as Json, json};

use crate::cluster::{Cluster, spec};

/// A request for a certificate of a key that was thrown away.
const CSR: &str = include_str!("../csr.txt");
/// The length of a text that is long.
const LARGE: usize = 200_000;

macro_rules! files {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("../../corpus/", $name, ".yaml")))),*] };
}

const FILES: [(&str, &str); 9] =
    files!("config", "pods", "workloads", "services", "storage", "access", "limits", "definitions", "custom");

/// One object of the corpus, and what would be planned of it.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) manifest: Json,
    pub(crate) target: Target,
    pub(crate) texts: BTreeMap<Path, SecretText>,
}

impl Case {
    /// Values of a Secret are references with fingerprints, as the compiler makes them.
    pub(crate) fn new(cluster: &Cluster, manifest: Json) -> Self {
        let mut target = cluster.target(&manifest);
        let mut texts = BTreeMap::new();
        if manifest["kind"] == "Secret" {
            let mut declared = spec(&manifest);
            for part in ["data", "stringData"] {
                for (key, value) in manifest[part].as_object().into_iter().flatten() {
                    let Some(text) = value.as_str() else { continue };
                    let path = Path::key(part).child_key(key.clone());
                    let fingerprint = Some(Fingerprint(format!("print of {text}")));
                    declared.set(&path, Value::Secret(Secret { parts: Vec::new(), fingerprint }));
                    texts.insert(path, SecretText::new(text.to_owned()));
                }
            }
            target.spec = Some(declared);
        }
        Self { manifest, target, texts }
    }

    /// The same object, declared otherwise.
    pub(crate) fn with(&self, cluster: &Cluster, manifest: Json) -> Self {
        let changed = Self::new(cluster, manifest);
        Self { target: Target { id: self.target.id.clone(), ..changed.target }, ..changed }
    }

    pub(crate) async fn create(&self, cluster: &Cluster) -> Result<Applied, CallError> {
        let mark = cluster.mark(&self.target);
        let request = CreateRequest { target: self.target.clone(), mark, secrets: self.texts.clone() };
        cluster.provider.create(&cluster.context(), &request).await
    }

    pub(crate) async fn update(
        &self,
        cluster: &Cluster,
        current: &Seen,
        changed: &[Path],
    ) -> Result<Applied, CallError> {
        let request = UpdateRequest {
            target: Target { id: current.id.clone(), ..self.target.clone() },
            mark: cluster.mark(&self.target),
            current: current.fields.clone(),
            changed: changed.to_vec(),
            secrets: self.texts.clone(),
        };
        cluster.provider.update(&cluster.context(), &request).await
    }

    pub(crate) async fn preview(&self, cluster: &Cluster, current: Option<&Seen>) -> Preview {
        let current = current.map(|seen| seen.fields.clone());
        let request = PreviewRequest { target: self.target.clone(), current, comes_after: Vec::new() };
        cluster.provider.preview(&cluster.context(), &[request]).await.unwrap().remove(0)
    }

    /// Its path on the server, by what discovery says.
    pub(crate) async fn paths(&self, cluster: &Cluster) -> (String, String) {
        let text = |key: &str| self.manifest[key].as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        let list = cluster.get(&root).await.expect("a served version");
        let resource = list["resources"].as_array().into_iter().flatten().find(|resource| {
            resource["kind"] == kind.as_str() && !resource["name"].as_str().unwrap_or_default().contains('/')
        });
        let plural = resource.and_then(|resource| resource["name"].as_str()).expect("a served kind").to_owned();
        let metadata = &self.manifest["metadata"];
        let collection = match metadata["namespace"].as_str() {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}"),
            None => format!("{root}/{plural}"),
        };
        let object = format!("{collection}/{}", metadata["name"].as_str().unwrap_or_default());
        (collection, object)
    }
}

fn namespace(cluster: &Cluster) -> String {
    cluster.name("corpus")
}

/// The namespaces that the objects live in.
pub(crate) fn namespaces(cluster: &Cluster) -> Vec<Case> {
    let namespace = namespace(cluster);
    let of = |name: String| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    vec![Case::new(cluster, of(namespace.clone())), Case::new(cluster, of(format!("{namespace}-limits")))]
}

/// Pods are refused before their namespace has its account.
pub(crate) async fn until_accounts_are_there(cluster: &Cluster) {
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/default", namespace(cluster));
    for _ in 0..300 {
        if cluster.get(&path).await.is_some() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("there is no {path}");
}

/// All objects.
pub(crate) async fn load(cluster: &Cluster) -> Vec<Case> {
    let system = cluster.get("/api/v1/namespaces/kube-system").await.expect("kube-system");
    let owner = system["metadata"]["uid"].as_str().expect("its UID");
    let mut all = Vec::new();
    for (name, text) in FILES {
        let text = text
            .replace("$NS", &namespace(cluster))
            .replace("$P", &cluster.lineage)
            .replace("$OWNER", owner)
            .replace("$LARGE", &"long ".repeat(LARGE / 5))
            .replace("$CSR", CSR.trim())
            // The name of an IPAddress is one, so no other may be unique.
            .replace("$IP", &format!("10.201.{}.9", std::process::id() % 250));
        let objects: Vec<Json> = serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        all.extend(objects.into_iter().map(|manifest| Case::new(cluster, manifest)));
    }
    all
}

/// What of this lineage is left on the server.
pub(crate) async fn left(cluster: &Cluster) -> Vec<String> {
    let owned = cluster.provider.list_owned(&cluster.context()).await.unwrap();
    let ours =
        owned.into_iter().filter(|owned| owned.seen.mark.as_ref().is_some_and(|mark| mark.lineage == cluster.lineage));
    ours.map(|owned| owned.identity.name).collect()
}
