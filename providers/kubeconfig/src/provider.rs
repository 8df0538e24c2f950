//! The provider.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use ksail_kinds::{KubeconfigSpec, Spec as _};
use ksail_model::{Identity, Mark, Observation, Ownership, Scope, Seen, UnknownReason, Value};
use ksail_provider::{
    Applied, CallContext, CallError, CreateRequest, DeleteRequest, Deleted, ObserveReply, Owned, Provider, Target,
    UpdateRequest, WaitRequest, guard,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::edit::{Change, edit};
use crate::entries::{Found, has_context, marked};
use crate::lock::{Lock, LockError, path_of};
use crate::places::Places;
use crate::source::{self, Credentials, MachineFiles};
use crate::tree::Tree;
use crate::{document, file};

/// The one outside that there is: the files of the user who runs this. Their paths stand in the resources.
const SCOPE: &str = "kubeconfig";
/// How long another program's lock is waited for; kubectl holds it for an instant.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How long a reader waits for a program that writes the file in place.
const READ_WAIT: Duration = Duration::from_secs(1);
const READ_PAUSE: Duration = Duration::from_millis(10);

/// Entries in kubeconfigs of one user.
#[derive(Clone)]
pub struct KubeconfigProvider {
    places: Arc<Places>,
    machines: Option<Arc<dyn MachineFiles>>,
}

/// A call under way, in a thread that may block.
struct Work {
    places: Arc<Places>,
    machines: Option<Arc<dyn MachineFiles>>,
    lineage: String,
    /// Whether the call is part of an operation: else nothing is written.
    may_write: bool,
    cancel: CancellationToken,
    deadline: Instant,
    /// For what is no file, and so is asked for by a call of its own.
    runtime: Handle,
    context: CallContext,
}

/// A file, as it is written in a spec and as it is found.
struct Place {
    written: String,
    path: PathBuf,
}

impl KubeconfigProvider {
    /// A provider for the files of a user. Nothing is read before the first call.
    pub fn new(places: Places) -> Self {
        Self { places: Arc::new(places), machines: None }
    }

    /// This provider, with who reads what lies in machines.
    #[must_use]
    pub fn machines(mut self, files: Arc<dyn MachineFiles>) -> Self {
        self.machines = Some(files);
        self
    }

    /// Runs blocking work under the caller's deadline and cancellation. What `changes` something asks for them itself before it
    /// writes.
    async fn run<T: Send + 'static>(
        &self,
        context: &CallContext,
        changes: Option<String>,
        work: impl FnOnce(&Work) -> Result<T, CallError> + Send + 'static,
    ) -> Result<T, CallError> {
        if context.cancel.is_cancelled() {
            return Err(CallError::cancelled());
        }
        let state = Work {
            places: Arc::clone(&self.places),
            machines: self.machines.clone(),
            runtime: Handle::current(),
            context: context.clone(),
            lineage: context.lineage.clone(),
            may_write: context.operation.is_some(),
            cancel: context.cancel.clone(),
            deadline: Instant::now() + context.timeout,
        };
        let deadline = tokio::time::Instant::from_std(state.deadline);
        let sent = changes.is_some();
        let what = changes.unwrap_or_else(|| "look at kubeconfigs".to_owned());
        let done = guard(context, deadline, tokio::task::spawn_blocking(move || work(&state))).await;
        match done {
            Ok(joined) => joined.map_err(|error| CallError::indeterminate(format!("{what}: {error}")))?,
            Err(stop) => Err(stop.into_error(&what, "the file system", sent)),
        }
    }
}

impl Work {
    fn is_given_up(&self) -> bool {
        self.cancel.is_cancelled() || Instant::now() >= self.deadline
    }

    fn given_up(&self, what: &str) -> CallError {
        match self.cancel.is_cancelled() {
            true => CallError::cancelled(),
            false => CallError::unreachable(format!("{what}: not begun before the deadline")),
        }
    }

