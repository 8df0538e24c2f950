//! A user's files, and requests about them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ksail_kinds::{KubeconfigSpec, Spec as _};
use ksail_model::{Address, Identity, Mark, Observation, Ownership, Path, Seen, Value};
use ksail_provider::{
    Applied, CallContext, CallError, CreateRequest, DeleteRequest, Deleted, Provider as _, Target, UpdateRequest,
};
use ksail_provider_kubeconfig::{KubeconfigProvider, Places};
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

/// The token in the cluster's own kubeconfig.
pub(crate) const TOKEN: &str = "canary-token-of-the-cluster";

/// What another tool wrote, with the words of its user.
pub(crate) const OTHERS: &str = "# mine\napiVersion: v1\nkind: Config\npreferences: {}\nclusters:\n# at work\n- name: work # the big one\n  cluster: \
                                 {server: 'https://work:6443'}\ncontexts:\n- context:\n    cluster: work\n    user: me\n    namespace: shop\n  name: \
                                 work\ncurrent-context: work # for now\nusers:\n- {name: me, user: {token: \"secret\"}}\n";

/// A home folder with a cluster's own kubeconfig.
pub(crate) struct World {
    path: PathBuf,
    /// Removed with it, where it is of its own.
    _folder: Option<tempfile::TempDir>,
    pub(crate) kubeconfig: Option<String>,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = Self { path: folder.path().to_owned(), _folder: Some(folder), kubeconfig: None };
        world.rotate(TOKEN);
        world
    }

    /// In a folder that is there.
    pub(crate) const fn at(path: PathBuf) -> Self {
        Self { path, _folder: None, kubeconfig: None }
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The cluster's own kubeconfig, with a token.
    pub(crate) fn rotate(&self, token: &str) {
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: dev\n  cluster:\n    server: https://127.0.0.1:6443\n    \
             certificate-authority-data: Y2E=\nusers:\n- name: dev\n  user:\n    token: {token}\ncontexts:\n- name: dev\n  \
             context:\n    cluster: dev\n    user: dev\ncurrent-context: dev\n"
        );
        std::fs::write(self.source(), text).unwrap();
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.path().join("of-the-cluster")
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.path().join(".kube/config")
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::create_dir_all(self.file().parent().unwrap()).unwrap();
        std::fs::write(self.file(), text).unwrap();
    }

    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    /// What the file says.
    pub(crate) fn said(&self) -> Json {
        said(&self.text())
    }

    pub(crate) fn provider(&self) -> KubeconfigProvider {
        KubeconfigProvider::new(Places {
            home: Some(self.path().to_owned()),
            project: self.path().join("project"),
            kubeconfig: self.kubeconfig.clone(),
            named: None,
        })
    }

    pub(crate) fn target(&self) -> Target {
        let spec = KubeconfigSpec {
            file: "~/.kube/config".to_owned(),
            context: "ksail-dev".to_owned(),
            cluster: "ksail-dev".to_owned(),
            user: "ksail-dev".to_owned(),
            server: "https://127.0.0.1:6443".to_owned(),
            source: self.source().display().to_string(),
            credentials: KubeconfigSpec::credentials(true).to_owned(),
            current_context: true,
        };
        Target {
            address: Address::new("dev", "kubeconfig", &["main"]),
            kind_version: 1,
            identity: Identity::named("ksail-dev"),
            id: None,
            spec: Some(spec.to_value()),
            ownership: Ownership::Fields,
        }
    }

    pub(crate) async fn see(&self) -> Observation {
        self.provider().observe(&context(), &[self.target()]).await.unwrap().observations.remove(0)
    }

    pub(crate) async fn seen(&self) -> Seen {
        self.see().await.seen().cloned().expect("it is there")
    }

    pub(crate) async fn create(&self) -> Result<Applied, CallError> {
        let request = CreateRequest { target: self.target(), mark: mark("l1"), secrets: BTreeMap::new() };
        self.provider().create(&context(), &request).await
    }

    pub(crate) async fn update(&self, changed: &[&str]) -> Result<Applied, CallError> {
        let current = self.seen().await.fields;
        let changed = changed.iter().map(|path| Path::parse(path).unwrap()).collect();
        let request =
            UpdateRequest { target: self.target(), mark: mark("l1"), current, changed, secrets: BTreeMap::new() };
        self.provider().update(&context(), &request).await
    }

    pub(crate) async fn delete(&self) -> Result<Deleted, CallError> {
        let request =
            DeleteRequest { target: self.target(), mark: mark("l1"), adopted: false, attributes: Value::empty_map() };
        self.provider().delete(&context(), &request).await
    }
}

pub(crate) fn said(text: &str) -> Json {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

pub(crate) fn context() -> CallContext {
    CallContext {
        lineage: "l1".to_owned(),
        operation: Some("o1".to_owned()),
        timeout: Duration::from_secs(60),
        cancel: CancellationToken::new(),
    }
}

pub(crate) fn mark(lineage: &str) -> Mark {
    Mark {
        lineage: lineage.to_owned(),
        address: Address::new("dev", "kubeconfig", &["main"]),
        operation: "o1".to_owned(),
        generation: 1,
    }
}

/// The entries of a name, by list.
pub(crate) fn named(said: &Json, name: &str) -> [usize; 3] {
    ["clusters", "users", "contexts"]
        .map(|list| said[list].as_array().into_iter().flatten().filter(|entry| entry["name"] == name).count())
}
