//! What the server's errors mean for a state.

use ksail_state_remote::{StoreError, StoreErrorKind};
use tokio_postgres::error::SqlState;

use crate::schema::ddl_hint;

/// An error of the client by its meaning. Neither holds a password.
pub(crate) fn told(error: &tokio_postgres::Error) -> StoreError {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    let Some(code) = error.code() else {
        return StoreError::new(StoreErrorKind::Transient, text);
    };
    if code == &SqlState::UNDEFINED_TABLE || code == &SqlState::UNDEFINED_COLUMN {
        return StoreError::new(StoreErrorKind::Unfit, text).hint(ddl_hint());
    }
    let denied = [
        &SqlState::INVALID_PASSWORD,
        &SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        &SqlState::INSUFFICIENT_PRIVILEGE,
    ];
    if denied.contains(&code) {
        return StoreError::new(StoreErrorKind::Denied, text);
    }
    // Classes of errors that do not go away by themselves: what was asked, not how the server is.
    match &code.code()[..2] {
        "3D" | "3F" | "42" | "22" | "23" | "28" => {
            StoreError::new(StoreErrorKind::Unfit, text).hint("check the address: host, database, user")
        }
        _ => StoreError::new(StoreErrorKind::Transient, text),
    }
}