    /// The file of a spec; where it names none, the first of those that kubectl reads.
    fn place(&self, spec: Option<&Value>) -> Result<Place, String> {
        let named = spec.and_then(|spec| spec.field("file")).and_then(Value::as_str).map(str::to_owned);
        let written = named.or_else(|| self.places.together().into_iter().next()).unwrap_or_default();
        Ok(Place { path: self.places.path(&written)?, written })
    }

    /// What a file says; `None` if it is not there or empty. Programs that write it in place are waited for.
    fn read(&self, path: &Path) -> Result<Option<Tree>, String> {
        let began = Instant::now();
        let wait = READ_WAIT.min(self.deadline.saturating_duration_since(began) / 8);
        let is_locked = || path_of(path).symlink_metadata().is_ok();
        loop {
            let locked = is_locked();
            let text = file::read(path).map_err(|error| error.to_string())?;
            if !(locked || is_locked()) || began.elapsed() >= wait || self.is_given_up() {
                return said(text.as_deref());
            }
            std::thread::sleep(READ_PAUSE);
        }
    }

    /// The entries of a target in a file, and those of its name in the files that kubectl reads together with it.
    fn found(&self, place: &Place, name: &str) -> Result<Option<Found>, String> {
        let root = self.read(&place.path).map_err(|why| format!("{}: {why}", place.written))?;
        let found = Found::of(&root.unwrap_or_else(Tree::null), name);
        if !found.is_nothing() {
            return Ok(Some(found));
        }
        let together = self.places.together();
        if !together.contains(&place.written) {
            return Ok(None);
        }
        for written in together.iter().filter(|written| **written != place.written) {
            let Ok(path) = self.places.path(written) else { continue };
            // kubectl would not read it either.
            let Ok(Some(root)) = self.read(&path) else { continue };
            let shadow = Found::of(&root, name);
            if !shadow.is_nothing() {
                return Ok(Some(shadow));
            }
        }
        Ok(None)
    }

    fn look(&self, target: &Target) -> Result<Option<Seen>, String> {
        let place = self.place(target.spec.as_ref())?;
        // A kill between the writing and the unlocking leaves nothing more to write, and the lock.
        if self.may_write
            && let Some(_lock) = Lock::left_behind(&place.path)
        {
            file::sweep(&place.path);
        }
        let Some(found) = self.found(&place, &target.identity.name)? else { return Ok(None) };
        let source = found.stamp(&self.lineage).map(|stamp| stamp.source.clone());
        let credentials = source.and_then(|source| self.credentials(&source).ok());
        Ok(Some(found.seen(&place.written, &self.lineage, credentials.as_ref(), now())))
    }

    fn credentials(&self, source: &str) -> Result<Credentials, String> {
        let Some(cluster) = KubeconfigSpec::cluster_of(source) else {
            return source::read(&self.places.path(source)?);
        };
        let files = self.machines.as_ref().ok_or("no engine is known here")?;
        let timeout = self.deadline.saturating_duration_since(Instant::now());
        let context = CallContext { timeout, ..self.context.clone() };
        // This is a thread that may block.
        let text = self.runtime.block_on(files.kubeconfig(&context, cluster)).map_err(|error| error.message)?;
        source::credentials(&text, Path::new(""))
    }

    fn observation(&self, target: &Target) -> Observation {
        match self.look(target) {
            Ok(Some(seen)) => Observation::Present(Box::new(seen)),
            Ok(None) => Observation::Absent,
            Err(message) => Observation::Unknown(UnknownReason::Denied { message }),
        }
    }

