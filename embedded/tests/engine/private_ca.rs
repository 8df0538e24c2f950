//! An upstream whose certificate a private authority signed, which `SSL_CERT_FILE` names.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::serve::Listener;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::harness::{Client, Engine, answers, connect, eventually, free_port};

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"a/b","digest":"sha256:00","size":0},"layers":[]}"#;

struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            // A client that does not trust us hangs up.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// Serves one manifest by https, and writes the authority's certificate.
async fn upstream(authority: &Path) -> u16 {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    std::fs::write(authority, params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new()
        .fallback(async |_: Request| ([("Content-Type", "application/vnd.oci.image.manifest.v1+json")], MANIFEST));
    let tls = Tls { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
    tokio::spawn(async move { axum::serve(tls, router).await });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_of_a_private_authority_is_trusted_where_it_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let authority = parent.path().join("authority.pem");
    let upstream = upstream(&authority).await;
    let url = format!("REGISTRY_PROXY_REMOTEURL=https://localhost:{upstream}");
    for (name, trusted) in [("trusts", true), ("does-not", false)] {
        let folder = parent.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let port = free_port();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "life::engine_process", "--nocapture"])
            .env("ENGINE_FOLDER", &folder)
            .env("ENGINE_PORT", port.to_string())
            .stdout(Stdio::null());
        if trusted {
            command.env("SSL_CERT_FILE", &authority);
        }
        let mut child = command.spawn().unwrap();
        eventually("the engine process answers", || answers(port)).await;
        let engine = Engine {
            folder: folder.clone(),
            port,
            docker: connect(&folder),
            cancel: tokio_util::sync::CancellationToken::new(),
            task: tokio::spawn(async { Ok(()) }),
        };
        let mirror = Client::new(engine.registry("mirror", &[&url]).await);
        let reply = mirror.get("/v2/a/manifests/v1").await;
        assert_eq!(reply.status(), if trusted { 200 } else { 502 });
        let text = reply.text().await.unwrap();
        assert!(if trusted { text == MANIFEST } else { text.contains("certificate") }, "{text}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
