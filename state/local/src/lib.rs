//! State in a local folder: checksummed journal, atomic snapshot, OS lock, history.
//!
//! ```text
//! .ksail/<stack>/
//!   snapshot.json       the last checkpoint; replaced as a whole (temporary file, sync, rename, sync of the folder)
//!   journal             one checksummed line an entry since then; a header with the format version first
//!   journal.torn-<n>    what a kill left of a last line, kept when the line is cut off
//!   history/            one file a sealed operation, `<serial>-<operation>.json`
//!   lock                carries the OS lock; always empty
//!   moved               where the state was moved to; nothing else here counts then
//!   lock.json           who holds it, for messages; counts only while the lock is held
//! ```
//!
//! Folders are made with mode 0700, files with 0600. No file name is made from an address.

mod backend;
mod files;
mod history;
mod journal;
mod lock;
mod stored;
mod writer;

pub use backend::LocalBackend;
pub use writer::{CHECKPOINT_FLOOR_BYTES, CHECKPOINT_RATIO};
