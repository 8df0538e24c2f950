//! Starting and ending the process.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpSocket;

use crate::folder::{self, EngineFile, LockProbe};
use crate::talk::{self, Answer};

/// How often it is looked whether the process answers or ended.
const POLL: Duration = Duration::from_millis(10);
/// How long a process may take from its start to its first answer.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a process may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// A log longer than this, in bytes, becomes `engine.log.1` at the next start; while it runs, the process sees to that itself.
const MAX_LOG: u64 = 1024 * 1024;
/// How many lines of the log an error shows.
const SHOWN_LINES: usize = 5;
/// What the process gets of our environment: nothing that may be a secret.
const ENVIRONMENT: [&str; 17] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "XDG_RUNTIME_DIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "KSAIL_LOG",
    "RUST_BACKTRACE",
];

/// Why a process did not start or end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("port {port} of the embedded engine is held by {}", holder(*.of_original))]
    PortTaken { port: u16, of_original: bool },
    #[error("{program} could not be started: {why}")]
    Spawn { program: String, why: String },
    #[error("the embedded engine in {folder} ended at its start: {log}")]
    Ended { folder: String, log: String },
    #[error("the embedded engine in {folder} did not answer within {} s", START_TIMEOUT.as_secs())]
    NoAnswer { folder: String },
    #[error("the embedded engine in {folder} did not end within {} s", STOP_TIMEOUT.as_secs())]
    NoEnd { folder: String },
}

/// What holds a port of ours, in words.
pub(crate) const fn holder(of_original: bool) -> &'static str {
    if of_original { "the engine of the folder that this one was copied from" } else { "something else" }
}

/// Whether nobody listens on a loopback port. It is bound for a moment and not listened on, so that two plans that look at the
/// same time do not see each other.
pub(crate) fn is_free(port: u16) -> bool {
    let bound = TcpSocket::new_v4().and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, port).into())
    });
    bound.is_ok()
}

/// Sees to it that the engine of a folder answers. One that is on its way up is waited for; there is never a second one,
/// because the lock in the folder lets one process in.
pub(crate) async fn start(program: &Path, folder: &Path, file: &EngineFile) -> Result<(), ProcessError> {
    match talk::ask(folder, file.port, &file.nonce).await {
        Answer::Ours { .. } => return Ok(()),
        Answer::OfOriginal => return Err(ProcessError::PortTaken { port: file.port, of_original: true }),
        Answer::Other => return Err(ProcessError::PortTaken { port: file.port, of_original: false }),
        Answer::Silent | Answer::Nothing => {}
    }
    let held = folder::is_held(folder);
    if !held && !is_free(file.port) {
        return Err(ProcessError::PortTaken { port: file.port, of_original: false });
    }
    let mut child = if held { None } else { Some(spawn(program, folder, file.port)?) };
    let name = folder.display().to_string();
    let answered = async {
        loop {
            if matches!(talk::ask(folder, file.port, &file.nonce).await, Answer::Ours { .. }) {
                return Ok(());
            }
            let ended = match &mut child {
                Some(child) => child.try_wait().is_ok_and(|status| status.is_some()),
                None => true,
            };
            // One that ended because another had the lock leaves us waiting for that other.
            if ended && !folder::is_held(folder) {
                return Err(ProcessError::Ended { folder: name.clone(), log: last_lines(folder) });
            }
            tokio::time::sleep(POLL).await;
        }
    };
    match tokio::time::timeout(START_TIMEOUT, answered).await {
        Ok(answered) => answered,
        Err(_) => Err(ProcessError::NoAnswer { folder: name }),
    }
}

/// Starts the process so that it outlives us: a process group of its own, no terminal, the root as its folder.
fn spawn(program: &Path, folder: &Path, port: u16) -> Result<tokio::process::Child, ProcessError> {
    let failed =
        |error: std::io::Error| ProcessError::Spawn { program: program.display().to_string(), why: error.to_string() };
    let log_path = folder.join("engine.log");
    if std::fs::metadata(&log_path).is_ok_and(|metadata| metadata.len() > MAX_LOG) {
        std::fs::rename(&log_path, folder.join("engine.log.1")).map_err(failed)?;
    }
    let log = File::options().create(true).append(true).mode(0o600).open(&log_path).map_err(failed)?;
    let errors = log.try_clone().map_err(failed)?;
    let environment = ENVIRONMENT.iter().filter_map(|key| Some((key, std::env::var_os(key)?)));
    tokio::process::Command::new(program)
        .arg("__engine")
        .arg("--folder")
        .arg(folder)
        .arg("--nonce-file")
        .arg(folder.join("nonce"))
        .arg("--port")
        .arg(port.to_string())
        .env_clear()
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .kill_on_drop(false)
        .spawn()
        .inspect(|child| tracing::debug!(folder = %folder.display(), port, pid = child.id(), "engine started"))
        .map_err(failed)
}

fn last_lines(folder: &Path) -> String {
    let text = std::fs::read(folder.join("engine.log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let shown = lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default().join("; ");
    if shown.is_empty() { "it said nothing".to_owned() } else { shown }
}

/// The path of the socket, as the process noted it.
pub(crate) fn socket(folder: &Path) -> Option<std::path::PathBuf> {
    let bytes = std::fs::read(folder.join("socket")).ok().filter(|bytes| !bytes.is_empty())?;
    String::from_utf8(bytes).ok().map(Into::into)
}

/// Asks the process to end, and waits until its lock is free. None is there: nothing to do.
pub(crate) async fn stop(folder: &Path) -> Result<(), ProcessError> {
    let Some(probe) = LockProbe::open(folder) else { return Ok(()) };
    if !probe.is_held() {
        return Ok(());
    }
    tracing::debug!(folder = %folder.display(), "engine asked to end");
    await_end(folder, &probe).await
}

/// Waits until the lock is free, and asks again meanwhile: a process that has just started may not listen yet.
async fn await_end(folder: &Path, probe: &LockProbe) -> Result<(), ProcessError> {
    let ended = async {
        while probe.is_held() {
            if let Some(socket) = socket(folder) {
                // Not listening yet, or not any more; the lock tells.
                let _ = talk::shut_down(&socket).await;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let name = folder.display().to_string();
    tokio::time::timeout(STOP_TIMEOUT, ended).await.map_err(|_| ProcessError::NoEnd { folder: name })
}
