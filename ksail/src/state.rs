//! Looking after the state by hand. Each edit is an operation like any other, so that history shows it.

use std::sync::Arc;
use std::time::Duration;

use ksail_model::{Address, Digest, Record, RecordKey, Status};
use ksail_records::{
    Edit, Entry, OperationHeader, OperationKind, OperationResult, SealedOperation, Snapshot, State, Writer,
};

use crate::error::{Error, codes};
use crate::platform::Platform;
use crate::settings::{new_id, now_ms};

/// One line of `state list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRow {
    /// Which.
    pub key: RecordKey,
    /// How far it is.
    pub status: Status,
    /// The id that the outside gave.
    pub id: Option<String>,
}

/// One line of `state history`.
#[derive(Debug, Clone)]
pub struct HistoryLine {
    /// The operation.
    pub operation: SealedOperation,
}

impl Platform {
    /// The state, if there is one. It is read without a lock.
    pub async fn snapshot(&self) -> Result<Option<Snapshot>, Error> {
        let stack = self.stack_name();
        let stored = self.place(&stack)?.read(&stack, self.settings.environment.as_deref()).await?;
        Ok(stored.state.map(State::into_snapshot))
    }

    async fn existing(&self) -> Result<Snapshot, Error> {
        self.snapshot().await?.ok_or_else(no_state)
    }

    /// What is recorded, by address.
    pub async fn state_list(&self) -> Result<Vec<StateRow>, Error> {
        let snapshot = self.existing().await?;
        Ok(snapshot
            .records
            .into_iter()
            .map(|(key, record)| StateRow { key, status: record.status.clone(), id: record.id.clone() })
            .collect())
    }

    /// One record.
    pub async fn state_show(&self, address: &str) -> Result<Arc<Record>, Error> {
        let mut snapshot = self.existing().await?;
        let key = find(&snapshot, address)?;
        snapshot.records.remove(&key).ok_or_else(no_state)
    }

    /// Sealed operations, newest first.
    pub async fn state_history(&self, limit: usize) -> Result<Vec<HistoryLine>, Error> {
        let history = self.place(&self.stack_name())?.backend.history(limit).await?;
        Ok(history.into_iter().map(|operation| HistoryLine { operation }).collect())
    }

    /// Gives a record another address. The file must say so too, or the next plan deletes the one and makes the other.
    pub async fn state_mv(&self, from: &str, to: &str, lock_wait: Duration) -> Result<(), Error> {
        let snapshot = self.existing().await?;
        let from = find(&snapshot, from)?.address;
        let to = Address::parse(to)
            .or_else(|_| Address::parse(&format!("{}/{to}", from.cluster())))
            .map_err(crate::import::bad_address)?;
        if from.kind() != to.kind() {
            let message = format!("{from} cannot become {to}: they are of different kinds");
            return Err(Error::new(codes::USAGE, message, "delete the one and make the other with a plan"));
        }
        self.edit("state mv", vec![Edit::Move { from, to }], lock_wait).await
    }

    /// Forgets a record; what it stands for stays outside.
    pub async fn state_rm(&self, address: &str, lock_wait: Duration) -> Result<RecordKey, Error> {
        let key = find(&self.existing().await?, address)?;
        self.edit("state rm", vec![Edit::Forget { key: key.clone() }], lock_wait).await?;
        Ok(key)
    }

    /// The state as JSON, as `state push` takes it.
    pub async fn state_pull(&self) -> Result<String, Error> {
        let snapshot = self.existing().await?;
        serde_json::to_string_pretty(&snapshot).map_err(|error| {
            Error::new(codes::STATE_IO, format!("the state cannot be written as JSON: {error}"), "report this")
        })
    }

    /// Replaces the state by one that `state pull` gave. Another lineage, or an older serial, is refused.
    pub async fn state_push(&self, text: &str, lock_wait: Duration) -> Result<u64, Error> {
        let head: serde_json::Value = serde_json::from_str(text).map_err(|error| {
            Error::new(codes::DAMAGED, format!("this is not a state: {error}"), "ksail state pull > FILE")
        })?;
        let format = head["format"].as_u64().unwrap_or(0);
        if format > u64::from(ksail_records::FORMAT) {
            let message = format!("the state has format {format}; this ksail reads up to {}", ksail_records::FORMAT);
            return Err(Error::new(codes::NEWER_FORMAT, message, "use the ksail that wrote it"));
        }
        let pushed: Snapshot = serde_json::from_value(head).map_err(|error| {
            Error::new(codes::DAMAGED, format!("this is not a state: {error}"), "ksail state pull > FILE")
        })?;
        let name = self.stack_name();
        if pushed.stack != name {
            let message = format!("the state is that of {}, not of {name}", pushed.stack);
            return Err(Error::new(codes::OTHER_STATE, message, "check metadata.name and --environment"));
        }
        let place = self.place(&name)?;
        let mut writer = place.backend.lock(&self.owner("state push"), lock_wait).await?;
        let result = self.push_locked(writer.as_mut(), pushed).await;
        writer.release().await?;
        result
    }

