//! What a cluster is known by: its authority, its certificate, its tokens. Made once, kept private in its folder.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use crate::OpenError;

/// The file of the identity.
const FILE: &str = "identity.json";
/// The format that this version writes; a newer one is refused.
const FORMAT: u32 = 1;
/// Bytes of a token, and of the key by which tokens are signed.
const SECRET_LEN: usize = 32;

/// The identity as it is kept.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Identity {
    format: u32,
    /// The authority's certificate, PEM.
    pub(crate) authority: String,
    /// The server's certificate and key, PEM.
    certificate: String,
    key: String,
    /// The token of the administrator.
    pub(crate) token: String,
    /// The key of the tokens of service accounts, base64.
    account_key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

fn secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; SECRET_LEN];
    getrandom::fill(&mut bytes)?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

impl Identity {
    /// Reads the identity of a folder, or makes one.
    pub(crate) fn open(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(FILE);
        let file = |source| OpenError::File { path: path.clone(), source };
        match std::fs::read(&path) {
            Ok(bytes) => {
                let damaged =
                    |error: serde_json::Error| OpenError::Damaged { path: path.clone(), what: error.to_string() };
                let identity: Self = serde_json::from_slice(&bytes).map_err(damaged)?;
                if identity.format > FORMAT {
                    return Err(OpenError::Newer { path, format: identity.format });
                }
                Ok(identity)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let identity = Self::make().map_err(|error| file(std::io::Error::other(error)))?;
                identity.keep(folder, &path).map_err(file)?;
                Ok(identity)
            }
            Err(error) => Err(file(error)),
        }
    }

    fn make() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.distinguished_name.push(DnType::CommonName, "ksail embedded kubernetes");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority_certificate = authority.self_signed(&authority_key)?;
        let issuer = Issuer::new(authority, authority_key);
        let key = KeyPair::generate()?;
        let names = ["127.0.0.1", "::1", "localhost", "kubernetes", "kubernetes.default.svc"].map(str::to_owned);
        let mut server = CertificateParams::new(names)?;
        server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        let certificate = server.signed_by(&key, &issuer)?;
        Ok(Self {
            format: FORMAT,
            authority: authority_certificate.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            token: secret()?,
            account_key: secret()?,
        })
    }

    fn keep(&self, folder: &Path, path: &Path) -> std::io::Result<()> {
        let temporary = folder.join(format!("{FILE}.tmp"));
        let mut file =
            std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        std::fs::File::open(folder)?.sync_all()
    }

    /// The key of the tokens of service accounts.
    pub(crate) fn account_key(&self) -> Vec<u8> {
        self.account_key.as_bytes().to_vec()
    }

    /// What the server answers TLS with.
    pub(crate) fn tls(&self) -> Result<Arc<rustls::ServerConfig>, String> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|error| error.to_string())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_single_cert(certificates.map_err(|error| error.to_string())?, key);
        let mut config = config.map_err(|error| error.to_string())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// A kubeconfig for the administrator of the server at an address.
    pub(crate) fn kubeconfig(&self, address: SocketAddr, name: &str) -> String {
        let authority = base64::engine::general_purpose::STANDARD.encode(&self.authority);
        let name = serde_json::Value::from(name);
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: {name}\n  cluster:\n    server: https://{address}\n    \
             certificate-authority-data: {authority}\nusers:\n- name: {name}\n  user:\n    token: {}\ncontexts:\n- name: {name}\n  \
             context:\n    cluster: {name}\n    user: {name}\ncurrent-context: {name}\n",
            self.token
        )
    }
}
