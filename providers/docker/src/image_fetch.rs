//! Images that are named by a digest, from their registries. What such a name means is a manifest or an index to the byte, and engines
//! that keep images unpacked give neither when they save one.

use std::collections::BTreeMap;
use std::io::{Seek as _, SeekFrom};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use ksail_archives::{Archive, Blob, Gathered, LeadsTo, leads_to};
use ksail_provider::CallError;
use ksail_registry_client::{Credentials, Upstream, UpstreamError, bounded_body};
use reqwest::Method;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use crate::archive;
use crate::call::Call;
use crate::credentials;
use crate::digest::sha256_hex;
use crate::image::CERTIFICATES;
use crate::podman;
use crate::reference::{DEFAULT_HOST, Reference};

/// Where the default registry answers.
const DEFAULT_ADDRESS: &str = "registry-1.docker.io";
/// The longest manifest that is read, in bytes.
const LONGEST_MANIFEST: usize = 16 * 1024 * 1024;
/// How deep indexes may lie in each other.
const DEEPEST: usize = 4;
/// How often a blob is asked for in all that breaks off.
const TRIES: usize = 3;

/// Fetches images that are named by digests into an archive in a folder, where it leaves no file.
pub(crate) async fn fetch(
    call: &mut Call,
    names: &[&str],
    scratch: &Path,
    config: Option<&Path>,
) -> Result<Arc<Archive>, CallError> {
    let doing = format!("fetch {}", names.join(", "));
    let mut out = Out::new(scratch, &doing)?;
    let mut registries: BTreeMap<String, Upstream> = BTreeMap::new();
    for name in names {
        let what = format!("fetch the image `{name}`");
        let reference = Reference::parse(name);
        let host = reference.host.clone();
        if !registries.contains_key(&host) {
            let registry = open(call, &what, &host, config).await?;
            registries.insert(host.clone(), registry);
        }
        let Some(registry) = registries.get(&host) else { continue };
        let one = image(registry, &reference, &mut out);
        call.aside(&what, one).await?.map_err(|error| error.told(call, &what, &reference))?;
    }
    let file = out.finish().await.map_err(|error| unwritable(&doing, scratch, &error))?;
    archive::read(call, &doing, file).await
}

/// The registry of a host, that answers.
async fn open(call: &mut Call, what: &str, host: &str, config: Option<&Path>) -> Result<Upstream, CallError> {
    let credentials = credentials::of(call, what, host, config).await?.and_then(|found| {
        let token = found.identitytoken.map(Credentials::Identity);
        token.or_else(|| Some(Credentials::Password { username: found.username?, password: found.password? }))
    });
    let authorities = authorities(host, call.session.is_podman);
    let at = if host == DEFAULT_HOST { DEFAULT_ADDRESS } else { host };
    let client = |scheme: &str| {
        let made = Upstream::trusting(&format!("{scheme}://{at}"), credentials.clone(), &authorities);
        made.map_err(|error| Failure::Registry(error).told(call, what, &Reference::parse(&format!("{host}/_"))))
    };
    let encrypted = client("https")?;
    if !is_insecure(call, what, host).await? {
        return Ok(encrypted);
    }
    match call.aside(what, encrypted.ping()).await? {
        // One that encrypts and is not trusted does not speak without encryption either, and its certificate is what is to be told.
        Err(UpstreamError::Unreachable { why, .. }) if !why.contains("certificate") => client("http"),
        _ => Ok(encrypted),
    }
}

/// Whether the engine speaks to a registry without encryption too.
async fn is_insecure(call: &Call, what: &str, host: &str) -> Result<bool, CallError> {
    let info = call.list(what, || call.session.docker.info()).await?;
    let known = info.registry_config.unwrap_or_default();
    if let Some(index) = known.index_configs.as_ref().and_then(|all| all.get(host)) {
        return Ok(index.secure == Some(false));
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() else {
        return Ok(name == "localhost");
    };
    let ranges = known.insecure_registry_cidrs.unwrap_or_default();
    let ranges = ranges.iter().filter_map(|range| range.parse::<IpNet>().ok());
    Ok(address.is_loopback() || ranges.into_iter().any(|range| range.contains(&address)))
}

/// The authorities that the engine's own folders of certificates name for a host, as far as they lie on this machine.
fn authorities(host: &str, is_podman: bool) -> Vec<Vec<u8>> {
    let folder = Path::new(if is_podman { podman::CERTIFICATES } else { CERTIFICATES }).join(host);
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "crt"));
    files.filter_map(|path: PathBuf| std::fs::read(path).ok()).collect()
}

enum Failure {
    Registry(UpstreamError),
    /// What it gave is not what was asked for.
    Content(String),
    File(std::io::Error),
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        Self::Registry(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::File(error)
    }
}

