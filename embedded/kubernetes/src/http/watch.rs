//! Watches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::read::{Form, Selectors, metadata_only};
use super::reply::Reply;
use super::router::{Asked, Named};
use super::table;
use crate::api::Api;
use crate::registry::Kind;
use crate::status::Status;

/// How long a watch lasts that does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// How often a bookmark tells of the version when nothing happens.
const BOOKMARK: Duration = Duration::from_secs(50);

struct Watch {
    api: Arc<Api>,
    kind: Arc<Kind>,
    namespace: Option<String>,
    name: Option<String>,
    selectors: Selectors,
    form: Form,
    bookmarks: bool,
    /// All up to here was told.
    version: u64,
    waiting: VecDeque<Bytes>,
    changed: Receiver<u64>,
    deadline: Instant,
    cancel: CancellationToken,
    ended: bool,
    /// Only the first table names its columns.
    headed: bool,
}

/// Begins a watch.
pub(crate) fn watch(api: &Arc<Api>, asked: &Asked, named: &Named, cancel: &CancellationToken) -> Result<Reply, Status> {
    let kind = &named.kind;
    asked.check_list(true)?;
    let selectors = Selectors::asked(asked, named)?;
    let version = asked.query("resourceVersion");
    let parsed = version.map(|text| text.parse::<u64>());
    if let (Some(text), Some(Err(_))) = (version, &parsed) {
        return Err(Status::bad_request(format!("invalid resource version {text:?}")));
    }
    let from = parsed.and_then(Result::ok).unwrap_or(0);
    let initial = match asked.query("sendInitialEvents") {
        Some("true") => true,
        Some(_) => false,
        None => from == 0,
    };
    let timeout = asked.number("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
    let timeout = timeout.filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let mut watch = Watch {
        changed: api.store.subscribe(&kind.store),
        api: Arc::clone(api),
        kind: Arc::clone(kind),
        namespace: named.namespace.clone(),
        name: named.name.clone(),
        selectors,
        form: Form::asked(asked),
        bookmarks: asked.flag("allowWatchBookmarks") && asked.query.contains_key("allowWatchBookmarks"),
        version: from,
        waiting: VecDeque::new(),
        deadline: Instant::now() + timeout.unwrap_or(DEFAULT_TIMEOUT),
        cancel: cancel.clone(),
        ended: false,
        headed: false,
    };
    if initial {
        watch.begin(asked.query("sendInitialEvents") == Some("true"));
    } else {
        if from == 0 {
            watch.version = api.store.version();
        }
        if from > api.store.version() {
            // It is from another life of the server, or from the future: what happened since is not known.
            return Err(Status::expired(format!("too old resource version: {from} ({})", api.store.version())));
        }
        watch.fetch();
    }
    let events = stream::unfold(watch, |mut watch| async move {
        let next = watch.next().await?;
        Some((Ok::<_, std::convert::Infallible>(next), watch))
    });
    let mut reply = Response::new(Body::from_stream(events));
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(reply)
}

impl Watch {
    /// Tells of all that is there.
    fn begin(&mut self, bookmark: bool) {
        let (version, found) = self.api.store.list(&self.kind.store, self.namespace.as_deref());
        for (_, entry) in found {
            if self.selectors.matches(&self.kind, self.name.as_deref(), &entry.json) {
                self.tell("ADDED", &entry.json);
            }
        }
        self.version = version;
        if bookmark && self.bookmarks {
            self.bookmark(true);
        }
    }

    /// Takes what happened since.
    fn fetch(&mut self) {
        let latest = self.api.store.version();
        let Some(changes) = self.api.store.history(&self.kind.store, self.version) else {
            let status = Status::expired(format!("too old resource version: {} ({latest})", self.version));
            self.waiting.push_back(line(&json!({"type": "ERROR", "object": status.json()})));
            self.ended = true;
            return;
        };
        for change in changes {
            self.version = change.version;
            if self.namespace.as_deref().is_some_and(|namespace| namespace != &*change.name.0)
                || self.name.as_deref().is_some_and(|name| name != &*change.name.1)
            {
                continue;
            }
            let matches = |json: &Bytes| self.selectors.matches(&self.kind, None, json);
            let was = change.before.as_ref().is_some_and(matches);
            let is = !change.deleted && matches(&change.json);
            match (was, is) {
                (false, true) => self.tell("ADDED", &change.json),
                (true, true) => self.tell("MODIFIED", &change.json),
                (true, false) => self.tell("DELETED", &change.json),
                (false, false) => {}
            }
        }
        // Other resources may have gone on; what this one has to tell is told.
        self.version = self.version.max(latest);
    }

    fn tell(&mut self, event: &str, json: &Bytes) {
        if self.form == Form::Whole && self.kind.is_as_stored() && self.kind.is_builtin() {
            let mut line = Vec::with_capacity(json.len() + 40);
            line.extend_from_slice(format!("{{\"type\":\"{event}\",\"object\":").as_bytes());
            line.extend_from_slice(json);
            line.extend_from_slice(b"}\n");
            self.waiting.push_back(line.into());
            return;
        }
        let Ok(object) = serde_json::from_slice::<Value>(json) else { return };
        let object = self.kind.convert_from_store(object);
        let shown = match self.form {
            Form::Whole => object,
            Form::MetadataOnly => metadata_only(&object),
            Form::Table => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                let mut table = table::table_with(&self.kind, &[object], metadata, "Metadata");
                if self.headed {
                    table["columnDefinitions"] = Value::Null;
                }
                self.headed = true;
                table
            }
        };
        self.waiting.push_back(line(&json!({"type": event, "object": shown})));
    }

    fn bookmark(&mut self, initial: bool) {
        let mut metadata = json!({"resourceVersion": self.version.to_string(), "creationTimestamp": null});
        if initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.form {
            Form::Whole => json!({"kind": self.kind.kind(), "apiVersion": self.kind.api_version, "metadata": metadata}),
            Form::MetadataOnly => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            Form::Table => {
                json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": null, "rows": []})
            }
        };
        self.waiting.push_back(line(&json!({"type": "BOOKMARK", "object": object})));
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(next) = self.waiting.pop_front() {
                return Some(next);
            }
            if self.ended {
                return None;
            }
            let quiet = Instant::now() + BOOKMARK;
            tokio::select! {
                changed = self.changed.changed() => {
                    if changed.is_err() {
                        return None;
                    }
                    self.fetch();
                }
                () = tokio::time::sleep_until(quiet.min(self.deadline)) => {
                    self.fetch();
                    if Instant::now() >= self.deadline {
                        self.ended = true;
                    }
                    if self.bookmarks && self.waiting.is_empty() {
                        self.bookmark(false);
                    }
                }
                () = self.cancel.cancelled() => return None,
            }
        }
    }
}

fn line(event: &Value) -> Bytes {
    let mut line = serde_json::to_vec(event).expect("a JSON value can be written");
    line.push(b'\n');
    line.into()
}
