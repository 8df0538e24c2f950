//! Which ports are taken on the engine's machine.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bollard::models::ContainerSummaryStateEnum;
use futures::{StreamExt as _, TryStreamExt as _};
use ksail_provider::{CallError, PortInUse};
use tokio::net::TcpSocket;

use crate::call::Call;
use crate::container::{inspect, list};
use crate::{labels, port_holder};

/// How many containers are inspected at once.
pub(crate) const INSPECTIONS: usize = 8;

/// What is told of a container that holds a port while it does not run.
const STOPPED: &str = ", which is stopped";

/// Of the ports, those that a container publishes (or will publish, once it is started again), and those that something else
/// on this machine listens on, where the engine is on this machine.
pub(crate) async fn in_use(call: &Call, ports: &[u16]) -> Result<Vec<PortInUse>, CallError> {
    let mut held: BTreeMap<u16, PortInUse> = BTreeMap::new();
    let mut stopped = Vec::new();
    for container in list(call).await? {
        let name = container.names.iter().flatten().next().map(|name| name.trim_start_matches('/').to_owned());
        let published: Vec<u16> = container.ports.iter().flatten().filter_map(|port| port.public_port).collect();
        if published.is_empty() {
            stopped.extend(container.id.clone());
        }
        let lineage = labels::mark(container.labels.as_ref()).map(|mark| mark.lineage);
        let is_stopped =
            matches!(container.state, Some(ContainerSummaryStateEnum::CREATED | ContainerSummaryStateEnum::EXITED));
        let stopped = if is_stopped { STOPPED } else { "" };
        for port in published {
            let holder = format!("container `{}`{stopped}", name.clone().unwrap_or_default());
            held.insert(port, PortInUse { port, holder, lineage: lineage.clone() });
        }
    }
    // Docker's list tells the ports of those that run; the ports of the others stand in their configuration alone.
    let inspected: Vec<_> =
        futures::stream::iter(stopped.into_iter().map(|id| async move { inspect(call, &id).await }))
            .buffered(INSPECTIONS)
            .try_collect()
            .await?;
    for observed in inspected.into_iter().flatten() {
        for port in observed.ports() {
            held.entry(port.host).or_insert_with(|| PortInUse {
                port: port.host,
                holder: format!("container `{}`{STOPPED}", observed.name()),
                lineage: observed.mark().map(|mark| mark.lineage),
            });
        }
    }
    let others: Vec<u16> = if call.session.local {
        ports.iter().copied().filter(|port| !held.contains_key(port) && listens(*port)).collect()
    } else {
        Vec::new()
    };
    let names = port_holder::holders(&others);
    for port in others {
        let holder = names.get(&port).cloned().unwrap_or_else(|| "another program".to_owned());
        held.insert(port, PortInUse { port, holder, lineage: None });
    }
    Ok(ports.iter().filter_map(|port| held.get(port).cloned()).collect())
}

/// Whether something on this machine listens on the port of the loopback address. The port is bound for a moment and not
/// listened on, so that two plans that look at the same time do not see each other.
fn listens(port: u16) -> bool {
    let bound = TcpSocket::new_v4().and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, port).into())
    });
    matches!(bound, Err(error) if error.kind() == std::io::ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_that_is_listened_on_is_seen() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens(port));
        drop(listener);
        assert!(!listens(port));
    }

    #[test]
    fn whoever_only_looks_is_not_seen() {
        let looking = TcpSocket::new_v4().unwrap();
        looking.set_reuseaddr(true).unwrap();
        looking.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        assert!(!listens(looking.local_addr().unwrap().port()));
    }
}
