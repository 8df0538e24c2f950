//! State in a store that a team shares: any store of small objects with conditional writes.
//!
//! ```text
//! <prefix>/<stack>/
//!   log/<N>-snapshot    all segments before N, as a state; the newest counts
//!   log/<N>-segment     the Nth batch of journal entries, stored only if absent; without entries it is a fence
//!   log/<N>-pack-<M>    the segments from N up to M in one object; it takes the place of the loose ones
//!   log/moved           the state was moved, and where to
//!   vault.age           the vault, sealed for the team's identity; stored only if absent
//!   lease               who writes; changed only by conditional writes
//!   history/<serial>-<operation>   one object a sealed operation, with its plan
//! ```
//!
//! **The fence.** A writer stores its next batch as segment N, and only if there is none. Whoever takes over a lease that
//! was not given back in order first stores an empty segment N. A stopped writer that wakes up later finds its place
//! taken, whatever its clock says. Fences are not deleted with the segments around them.
//!
//! **On this machine** `.ksail/<stack>/` holds only help: `cache/`, what was read before, and `rescue/`, what could not be
//! stored yet.
//!
//! **Deadlines** of calls are of the clock of the machine that made them. Every object says how far the store's clock was
//! ahead of that, and a reader on a machine whose clock differs carries them over to its own.

mod archived;
mod backend;
mod cache;
mod clock;
mod codec;
mod files;
mod history;
mod keys;
mod lease;
mod log;
mod machine;
mod remote;
mod rescue;
mod retention;
mod retry;
mod store;
mod writer;

pub use backend::RemoteBackend;
pub use clock::WallClock;
pub use remote::{LEASE, RemoteOptions, SHORTEST_LEASE};
pub use retention::Retention;
pub use retry::Retries;
pub use store::{Listed, Put, Store, StoreError, StoreErrorKind, Version};
pub use writer::{CHECKPOINT_FLOOR_BYTES, CHECKPOINT_RATIO};