    /// Changes a file under its lock. `change` answers the changes to what the file says, and `None` if there are none to make.
    fn change<T>(
        &self,
        what: &str,
        place: &Place,
        change: impl FnOnce(&Tree) -> Result<(Vec<Change>, T), CallError>,
    ) -> Result<T, CallError> {
        let refused = |why: String| {
            CallError::refused(format!("{what}: {}: {why}", place.written)).hint(format!(
                "put {} right, or name another file in spec.cluster.connection.kubeconfig",
                place.written
            ))
        };
        std::fs::create_dir_all(file::folder_of(&place.path)).map_err(|error| refused(error.to_string()))?;
        // Half of what is left, so that who holds it is still told of.
        let wait = LOCK_WAIT.min(self.deadline.saturating_duration_since(Instant::now()) / 2);
        let _lock = Lock::take(&place.path, wait, &|| self.is_given_up()).map_err(|error| match error {
            LockError::GivenUp => self.given_up(what),
            LockError::Io(error) => refused(format!("its lock cannot be taken: {error}")),
            LockError::Held | LockError::HeldByUs => locked(what, place),
        })?;
        let text = file::read(&place.path).map_err(|error| refused(error.to_string()))?;
        let root = said(text.as_deref()).map_err(refused)?.unwrap_or_else(Tree::null);
        let (changes, answer) = change(&root)?;
        if changes.is_empty() {
            return Ok(answer);
        }
        let written = edit(text.as_deref(), &changes).map_err(|error| {
            let hint = format!("`kubectl config view --raw --kubeconfig {}` writes it plainly", place.written);
            CallError::refused(format!("{what}: {}: {error}", place.written)).hint(hint)
        })?;
        if text.as_deref() == Some(written.as_str()) {
            return Ok(answer);
        }
        if self.is_given_up() {
            return Err(self.given_up(what));
        }
        match file::write(&place.path, &written) {
            Ok(()) => Ok(answer),
            Err(failed) if failed.may_have_happened => {
                Err(CallError::indeterminate(format!("{what}: {}: {}", place.written, failed.error)))
            }
            Err(failed) => Err(refused(failed.error.to_string())),
        }
    }

    /// What is there after a change.
    fn applied(&self, what: &str, target: &Target) -> Result<Applied, CallError> {
        match self.look(target) {
            Ok(Some(seen)) => Ok(Applied { scope: scope(), seen }),
            Ok(None) => Err(CallError::indeterminate(format!("{what}: somebody took it out again"))),
            Err(why) => Err(CallError::indeterminate(format!("{what}: {why}"))),
        }
    }

    fn wait(&self, target: &Target) -> Result<Applied, CallError> {
        let what = format!("look at the context {}", target.identity.name);
        match self.look(target) {
            Ok(Some(seen)) => Ok(Applied { scope: scope(), seen }),
            Ok(None) => Err(CallError::refused(format!("{what}: it is not there")).hint("plan again")),
            Err(why) => Err(CallError::unreachable(format!("{what}: {why}"))),
        }
    }

    fn create(&self, request: &CreateRequest) -> Result<Applied, CallError> {
        let (target, mark) = (&request.target, &request.mark);
        let name = target.identity.name.clone();
        let what = format!("write the context {name}");
        let spec = spec_of(target)?;
        let place = self.place_of(target)?;
        // Those of the same name in other files come before or after ours, and are not ours to hide.
        let elsewhere = self.found(&place, &name).map_err(|why| CallError::unreachable(format!("{what}: {why}")))?;
        let credentials = self.credentials_for(&what, &spec)?;
        self.change(&what, &place, |root| {
            let there = Found::of(root, &name);
            let found = elsewhere.filter(|_| there.is_nothing()).unwrap_or_else(|| there.clone());
            let by_id = target.identity.id.as_deref() == Some(name.as_str());
            if !found.is_nothing() {
                self.must_be_ours(&found, &name, mark, by_id)?;
                let generation = found.stamp(&mark.lineage).map(|stamp| stamp.mark.generation);
                if generation.is_some_and(|generation| generation != mark.generation) {
                    return Err(CallError::refused(format!("{what}: the one before is still there")));
                }
            }
            Ok((there.wanted(&spec, mark, credentials.as_ref(), spec.current_context), ()))
        })?;
        self.applied(&what, target)
    }

