//! What the nodes of a cluster say, written into a folder as `kind export logs` lays it out.

use std::io;
use std::path::{Component, Path, PathBuf};

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::{DownloadFromContainerOptions, LogsOptions};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use ksail_provider::CallError;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use crate::call::Call;
use crate::container::inspect_whole;
use crate::nodes::{NodeContainer, nodes};
use crate::session::cause;

/// How many nodes are asked at once.
const NODES_AT_ONCE: usize = 4;
/// What a node keeps its logs in.
const LOGS: &str = "/var/log";
/// Programs of a node whose output is a file of its own.
const PROGRAMS: [(&str, &[&str]); 5] = [
    ("kubernetes-version.txt", &["cat", "/kind/version"]),
    ("journal.log", &["journalctl", "--no-pager"]),
    ("kubelet.log", &["journalctl", "--no-pager", "-u", "kubelet.service"]),
    ("containerd.log", &["journalctl", "--no-pager", "-u", "containerd.service"]),
    ("images.log", &["crictl", "images"]),
];

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportedLogs {
    /// The nodes.
    pub nodes: Vec<String>,
    /// What could not be had, a sentence each.
    pub missing: Vec<String>,
}

pub(crate) async fn export(call: &Call, cluster: &str, folder: &Path) -> Result<ExportedLogs, CallError> {
    let mut found: Vec<NodeContainer> = nodes(call).await?;
    found.retain(|node| node.cluster == cluster);
    if found.is_empty() {
        return Ok(ExportedLogs::default());
    }
    let info = call.list("tell of the engine", || call.session.docker.info()).await?;
    write(call, folder, "docker-info.txt", &pretty(&info)).await?;
    let works = found.iter().map(|node| of_node(call, node, folder.join(&node.name)));
    let works: Vec<_> = works.collect();
    let missing: Vec<Vec<String>> = futures::stream::iter(works).buffered(NODES_AT_ONCE).try_collect().await?;
    let mut nodes: Vec<String> = found.into_iter().map(|node| node.name).collect();
    nodes.sort();
    Ok(ExportedLogs { nodes, missing: missing.concat() })
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

fn unwritable(call: &Call, path: &Path, error: &io::Error) -> CallError {
    call.refused(&format!("write {}", path.display()), &error.to_string())
        .hint("name another folder: `ksail cluster logs DIR`")
}

async fn write(call: &Call, folder: &Path, name: &str, text: &str) -> Result<(), CallError> {
    let path = folder.join(name);
    let written = async {
        tokio::fs::create_dir_all(folder).await?;
        tokio::fs::write(&path, text).await
    };
    written.await.map_err(|error| unwritable(call, &path, &error))
}

/// Writes what one node says. What cannot be had of it is told, and the rest is there all the same: a node that does not run has its
/// logs, and answers no program.
async fn of_node(call: &Call, node: &NodeContainer, folder: PathBuf) -> Result<Vec<String>, CallError> {
    let name = &node.name;
    let docker = &call.session.docker;
    tokio::fs::create_dir_all(&folder).await.map_err(|error| unwritable(call, &folder, &error))?;
    let inspected = inspect_whole(call, name).await?;
    write(call, &folder, "inspect.json", &pretty(&[inspected])).await?;
    let mut missing = Vec::new();
    let mut told = |what: &str, done: Result<(), String>| {
        if let Err(why) = done {
            missing.push(format!("{what} of `{name}` could not be had: {why}"));
        }
    };
    let options = LogsOptions { stdout: true, stderr: true, tail: "all".to_owned(), ..Default::default() };
    let serial = docker.logs(name, Some(options)).map_ok(LogOutput::into_bytes).map_err(|error| cause(&error));
    told("serial.log", guarded(call, save(serial, &folder.join("serial.log"))).await?);
    if !node.is_node() {
        return Ok(missing);
    }
    if node.is_running() {
        for (file, command) in PROGRAMS {
            told(file, guarded(call, program(call, name, command, &folder.join(file))).await?);
        }
    } else {
        told("journal.log", Err(format!("it does not run ({})", node.state)));
    }
    told(LOGS, guarded(call, below(call, name, &folder)).await?);
    Ok(missing)
}

/// Within the deadline and the cancellation of the call.
async fn guarded<T>(call: &Call, work: impl Future<Output = T>) -> Result<T, CallError> {
    call.aside("export the logs", work).await
}

/// Writes a stream into a file, without ever having it whole.
async fn save<B: AsRef<[u8]>>(said: impl Stream<Item = Result<B, String>>, path: &Path) -> Result<(), String> {
    let mut said = std::pin::pin!(said);
    let mut file = File::create(path).await.map_err(|error| error.to_string())?;
    while let Some(bytes) = said.next().await {
        file.write_all(bytes?.as_ref()).await.map_err(|error| error.to_string())?;
    }
    file.flush().await.map_err(|error| error.to_string())
}

async fn program(call: &Call, container: &str, command: &[&str], path: &Path) -> Result<(), String> {
    let docker = &call.session.docker;
    let options = CreateExecOptions {
        cmd: Some(command.to_vec()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let id = docker.create_exec(container, options).await.map_err(|error| cause(&error))?.id;
    match docker.start_exec(&id, None::<StartExecOptions>).await.map_err(|error| cause(&error))? {
        StartExecResults::Attached { output, .. } => {
            save(output.map_ok(LogOutput::into_bytes).map_err(|error| cause(&error)), path).await?;
        }
        StartExecResults::Detached => return Err("the engine tells nothing of it".to_owned()),
    }
    match docker.inspect_exec(&id).await.map_err(|error| cause(&error))?.exit_code {
        Some(0) => Ok(()),
        code => Err(format!("`{}` ended with {}", command.join(" "), code.unwrap_or(-1))),
    }
}

/// Brings what lies below the folder of logs.
async fn below(call: &Call, container: &str, folder: &Path) -> Result<(), String> {
    let options = DownloadFromContainerOptions { path: LOGS.to_owned() };
    let parts = call.session.docker.download_from_container(container, Some(options));
    let archive = folder.join(".var-log.tar");
    let saved = save(parts.map_err(|error| cause(&error)), &archive).await;
    let (from, into) = (archive.clone(), folder.to_owned());
    let unpacked = match saved {
        Ok(()) => tokio::task::spawn_blocking(move || unpack(std::fs::File::open(from)?, &into)).await,
        Err(why) => Ok(Err(io::Error::other(why))),
    };
    let _ = tokio::fs::remove_file(&archive).await;
    unpacked.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Unpacks files and folders, and then the links between them: those that lead out of the folder of logs are left out.
fn unpack(archive: impl io::Read, folder: &Path) -> io::Result<()> {
    let mut links = Vec::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        // The first part is the name of the folder itself.
        let Some(path) = safe(&entry.path()?, 1) else { continue };
        let path = folder.join(path);
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            std::fs::create_dir_all(&path)?;
        } else if kind.is_file() {
            std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
            io::copy(&mut entry, &mut std::fs::File::create(&path)?)?;
        } else if kind.is_symlink()
            && let Some(to) = entry.link_name()?
            && let Ok(within) = to.strip_prefix(LOGS)
            && let Some(within) = safe(within, 0)
        {
            links.push((path, folder.join(within)));
        }
    }
    for (path, to) in links {
        std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
        // A copy, as kind has it: it can be read where links cannot, and outlives a move of the folder.
        if to.is_file() {
            std::fs::copy(&to, &path)?;
        }
    }
    Ok(())
}

/// A path without its first parts, if it leads nowhere else.
fn safe(path: &Path, without: usize) -> Option<PathBuf> {
    let parts = path.components().filter(|part| !matches!(part, Component::CurDir)).skip(without);
    parts.map(|part| if let Component::Normal(name) = part { Some(name) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(entries: &[(&str, &str, Option<&str>)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, text, link) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            // Written as they are: what a library would refuse to write may still come from an engine.
            let name = header.as_old_mut();
            name.name[..path.len()].copy_from_slice(path.as_bytes());
            match link {
                Some(to) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_link_name_literal(to).unwrap();
                    header.set_size(0);
                    header.set_cksum();
                    archive.append(&header, io::empty()).unwrap();
                }
                None => {
                    header.set_size(text.len() as u64);
                    header.set_cksum();
                    archive.append(&header, text.as_bytes()).unwrap();
                }
            }
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn logs_lie_as_in_the_node_and_nothing_leads_out() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("node");
        let bytes = packed(&[
            ("log/containers/a.log", "", Some("/var/log/pods/a/0.log")),
            ("log/pods/a/0.log", "said", None),
            ("log/../../escaped", "x", None),
            ("log/passwd", "", Some("/etc/passwd")),
            ("log/up", "", Some("/var/log/../../etc/passwd")),
        ]);
        unpack(bytes.as_slice(), &folder).unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("containers/a.log")).unwrap(), "said");
        assert_eq!(std::fs::read_to_string(folder.join("pods/a/0.log")).unwrap(), "said");
        assert!(!outer.path().join("escaped").exists() && !folder.join("escaped").exists());
        assert!(!folder.join("passwd").exists() && !folder.join("up").exists());
    }
}
