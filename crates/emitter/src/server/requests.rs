//! From a request to its answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Limited};
use tokio::sync::watch;
use tombolo_apiserver::Status;

use super::access::unready;
use super::connection::Peer;
use super::{Shared, join};
use crate::Admitted;
use crate::admissions::now;
use crate::authority::CLUSTERS;
use crate::metrics::{Cluster, Held};

/// The largest body that is read, in bytes.
const LIMIT: usize = 64 << 10;
/// How long a client may take for it.
const SLOW: Duration = Duration::from_secs(10);

/// A cluster whose certificate is good.
pub(super) struct Caller {
    pub(super) cluster: String,
    pub(super) certificate: String,
    /// Until when its certificate is good, in Unix seconds.
    expires: i64,
}

/// Answers a request; failures are answers too.
pub(super) async fn answer(shared: &Arc<Shared>, peer: &Peer, request: Request<Body>) -> Response {
    let retry = |status: Status| {
        let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        let mut response = status.into_response();
        if seconds > 0 {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    };
    respond(shared, peer, request).await.unwrap_or_else(retry)
}

async fn respond(shared: &Arc<Shared>, peer: &Peer, request: Request<Body>) -> Result<Response, Status> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match (&method, path.as_str()) {
        (&Method::GET | &Method::HEAD, "/healthz" | "/livez") => return Ok(text("ok")),
        (&Method::GET | &Method::HEAD, "/readyz") => {
            let ready = shared.ready.load(Ordering::Acquire) && shared.admissions.admitted().borrow().is_some();
            return if ready { Ok(text("ok")) } else { Err(unready()) };
        }
        (&Method::POST, join::JOIN) => return join::join(shared, peer, request).await,
        _ => {}
    }
    let caller = caller(shared, peer)?;
    if method == Method::POST && path == join::RENEW {
        return join::renew(shared, peer, &caller, request).await;
    }
    let user = tombolo_apiserver::User {
        name: caller.cluster.clone(),
        groups: vec![CLUSTERS.to_owned(), "system:authenticated".to_owned()],
        uid: String::new(),
    };
    let response = shared.server.answer(user, request).await;
    match response.status().as_u16() {
        403 | 405 => shared.metrics.refuse("not-offered"),
        503 => shared.metrics.refuse("not-ready"),
        _ => {}
    }
    Ok(bounded(shared, caller, response))
}

/// Who asks.
///
/// # Errors
/// 401 without a certificate of ours that is in its time, 403 with one that is not admitted.
fn caller(shared: &Shared, peer: &Peer) -> Result<Caller, Status> {
    let Some(certificate) = &peer.certificate else {
        shared.metrics.refuse(if peer.showed_any { "foreign-certificate" } else { "no-certificate" });
        return Err(Status::unauthorized());
    };
    let admitted = shared.admissions.admitted().borrow().clone();
    // Who is admitted is not known yet: right after the start.
    let Some(admitted) = admitted else { return Err(unready()) };
    let Some((cluster, expires)) = admitted.find(certificate) else {
        shared.metrics.refuse("revoked");
        return Err(Status::new(403, "Forbidden", "this certificate is not, or no longer, admitted"));
    };
    if expires <= now() {
        shared.metrics.refuse("expired");
        return Err(Status::unauthorized());
    }
    Ok(Caller { cluster: cluster.to_owned(), certificate: certificate.clone(), expires })
}

/// Ends an answer, as that of a watch, when its reader is no longer admitted or its certificate expires.
fn bounded(shared: &Shared, caller: Caller, response: Response) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != "application/json;stream=watch") {
        return response;
    }
    let labels = Cluster { cluster: caller.cluster.clone() };
    let held = Held::new(shared.metrics.watches.get_or_create(&labels).clone());
    let admitted = shared.admissions.admitted();
    response.map(|body| {
        let end = async move {
            let left = u64::try_from(caller.expires - now()).unwrap_or(0);
            tokio::select! {
                () = revoked(admitted, &caller.certificate) => {}
                () = tokio::time::sleep(Duration::from_secs(left)) => {}
            }
            drop(held);
        };
        Body::from_stream(body.into_data_stream().take_until(Box::pin(end)))
    })
}

/// Waits until a certificate is not admitted.
async fn revoked(mut admitted: watch::Receiver<Option<Arc<Admitted>>>, certificate: &str) {
    let gone = |admitted: &Option<Arc<Admitted>>| admitted.as_ref().is_some_and(|a| a.find(certificate).is_none());
    if admitted.wait_for(gone).await.is_err() {
        // Whoever said who is admitted is gone: it stays as it was.
        std::future::pending::<()>().await;
    }
}

/// Reads a small body.
///
/// # Errors
/// 413 when it is too large, 408 when it comes too slowly, 400 when it breaks off.
pub(super) async fn body(request: Request<Body>) -> Result<Bytes, Status> {
    let read = tokio::time::timeout(SLOW, Limited::new(request.into_body(), LIMIT).collect()).await;
    match read {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Status::request_too_large(LIMIT)),
        Ok(Err(_)) => Err(Status::bad_request("the request's body could not be read")),
        Err(_) => Err(Status::new(408, "Timeout", "the request's body came too slowly")),
    }
}

impl Shared {
    /// The cluster that a certificate is of, if it is admitted.
    pub(super) fn cluster(&self, certificate: &str) -> Option<String> {
        let admitted = self.admissions.admitted().borrow().clone()?;
        admitted.find(certificate).map(|(cluster, _)| cluster.to_owned())
    }
}

fn text(text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
