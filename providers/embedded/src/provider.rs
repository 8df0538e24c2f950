//! The provider of the kind `engine`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use ksail_kinds::{EngineSpec, Spec as _};
use ksail_model::{Mark, Observation, Ownership, Readiness, Scope, Seen, UnknownReason, Value};
use ksail_provider::{
    Applied, CallContext, CallError, CreateRequest, DeleteRequest, Deleted, ObserveReply, Owned, PortInUse, Provider,
    Target, UpdateRequest, WaitRequest,
};
use tokio::sync::Mutex;

use crate::folder::{self, EngineFile, FORMAT, FolderError};
use crate::holder;
use crate::process::{self, ProcessError};
use crate::talk::{self, Answer};

/// The scope of engines: the state's folder. An engine lives in it and moves with it, so the scope is the same wherever the
/// folder lies, and it is known before there is an engine. What an engine hosts has the engine's own id as its scope.
pub const SCOPE: &str = "embedded:state-folder";

/// How often readiness is looked at.
const POLL: std::time::Duration = std::time::Duration::from_millis(20);

/// Engines below a state's folder, run by a program.
#[derive(Debug, Clone)]
pub struct EmbeddedProvider {
    program: PathBuf,
    state: PathBuf,
    /// One change at a time: a call takes what it finds half made for the remains of one that was cut off.
    turn: Arc<Mutex<()>>,
}

impl From<FolderError> for CallError {
    fn from(error: FolderError) -> Self {
        let refused = Self::refused(error.to_string());
        match error {
            FolderError::Newer { .. } => refused.hint("use a newer ksail"),
            FolderError::Broken { .. } => {
                refused.hint("restore the file, or remove the engine's folder and apply again")
            }
            _ => refused,
        }
    }
}

impl From<ProcessError> for CallError {
    fn from(error: ProcessError) -> Self {
        let message = error.to_string();
        match error {
            ProcessError::PortTaken { .. } => {
                Self::refused(message).hint("stop what holds the port, or declare another one for the engine")
            }
            ProcessError::Spawn { .. } | ProcessError::Ended { .. } => Self::refused(message),
            ProcessError::NoAnswer { .. } => {
                Self::indeterminate(message).hint("read engine.log in the engine's folder")
            }
            ProcessError::NoEnd { .. } => Self::indeterminate(message).hint("end the process, then apply again"),
        }
    }
}

/// What is there of an engine.
struct Look {
    file: EngineFile,
    answer: Answer,
    held: bool,
}

impl EmbeddedProvider {
    /// Engines below `state_folder`, run by `program`, the `ksail` binary, as
    /// `<program> __engine --folder F --nonce-file N --port P`. Neither is touched here, and the folder need not be there yet.
    pub fn new(program: PathBuf, state_folder: PathBuf) -> Self {
        let state = std::path::absolute(&state_folder).unwrap_or(state_folder);
        Self { program, state, turn: Arc::default() }
    }

    fn folder(&self, target: &Target) -> Result<PathBuf, CallError> {
        if target.address.kind() != EngineSpec::KIND {
            return Err(CallError::refused(format!(
                "{}: the embedded provider makes engines only; what an engine hosts is made by the docker provider",
                target.address
            )));
        }
        Ok(folder::resolve(&self.state, &target.identity.name)?)
    }

    async fn look(folder: &Path) -> Result<Option<Look>, FolderError> {
        let Some(file) = folder::read(folder)? else { return Ok(None) };
        let answer = talk::ask(folder, file.port, &file.nonce).await;
        // Asked only where it matters: a look at the lock takes it for a moment.
        let held = matches!(answer, Answer::Silent) && folder::is_held(folder);
        Ok(Some(Look { file, answer, held }))
    }

