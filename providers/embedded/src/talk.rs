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
    /// The process of another folder, of which ours is a copy: it has the same nonce.
    OfOriginal,
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
    /// Of the folder's path without links. Older versions do not tell it.
    #[serde(default)]
    folder_digest: Option<String>,
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> std::io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes()).await?;
    let mut reply = Vec::new();
    stream.take(MAX_REPLY).read_to_end(&mut reply).await?;
    Ok(reply)
}

/// Asks a port of this machine whether the process of a folder is there.
pub(crate) async fn ask(folder: &Path, port: u16, nonce: &str) -> Answer {
    let answer = ask_page(folder, port, nonce).await;
    tracing::trace!(port, ?answer, "asked who listens");
    answer
}

async fn ask_page(folder: &Path, port: u16, nonce: &str) -> Answer {
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
        Some(page) if page.nonce_digest == digest(nonce.as_bytes()) => {
            let place = folder.canonicalize().map(|folder| digest(folder.as_os_str().as_encoded_bytes()));
            let is_elsewhere = matches!((page.folder_digest, place), (Some(theirs), Ok(ours)) if theirs != ours);
            if is_elsewhere { Answer::OfOriginal } else { Answer::Ours { version: page.version } }
        }
        _ => Answer::Other,
    }
}

fn read_page(reply: &[u8]) -> Option<StatusPage> {
    serde_json::from_slice(&read_reply(reply)?.body).ok()
}

fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An answer of the engine.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    /// What an error says.
    pub(crate) fn message(&self) -> String {
        #[derive(Deserialize)]
        struct Error {
            message: String,
        }
        match serde_json::from_slice(&self.body) {
            Ok(Error { message }) => message,
            Err(_) => format!("status {}", self.status),
        }
    }
}

/// Why there is no answer.
pub(crate) enum RequestError {
    /// Nobody got the request.
    NotSent(std::io::Error),
    /// It may have been done.
    NoAnswer(std::io::Error),
}

/// Sends a request with a body of JSON, if any, to the process behind a socket. It has no deadline of its own.
pub(crate) async fn request(socket: &Path, method: &str, path: &str, body: &str) -> Result<Reply, RequestError> {
    let stream = UnixStream::connect(socket).await.map_err(RequestError::NotSent)?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let bytes = exchange(stream, &request).await.map_err(RequestError::NoAnswer)?;
    read_reply(&bytes).ok_or_else(|| RequestError::NoAnswer(std::io::ErrorKind::UnexpectedEof.into()))
}

/// Reads an answer that is whole: one that was cut off is none.
fn read_reply(bytes: &[u8]) -> Option<Reply> {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..split)?).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let body = bytes.get(split + 4..)?.to_vec();
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, length)| length.trim().parse::<usize>().ok());
    length.is_none_or(|length| length == body.len()).then_some(Reply { status, body })
}

/// A name as a part of a path.
pub(crate) fn escaped(name: &str) -> String {
    use std::fmt::Write as _;
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            text.push(byte.into());
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

/// Asks the process behind a socket to end. Whether it does is seen by its lock.
pub(crate) async fn shut_down(socket: &Path) -> std::io::Result<()> {
    match tokio::time::timeout(ANSWER_TIMEOUT, request(socket, "POST", "/ksail/shutdown", "")).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RequestError::NotSent(error) | RequestError::NoAnswer(error))) => Err(error),
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{escaped, read_reply};

    #[test]
    fn an_answer_that_was_cut_off_is_none() {
        let whole = b"HTTP/1.1 404 Not Found\r\ncontent-length: 15\r\n\r\n{\"message\":\"x\"}";
        let reply = read_reply(whole).unwrap();
        assert_eq!((reply.status, reply.message().as_str(), reply.is_success()), (404, "x", false));
        for length in 0..whole.len() {
            assert!(read_reply(&whole[..length]).is_none(), "{length}");
        }
    }

    #[test]
    fn names_stay_one_part_of_a_path() {
        assert_eq!(escaped("dev-1.x"), "dev-1.x");
        assert_eq!(escaped("a/../b c"), "a%2F..%2Fb%20c");
    }
}
