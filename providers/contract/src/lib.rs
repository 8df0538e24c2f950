//! The contract between the engine and a provider: the [`Provider`] trait, all that crosses it (serde
//! data, so that a provider can live in another process), and the two halves of a pipe.

mod error;
mod guard;
mod pipe;
mod provider;
mod requests;
mod secret_text;

pub use error::{CallError, CallErrorKind};
pub use guard::{Stop, guard};
pub use pipe::{PipeProvider, serve};
pub use provider::{CallContext, Connector, HostSession, Provider};
pub use requests::{
    Applied, CreateRequest, DeleteRequest, Deleted, Forecast, ForecastRequest, ObserveReply, Owned, PortInUse,
    PreviewRequest, Target, UpdateRequest, WaitRequest,
};
pub use secret_text::SecretText;