    fn seen(folder: &Path, look: &Look, wanted: Option<&EngineSpec>) -> Seen {
        let running = matches!(look.answer, Answer::Ours { .. }) || look.held;
        let version = match &look.answer {
            Answer::Ours { version } => version.clone(),
            _ => look.file.version.clone(),
        };
        let spec = EngineSpec { version, port: look.file.port, running };
        let readiness = match &look.answer {
            Answer::Ours { .. } => Readiness::Ready,
            _ if wanted.is_some_and(|wanted| !wanted.running) && !running => Readiness::Ready,
            Answer::Silent if look.held => Readiness::NotReady("it does not answer".to_owned()),
            Answer::Nothing => Readiness::NotReady("it does not run".to_owned()),
            Answer::OfOriginal | Answer::Other | Answer::Silent => Readiness::NotReady(format!(
                "it does not run, and port {} is held by {}",
                look.file.port,
                process::holder(look.answer == Answer::OfOriginal)
            )),
        };
        let id = look.file.id.to_string();
        let mut attributes =
            vec![("id", Value::from(id.clone())), ("endpoint", Value::from(EngineSpec::endpoint(look.file.port)))];
        // In a copied folder there stands the socket of the original's engine.
        if look.answer != Answer::OfOriginal
            && let Some(socket) = process::socket(folder)
        {
            attributes.push(("socket", Value::from(socket.display().to_string())));
        }
        Seen {
            id: Some(id),
            fields: spec.to_value(),
            attributes: Value::map(attributes),
            mark: look.file.mark.clone(),
            readiness,
            others: Vec::new(),
        }
    }

    async fn applied(folder: &Path, wanted: Option<&EngineSpec>) -> Result<Applied, CallError> {
        let look = Self::look(folder).await?;
        let look = look.ok_or_else(|| CallError::indeterminate(format!("{} is gone", folder.display())))?;
        Ok(Applied { scope: Scope(SCOPE.into()), seen: Self::seen(folder, &look, wanted) })
    }

    /// Brings the process to what is wanted; the folder is there.
    async fn converge(
        &self,
        folder: &Path,
        mut file: EngineFile,
        wanted: &EngineSpec,
        mark: &Mark,
    ) -> Result<(), CallError> {
        let answer = talk::ask(folder, file.port, &file.nonce).await;
        let as_wanted =
            matches!(&answer, Answer::Ours { version } if *version == wanted.version) && file.port == wanted.port;
        if !(wanted.running && as_wanted) {
            let other_port = file.port != wanted.port || !matches!(answer, Answer::Ours { .. });
            let taken =
                |port| ProcessError::PortTaken { port, of_original: answer == Answer::OfOriginal && port == file.port };
            // Before anything is stopped: a port that cannot be had leaves all as it is.
            if wanted.running && other_port && !folder::is_held(folder) && !process::is_free(wanted.port) {
                return Err(taken(wanted.port).into());
            }
            if wanted.running && file.port != wanted.port && !process::is_free(wanted.port) {
                return Err(taken(wanted.port).into());
            }
            process::stop(folder).await?;
        }
        let differs = file.port != wanted.port || file.version != wanted.version || file.mark.as_ref() != Some(mark);
        if differs {
            file.port = wanted.port;
            file.version.clone_from(&wanted.version);
            file.mark = Some(mark.clone());
            folder::write(folder, &file)?;
        }
        if !wanted.running {
            return Ok(());
        }
        process::start(&self.program, folder, &file).await?;
        match talk::ask(folder, file.port, &file.nonce).await {
            Answer::Ours { version } if version != wanted.version => Err(CallError::refused(format!(
                "{} runs the engine in version {version}, and version {} is planned",
                self.program.display(),
                wanted.version
            ))
            .hint("plan again with the binary that applies")),
            _ => Ok(()),
        }
    }

