//! Readers of an apply's events: lines for logs, JSON objects, a terminal's progress, and the summary at the end.

mod duration;
mod ending;
mod line;
mod object;
mod progress;

pub use self::ending::final_summary;
pub use self::line::event_line;
pub use self::object::event_json;
pub use self::progress::ProgressModel;
