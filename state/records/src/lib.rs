//! What the state is made of: journal entries, the one function that decides which transition is legal, replay, and the
//! contract of a backend. Pure: a backend does the IO.

mod backend;
mod entry;
mod operation;
mod snapshot;
mod state;

pub use backend::{Backend, HeldLock, Lease, LeaseSeen, LockOwner, StateError, Stored, Writer};
pub use entry::{Call, Edit, Entry, Intent, Outcome, OutcomeKind};
pub use operation::{Change, KeptPlan, OperationHeader, OperationKind, OperationResult, SealedOperation};
pub use snapshot::{FORMAT, OpenIntent, Snapshot};
pub use state::{Illegal, State, concluded};
