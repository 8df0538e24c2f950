//! A client of a Docker Engine, small enough to be trusted: what exists is asked of the outside, not of the product.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// The mark that says whose something is, and which.
/// Where the tags are by which images are held, for images carry no labels of ours.
const OWNERS: &str = "ksail.io/owner/";
const LINEAGE: &str = "dev.ksail.lineage";
const ADDRESS: &str = "dev.ksail.address";

/// An engine behind a Unix socket.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    socket: PathBuf,
}

/// Something that carries a mark.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Marked {
    pub(crate) sort: &'static str,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) lineage: String,
}

fn exchange(mut stream: impl Read + Write, request: &[u8]) -> (u16, Vec<u8>) {
    let mut answer = Vec::new();
    stream.write_all(request).expect("the request");
    // Some servers reset a connection whose answer was read to its end.
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer with a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    (status, answer[end + 4..].to_vec())
}

/// HTTP/1.0, so that an answer ends with its connection.
fn request(method: &str, path: &str, sort: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: {sort}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    request
}

/// A request to a port of this machine.
pub(crate) fn http(port: u16, method: &str, path: &str, sort: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("something that listens");
    stream.set_read_timeout(Some(ANSWER)).expect("a timeout");
    exchange(stream, &request(method, path, sort, body))
}

impl Engine {
    pub(crate) fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let stream = UnixStream::connect(&self.socket)
            .unwrap_or_else(|error| panic!("no engine answers on {}: {error}", self.socket.display()));
        stream.set_read_timeout(Some(ANSWER)).expect("a timeout");
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let (status, answer) = exchange(stream, &request(method, path, "application/json", &body));
        (status, serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }

    fn get(&self, path: &str) -> Value {
        let (status, answer) = self.call("GET", path, &Value::Null);
        assert_eq!(status, 200, "GET {path}: {answer}");
        answer
    }

    /// Whether a container of this name exists and runs.
    pub(crate) fn is_running(&self, container: &str) -> Option<bool> {
        let (status, answer) = self.call("GET", &format!("/containers/{container}/json"), &Value::Null);
        (status == 200).then(|| answer["State"]["Running"].as_bool().unwrap_or(false))
    }

    pub(crate) fn inspect(&self, container: &str) -> Value {
        self.get(&format!("/containers/{container}/json"))
    }

    #[track_caller]
    pub(crate) fn remove_container(&self, name: &str) {
        let (status, answer) = self.call("DELETE", &format!("/containers/{name}?force=1"), &Value::Null);
        assert_eq!(status, 204, "{answer}");
    }

    #[track_caller]
    pub(crate) fn stop_container(&self, name: &str) {
        let (status, answer) = self.call("POST", &format!("/containers/{name}/stop?t=1"), &Value::Null);
        assert_eq!(status, 204, "{answer}");
    }

    /// Restarts containers, all at once.
    #[track_caller]
    pub(crate) fn restart(&self, containers: &[String]) {
        std::thread::scope(|scope| {
            for container in containers {
                scope.spawn(move || {
                    let (status, answer) =
                        self.call("POST", &format!("/containers/{container}/restart?t=5"), &Value::Null);
                    assert_eq!(status, 204, "{answer}");
                });
            }
        });
    }

    /// Runs a program in a container, and answers its exit code and what it said.
    #[track_caller]
    pub(crate) fn exec(&self, container: &str, command: &[&str]) -> (i64, String) {
        let asked = serde_json::json!({"AttachStdout": true, "AttachStderr": true, "Tty": true, "Cmd": command});
        let (status, made) = self.call("POST", &format!("/containers/{container}/exec"), &asked);
        assert_eq!(status, 201, "{made}");
        let id = made["Id"].as_str().expect("an id");
        let stream = UnixStream::connect(&self.socket).expect("the engine");
        stream.set_read_timeout(Some(ANSWER)).expect("a timeout");
        let body = serde_json::json!({"Detach": false, "Tty": true}).to_string();
        let (_, said) =
            exchange(stream, &request("POST", &format!("/exec/{id}/start"), "application/json", body.as_bytes()));
        let code = self.get(&format!("/exec/{id}/json"))["ExitCode"].as_i64().unwrap_or(-1);
        (code, String::from_utf8_lossy(&said).replace('\r', ""))
    }

