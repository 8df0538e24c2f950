//! Secrets for the engine: resolved by reference, fingerprinted with the vault's key.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ksail_execute::{ApplyError, Secrets};
use ksail_model::{DeclaredGraph, Diagnostic, Path, Value};
use ksail_plan::{Action, Plan, PlanNode};
use ksail_provider::SecretText;
use ksail_records::Backend;
use ksail_secrets::{CommandOutput, Identity, Resolver, SecretError, Vault};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use crate::error::{Error, codes};
use crate::secret_command;
use crate::settings::Settings;

/// The name of the vault in the stack's folder.
const VAULT: &str = "vault.age";
/// The name of what was read of a shared state's vault. A vault of our own, which may be beside it, is never overwritten.
const SHARED_VAULT: &str = "vault.shared.age";

/// Resolves secrets. The vault is opened, and at an apply made, when the first secret needs it.
pub(crate) struct SecretStore {
    settings: Settings,
    folder: PathBuf,
    /// Whether the vault that counts is where the state is, and this machine has a copy.
    is_shared: bool,
    vault: Mutex<Option<Vault>>,
    /// What commands wrote: each is run once by a plan and once by an apply, so that each has one value of it.
    written: Mutex<BTreeMap<Vec<String>, Zeroizing<Vec<u8>>>>,
}

impl SecretStore {
    pub(crate) const fn new(settings: Settings, folder: PathBuf, is_shared: bool) -> Self {
        Self { settings, folder, is_shared, vault: Mutex::new(None), written: Mutex::new(BTreeMap::new()) }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(if self.is_shared { SHARED_VAULT } else { VAULT })
    }

    /// Brings the vault of a shared state here, where a plan compares secrets with it.
    pub(crate) async fn fetch(&self, backend: &dyn Backend, graph: &DeclaredGraph) -> Result<(), Error> {
        if self.is_shared && graph.declarations.values().any(|declaration| has_secrets(&declaration.spec)) {
            self.take(backend).await?;
        }
        Ok(())
    }

    /// Sees to it that a shared state has a vault before a plan with secrets is applied: all who use the state must tell a
    /// changed secret by the same key.
    pub(crate) async fn share(&self, backend: &dyn Backend, plan: &Plan) -> Result<(), Error> {
        let uses =
            |node: &PlanNode| node.declaration.as_ref().is_some_and(|declaration| has_secrets(&declaration.spec));
        if !self.is_shared || !plan.nodes.values().any(uses) || self.take(backend).await? {
            return Ok(());
        }
        let failed = |error| vault_error(&error);
        let own = Vault::sealed(&self.folder.join(VAULT)).map_err(failed)?;
        if let Some(own) = own {
            Vault::keep(&self.path(), &own).map_err(failed)?;
        }
        self.with_vault(true, |_| Ok(())).map_err(failed)?;
        let ours = Vault::sealed(&self.path()).map_err(failed)?.unwrap_or_default();
        let theirs = backend.offer_vault(&ours).await?;
        if theirs != ours {
            // Another one was faster.
            self.keep(&theirs)?;
        }
        Ok(())
    }

    /// Answers whether there is a vault.
    async fn take(&self, backend: &dyn Backend) -> Result<bool, Error> {
        let Some(sealed) = backend.vault().await? else { return Ok(false) };
        let known = Vault::sealed(&self.path()).ok().flatten();
        if known.as_ref() != Some(&sealed) {
            self.keep(&sealed)?;
        }
        Ok(true)
    }

    fn keep(&self, sealed: &[u8]) -> Result<(), Error> {
        *self.vault.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Vault::keep(&self.path(), sealed).map_err(|error| vault_error(&error))
    }

    /// The identity that opens the vault; a new one is made only together with a vault.
    fn identity(&self, make: bool) -> Result<Identity, SecretError> {
        let key = (self.settings.env)("KSAIL_AGE_KEY").filter(|key| !key.is_empty()).map(SecretString::from);
        // Without a home folder the identity stays beside the vault: better than no fingerprint.
        let file = self
            .settings
            .config_folder()
            .map_or_else(|| self.folder.join("age.key"), |folder| Identity::file_below(&folder));
        match key {
            None if !make => Identity::load(&file),
            key => Identity::choose(key.as_ref(), &file),
        }
    }

    fn with_vault<T>(
        &self,
        make: bool,
        read: impl FnOnce(Option<&Vault>) -> Result<T, SecretError>,
    ) -> Result<T, SecretError> {
        let mut vault = self.vault.lock().unwrap_or_else(PoisonError::into_inner);
        if vault.is_none() {
            if make {
                *vault = Some(Vault::open_or_create(&self.path(), &self.identity(!self.path().exists())?)?);
            } else if self.path().exists() {
                *vault = Some(Vault::open(&self.path(), &self.identity(false)?)?);
            }
        }
        read(vault.as_ref())
    }

