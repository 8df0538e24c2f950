//! A proxy before an S3 server that fails as a test asks: it refuses, resets, is slow, does what it is asked and answers
//! otherwise, or says that the credentials have expired.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The connection is reset before the server sees it.
    Reset,
    /// The server does it; the connection is reset instead of an answer.
    AnswerLost,
    /// The server does not see it; 500.
    Error,
    /// The server does it; the answer is 503.
    ErrorAfter,
    /// It takes this long, in milliseconds.
    Slow(u64),
    /// The credentials have expired.
    Expired,
}

type Choose = dyn FnMut(&str, &str) -> Fault + Send;

/// A proxy on a port of this machine. Its threads end with the process.
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    choose: Arc<Mutex<Box<Choose>>>,
    faults: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) fn before(server: &str) -> Self {
        let server = server.strip_prefix("http://").expect("a server on this machine").to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port for the proxy");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let choose: Arc<Mutex<Box<Choose>>> = Arc::new(Mutex::new(Box::new(|_, _| Fault::None)));
        let faults = Arc::new(AtomicUsize::new(0));
        let (chosen, counted) = (Arc::clone(&choose), Arc::clone(&faults));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (server, choose, faults) = (server.clone(), Arc::clone(&chosen), Arc::clone(&counted));
                std::thread::spawn(move || serve(client, &server, &choose, &faults));
            }
        });
        Self { endpoint, choose, faults }
    }

    /// Chooses what happens to each request from now on, by method and path.
    pub(crate) fn choose(&self, choose: impl FnMut(&str, &str) -> Fault + Send + 'static) {
        *self.choose.lock().expect("the choice") = Box::new(choose);
    }

    /// How many requests met a fault.
    pub(crate) fn faults(&self) -> usize {
        self.faults.load(Ordering::SeqCst)
    }
}

/// One request and its answer; the connection then ends.
fn serve(mut client: TcpStream, server: &str, choose: &Mutex<Box<Choose>>, faults: &AtomicUsize) {
    let Some((head, body)) = request(&mut client) else { return };
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let fault = (choose.lock().expect("the choice"))(method, path);
    if fault != Fault::None {
        faults.fetch_add(1, Ordering::SeqCst);
    }
    let text = |status: &str, code: &str| {
        let body = format!("<Error><Code>{code}</Code><Message>the proxy says so</Message></Error>");
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
            .into_bytes()
    };
    let answer = match fault {
        Fault::Reset => return reset(client),
        Fault::Error => text("500 Internal Server Error", "InternalError"),
        Fault::Expired => text("400 Bad Request", "ExpiredToken"),
        Fault::Slow(ms) => {
            std::thread::sleep(Duration::from_millis(ms));
            forward(server, &head, &body)
        }
        Fault::None => forward(server, &head, &body),
        Fault::AnswerLost => {
            forward(server, &head, &body);
            return reset(client);
        }
        Fault::ErrorAfter => {
            forward(server, &head, &body);
            text("503 Slow Down", "SlowDown")
        }
    };
    let _ = client.write_all(&answer);
    let _ = client.shutdown(Shutdown::Write);
}

/// Ends a connection without an answer: with what was sent unread, the system resets it.
fn reset(client: TcpStream) {
    let _ = client.shutdown(Shutdown::Both);
}

fn request(client: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut all, mut some) = (Vec::new(), [0; 16 * 1024]);
    let end = loop {
        if let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        match client.read(&mut some) {
            Ok(count @ 1..) => all.extend(&some[..count]),
            _ => return None,
        }
    };
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = all[end + 4..].to_vec();
    while body.len() < length.unwrap_or(0) {
        match client.read(&mut some) {
            Ok(count @ 1..) => body.extend(&some[..count]),
            _ => return None,
        }
    }
    Some((head, body))
}

fn forward(server: &str, head: &str, body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).expect("the server listens");
    let head: Vec<&str> = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:")).collect();
    let mut request = head.join("\r\n").into_bytes();
    request.extend(b"\r\nConnection: close\r\n\r\n");
    request.extend(body);
    let mut answer = Vec::new();
    stream.write_all(&request).expect("the server takes it");
    let _ = stream.read_to_end(&mut answer);
    answer
}