impl Failure {
    fn told(self, call: &Call, what: &str, reference: &Reference) -> CallError {
        let host = &reference.host;
        let login = if call.session.is_podman { "podman login" } else { "docker login" };
        let error = match &self {
            Self::Registry(error) => call.redact(&error.to_string()),
            Self::Content(why) => format!("{host}: {why}"),
            Self::File(error) => error.to_string(),
        };
        let hint = match &self {
            Self::Registry(UpstreamError::NotFound { .. }) => {
                format!("correct the reference: a registry forgets content that no tag names any more; {BY_TAG}")
            }
            Self::Registry(UpstreamError::Denied { .. }) => format!("`{login} {host}`"),
            Self::Registry(UpstreamError::Unreachable { why, .. }) if why.contains("certificate") => {
                let folder = if call.session.is_podman { podman::CERTIFICATES } else { CERTIFICATES };
                format!("put the CA of {host} at {folder}/{host}/ca.crt")
            }
            Self::Registry(UpstreamError::Unreachable { .. }) => format!(
                "content that is named by a digest comes from its registry, not from the engine, and so this machine must reach \
                 {host}; {BY_TAG}"
            ),
            Self::File(_) => "make room there, or let TMPDIR name another folder".to_owned(),
            Self::Registry(_) | Self::Content(_) => "run the same command again".to_owned(),
        };
        CallError::refused(format!("{what}: {error}")).hint(hint)
    }
}

/// What else can be done.
const BY_TAG: &str = "or name the image by a tag alone, which the engine saves";

/// Brings an image: what its digest names, of several platforms that of this machine, and all that it is made of.
async fn image(registry: &Upstream, reference: &Reference, out: &mut Out) -> Result<(), Failure> {
    let digest = reference.digest.clone().unwrap_or_default();
    let (root, document) = manifest(registry, reference, digest, out).await?;
    out.gathered.name(&reference.to_string(), &root, &document);
    let mut document = document;
    for _ in 0..DEEPEST {
        match leads_to(&document, std::env::consts::ARCH).map_err(|error| Failure::Content(error.to_string()))? {
            LeadsTo::Platform(one) => document = manifest(registry, reference, one.digest, out).await?.1,
            LeadsTo::Blobs(blobs) => {
                for blob in &blobs {
                    self::blob(registry, reference, blob, out).await?;
                }
                return Ok(());
            }
        }
    }
    Err(Failure::Content("its indexes lie too deep in each other".to_owned()))
}

/// Brings a manifest or an index, which must be what its digest says.
async fn manifest(
    registry: &Upstream,
    reference: &Reference,
    digest: String,
    out: &mut Out,
) -> Result<(Blob, Vec<u8>), Failure> {
    let response = registry.manifest(Method::GET, &reference.repository, &digest).await?;
    let bytes = bounded_body(response, LONGEST_MANIFEST).await.map_err(Failure::Content)?;
    let hex = sha256_hex(&bytes);
    if digest != format!("sha256:{hex}") {
        return Err(Failure::Content(format!("it gave something else as {digest}: sha256:{hex}")));
    }
    let blob = Blob { digest, size: bytes.len() as u64 };
    if let Some(before) = out.gathered.begin(&blob) {
        for part in [&before, &bytes, &Gathered::end(&blob)] {
            out.file.write_all(part).await?;
        }
    }
    Ok((blob, bytes))
}

/// Brings a blob that the archive does not hold yet. Its digest is checked where the archive is read; here its size, by which the
/// next one is found.
async fn blob(registry: &Upstream, reference: &Reference, blob: &Blob, out: &mut Out) -> Result<(), Failure> {
    let Some(before) = out.gathered.begin(blob) else { return Ok(()) };
    out.file.write_all(&before).await?;
    let begin = out.file.stream_position().await?;
    let mut tries = 0;
    loop {
        tries += 1;
        match stream(registry, reference, blob, out).await {
            Ok(()) => break,
            Err(Failure::Registry(error)) if tries < TRIES && error.is_outage() => {}
            Err(Failure::Content(_)) if tries < TRIES => {}
            Err(error) => return Err(error),
        }
        out.file.seek(SeekFrom::Start(begin)).await?;
        out.file.set_len(begin).await?;
    }
    out.file.write_all(&Gathered::end(blob)).await?;
    Ok(())
}

async fn stream(registry: &Upstream, reference: &Reference, blob: &Blob, out: &mut Out) -> Result<(), Failure> {
    let mut response = registry.blob(Method::GET, &reference.repository, &blob.digest).await?;
    let mut size = 0;
    let broken =
        |error: reqwest::Error| Failure::Content(format!("{} broke off: {}", blob.digest, error.without_url()));
    while let Some(part) = response.chunk().await.map_err(broken)? {
        size += part.len() as u64;
        if size > blob.size {
            break;
        }
        out.file.write_all(&part).await?;
    }
    if size == blob.size {
        return Ok(());
    }
    Err(Failure::Content(format!("{} has not the {} bytes that its manifest says", blob.digest, blob.size)))
}

/// The archive that is gathered, in a file that has no name, and so is gone with this process.
struct Out {
    file: File,
    gathered: Gathered,
}

impl Out {
    fn new(scratch: &Path, doing: &str) -> Result<Self, CallError> {
        let file = tempfile::tempfile_in(scratch).map_err(|error| unwritable(doing, scratch, &error))?;
        Ok(Self { file: File::from_std(file), gathered: Gathered::default() })
    }

    async fn finish(mut self) -> std::io::Result<std::fs::File> {
        let end = self.gathered.finish().map_err(std::io::Error::other)?;
        self.file.write_all(&end).await?;
        self.file.flush().await?;
        let mut file = self.file.into_std().await;
        file.rewind()?;
        Ok(file)
    }
}

pub(crate) fn unwritable(doing: &str, scratch: &Path, error: &std::io::Error) -> CallError {
    let error = CallError::refused(format!("{doing}: a file in {} cannot be written: {error}", scratch.display()));
    error.hint("make room there, or let TMPDIR name another folder")
}