    async fn do_create(&self, request: &CreateRequest) -> Result<Applied, CallError> {
        let _turn = self.turn.lock().await;
        let wanted = spec(&request.target)?.ok_or_else(|| no_spec(&request.target))?;
        let folder = self.folder(&request.target)?;
        folder::sweep(folder.parent().unwrap_or(&self.state));
        let known = folder::read(&folder)?;
        let is_new = known.is_none();
        let file = match known {
            Some(file) if is_ours(file.mark.as_ref(), &request.mark) => file,
            Some(file) => return Err(not_ours(&folder, file.mark.as_ref())),
            None => {
                if std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
                    return Err(CallError::not_ours(format!("{} exists and holds something else", folder.display())));
                }
                if wanted.running && !process::is_free(wanted.port) {
                    return Err(ProcessError::PortTaken { port: wanted.port, of_original: false }.into());
                }
                let file = EngineFile {
                    format: FORMAT,
                    id: uuid::Uuid::new_v4(),
                    nonce: format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()),
                    port: wanted.port,
                    version: wanted.version.clone(),
                    mark: Some(request.mark.clone()),
                };
                folder::make(&folder, &file)?;
                file
            }
        };
        // An adopted engine keeps the mark of the call that made it.
        let mark = file.mark.clone().unwrap_or_else(|| request.mark.clone());
        if let Err(error) = self.converge(&folder, file, &wanted, &mark).await {
            if is_new && error.kind == ksail_provider::CallErrorKind::Refused && !folder::is_held(&folder) {
                // "Refused" promises that nothing was made.
                folder::remove(&folder)?;
            }
            return Err(error);
        }
        Self::applied(&folder, Some(&wanted)).await
    }

    async fn do_update(&self, request: &UpdateRequest) -> Result<Applied, CallError> {
        let _turn = self.turn.lock().await;
        let wanted = spec(&request.target)?.ok_or_else(|| no_spec(&request.target))?;
        let folder = self.folder(&request.target)?;
        let file = folder::read(&folder)?;
        let file =
            file.ok_or_else(|| CallError::refused(format!("{} is gone", folder.display())).hint("plan again"))?;
        // An imported engine has no mark yet and is known by its id.
        let imported = file.mark.is_none() && request.target.id.as_deref() == Some(file.id.to_string().as_str());
        if !is_ours(file.mark.as_ref(), &request.mark) && !imported {
            return Err(not_ours(&folder, file.mark.as_ref()));
        }
        self.converge(&folder, file, &wanted, &request.mark).await?;
        Self::applied(&folder, Some(&wanted)).await
    }

    async fn do_delete(&self, request: &DeleteRequest) -> Result<Deleted, CallError> {
        let _turn = self.turn.lock().await;
        let folder = self.folder(&request.target)?;
        folder::sweep(folder.parent().unwrap_or(&self.state));
        let Some(file) = folder::read(&folder)? else { return Ok(Deleted::WasAbsent) };
        let same_lineage = file.mark.as_ref().is_some_and(|mark| mark.lineage == request.mark.lineage);
        let adopted = request.adopted
            && file.mark.is_none()
            && request.target.id.as_deref() == Some(file.id.to_string().as_str());
        if !same_lineage && !adopted {
            return Err(not_ours(&folder, file.mark.as_ref()));
        }
        process::stop(&folder).await?;
        let removed = tokio::task::spawn_blocking(move || folder::remove(&folder)).await;
        removed.map_err(|error| CallError::indeterminate(error.to_string()))??;
        Ok(Deleted::Gone)
    }
}

fn spec(target: &Target) -> Result<Option<EngineSpec>, CallError> {
    let spec = target.spec.as_ref().map(EngineSpec::from_value).transpose();
    spec.map_err(|error| CallError::refused(format!("{}: {error}", target.address)))
}

fn no_spec(target: &Target) -> CallError {
    CallError::refused(format!("{}: the request has no spec", target.address))
}

/// Whether a mark is that of ours, of whatever operation.
pub(crate) fn is_ours(found: Option<&Mark>, ours: &Mark) -> bool {
    found.is_some_and(|mark| mark.lineage == ours.lineage && mark.address == ours.address)
}

fn not_ours(folder: &Path, found: Option<&Mark>) -> CallError {
    not_ours_by(&format!("the engine in {}", folder.display()), found)
}

/// Why a thing is not ours, by the mark that it carries.
pub(crate) fn not_ours_by(what: &str, found: Option<&Mark>) -> CallError {
    let whose = match found {
        Some(mark) => format!("it belongs to {} of lineage {}", mark.address, mark.lineage),
        None => "it carries no mark".to_owned(),
    };
    CallError::not_ours(format!("{what} exists and is not ours: {whose}"))
}

/// Runs a call under the caller's deadline and cancellation. Whatever instant it is dropped at, it can be repeated.
async fn bounded<T>(
    context: &CallContext,
    changes: bool,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    if context.cancel.is_cancelled() {
        return Err(CallError::cancelled());
    }
    let given_up = |why: &str| {
        let message = format!("the call to the embedded engine {why}");
        if changes { CallError::indeterminate(message) } else { CallError::unreachable(message) }
    };
    tokio::select! {
        biased;
        result = call => result,
        () = context.cancel.cancelled() => Err(given_up("was cancelled")),
        () = tokio::time::sleep(context.timeout) => Err(given_up("did not end before its deadline")),
    }
}