    #[track_caller]
    pub(crate) fn create_volume(&self, name: &str) {
        let (status, answer) =
            self.call("POST", "/volumes/create", &serde_json::json!({ "Name": name, "Driver": "local" }));
        assert_eq!(status, 201, "{answer}");
    }

    pub(crate) fn volume(&self, name: &str) -> Option<Value> {
        let (status, answer) = self.call("GET", &format!("/volumes/{name}"), &Value::Null);
        (status == 200).then_some(answer)
    }

    /// The address of this machine as the engine's containers reach it.
    pub(crate) fn gateway(&self) -> String {
        let bridge = self.get("/networks/bridge");
        let config = &bridge["IPAM"]["Config"][0];
        if let Some(gateway) = config["Gateway"].as_str() {
            return gateway.to_owned();
        }
        // Some engines tell the subnet only; the bridge has its first address.
        let subnet = config["Subnet"].as_str().expect("the bridge's subnet");
        let (network, _) = subnet.split_once('/').expect("a subnet with its length");
        let (prefix, last) = network.rsplit_once('.').expect("an IPv4 network");
        format!("{prefix}.{}", last.parse::<u8>().expect("a byte") + 1)
    }

    /// All that carries our mark and is of this cluster.
    pub(crate) fn marked(&self, cluster: &str) -> Vec<Marked> {
        let mut found = Vec::new();
        let mut take = |sort: &'static str, list: &Value| {
            for thing in list.as_array().into_iter().flatten() {
                let label = |name: &str| thing["Labels"][name].as_str().map(str::to_owned);
                let (Some(lineage), Some(address)) = (label(LINEAGE), label(ADDRESS)) else { continue };
                let name = thing["Name"].as_str().or_else(|| thing["Names"][0].as_str()).unwrap_or_default();
                if address.starts_with(&format!("{cluster}/")) {
                    let name = name.trim_start_matches('/').to_owned();
                    found.push(Marked { sort, name, address, lineage });
                }
            }
        };
        take("container", &self.get("/containers/json?all=1"));
        take("network", &self.get("/networks"));
        take("volume", &self.get("/volumes")["Volumes"]);
        found.sort();
        found
    }

    /// The tags by which this cluster holds images, claims on images that are yet to come included.
    pub(crate) fn owner_tags(&self, cluster: &str) -> Vec<String> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let escaped: String = cluster
            .bytes()
            .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("_{byte:02x}") })
            .collect();
        let images = self.get("/images/json?all=1");
        let tags = images
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|image| image["RepoTags"].as_array().into_iter().flatten());
        let mut found: Vec<String> = tags
            .filter_map(Value::as_str)
            .filter(|tag| {
                tag.strip_prefix(OWNERS).is_some_and(|path| path.split('/').nth(1) == Some(&format!("x{escaped}")))
            })
            .map(str::to_owned)
            .collect();
        found.sort();
        found
    }

    /// The tags by which a lineage holds images.
    pub(crate) fn owners(&self, lineage: &str) -> Vec<String> {
        let images = self.get("/images/json");
        let tags = images.as_array().into_iter().flatten().flat_map(|image| image["RepoTags"].as_array());
        let named = tags.flatten().filter_map(Value::as_str).filter(|tag| tag.contains(lineage));
        named.map(str::to_owned).collect()
    }

    /// The addresses of all that carries our mark; two things of one address are an error.
    #[track_caller]
    pub(crate) fn addresses(&self, cluster: &str) -> Vec<String> {
        let mut counts: BTreeMap<String, Vec<Marked>> = BTreeMap::new();
        for marked in self.marked(cluster) {
            counts.entry(marked.address.clone()).or_default().push(marked);
        }
        for (address, things) in &counts {
            assert!(things.len() == 1, "{address} exists {} times: {things:?}", things.len());
        }
        counts.into_keys().collect()
    }
}

/// Pushes a small blob into a registry, and answers its digest.
pub(crate) fn push_blob(port: u16, repository: &str, bytes: &[u8], digest: &str) {
    let start = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
    let (status, answer) = http(port, "POST", &start, "application/octet-stream", bytes);
    assert!(status == 201, "{status}: {}", String::from_utf8_lossy(&answer));
}

/// Whether a registry has a blob, whole.
pub(crate) fn has_blob(port: u16, repository: &str, bytes: &[u8], digest: &str) -> bool {
    let (status, answer) = http(port, "GET", &format!("/v2/{repository}/blobs/{digest}"), "", b"");
    status == 200 && answer == bytes
}
