//! Images in the containerd of a node: which it has, and how they are put there.

use std::collections::BTreeMap;
use std::sync::Arc;

use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures::StreamExt as _;
use ksail_archives::Archive;
use ksail_provider::CallError;
use serde::Deserialize;
use tokio::io::AsyncWriteExt as _;

use crate::archive::stream;
use crate::call::Call;
use crate::exec::{Output, Said, came_to, hear, look};

/// Waits until containerd answers, which it does a moment after the machine's services were started; prints what images it
/// has. Ends with 101 where it does not answer.
pub(crate) const LIST: &str = r#"tries=0
until listed=$(ctr --namespace=k8s.io images list 2>&1); do
  tries=$((tries + 1))
  if [ "$tries" -ge 50 ]; then echo "$listed" >&2; exit 101; fi
  sleep 0.1
done
echo "$listed"
"#;
/// Prints the manifests of some images, a line each. Arguments: their digests.
const MANIFESTS: &str = r#"for digest in "$@"; do
  ctr --namespace=k8s.io content get "$digest" 2>/dev/null | tr -d '\n'
  echo
done
"#;
/// Tells as what containerd unpacks images that it runs containers of: in the variable `snapshotter`.
pub(crate) const SNAPSHOTTER: &str = r#"snapshotter=$(containerd config dump 2>/dev/null | sed -n "s/^ *snapshotter = [\"']\([^\"']*\)[\"']\$/\1/p" | head -n 1)
snapshotter=${snapshotter:-overlayfs}
"#;
/// Takes images in from an archive that it reads.
const IMPORT: &str = r#"exec ctr --namespace=k8s.io images import $platforms --snapshotter "$snapshotter" -
"#;
/// Takes images of whatever platform they say they are, as there is only one of each.
const ANY_PLATFORM: &str = "platforms=--all-platforms\n";
/// Takes of an index what is for this machine: the others are not there.
const OWN_PLATFORM: &str = "platforms=\n";
/// How many lines of what was said a failure tells.
const TOLD: usize = 4;

/// The images that a node has: by their names, the digests that they lead to. `None` says that there is no such container.
pub(crate) async fn list(call: &Call, node: &str, what: &str) -> Result<Option<BTreeMap<String, String>>, CallError> {
    match look(call, node, what, &["sh", "-c", LIST]).await? {
        None => Ok(None),
        Some(output) if output.is_success() => Ok(Some(parse(&output.stdout))),
        Some(output) => {
            let error = call.refused(&format!("{what}: containerd of `{node}` does not answer"), &output.end(TOLD));
            Err(error.hint(format!("`docker exec {node} journalctl -u containerd` tells more")))
        }
    }
}

/// What `ctr images list` says: a name, a media type and a digest begin each line but the first.
pub(crate) fn parse(listed: &str) -> BTreeMap<String, String> {
    let image = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        let digest = words.find(|word| word.starts_with("sha256:"))?;
        Some((name.to_owned(), digest.to_owned()))
    };
    listed.lines().skip(1).filter_map(image).collect()
}

#[derive(Deserialize)]
struct Manifest {
    config: Config,
}

#[derive(Deserialize)]
struct Config {
    digest: String,
}

/// Of some images of a node, by the digests that they lead to, the digests of their configurations: what engines call their
/// ids. Those of several platforms are left out.
pub(crate) async fn ids(
    call: &Call,
    node: &str,
    what: &str,
    digests: &[&str],
) -> Result<BTreeMap<String, String>, CallError> {
    if digests.is_empty() {
        return Ok(BTreeMap::new());
    }
    let command: Vec<&str> = ["sh", "-c", MANIFESTS, "sh"].into_iter().chain(digests.iter().copied()).collect();
    let said = look(call, node, what, &command).await?.map(|output| output.stdout).unwrap_or_default();
    let id = |(digest, line): (&&str, &str)| {
        let manifest: Manifest = serde_json::from_str(line).ok()?;
        Some(((*digest).to_owned(), manifest.config.digest))
    };
    Ok(digests.iter().zip(said.lines()).filter_map(id).collect())
}

