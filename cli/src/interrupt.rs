//! Interrupts: the first stops in order, the second at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::terminal;

/// What interrupts cancel.
#[derive(Clone, Default)]
pub(crate) struct Interrupts {
    /// The first one: nothing new is begun.
    pub(crate) stop: CancellationToken,
    /// The second one: calls are cancelled.
    pub(crate) abort: CancellationToken,
}

/// Listens for SIGINT and SIGTERM until the runtime ends.
pub(crate) fn listen() -> Interrupts {
    let interrupts = Interrupts::default();
    let heard = interrupts.clone();
    tokio::spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        for count in 1_u32.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if count == 1 {
                terminal::note(
                    "interrupted: finishing what is in flight; once more to stop at once (nothing is lost either way)",
                );
                heard.stop.cancel();
            } else {
                heard.stop.cancel();
                heard.abort.cancel();
            }
        }
    });
    interrupts
}
