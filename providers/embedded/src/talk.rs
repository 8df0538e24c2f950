//! Talking to the process: its status page, and its shutdown.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

/// How long the process may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest reply that is read, in bytes.
const MAX_REPLY: u64 = 1024 * 1024;

/// What answers on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Our process, with the version that it states.
    Ours { version: String },
    /// Something else, or a process of ours with another nonce.
    Other,
    /// It accepts connections and does not answer in time.
    Silent,
    /// Nothing listens.
    Nothing,
}

#[derive(Deserialize)]
struct StatusPage {
    version: String,
    nonce_digest: String,
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> std::io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes()).await?;
    let mut reply = Vec::new();
    stream.take(MAX_REPLY).read_to_end(&mut reply).await?;
    Ok(reply)
}

/// Asks a port of this machine who is there.
pub(crate) async fn ask(port: u16, nonce: &str) -> Answer {
    let answer = ask_page(port, nonce).await;
    tracing::trace!(port, ?answer, "asked who listens");
    answer
}

async fn ask_page(port: u16, nonce: &str) -> Answer {
    let connected = tokio::time::timeout(ANSWER_TIMEOUT, TcpStream::connect(("127.0.0.1", port))).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return Answer::Nothing,
        Err(_) => return Answer::Silent,
    };
    let request = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    let reply = match tokio::time::timeout(ANSWER_TIMEOUT, exchange(stream, request)).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(_)) => return Answer::Other,
        Err(_) => return Answer::Silent,
    };
    match read_page(&reply) {
        Some(page) if page.nonce_digest == digest(nonce) => Answer::Ours { version: page.version },
        _ => Answer::Other,
    }
}

fn read_page(reply: &[u8]) -> Option<StatusPage> {
    let split = reply.windows(4).position(|window| window == b"\r\n\r\n")?;
    serde_json::from_slice(reply.get(split + 4..)?).ok()
}

fn digest(nonce: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(nonce.as_bytes()).iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Asks the process behind a socket to end. Whether it does is seen by its lock.
pub(crate) async fn shut_down(socket: &Path) -> std::io::Result<()> {
    let request = "POST /ksail/shutdown HTTP/1.1\r\nHost: engine\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let talk = async { exchange(UnixStream::connect(socket).await?, request).await.map(|_| ()) };
    match tokio::time::timeout(ANSWER_TIMEOUT, talk).await {
        Ok(result) => result,
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}
