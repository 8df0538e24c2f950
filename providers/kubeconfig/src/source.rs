//! Where credentials come from: the kubeconfig that the cluster itself gave. It is read at the moment of a call, and what stands in
//! it is kept nowhere but in the user's file.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use ksail_provider::{CallContext, CallError};

use crate::document;
use crate::tree::Tree;

/// Fields of a cluster's entry that are the cluster's to say, beside the server.
pub(crate) const OF_CLUSTER: [&str; 3] =
    ["certificate-authority", "certificate-authority-data", "insecure-skip-tls-verify"];
/// Fields of a user's entry by which it logs in.
pub(crate) const OF_USER: [&str; 10] = [
    "auth-provider",
    "client-certificate",
    "client-certificate-data",
    "client-key",
    "client-key-data",
    "exec",
    "password",
    "token",
    "tokenFile",
    "username",
];
/// Those that are paths, relative to the file that they stand in.
const PATHS: [&str; 4] = ["certificate-authority", "client-certificate", "client-key", "tokenFile"];

/// Who reads kubeconfigs that lie in machines of an engine.
#[async_trait]
pub trait MachineFiles: Send + Sync {
    /// The kubeconfig that lies in the machines of a cluster's control plane. It is a secret.
    ///
    /// # Errors
    /// It cannot be had now.
    async fn kubeconfig(&self, context: &CallContext, cluster: &str) -> Result<Arc<str>, CallError>;
}

/// What a login needs: the fields of the cluster, but its server, and those of the user.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) cluster: Vec<(String, Tree)>,
    pub(crate) user: Vec<(String, Tree)>,
}

/// Reads the current context's cluster and user.
///
/// # Errors
/// A fragment that says why they cannot be told. It holds nothing of the file's values.
pub(crate) fn read(path: &Path) -> Result<Credentials, String> {
    let text = crate::file::read(path).map_err(|error| error.to_string())?.ok_or("it is not there")?;
    credentials(&text, crate::file::folder_of(path))
}

/// The current context's cluster and user in a kubeconfig; its paths are relative to a folder.
///
/// # Errors
/// As [`read`].
pub(crate) fn credentials(text: &str, folder: &Path) -> Result<Credentials, String> {
    let root = document::read(text).map_err(|error| error.to_string())?.ok_or("it is empty")?.tree();
    let current = root.get("current-context").and_then(Tree::as_text).ok_or("it has no current context")?;
    let named = |list: &str, name: &str, inner: &str| {
        let found = root.get(list)?.as_list().iter().find(|entry| crate::edit::is_named(entry, name))?;
        found.get(inner).cloned()
    };
    let context = named("contexts", current, "context").ok_or("its current context is not there")?;
    let of = |list: &str, inner: &str| {
        let name = context.get(inner).and_then(Tree::as_text)?;
        named(list, name, inner)
    };
    let cluster = of("clusters", "cluster").ok_or("the cluster of its current context is not there")?;
    let user = of("users", "user").ok_or("the user of its current context is not there")?;
    Ok(Credentials { cluster: fields(&cluster, folder, &["server"]), user: fields(&user, folder, &[]) })
}

fn fields(entry: &Tree, folder: &Path, without: &[&str]) -> Vec<(String, Tree)> {
    let kept = entry.as_map().iter().filter(|(key, _)| key != "extensions" && !without.contains(&key.as_str()));
    kept.map(|(key, value)| match value.as_text() {
        Some(path) if PATHS.contains(&key.as_str()) => {
            (key.clone(), Tree::text(folder.join(path).display().to_string()))
        }
        _ => (key.clone(), value.clone()),
    })
    .collect()
}

/// Whether an entry has exactly these fields, of those that are not its user's own business.
pub(crate) fn has(entry: &Tree, fields: &[(String, Tree)], known: &[&str]) -> bool {
    let is_ours = |key: &str| known.contains(&key) || fields.iter().any(|(name, _)| name == key);
    let mut there: Vec<&(String, Tree)> = entry.as_map().iter().filter(|(key, _)| is_ours(key)).collect();
    let mut wanted: Vec<&(String, Tree)> = fields.iter().collect();
    there.sort_by(|a, b| a.0.cmp(&b.0));
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    there == wanted
}