    fn update(&self, request: &UpdateRequest) -> Result<Applied, CallError> {
        let (target, mark) = (&request.target, &request.mark);
        let name = target.identity.name.clone();
        let what = format!("change the context {name}");
        let spec = spec_of(target)?;
        let place = self.place_of(target)?;
        let credentials = self.credentials_for(&what, &spec)?;
        let switches = request.changed.iter().any(|path| path.to_string() == "current_context") && spec.current_context;
        self.change(&what, &place, |root| {
            let found = Found::of(root, &name);
            if found.is_nothing() {
                return Err(CallError::refused(format!("{what}: it is not there")).hint("plan again"));
            }
            self.must_be_ours(&found, &name, mark, target.id.as_deref() == Some(name.as_str()))?;
            Ok((found.wanted(&spec, mark, credentials.as_ref(), switches), ()))
        })?;
        self.applied(&what, target)
    }

    fn delete(&self, request: &DeleteRequest) -> Result<Deleted, CallError> {
        let (target, mark) = (&request.target, &request.mark);
        let name = target.identity.name.clone();
        let what = format!("take the context {name} out");
        let place = self.place_of(target)?;
        let there = self
            .read(&place.path)
            .map_err(|why| CallError::unreachable(format!("{what}: {}: {why}", place.written)))?;
        if there.is_none_or(|root| Found::of(&root, &name).is_nothing()) {
            return Ok(Deleted::WasAbsent);
        }
        self.change(&what, &place, |root| {
            let found = Found::of(root, &name);
            if found.is_nothing() {
                return Ok((Vec::new(), Deleted::WasAbsent));
            }
            let stamp = found.stamp(&mark.lineage);
            let adopted = request.adopted && stamp.is_none() && target.id.as_deref() == Some(name.as_str());
            let same = stamp
                .is_some_and(|stamp| stamp.mark.lineage == mark.lineage && stamp.mark.generation == mark.generation);
            if !same && !adopted {
                return Err(not_ours(&name, stamp.map(|stamp| &stamp.mark)));
            }
            Ok((found.unwanted(&mark.lineage, |context| self.has_context(&place, root, context)), Deleted::Gone))
        })
    }

    /// Whether a context is in a file, or in those that kubectl reads together with it.
    fn has_context(&self, place: &Place, root: &Tree, name: &str) -> bool {
        let together = self.places.together();
        let others = together.iter().filter(|written| together.contains(&place.written) && **written != place.written);
        let read = |written: &String| self.read(&self.places.path(written).ok()?).ok()?;
        has_context(root, name) || others.filter_map(read).any(|root| has_context(&root, name))
    }

    fn place_of(&self, target: &Target) -> Result<Place, CallError> {
        self.place(target.spec.as_ref()).map_err(|why| {
            CallError::refused(format!("{}: {why}", target.address))
                .hint("set HOME, or name a file in spec.cluster.connection.kubeconfig")
        })
    }

    /// The credentials to write; `None` where those that are there shall stay.
    fn credentials_for(&self, what: &str, spec: &KubeconfigSpec) -> Result<Option<Credentials>, CallError> {
        if spec.credentials != KubeconfigSpec::credentials(true) {
            return Ok(None);
        }
        self.credentials(&spec.source).map(Some).map_err(|why| {
            CallError::refused(format!("{what}: the cluster's own kubeconfig {} cannot be read: {why}", spec.source))
                .hint("`ksail plan` shows whether the cluster is there")
        })
    }

    fn must_be_ours(&self, found: &Found, name: &str, mark: &Mark, by_id: bool) -> Result<(), CallError> {
        match found.stamp(&mark.lineage) {
            Some(stamp) if stamp.mark.lineage == mark.lineage && stamp.mark.address == mark.address => Ok(()),
            None if by_id => Ok(()),
            stamp => Err(not_ours(name, stamp.map(|stamp| &stamp.mark))),
        }
    }