    async fn push_locked(&self, writer: &mut dyn Writer, pushed: Snapshot) -> Result<u64, Error> {
        let Some(present) = writer.load().await?.state else {
            writer.create(&pushed).await?;
            return Ok(pushed.serial);
        };
        check_push(present.snapshot(), &pushed)?;
        let serial = present.snapshot().serial + 1;
        let edits = differences(present.snapshot(), pushed);
        self.edit_locked(writer, edits).await?;
        Ok(serial)
    }

    /// Who holds the lock, or breaks it by its id where that is possible.
    pub async fn unlock(&self, id: Option<&str>) -> Result<Option<ksail_records::LockOwner>, Error> {
        let place = self.place(&self.stack_name())?;
        if let Some(id) = id {
            place.backend.unlock(id).await?;
        }
        Ok(place.backend.lock_owner().await?)
    }

    /// The lock of this stack as it is held, with its lease.
    pub async fn state_lock(&self) -> Result<Option<ksail_records::HeldLock>, Error> {
        Ok(self.place(&self.stack_name())?.backend.held_lock().await?)
    }

    /// Where the state is, without credentials.
    pub fn state_place(&self) -> Result<String, Error> {
        Ok(self.place(&self.stack_name())?.backend.place())
    }

    async fn edit(&self, doing: &str, edits: Vec<Edit>, lock_wait: Duration) -> Result<(), Error> {
        let place = self.place(&self.stack_name())?;
        let mut writer = place.backend.lock(&self.owner(doing), lock_wait).await?;
        let result = self.edit_locked(writer.as_mut(), edits).await;
        writer.release().await?;
        result
    }

    async fn edit_locked(&self, writer: &mut dyn Writer, edits: Vec<Edit>) -> Result<(), Error> {
        let Some(mut state) = writer.load().await?.state else { return Err(no_state()) };
        let snapshot = state.snapshot();
        if let Some(open) = &snapshot.operation {
            let message = format!("operation {} of {} was killed and is not sealed", open.id, open.who);
            return Err(Error::new(codes::STATE_IO, message, "finish it first with `ksail apply`"));
        }
        let now = now_ms();
        let id = new_id();
        let mut entries = vec![Entry::Begin(OperationHeader {
            id: id.clone(),
            kind: OperationKind::Edit,
            parent_serial: snapshot.serial,
            plan_digest: Digest::of(&(&id, &edits)),
            who: self.settings.who(),
            began_ms: now,
            begins: false,
            commit: None,
        })];
        entries.extend(edits.into_iter().map(|edit| Entry::Edit(Box::new(edit))));
        entries.push(Entry::Seal { operation: id, result: OperationResult::Complete, at_ms: now });
        let first = state.next_sequence();
        let mut sealed = None;
        for entry in &entries {
            let done = state.apply(entry).map_err(|illegal| {
                Error::new(
                    codes::USAGE,
                    format!("that cannot be done: {}", illegal.why),
                    "`ksail state list` shows what is recorded",
                )
            })?;
            sealed = done.or(sealed);
        }
        if let Some(operation) = &sealed {
            writer.archive(operation).await?;
        }
        writer.append(first, &entries).await?;
        Ok(())
    }
}

fn no_state() -> Error {
    Error::new(
        codes::NOT_FOUND,
        "there is no state: nothing was applied here, or it is lost",
        "`ksail apply` makes one; `ksail state recover` rebuilds a lost one",
    )
}

fn find(snapshot: &Snapshot, text: &str) -> Result<RecordKey, Error> {
    let named =
        |key: &&RecordKey| key.to_string() == text || (key.deposed.is_none() && key.address.without_cluster() == text);
    snapshot.records.keys().find(named).cloned().ok_or_else(|| {
        Error::new(codes::NOT_FOUND, format!("{text} is not in the state"), "`ksail state list` names what is")
    })
}

/// The edits that make one state of another. They are journaled like any other, so that history shows the push.
fn differences(present: &Snapshot, pushed: Snapshot) -> Vec<Edit> {
    let gone = present.records.keys().filter(|key| !pushed.records.contains_key(*key));
    let mut edits: Vec<Edit> = gone.map(|key| Edit::Forget { key: key.clone() }).collect();
    for (key, record) in pushed.records {
        if present.records.get(&key) != Some(&record) {
            edits.push(Edit::Put { key, record });
        }
    }
    edits.push(Edit::Context { providers: pushed.providers, outputs: pushed.outputs });
    edits
}

fn check_push(present: &Snapshot, pushed: &Snapshot) -> Result<(), Error> {
    if present.lineage != pushed.lineage {
        let message = format!("the state here is of lineage {}, the pushed one of {}", present.lineage, pushed.lineage);
        return Err(Error::new(codes::FOREIGN, message, "it belongs to something else; nothing was changed"));
    }
    if pushed.serial < present.serial {
        let message = format!("the state here has serial {}, the pushed one only {}", present.serial, pushed.serial);
        return Err(Error::new(codes::OTHER_STATE, message, "pull again and edit that; nothing was changed"));
    }
    Ok(())
}
