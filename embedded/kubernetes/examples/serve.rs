//! Serves a cluster from a folder: `cargo run -p ksail-embedded-kubernetes --example serve -- FOLDER [PORT]`. Its kubeconfig is
//! written into the folder before it serves, and its path is printed. Interrupt it to end it.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use ksail_embedded_kubernetes::{Cluster, Settings};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: serve FOLDER [PORT]")?);
    let port: u16 = arguments.next().and_then(|port| port.to_str()?.parse().ok()).unwrap_or(0);
    let cluster = Cluster::open(&folder, Settings::default())?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let path = folder.join("kubeconfig");
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
    file.write_all(cluster.kubeconfig(listener.local_addr()?, "embedded").as_bytes())?;
    writeln!(std::io::stdout(), "{}", path.display())?;
    let cancel = CancellationToken::new();
    let interrupted = cancel.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        interrupted.cancel();
    });
    cluster.serve(listener, cancel).await?;
    Ok(())
}
