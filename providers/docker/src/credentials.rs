//! Credentials of registries, from Docker's `config.json` with its credential helpers.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use bollard::auth::DockerCredentials;
use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use ksail_provider::CallError;

use crate::call::Call;
use crate::reference::DEFAULT_HOST;

/// How `config.json` calls the default registry.
const DEFAULT_KEY: &str = "https://index.docker.io/v1/";

/// The credentials for a host, kept out of what the call says.
pub(crate) async fn of(
    call: &mut Call,
    doing: &str,
    host: &str,
    config: Option<&Path>,
) -> Result<Option<DockerCredentials>, CallError> {
    let Some(folder) = config else { return Ok(None) };
    let (folder, of_host) = (folder.to_owned(), host.to_owned());
    let asked = tokio::task::spawn_blocking(move || for_host(&folder, &of_host));
    let found = call.aside(doing, asked).await?.unwrap_or_else(|error| Err(error.to_string()));
    let found = found.map_err(|why| CallError::refused(format!("{doing}: {why}")).hint("`docker login HOST`"))?;
    if let Some(found) = &found {
        call.hide([&found.password, &found.identitytoken].into_iter().flatten().map(String::as_str));
    }
    Ok(found)
}

/// The credentials for a host; `None` where there are none. Runs a helper program where the configuration names one, so it
/// blocks. An error holds nothing of what a helper said on its standard output.
pub(crate) fn for_host(folder: &Path, host: &str) -> Result<Option<DockerCredentials>, String> {
    let path = folder.join("config.json");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
    };
    let key = if host == DEFAULT_HOST { DEFAULT_KEY } else { host };
    let credentials = match get_credential_from_reader(BufReader::new(file), key) {
        Ok(DockerCredential::UsernamePassword(username, password)) => {
            DockerCredentials { username: Some(username), password: Some(password), ..Default::default() }
        }
        Ok(DockerCredential::IdentityToken(token)) => {
            DockerCredentials { identitytoken: Some(token), ..Default::default() }
        }
        Err(CredentialRetrievalError::NoCredentialConfigured | CredentialRetrievalError::ConfigNotFound) => {
            return Ok(None);
        }
        Err(error) => return without(&path, host, error),
    };
    Ok(Some(DockerCredentials { serveraddress: Some(key.to_owned()), ..credentials }))
}

fn without(path: &Path, host: &str, error: CredentialRetrievalError) -> Result<Option<DockerCredentials>, String> {
    let why = match error {
        // Helpers have no other way to say that they know none.
        CredentialRetrievalError::HelperFailure { stdout, stderr, .. }
            if [&stdout, &stderr].iter().any(|text| text.contains("credentials not found")) =>
        {
            return Ok(None);
        }
        CredentialRetrievalError::HelperFailure { helper, .. } => format!("{helper} failed"),
        CredentialRetrievalError::HelperCommunicationError => "its credential helper cannot be run".to_owned(),
        CredentialRetrievalError::MalformedHelperResponse => {
            "what its credential helper answered cannot be read".to_owned()
        }
        CredentialRetrievalError::CredentialMismatchError => {
            "`auth` and `username`, `password` contradict each other".to_owned()
        }
        CredentialRetrievalError::CredentialDecodingError => "its `auth` cannot be decoded".to_owned(),
        _ => "it is not a docker configuration".to_owned(),
    };
    Err(format!("no credentials for {host} from {}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(config: &str, host: &str) -> Result<Option<DockerCredentials>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        for_host(folder.path(), host)
    }

    #[test]
    fn credentials_are_found_by_host() {
        // me:hush
        let config =
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6aHVzaA=="},"ghcr.io":{"identitytoken":"t"}}}"#;
        let hub = with(config, "docker.io").unwrap().unwrap();
        assert_eq!((hub.username.as_deref(), hub.password.as_deref()), (Some("me"), Some("hush")));
        assert_eq!(with(config, "ghcr.io").unwrap().unwrap().identitytoken.as_deref(), Some("t"));
        assert_eq!(with(config, "quay.io").unwrap(), None);
        assert_eq!(with("{}", "quay.io").unwrap(), None);
        assert!(for_host(Path::new("/nonexistent"), "quay.io").unwrap().is_none());
    }

    #[test]
    fn what_goes_wrong_is_said_without_the_secret() {
        let error = with("{", "quay.io").unwrap_err();
        assert!(error.contains("is not a docker configuration"), "{error}");
        let error = with(r#"{"credHelpers":{"quay.io":"no-such-helper"}}"#, "quay.io").unwrap_err();
        assert!(error.contains("cannot be run"), "{error}");
        let error = with(r#"{"auths":{"quay.io":{"auth":"aHVzaA=="}}}"#, "quay.io").unwrap_err();
        assert!(error.contains("cannot be decoded") && !error.contains("hush"), "{error}");
    }
}