    fn list(&self) -> Result<Vec<Owned>, CallError> {
        let mut owned: Vec<Owned> = Vec::new();
        for written in self.places.all() {
            let unreadable = |why: String| CallError::unreachable(format!("{written}: {why}"));
            let path = self.places.path(&written).map_err(unreadable)?;
            let Some(root) = self.read(&path).map_err(unreadable)? else { continue };
            for name in marked(&root) {
                let seen = Found::of(&root, &name).seen(&written, &self.lineage, None, now());
                if seen.mark.is_some() {
                    owned.push(Owned {
                        kind: KubeconfigSpec::KIND.to_owned(),
                        identity: Identity::named(name),
                        seen,
                        ownership: Ownership::Fields,
                    });
                }
            }
        }
        Ok(owned)
    }
}

/// In seconds since the epoch.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn scope() -> Scope {
    Scope(SCOPE.into())
}

/// What a text says.
fn said(text: Option<&str>) -> Result<Option<Tree>, String> {
    let Some(text) = text else { return Ok(None) };
    document::read(text).map(|root| root.map(|root| root.tree())).map_err(|error| error.to_string())
}

fn locked(what: &str, place: &Place) -> CallError {
    let lock = path_of(&place.path);
    CallError::refused(format!("{what}: {} is locked: {} exists", place.written, lock.display())).hint(format!(
        "kubectl, kind or another program writes the file, or was killed while it did; if none runs, `rm -f {}` and apply again",
        lock.display()
    ))
}

fn not_ours(name: &str, found: Option<&Mark>) -> CallError {
    let whose = match found {
        Some(mark) => format!("it belongs to {} of lineage {}", mark.address, mark.lineage),
        None => "one of its entries carries no mark".to_owned(),
    };
    CallError::not_ours(format!("the context {name} exists and is not ours: {whose}"))
        .hint("give ours another name in spec.cluster.connection.context")
}

fn spec_of(target: &Target) -> Result<KubeconfigSpec, CallError> {
    let spec = target.spec.as_ref().ok_or_else(|| CallError::refused(format!("{}: it has no spec", target.address)))?;
    KubeconfigSpec::from_value(spec).map_err(|error| CallError::refused(format!("{}: {error}", target.address)))
}

#[async_trait]
impl Provider for KubeconfigProvider {
    async fn observe(&self, context: &CallContext, targets: &[Target]) -> Result<ObserveReply, CallError> {
        let targets = targets.to_vec();
        let look = move |work: &Work| Ok(targets.iter().map(|target| work.observation(target)).collect());
        let observations = self.run(context, None, look).await?;
        Ok(ObserveReply { scope: scope(), observations })
    }

    async fn create(&self, context: &CallContext, request: &CreateRequest) -> Result<Applied, CallError> {
        let (request, what) = (request.clone(), format!("write the context {}", request.target.identity.name));
        self.run(context, Some(what), move |work| work.create(&request)).await
    }

    async fn update(&self, context: &CallContext, request: &UpdateRequest) -> Result<Applied, CallError> {
        let (request, what) = (request.clone(), format!("change the context {}", request.target.identity.name));
        self.run(context, Some(what), move |work| work.update(&request)).await
    }

    async fn delete(&self, context: &CallContext, request: &DeleteRequest) -> Result<Deleted, CallError> {
        let (request, what) = (request.clone(), format!("take the context {} out", request.target.identity.name));
        self.run(context, Some(what), move |work| work.delete(&request)).await
    }

    async fn wait(&self, context: &CallContext, request: &WaitRequest) -> Result<Applied, CallError> {
        let target = request.target.clone();
        self.run(context, None, move |work| work.wait(&target)).await
    }

    async fn list_owned(&self, context: &CallContext) -> Result<Vec<Owned>, CallError> {
        self.run(context, None, Work::list).await
    }
}
