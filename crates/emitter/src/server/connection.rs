//! Connections: TCP, TLS, HTTP/1.1 and HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{Shared, requests};
use crate::authority::fingerprint;
use crate::metrics::{Cluster, Held};

/// How long a client may take for its TLS handshake, and for the head of each request.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection lives that shows no certificate of ours: enough to join.
const STRANGER: Duration = Duration::from_secs(30);
/// How often a silent client is asked whether it is still there, and how long it may take to answer.
const PING: Duration = Duration::from_secs(30);
/// How long what is sent may stay unacknowledged: a client that reads nothing is let go.
const UNREAD: Duration = Duration::from_secs(90);

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// The fingerprint of the certificate that it showed, where that is of our authority.
    pub(super) certificate: Option<String>,
    /// Whether it showed one, of whatever authority.
    pub(super) showed_any: bool,
}

pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            () = shared.shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                tokio::spawn(serve(shared.clone(), stream, address));
            }
            // Out of file descriptors, mostly: those of connections that end come back.
            Err(error) => {
                tracing::warn!(%error, "a connection to the emitter was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    shared.server.shutdown();
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, address: SocketAddr) {
    let Some(mut place) = shared.limits.enter(address.ip()) else {
        return shared.metrics.refuse("too-many-connections");
    };
    let _held = Held::new(shared.metrics.connections.clone());
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(&stream);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PING).with_interval(PING));
    let _ = socket.set_tcp_user_timeout(Some(UNREAD));
    let acceptor = TlsAcceptor::from(shared.tls.config());
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else {
        return shared.metrics.refuse("handshake");
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = chain.first().filter(|_| shared.tls.is_ours(chain)).map(fingerprint);
    let peer = Peer { address, showed_any: !chain.is_empty(), certificate };
    let known = peer.certificate.is_some();
    if known {
        place.is_known();
    }
    let cluster = peer.certificate.as_deref().and_then(|certificate| shared.cluster(certificate));
    let _held = cluster.map(|cluster| {
        let labels = Cluster { cluster };
        Held::new(shared.metrics.clusters.get_or_create(&labels).clone())
    });
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, peer) = (shared.clone(), peer.clone());
        async move { Ok::<_, Infallible>(requests::answer(&shared, &peer, request.map(Body::new)).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .max_header_list_size(32 << 10)
        .max_concurrent_streams(250);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE).max_buf_size(64 << 10);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // Errors are the client's: it went away, or spoke no HTTP.
        _ = connection => {}
        () = shared.shutdown.cancelled() => {}
        () = tokio::time::sleep(STRANGER), if !known => shared.metrics.refuse("slow-stranger"),
    }
}
