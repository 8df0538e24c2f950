//! `ksail __engine`: the embedded engine's process. Started by the embedded provider, not by people.

use std::path::PathBuf;

use clap::Args;
use ksail::{Error, Exit, VERSION, codes};
use ksail_embedded::EngineOptions;

use super::Outcome;
use crate::report::Failure;

/// Run the embedded engine
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The engine's folder
    #[arg(long)]
    folder: PathBuf,
    /// The file that holds the nonce by which the engine is recognised
    #[arg(long)]
    nonce_file: PathBuf,
    /// The loopback port of the status page
    #[arg(long)]
    port: u16,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let failed = |message: String| {
        Failure::from(Error::new(codes::PROVIDER, message, "`ksail plan` tells how to bring it back"))
    };
    let nonce = std::fs::read_to_string(&arguments.nonce_file)
        .map_err(|error| failed(format!("cannot read {}: {error}", arguments.nonce_file.display())))?;
    let options = EngineOptions {
        folder: arguments.folder.clone(),
        nonce: nonce.trim().to_owned(),
        port: arguments.port,
        version: VERSION.to_owned(),
    };
    super::serve(async {
        let interrupts = crate::interrupt::listen();
        // The engine outlives the terminal that it was started from. A handler, even an idle one, keeps the signal
        // from ending it.
        let _hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
        ksail_embedded::run(options, interrupts.stop).await
    })?
    .map(|()| Exit::Done)
    .map_err(|error| failed(format!("the embedded engine ended: {}", ksail::whole(&error))))
}
