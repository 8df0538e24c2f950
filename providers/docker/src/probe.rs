//! Whether a container can be used: whether it runs, and answers HTTP on this machine.

use std::time::Duration;

use ksail_model::Readiness;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::call::Call;
use crate::observed::Observed;

/// How long one answer may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// How much of an answer is read: its first line is all that counts.
const FIRST_LINE: usize = 64;
/// From this status on an answer says that the server is broken.
const SERVER_ERROR: u16 = 500;

/// Whether it can be used now. Health is asked for over HTTP where the engine's ports are on this machine; elsewhere a
/// running process is ready.
pub(crate) async fn readiness(call: &Call, kind: &str, observed: &Observed) -> Readiness {
    if let Some(why) = observed.not_running() {
        return Readiness::NotReady(why);
    }
    match observed.health(kind).filter(|_| call.session.local) {
        None => Readiness::Ready,
        Some((address, port, path)) => match healthy(&address, port, &path).await {
            Ok(()) => Readiness::Ready,
            Err(why) => Readiness::NotReady(why),
        },
    }
}

/// Asks once. The error is why it is not healthy, as a fragment.
async fn healthy(address: &str, port: u16, path: &str) -> Result<(), String> {
    let status = match tokio::time::timeout(PROBE_TIMEOUT, status(address, port, path)).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => return Err(format!("http://{address}:{port}{path} does not answer: {error}")),
        Err(_) => {
            return Err(format!("http://{address}:{port}{path} did not answer within {} s", PROBE_TIMEOUT.as_secs()));
        }
    };
    match status {
        Some(status) if status < SERVER_ERROR => Ok(()),
        Some(status) => Err(format!("http://{address}:{port}{path} answers {status}")),
        None => Err(format!("http://{address}:{port}{path} does not answer in HTTP")),
    }
}

async fn status(address: &str, port: u16, path: &str) -> std::io::Result<Option<u16>> {
    let mut stream = TcpStream::connect((address, port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut line = Vec::with_capacity(FIRST_LINE);
    while line.len() < FIRST_LINE && !line.contains(&b'\n') {
        if stream.read_buf(&mut line).await? == 0 {
            break;
        }
    }
    let line = String::from_utf8_lossy(&line);
    Ok(line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.get(..3)?.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(with: &'static str) -> Result<(), String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0u8; 256];
            let _ = stream.read(&mut request).await;
            stream.write_all(with.as_bytes()).await.unwrap();
        });
        let reply = healthy("127.0.0.1", port, "/v2/").await;
        server.await.unwrap();
        reply
    }

    #[tokio::test]
    async fn statuses_below_500_are_healthy() {
        assert_eq!(answer("HTTP/1.1 200 OK\r\n\r\n").await, Ok(()));
        assert_eq!(answer("HTTP/1.1 401 Unauthorized\r\n\r\n").await, Ok(()));
        assert!(answer("HTTP/1.1 503 No\r\n\r\n").await.unwrap_err().ends_with("answers 503"));
        assert!(answer("SSH-2.0-x\r\n").await.unwrap_err().ends_with("does not answer in HTTP"));
    }
}
