//! Programs that run in a container, and files that go in and out of it.

use std::io::Read as _;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::{DownloadFromContainerOptions, UploadToContainerOptions};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use ksail_provider::CallError;
use tokio::io::AsyncWriteExt as _;

use crate::call::Call;

/// How much of what a program says is kept, in bytes: its end.
const LONGEST_OUTPUT: usize = 4 * 1024 * 1024;
/// How long one line of it may be.
const LONGEST_LINE: usize = 1024 * 1024;

/// The exit code of a program that did not come to run.
const NOT_RUN: i64 = -1;

/// What a program came to.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i64,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    pub(crate) const fn is_success(&self) -> bool {
        self.code == 0
    }

    /// The last lines of what it said of its failure.
    pub(crate) fn end(&self, lines: usize) -> String {
        let said = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let all: Vec<&str> = said.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// Runs a program that changes something. It goes on in the container if this process ends or the call is cancelled.
pub(crate) async fn run(
    call: &Call,
    container: &str,
    doing: &str,
    command: &[&str],
    input: &str,
) -> Result<Output, CallError> {
    let ran = call.change(doing, one(call, container, command, input)).await;
    ran.map_err(|failed| failed.into_error(call, doing))
}

/// Runs a program that only looks, again where its answer was lost. `None` says that there is no such container. One that has stopped since
/// it was seen to run is no failure of the look: the program did not come to run, and the engine's words are what it said.
pub(crate) async fn look(
    call: &Call,
    container: &str,
    what: &str,
    command: &[&str],
) -> Result<Option<Output>, CallError> {
    look_with(call, container, what, command, "").await
}

/// The same, of a program that is given something to read.
pub(crate) async fn look_with(
    call: &Call,
    container: &str,
    what: &str,
    command: &[&str],
    input: &str,
) -> Result<Option<Output>, CallError> {
    let request = || async {
        match one(call, container, command, input).await {
            Err(Error::DockerResponseServerError { status_code: 409, message }) => {
                Ok(Output { code: NOT_RUN, stdout: String::new(), stderr: message })
            }
            other => other,
        }
    };
    call.look(what, request).await
}

async fn one(call: &Call, container: &str, command: &[&str], input: &str) -> Result<Output, Error> {
    let docker = &call.session.docker;
    let options = CreateExecOptions {
        cmd: Some(command.to_vec()),
        attach_stdin: Some(!input.is_empty()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let id = docker.create_exec(container, options).await?.id;
    let started = StartExecOptions { output_capacity: Some(LONGEST_LINE), ..Default::default() };
    let mut said = Said::default();
    if let StartExecResults::Attached { output, input: mut stdin } = docker.start_exec(&id, Some(started)).await? {
        if !input.is_empty() {
            stdin.write_all(input.as_bytes()).await?;
            stdin.shutdown().await?;
        }
        said = hear(output).await?;
    }
    came_to(call, &id, said).await
}

/// What a program has said: of each stream the end.
#[derive(Default)]
pub(crate) struct Said {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Listens to a program until it ends.
pub(crate) async fn hear(mut output: impl Stream<Item = Result<LogOutput, Error>> + Unpin) -> Result<Said, Error> {
    let mut all = Said::default();
    while let Some(said) = output.next().await {
        let (into, message) = match said? {
            LogOutput::StdErr { message } => (&mut all.stderr, message),
            LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
                (&mut all.stdout, message)
            }
        };
        into.extend_from_slice(&message);
        let surplus = into.len().saturating_sub(LONGEST_OUTPUT);
        into.drain(..surplus);
    }
    Ok(all)
}

/// What a program that has ended came to.
pub(crate) async fn came_to(call: &Call, exec: &str, said: Said) -> Result<Output, Error> {
    let code = call.session.docker.inspect_exec(exec).await?.exit_code.unwrap_or(NOT_RUN);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Output { code, stdout: text(&said.stdout), stderr: text(&said.stderr) })
}

/// Puts what a tar holds below a folder of a container, whether it runs or not. A link takes the place of a folder.
pub(crate) async fn upload(
    call: &Call,
    container: &str,
    doing: &str,
    folder: &str,
    tar: Vec<u8>,
) -> Result<(), CallError> {
    let options = UploadToContainerOptions { path: folder.to_owned(), ..Default::default() };
    let body = bollard::body_full(tar.into());
    let sent = call.change(doing, call.session.docker.upload_to_container(container, Some(options), body)).await;
    sent.map_err(|failed| failed.into_error(call, doing))
}

/// The text files below a path of a container, by their paths; `None` where there is no such path.
pub(crate) async fn download(
    call: &Call,
    container: &str,
    what: &str,
    path: &str,
) -> Result<Option<Vec<(String, String)>>, CallError> {
    let request = || async {
        let options = DownloadFromContainerOptions { path: path.to_owned() };
        let parts: Vec<_> = call.session.docker.download_from_container(container, Some(options)).try_collect().await?;
        Ok(parts.concat())
    };
    let Some(bytes) = call.look(what, request).await? else { return Ok(None) };
    let mut files = Vec::new();
    let mut archive = tar::Archive::new(bytes.as_slice());
    for entry in archive.entries().map_err(|error| call.refused(what, &error.to_string()))? {
        let mut entry = entry.map_err(|error| call.refused(what, &error.to_string()))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut text = String::new();
        // What is no text is none of ours.
        if entry.read_to_string(&mut text).is_ok() {
            files.push((name, text));
        }
    }
    Ok(Some(files))
}

/// What is put into a container.
pub(crate) struct Parcel(tar::Builder<Vec<u8>>);

impl Parcel {
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub(crate) fn folder(&mut self, path: &str) -> std::io::Result<()> {
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        self.0.append_data(&mut header, format!("{path}/"), std::io::empty())
    }

    pub(crate) fn file(&mut self, path: &str, text: &str) -> std::io::Result<()> {
        let mut header = header(tar::EntryType::Regular, 0o644, text.len() as u64);
        self.0.append_data(&mut header, path, text.as_bytes())
    }

    /// A file that nobody but root may read.
    pub(crate) fn secret(&mut self, path: &str, text: &str) -> std::io::Result<()> {
        let mut header = header(tar::EntryType::Regular, 0o600, text.len() as u64);
        self.0.append_data(&mut header, path, text.as_bytes())
    }

    pub(crate) fn link(&mut self, path: &str, to: &str) -> std::io::Result<()> {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        self.0.append_link(&mut header, path, to)
    }

    pub(crate) fn bytes(self) -> std::io::Result<Vec<u8>> {
        self.0.into_inner()
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}
