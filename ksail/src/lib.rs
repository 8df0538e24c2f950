//! Plan and apply for Kubernetes platforms: the facade that a command line or a server embeds.
//!
//! A [`Platform`] is one project with one configuration: it plans, applies, and looks after the state. It is the only place that
//! reads files, environment and clock, and hands them to the parts that must not.

mod apply;
mod bundle;
mod choices;
mod clusters;
mod commit;
mod connector;
mod doctor;
mod error;
mod images;
mod import;
mod kind_cluster;
mod late;
mod logged;
mod manifest_files;
mod migrate;
mod names;
mod outputs;
mod plan;
mod plan_file;
mod platform;
mod power;
mod project;
mod recover;
mod secret_command;
mod secrets;
mod settings;
mod state;
mod state_place;
mod undo;
mod versions;

pub use apply::{Applied, ApplyOptions};
pub use bundle::Bundle;
pub use clusters::{Access, ClusterInfo, ClusterOwner, ClusterRow, PartInfo, clusters};
pub use connector::Connectors;
pub use doctor::{Check, Verdict, doctor};
pub use error::{Error, Exit, codes, whole};
pub use images::ImageSet;
pub use migrate::Migrated;
pub use outputs::{Outputs, outputs_of};
pub use plan::{PlanOptions, Planned, Refresh};
pub use plan_file::{read_plan, write_plan};
pub use platform::Platform;
pub use power::{Power, PowerOptions, PowerOutcome, Powered};
pub use project::ConfigFiles;
pub use recover::Recovery;
pub use settings::{Settings, VERSION};
pub use state::{HistoryLine, StateRow};
pub use undo::Undo;

pub use ksail_compiler::{InitOptions, SourceFile, init_files};
pub use ksail_execute::{ApplyError, Ending, Event, EventSink, Failure, Limits, Silent, Skipped, Summary};
pub use ksail_kinds::BuiltinKinds;
pub use ksail_model::{Address, Code, Diagnostic, Record, RecordKey, Selector, Severity, Value};
pub use ksail_plan::{Action, Explanation, Mode, Plan, PlanError, explain};
pub use ksail_provider_docker::{NodeContainer, NodeImages};
pub use ksail_records::{HeldLock, LeaseSeen, LockOwner, SealedOperation, Snapshot, StateError};
