//! HTTPS on a listener.

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::router;
use crate::api::Api;

/// How long a client may take to greet.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that have greeted and wait to be served.
const WAITING: usize = 64;
/// The wait after a connection could not be taken, which happens when there are too many open files.
const PAUSE: Duration = Duration::from_millis(50);
/// How long requests under way may take to end when serving stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Connections behind their handshakes, which do not wait for each other.
struct Handshaken {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl axum::serve::Listener for Handshaken {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(ready) => ready,
            // The listener is gone, so nobody comes any more.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.address)
    }
}

/// Serves until cancelled.
pub(crate) async fn serve(
    api: Arc<Api>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    cancel: CancellationToken,
) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    let (greeted, ready) = mpsc::channel(WAITING);
    let accepting = tokio::spawn(accept(listener, TlsAcceptor::from(tls), greeted, cancel.clone()));
    let ending = cancel.clone();
    let app = Router::new().fallback(move |request: Request| {
        let api = Arc::clone(&api);
        let cancel = ending.clone();
        async move { router::handle(api, request, cancel).await }
    });
    let server =
        axum::serve(Handshaken { ready, address }, app).with_graceful_shutdown(cancel.clone().cancelled_owned());
    let stopping = async {
        cancel.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
    };
    let served = tokio::select! {
        served = server.into_future() => served,
        () = stopping => Ok(()),
    };
    accepting.abort();
    served
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    greeted: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
    cancel: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = cancel.cancelled() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (acceptor, greeted) = (acceptor.clone(), greeted.clone());
        tokio::spawn(async move {
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                let _ = greeted.send((stream, address)).await;
            }
        });
    }
}