#[async_trait]
impl Provider for EmbeddedProvider {
    async fn observe(&self, context: &CallContext, targets: &[Target]) -> Result<ObserveReply, CallError> {
        bounded(context, false, async {
            let mut observations = Vec::with_capacity(targets.len());
            for target in targets {
                let folder = self.folder(target)?;
                let wanted = spec(target)?;
                observations.push(match Self::look(&folder).await {
                    Ok(Some(look)) => Observation::Present(Box::new(Self::seen(&folder, &look, wanted.as_ref()))),
                    Ok(None) => Observation::Absent,
                    Err(error) => Observation::Unknown(UnknownReason::Denied { message: error.to_string() }),
                });
            }
            Ok(ObserveReply { scope: Scope(SCOPE.into()), observations })
        })
        .await
    }

    async fn create(&self, context: &CallContext, request: &CreateRequest) -> Result<Applied, CallError> {
        bounded(context, true, self.do_create(request)).await
    }

    async fn update(&self, context: &CallContext, request: &UpdateRequest) -> Result<Applied, CallError> {
        bounded(context, true, self.do_update(request)).await
    }

    async fn delete(&self, context: &CallContext, request: &DeleteRequest) -> Result<Deleted, CallError> {
        bounded(context, true, self.do_delete(request)).await
    }

    async fn wait(&self, context: &CallContext, request: &WaitRequest) -> Result<Applied, CallError> {
        if context.cancel.is_cancelled() {
            return Err(CallError::cancelled());
        }
        let folder = self.folder(&request.target)?;
        let wanted = spec(&request.target)?;
        let deadline = tokio::time::Instant::now() + context.timeout;
        loop {
            let applied = tokio::select! {
                applied = Self::applied(&folder, wanted.as_ref()) => applied?,
                () = context.cancel.cancelled() => return Err(CallError::cancelled()),
            };
            if applied.seen.readiness.is_ready() || tokio::time::Instant::now() + POLL >= deadline {
                return Ok(applied);
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = context.cancel.cancelled() => return Err(CallError::cancelled()),
            }
        }
    }

    async fn list_owned(&self, context: &CallContext) -> Result<Vec<Owned>, CallError> {
        bounded(context, false, async {
            let mut owned = Vec::new();
            for (name, file) in folder::scan(&self.state) {
                if file.mark.is_none() {
                    continue;
                }
                let folder = self.state.join(&name);
                if let Some(look) = Self::look(&folder).await? {
                    owned.push(Owned {
                        kind: EngineSpec::KIND.to_owned(),
                        identity: ksail_model::Identity::named(name),
                        seen: Self::seen(&folder, &look, None),
                        ownership: Ownership::Owned,
                    });
                }
            }
            Ok(owned)
        })
        .await
    }

    async fn ports_in_use(&self, context: &CallContext, ports: &[u16]) -> Result<Vec<PortInUse>, CallError> {
        bounded(context, false, async {
            let busy: Vec<u16> = ports.iter().copied().filter(|port| !process::is_free(*port)).collect();
            if busy.is_empty() {
                return Ok(Vec::new());
            }
            let asked = busy.clone();
            // Where it cannot be told, it is another process.
            let mut holders = tokio::task::spawn_blocking(move || holder::of(&asked)).await.unwrap_or_default();
            let engines = folder::scan(&self.state);
            let mut taken = Vec::with_capacity(busy.len());
            for port in busy {
                let holder = holders.remove(&port);
                let mut lineage = None;
                let mut name = None;
                for (engine, file) in &engines {
                    let folder = self.state.join(engine);
                    let serves = holder.as_ref().is_some_and(|holder| holder.runs(&folder));
                    if serves {
                        lineage = file.mark.as_ref().map(|mark| mark.lineage.clone());
                    }
                    // The system may not tell who holds a port; the engine does, of its own.
                    if file.port == port
                        && (serves || matches!(talk::ask(&folder, port, &file.nonce).await, Answer::Ours { .. }))
                    {
                        lineage = file.mark.as_ref().map(|mark| mark.lineage.clone());
                        name = Some(format!("the embedded engine {engine}"));
                    }
                }
                let holder = name.or(holder.map(|holder| holder.name)).unwrap_or_else(|| "another process".to_owned());
                taken.push(PortInUse { port, holder, lineage });
            }
            Ok(taken)
        })
        .await
    }
}
