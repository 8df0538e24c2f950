//! A state moves: copied with its history, proven equal, and sealed where it was.

use std::time::Duration;

use ksail_records::{SealedOperation, Snapshot, State, StateError, Writer};

use crate::error::{Error, codes};
use crate::platform::Platform;
use crate::state_place::StateHome;

/// What a move did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Where the state was.
    pub from: String,
    /// Where it is.
    pub to: String,
    /// Its lineage.
    pub lineage: String,
    /// Its serial.
    pub serial: u64,
    /// How many records it has.
    pub records: usize,
    /// How many operations its history has.
    pub operations: usize,
}

impl Platform {
    /// Moves the state to another place. The copy is read back and compared, history included, before the source is sealed;
    /// a move that was cut short goes on when it is run again.
    pub async fn migrate_state(&self, to: &str, lock_wait: Duration) -> Result<Migrated, Error> {
        let stack = self.stack_name();
        let source = self.place(&stack)?;
        let home = StateHome::parse(&self.settings, &self.loaded.config.spec.state, to, true)?;
        let target = home.without_cache().backend(&self.settings, &stack)?;
        if source.backend.place() == target.place() {
            let message = format!("the state is in {} already", target.place());
            return Err(Error::new(codes::USAGE, message, "name another place with --to"));
        }
        let mut from = source.backend.lock(&self.owner("state migrate"), lock_wait).await?;
        let mut into = match target.lock(&self.owner("state migrate"), lock_wait).await {
            Ok(writer) => writer,
            Err(error) => {
                let _ = from.release().await;
                return Err(error.into());
            }
        };
        let moved = async {
            let Some(state) = from.load().await?.state else { return Err(nothing(&source.backend.place())) };
            let snapshot = state.into_snapshot();
            self.check_own(&snapshot, &source.backend.place())?;
            let history = source.backend.history(usize::MAX).await?;
            copy(into.as_mut(), &snapshot, &history, &target.place()).await?;
            if let Some(vault) = source.backend.vault().await? {
                let kept = target.offer_vault(&vault).await?;
                if kept != vault {
                    let message = format!("there is another vault in {} already", target.place());
                    return Err(Error::new(codes::FOREIGN, message, "name a place that has none; nothing was sealed"));
                }
            }
            let copied = target.read().await?.state.map(State::into_snapshot);
            // What retention drops there is the oldest.
            let kept = target.history(usize::MAX).await?;
            let is_tail = kept.len() <= history.len() && kept == history[..kept.len()];
            if copied.as_ref() != Some(&snapshot) || !is_tail || (kept.is_empty() && !history.is_empty()) {
                let message = format!("what is in {} does not equal what was copied", target.place());
                return Err(Error::new(codes::OTHER_STATE, message, "the source is unchanged and goes on to count"));
            }
            // The address without a password: whoever meets the seal has their own.
            from.seal(&shown(to)).await?;
            Ok(Migrated {
                from: source.backend.place(),
                to: target.place(),
                lineage: snapshot.lineage.clone(),
                serial: snapshot.serial,
                records: snapshot.records.len(),
                operations: kept.len(),
            })
        }
        .await;
        let (from, into) = (from.release().await, into.release().await);
        let moved = moved?;
        from?;
        into?;
        Ok(moved)
    }

    fn check_own(&self, snapshot: &Snapshot, place: &str) -> Result<(), Error> {
        let wanted = self.stack_name();
        if snapshot.stack == wanted && snapshot.environment == self.settings.environment {
            return Ok(());
        }
        let (place, found) = (place.to_owned(), snapshot.stack.clone());
        Err(StateError::OtherStack { place, found, wanted }.into())
    }
}

fn nothing(place: &str) -> Error {
    Error::new(codes::NOT_FOUND, format!("there is no state in {place}"), "`ksail apply` makes one, there or elsewhere")
}

/// Copies, or goes on with a copy that was cut short. A state of anything else is left alone.
async fn copy(
    into: &mut dyn Writer,
    snapshot: &Snapshot,
    history: &[SealedOperation],
    place: &str,
) -> Result<(), Error> {
    match into.load().await?.state {
        None => into.create(snapshot).await?,
        Some(found) if found.snapshot() == snapshot => {}
        Some(found) => {
            let found = found.snapshot();
            let message =
                format!("there is a state in {place} already: lineage {}, serial {}", found.lineage, found.serial);
            return Err(Error::new(codes::FOREIGN, message, "name a place that has none; nothing was changed"));
        }
    }
    for operation in history.iter().rev() {
        into.archive(operation).await?;
    }
    Ok(())
}

/// An address without its password.
fn shown(place: &str) -> String {
    let Some((scheme, rest)) = place.split_once("://") else { return place.to_owned() };
    let (host, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    let host = match host.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", user.split(':').next().unwrap_or_default()),
        None => host.to_owned(),
    };
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(shown("postgres://ann:hunter2@db/ops?prefix=x"), "postgres://ann@db/ops?prefix=x");
        assert_eq!(shown("postgres://db/ops"), "postgres://db/ops");
        assert_eq!(shown("s3://bucket/x"), "s3://bucket/x");
        assert_eq!(shown("../other"), "../other");
    }
}