/// Puts images of an archive into a node. They are whole there when this is done; where it fails, or is cut off, it can be done
/// again.
pub(crate) async fn import(
    call: &Call,
    node: &str,
    doing: &str,
    archive: Arc<Archive>,
    references: Vec<String>,
) -> Result<(), CallError> {
    let has_index = |name: &String| archive.image(name).is_ok_and(ksail_archives::Image::has_index);
    let (indexed, plain): (Vec<String>, Vec<String>) = references.into_iter().partition(has_index);
    for (names, platforms) in [(plain, ANY_PLATFORM), (indexed, OWN_PLATFORM)] {
        if !names.is_empty() {
            import_some(call, node, doing, Arc::clone(&archive), names, platforms).await?;
        }
    }
    Ok(())
}

async fn import_some(
    call: &Call,
    node: &str,
    doing: &str,
    archive: Arc<Archive>,
    references: Vec<String>,
    platforms: &str,
) -> Result<(), CallError> {
    let work = async {
        match send(call, node, archive, references, platforms).await {
            Ok(output) => Ok(Ok(output)),
            Err(Failure::Engine(error)) => Err(error),
            Err(Failure::Archive(error)) => Ok(Err(error)),
        }
    };
    match call.change(doing, work).await {
        Ok(Ok(output)) if output.is_success() => Ok(()),
        Ok(Ok(output)) => Err(call.refused(&format!("{doing}: containerd did not take them"), &output.end(TOLD))),
        Ok(Err(error)) => Err(CallError::refused(format!("{doing}: {error}"))),
        Err(failed) => Err(failed.into_error(call, doing)),
    }
}

enum Failure {
    Engine(bollard::errors::Error),
    Archive(std::io::Error),
}

impl From<bollard::errors::Error> for Failure {
    fn from(error: bollard::errors::Error) -> Self {
        Self::Engine(error)
    }
}

/// Runs the import and gives it what it reads, while what it says is read.
async fn send(
    call: &Call,
    node: &str,
    archive: Arc<Archive>,
    references: Vec<String>,
    platforms: &str,
) -> Result<Output, Failure> {
    let docker = &call.session.docker;
    let program = format!("{SNAPSHOTTER}{platforms}{IMPORT}");
    let options = CreateExecOptions {
        cmd: Some(vec!["sh", "-c", &program]),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let id = docker.create_exec(node, options).await?.id;
    let mut said = Said::default();
    if let StartExecResults::Attached { output, mut input } = docker.start_exec(&id, None::<StartExecOptions>).await? {
        let give = async move {
            let mut parts = std::pin::pin!(stream(archive, references));
            while let Some(part) = parts.next().await {
                // One that ended says itself why.
                if input.write_all(&part.map_err(Failure::Archive)?).await.is_err() {
                    return Ok(());
                }
            }
            let _ = input.shutdown().await;
            Ok::<_, Failure>(())
        };
        let listen = async { Ok(hear(output).await?) };
        ((), said) = futures::try_join!(give, listen)?;
    }
    Ok(came_to(call, &id, said).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_digests_are_read_from_the_list() {
        let listed = "REF TYPE DIGEST SIZE PLATFORMS LABELS \n\
                      docker.io/library/a:1 application/vnd.oci.image.manifest.v1+json sha256:aa 1.1 MiB linux/amd64 - \n\
                      sha256:bb application/vnd.oci.image.manifest.v1+json sha256:cc 2.0 MiB linux/amd64 io.cri=managed \n\
                      torn\n";
        let images = parse(listed);
        assert_eq!(images.get("docker.io/library/a:1").map(String::as_str), Some("sha256:aa"));
        assert_eq!(images.len(), 2);
    }
}
