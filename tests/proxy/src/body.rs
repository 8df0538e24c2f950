//! Bodies that end as no server means them to.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value as Json, json};

use crate::{Failure, Fault};

/// How long a connection that is cut stays for what was told before.
const FLUSH: Duration = Duration::from_millis(50);

/// What comes next of a watch.
enum Next {
    Event(Vec<u8>),
    /// After this nothing comes.
    Last(Vec<u8>),
    Broken,
    Silence,
    Over,
}

struct Watch {
    body: Body,
    buffer: Vec<u8>,
    told: usize,
    /// The version of the last event.
    version: String,
    fault: Fault,
    is_over: bool,
}

/// The events of a watch, until its fault.
pub(crate) fn watched(body: Body, fault: Fault) -> impl Stream<Item = Result<Bytes, Failure>> {
    let watch = Watch { body, buffer: Vec::new(), told: 0, version: String::new(), fault, is_over: false };
    stream::unfold(watch, |mut watch| async move {
        match watch.next().await {
            Next::Event(line) => Some((Ok(Bytes::from(line)), watch)),
            Next::Last(line) => {
                watch.is_over = true;
                Some((Ok(Bytes::from(line)), watch))
            }
            Next::Broken => {
                watch.is_over = true;
                // What was told before is on its way first.
                tokio::time::sleep(FLUSH).await;
                Some((Err("the connection ends".into()), watch))
            }
            Next::Silence => std::future::pending().await,
            Next::Over => None,
        }
    })
    .boxed()
}

fn line(event: &Json) -> Vec<u8> {
    format!("{event}\n").into_bytes()
}

impl Watch {
    async fn next(&mut self) -> Next {
        if self.is_over {
            return Next::Over;
        }
        let told = self.told;
        match self.fault {
            Fault::Cut(most) if told >= most => return Next::Broken,
            Fault::Silent(most) if told >= most => return Next::Silence,
            Fault::Expired(most) if told >= most => {
                let status = json!({"kind": "Status", "apiVersion": "v1", "code": 410, "reason": "Expired"});
                return Next::Last(line(&json!({"type": "ERROR", "object": status})));
            }
            Fault::Bookmarked(_) if told > 0 => return Next::Broken,
            Fault::Bookmarked(most) => {
                for _ in 0..most {
                    let Some(event) = self.event().await else { return Next::Over };
                    self.note(&event);
                }
                self.told += 1;
                let object = json!({"metadata": {"resourceVersion": self.version}});
                return Next::Event(line(&json!({"type": "BOOKMARK", "object": object})));
            }
            _ => {}
        }
        match self.event().await {
            Some(event) => {
                self.told += 1;
                self.note(&event);
                Next::Event(event)
            }
            None => Next::Over,
        }
    }

    fn note(&mut self, event: &[u8]) {
        let event: Json = serde_json::from_slice(event).unwrap_or_default();
        if let Some(version) = event["object"]["metadata"]["resourceVersion"].as_str() {
            version.clone_into(&mut self.version);
        }
    }

    /// The next line of the server's.
    async fn event(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                return Some(self.buffer.drain(..=end).collect());
            }
            let frame = self.body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                self.buffer.extend_from_slice(data);
            }
        }
    }
}
