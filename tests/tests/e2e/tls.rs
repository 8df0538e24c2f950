//! A real Docker Engine behind TLS that asks for a client certificate: what `dockerd --tlsverify` serves, here by a proxy in
//! front of the engine's socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;

use crate::docker::{example, name, unprotect};
use crate::support::docker_socket;
use crate::support::engine::Engine;
use crate::support::project::Project;

/// A CA with what it signs.
struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(parameters, key) }
    }

    fn sign(&self, names: &[&str], purpose: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        (parameters.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes what a client needs that trusts this CA and has a certificate of `signer`.
    fn client(&self, signer: &Self, folder: &Path) -> PathBuf {
        std::fs::create_dir_all(folder).unwrap();
        let (certificate, key) = signer.sign(&["client"], ExtendedKeyUsagePurpose::ClientAuth);
        std::fs::write(folder.join("ca.pem"), self.certificate.pem()).unwrap();
        std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        folder.to_owned()
    }

    fn acceptor(&self) -> TlsAcceptor {
        let (certificate, key) = self.sign(&["localhost", "127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Serves a socket by TLS for as long as the tests run, and answers the port.
    fn serve(&self, socket: &Path) -> u16 {
        let (acceptor, socket) = (self.acceptor(), socket.to_owned());
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(pass_on(stream, acceptor.clone(), socket.clone()));
                }
            });
        });
        port
    }
}

async fn pass_on(stream: TcpStream, acceptor: TlsAcceptor, socket: PathBuf) {
    // Whoever has no certificate is not let in, and hears of it.
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let Ok(mut engine) = UnixStream::connect(socket).await else { return };
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut engine).await;
}

/// A docker context of a project's user, as `docker context create` writes it.
fn context(project: &Project, name: &str, host: &str) -> PathBuf {
    let key: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let contexts = project.home().join(".docker/contexts");
    let meta = contexts.join("meta").join(&key);
    std::fs::create_dir_all(&meta).unwrap();
    let text = serde_json::json!({
        "Name": name, "Metadata": {},
        "Endpoints": { "docker": { "Host": host, "SkipTLSVerify": false } },
    });
    std::fs::write(meta.join("meta.json"), text.to_string()).unwrap();
    contexts.join("tls").join(key).join("docker")
}

#[test]
fn an_engine_behind_tls_is_used_by_environment_and_by_context() {
    let Some(socket) = docker_socket() else { return };
    let engine = Engine::at(&socket);
    let authority = Authority::new();
    let host = format!("tcp://127.0.0.1:{}", authority.serve(&socket));
    let cluster = name("tls");
    let mut project = example(&cluster, &socket);
    let certificates = authority.client(&authority, &project.home().join("certificates"));

    project.set_env("DOCKER_HOST", &host);
    project.set_env("DOCKER_TLS_VERIFY", "1");
    project.set_env("DOCKER_CERT_PATH", certificates.to_str().unwrap());
    project.run(&["plan", "--detailed-exitcode"]).code(2);
    project.apply();
    project.is_settled();
    assert_eq!(engine.addresses(&cluster).len(), 7);

    // The same engine by another way: its id is its scope, not its address.
    for variable in ["DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"] {
        project.unset_env(variable);
    }
    let material = context(&project, "far", &host);
    authority.client(&authority, &material);
    project.set_env("DOCKER_CONTEXT", "far");
    project.is_settled();
    unprotect(&project);
    project.run(&["destroy", "--auto-approve"]).code(0);
    assert_eq!(engine.addresses(&cluster), [""; 0]);
}

#[test]
fn an_engine_behind_tls_is_not_talked_to_without_trust_on_both_sides() {
    let Some(socket) = docker_socket() else { return };
    let (authority, other) = (Authority::new(), Authority::new());
    let host = format!("tcp://127.0.0.1:{}", authority.serve(&socket));
    let mut project = example(&name("tls"), &socket);
    project.set_env("DOCKER_HOST", &host);
    project.set_env("DOCKER_TLS_VERIFY", "1");
    let folder = |what: &str| project.home().join(what);
    let (stranger, strangers_engine, no_key) = (folder("stranger"), folder("engine"), folder("no-key"));
    // We are not trusted, we do not trust, and a file is missing.
    authority.client(&other, &stranger);
    other.client(&authority, &strangers_engine);
    authority.client(&authority, &no_key);
    std::fs::remove_file(no_key.join("key.pem")).unwrap();
    for (certificates, why) in [(stranger, "alert"), (strangers_engine, "ertificate"), (no_key, "key.pem")] {
        project.set_env("DOCKER_CERT_PATH", certificates.to_str().unwrap());
        project
            .run(&["plan"])
            .code(3)
            .says(host.trim_start_matches("tcp://"))
            .says(why)
            .says(certificates.to_str().unwrap())
            .says("hint: ");
        project.run(&["apply", "--auto-approve"]).code(3);
    }
    // Plain HTTP to a port that speaks TLS.
    project.unset_env("DOCKER_TLS_VERIFY");
    project.unset_env("DOCKER_CERT_PATH");
    project.run(&["plan"]).code(3).says(&host);
}
