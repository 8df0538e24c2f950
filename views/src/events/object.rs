//! Events as JSON, one object each.

use jiff::Timestamp;
use ksail_execute::Event;
use serde_json::{Map, Value as Json};

use super::line::event_line;

const fn level(event: &Event) -> &'static str {
    match event {
        Event::StepFailed { .. } => "error",
        Event::StepRetried { .. } | Event::StepBlocked { .. } => "warn",
        _ => "info",
    }
}

/// The event as an object with its `type`, its own fields, `@timestamp` (RFC 3339, from milliseconds since the epoch),
/// `@level` and `@message` (what a person would read). [`crate::json::text`] makes a line of it.
pub fn event_json(event: &Event, unix_ms: u64) -> Json {
    let mut out = match serde_json::to_value(event) {
        Ok(Json::Object(map)) => map,
        // An event is a tagged enum of plain fields, which is always an object.
        _ => Map::new(),
    };
    let time = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    out.insert("@timestamp".to_owned(), format!("{:.3}", time.unwrap_or(Timestamp::UNIX_EPOCH)).into());
    out.insert("@level".to_owned(), level(event).into());
    if let Some(line) = event_line(event) {
        out.insert("@message".to_owned(), line.into());
    }
    Json::Object(out)
}
