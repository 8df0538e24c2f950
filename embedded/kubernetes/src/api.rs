//! What the server knows: objects, resources, settings.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use crate::allocation::Allocation;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::status::Status;
use crate::store::Store;
use crate::tokens::Tokens;

/// The shared state.
pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    pub(crate) tokens: Tokens,
    pub(crate) allocation: Allocation,
    pub(crate) authority: String,
    pub(crate) folder: PathBuf,
    registry: RwLock<Arc<Registry>>,
    /// Documents of OpenAPI by group and version; made at their first use, forgotten when resources change.
    pub(crate) documents: RwLock<std::collections::HashMap<String, bytes::Bytes>>,
}

impl Api {
    pub(crate) fn new(store: Store, settings: Settings, tokens: Tokens, authority: String, folder: PathBuf) -> Self {
        Self {
            store,
            settings,
            tokens,
            allocation: Allocation::default(),
            authority,
            folder,
            registry: RwLock::new(Arc::new(Registry::builtin())),
            documents: RwLock::default(),
        }
    }

    /// The resources as they are now.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Serves other resources from now on.
    pub(crate) fn set_registry(&self, registry: Registry) {
        *self.registry.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(registry);
        self.documents.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// An object of a built-in resource.
    pub(crate) fn object(&self, store: &str, namespace: &str, name: &str) -> Option<Value> {
        self.store.get(store, namespace, name).map(|entry| entry.object())
    }

    /// Whether a namespace takes new objects.
    pub(crate) fn check_namespace(&self, group: &str, plural: &str, name: &str, namespace: &str) -> Result<(), Status> {
        let Some(found) = self.object("/namespaces", "", namespace) else {
            return Err(Status::not_found("", "namespaces", namespace));
        };
        if found["metadata"].get("deletionTimestamp").is_some() {
            return Err(Status::terminating(group, plural, name, namespace));
        }
        Ok(())
    }
}

/// Now, in whole seconds, as objects have it.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Letters and digits of generated names: none that make words or are mistaken for each other.
const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A suffix as the server and its controllers generate it.
pub(crate) fn suffix() -> String {
    (0..5).map(|_| char::from(SUFFIX[fastrand::usize(..SUFFIX.len())])).collect()
}
