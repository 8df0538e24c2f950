//! One watch a kind, shared by all that wait for objects of the kind.
//!
//! A watch tells that something changed and what it is now; whoever waits looks once more before believing it, for what a watch
//! tells may be older than the change that is waited for. Where a watch is refused, waiting goes on by looks alone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value as Json;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::discovery::Api;
use crate::mark::LINEAGE;
use crate::wire::text;

/// How long one watch is asked to last, and how much longer its silence is borne.
const LASTS: Duration = Duration::from_secs(240);
const SILENCE: Duration = Duration::from_secs(30);
/// The pause after a failure; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The longest event that is read, in bytes.
const LARGEST_EVENT: usize = 16 * 1024 * 1024;

/// An object's namespace and name.
type Key = (Option<String>, String);

/// The watches of a session.
#[derive(Default)]
pub(crate) struct Watches(Mutex<HashMap<String, Weak<Watched>>>);

/// What a watch has told. It ends when nobody waits any more.
pub(crate) struct Watched {
    objects: Mutex<HashMap<Key, Json>>,
    changes: watch::Sender<u64>,
    refused: AtomicBool,
    _end: DropGuard,
}

/// How a watch ended.
enum End {
    /// In order, or the connection was lost: it goes on where it was.
    Over,
    /// What it goes on from is too old: all must be listed anew.
    Expired,
    /// It may not be made.
    Refused,
}

impl Watches {
    /// The watch of a kind, of objects of a lineage, in all namespaces or in one; begun where there is none.
    pub(crate) fn of(&self, client: &kube::Client, api: &Api, namespace: Option<&str>, lineage: &str) -> Arc<Watched> {
        let path = format!("{}?labelSelector={LINEAGE}%3D{lineage}", api.collection(namespace));
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = open.get(&path).and_then(Weak::upgrade) {
            return watched;
        }
        open.retain(|_, watched| watched.strong_count() > 0);
        let cancel = CancellationToken::new();
        let watched = Arc::new(Watched {
            objects: Mutex::default(),
            changes: watch::Sender::new(0),
            refused: AtomicBool::new(false),
            _end: cancel.clone().drop_guard(),
        });
        open.insert(path.clone(), Arc::downgrade(&watched));
        let follower = Follower { client: client.clone(), path, watched: Arc::downgrade(&watched) };
        tokio::spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                // It goes on until nobody waits, unless it may not.
                () = follower.follow() => follower.is_refused(),
            }
        });
        watched
    }
}

impl Watched {
    /// Told of every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether nothing will be told, because we may not watch.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// What was told of an object last.
    pub(crate) fn object(&self, key: &Key) -> Option<Json> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn tell(&self, change: impl FnOnce(&mut HashMap<Key, Json>)) {
        change(&mut self.objects.lock().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_modify(|number| *number += 1);
    }
}

struct Follower {
    client: kube::Client,
    path: String,
    watched: Weak<Watched>,
}

fn key(object: &Json) -> Key {
    (
        text(object, &["metadata", "namespace"]).map(str::to_owned),
        text(object, &["metadata", "name"]).unwrap_or_default().to_owned(),
    )
}

impl Follower {
    fn is_refused(&self) {
        if let Some(watched) = self.watched.upgrade() {
            watched.refused.store(true, Ordering::Relaxed);
            watched.tell(|objects| objects.clear());
        }
    }

    async fn follow(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let from = match self.list().await {
                Ok(version) => version,
                Err(End::Refused) => return,
                Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
            };
            pause = FIRST_PAUSE;
            let mut version = from;
            loop {
                let before = version.clone();
                match self.watch(&mut version).await {
                    End::Refused => return,
                    End::Expired => break,
                    // One that ends at once and told nothing is not asked for again and again.
                    End::Over if version == before => {
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                    End::Over => pause = FIRST_PAUSE,
                }
            }
        }
    }

    async fn send(&self, path: &str) -> Result<http::Response<Body>, End> {
        let request = Request::get(path).header("accept", "application/json").body(Body::empty());
        let request = request.map_err(|_| End::Refused)?;
        let reply = self.client.send(request).await.map_err(|_| End::Over)?;
        match reply.status() {
            status if status.is_success() => Ok(reply),
            StatusCode::GONE => Err(End::Expired),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => Err(End::Refused),
            _ => Err(End::Over),
        }
    }

    /// Lists all, and answers the version from which a watch goes on.
    async fn list(&self) -> Result<String, End> {
        let body = self.send(&self.path).await?.into_body().collect().await.map_err(|_| End::Over)?.to_bytes();
        let mut list: Json = serde_json::from_slice(&body).map_err(|_| End::Over)?;
        let items = list.get_mut("items").and_then(Json::as_array_mut).map(std::mem::take).unwrap_or_default();
        let version = text(&list, &["metadata", "resourceVersion"]).unwrap_or_default().to_owned();
        if let Some(watched) = self.watched.upgrade() {
            watched.tell(|objects| *objects = items.into_iter().map(|item| (key(&item), item)).collect());
        }
        Ok(version)
    }

    async fn watch(&self, version: &mut String) -> End {
        let seconds = LASTS.as_secs();
        let path = format!(
            "{}&watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={version}",
            self.path
        );
        let mut body = match tokio::time::timeout(SILENCE, self.send(&path)).await {
            Ok(Ok(reply)) => reply.into_body(),
            Ok(Err(end)) => return end,
            Err(_) => return End::Over,
        };
        let mut buffer: Vec<u8> = Vec::new();
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(LASTS + SILENCE, body.frame()).await {
            let Some(data) = frame.data_ref() else { continue };
            buffer.extend_from_slice(data);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let Ok(event) = serde_json::from_slice::<Json>(&line) else { return End::Over };
                if !self.take(event, version) {
                    return End::Expired;
                }
            }
            if buffer.len() > LARGEST_EVENT {
                return End::Over;
            }
        }
        End::Over
    }

    /// Takes in one event; `false` if the watch has come to its end with an error.
    fn take(&self, mut event: Json, version: &mut String) -> bool {
        let object = event["object"].take();
        if event["type"] == "ERROR" {
            return false;
        }
        if let Some(seen) = text(&object, &["metadata", "resourceVersion"]) {
            seen.clone_into(version);
        }
        if let Some(watched) = self.watched.upgrade() {
            match event["type"].as_str() {
                Some("ADDED" | "MODIFIED") => watched.tell(|objects| drop(objects.insert(key(&object), object))),
                Some("DELETED") => watched.tell(|objects| drop(objects.remove(&key(&object)))),
                _ => {}
            }
        }
        true
    }
}