    fn resolve<T>(
        &self,
        make: bool,
        read: impl FnOnce(&Resolver<'_>) -> Result<T, SecretError>,
    ) -> Result<T, SecretError> {
        self.with_vault(make, |vault| {
            let env = |name: &str| (self.settings.env)(name);
            let project = &self.settings.project;
            let manifest = |file: &str, document: usize, path: &Path| {
                let text = std::fs::read_to_string(project.join(file)).map_err(|error| error.to_string())?;
                ksail_compiler::manifest_text(&text, document, path)
            };
            let command = |words: &[String]| self.output(words);
            read(&Resolver { env: &env, project: project.clone(), manifest: &manifest, command: &command, vault })
        })
    }

    /// What a command writes. One that failed is run again when it is asked for again.
    fn output(&self, words: &[String]) -> CommandOutput {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = written.get(words) {
            return Ok(bytes.clone());
        }
        let bytes = secret_command::run(words, &self.settings.project, secret_command::TIME_LIMIT)?;
        written.insert(words.to_vec(), bytes.clone());
        Ok(bytes)
    }

    /// Fills in the fingerprints of all declared secrets, so that a plan tells a rotated one. Where there is no vault yet, there
    /// is nothing to compare with, and a plan writes nothing.
    pub(crate) fn fingerprint_graph(&self, graph: &mut DeclaredGraph) -> Result<(), Error> {
        for declaration in graph.declarations.values_mut() {
            // A secret that was only observed (a recovered state) has nothing to resolve.
            if !has_secrets(&declaration.spec) {
                continue;
            }
            let spec = self
                .resolve(false, |resolver| match resolver.vault {
                    Some(_) => resolver.fingerprinted(&declaration.spec),
                    None => resolver.texts(&declaration.spec).map(|_| declaration.spec.clone()),
                })
                .map_err(|error| secret_error(declaration.address.as_str(), &error))?;
            Arc::make_mut(declaration).spec = spec;
        }
        Ok(())
    }
}

impl SecretStore {
    /// Whether all secrets that a plan hands over can be resolved, and are those that it was made with. Asked before
    /// anything is called: a replacement that has deleted the old one has no way back.
    pub(crate) fn check(&self, plan: &Plan) -> Result<(), Error> {
        let mut changed = Vec::new();
        for node in plan.nodes.values() {
            let makes = matches!(node.action, Action::Create | Action::Update | Action::Replace { .. });
            let Some(declaration) = node.declaration.as_ref().filter(|_| makes) else { continue };
            let planned = declaration.spec.secrets();
            if planned.iter().all(|(_, secret)| secret.parts.is_empty()) {
                continue;
            }
            let now = self
                .resolve(false, |resolver| match resolver.vault {
                    Some(_) => resolver.fingerprinted(&declaration.spec),
                    None => resolver.texts(&declaration.spec).map(|_| declaration.spec.clone()),
                })
                .map_err(|error| secret_error(declaration.address.as_str(), &error))?;
            changed.extend(
                planned
                    .iter()
                    .zip(now.secrets())
                    .filter(|((_, planned), (_, now))| {
                        planned.fingerprint.is_some() && planned.fingerprint != now.fingerprint
                    })
                    .map(|((path, _), _)| {
                        format!("the secret {path} of {} has another value than when it was made", node.key)
                    }),
            );
        }
        if changed.is_empty() { Ok(()) } else { Err(Error::Apply(ApplyError::Stale(changed))) }
    }
}

/// Whether there are secrets to resolve.
fn has_secrets(spec: &Value) -> bool {
    spec.secrets().iter().any(|(_, secret)| !secret.parts.is_empty())
}

fn secret_error(address: &str, error: &SecretError) -> Error {
    diagnosed(format!("a secret of {address} cannot be resolved: {error}"), error)
}

fn vault_error(error: &SecretError) -> Error {
    diagnosed(format!("the vault of the shared state cannot be used: {error}"), error)
}

fn diagnosed(message: String, error: &SecretError) -> Error {
    let diagnostic = Diagnostic::error(codes::SECRET, message);
    Error::Diagnostics(vec![match error.hint() {
        Some(hint) => diagnostic.hint(hint),
        None => diagnostic,
    }])
}

impl Secrets for SecretStore {
    fn texts(&self, spec: &Value) -> Result<BTreeMap<Path, SecretText>, String> {
        if !spec.has_secret() {
            return Ok(BTreeMap::new());
        }
        let texts = self.resolve(true, |resolver| resolver.texts(spec)).map_err(|error| error.to_string())?;
        Ok(texts.into_iter().map(|(path, text)| (path, SecretText::new(text.expose_secret().to_owned()))).collect())
    }

    fn fingerprinted(&self, spec: &Value) -> Result<Value, String> {
        let planned = spec.secrets();
        if planned.is_empty() {
            return Ok(spec.clone());
        }
        let now = self.resolve(true, |resolver| resolver.fingerprinted(spec)).map_err(|error| error.to_string())?;
        let found = now.secrets();
        for ((path, planned), (_, found)) in planned.iter().zip(&found) {
            if planned.fingerprint.is_some() && planned.fingerprint != found.fingerprint {
                return Err(format!("the secret at {path} has another value than when the plan was made"));
            }
        }
        Ok(now)
    }
}
