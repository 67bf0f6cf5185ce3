//! How a cluster gets its first certificate, by an invitation, and each further one, by the one before.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Request, StatusCode, header};
use serde::{Deserialize, Serialize};
use tombolo_apiserver::Status;

use super::Shared;
use super::connection::Peer;
use super::requests::{Caller, body};
use crate::ClaimError;
use crate::invitation::is_id;

/// Where an invitation is used.
pub(crate) const JOIN: &str = "/tombolo/v1/join";
/// Where a certificate is renewed.
pub(crate) const RENEW: &str = "/tombolo/v1/renew";

/// How many attempts to join are looked at at once.
pub(super) const AT_ONCE: usize = 4;
/// How long one may wait for its turn.
const TURN: Duration = Duration::from_secs(5);
/// What a wrong attempt costs whoever makes it.
const DELAY: Duration = Duration::from_millis(500);
/// How long the cluster's own API may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// The body of a request to [`JOIN`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JoinRequest {
    /// Which invitation.
    pub(crate) id: String,
    /// Its secret.
    pub(crate) secret: String,
    /// The certificate request (PKCS #10) in PEM. Only its key counts.
    pub(crate) request: String,
}

/// The body of a request to [`RENEW`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RenewRequest {
    /// As in [`JoinRequest`].
    pub(crate) request: String,
}

/// What both are answered with.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Given {
    /// The name by which the cluster is known here.
    pub(crate) cluster: String,
    /// Its certificate in PEM.
    pub(crate) certificate: String,
    /// The authority's certificate in PEM.
    pub(crate) authority: String,
    /// When its certificate expires, in Unix seconds.
    pub(crate) expires: i64,
}

/// Takes an invitation and gives a certificate.
pub(super) async fn join(shared: &Arc<Shared>, peer: &Peer, request: Request<Body>) -> Result<Response, Status> {
    // Everything that is wrong is answered alike, and after the same time.
    let asked = body(request).await?;
    let Ok(asked) = serde_json::from_slice::<JoinRequest>(&asked) else {
        return Err(refuse(shared, peer, "malformed-join", "the request to join is malformed").await);
    };
    if !is_id(&asked.id) {
        return Err(refuse(shared, peer, "unknown-invitation", "the id is none that an invitation has").await);
    }
    // A request that can't be signed must not use up the invitation.
    if let Err(error) = shared.identity.authority.sign_client(&asked.request, "probe", Duration::from_secs(1)) {
        return Err(refuse(shared, peer, "malformed-join", &error.to_string()).await);
    }
    let Ok(Ok(turn)) = tokio::time::timeout(TURN, shared.joining.acquire()).await else {
        shared.metrics.refuse("too-many-joining");
        return Err(Status::new(429, "TooManyRequests", "too many clusters join at this moment; try again"));
    };
    let claim = tokio::time::timeout(PATIENCE, shared.admissions.claim(&asked.id, &asked.secret)).await;
    // Who is refused waits, but nobody else for that.
    drop(turn);
    let cluster = match claim {
        Ok(Ok(cluster)) => cluster,
        Ok(Err(ClaimError::Unavailable(why))) => return Err(unavailable(shared, &why)),
        Err(_) => return Err(unavailable(shared, "the cluster's own API does not answer")),
        Ok(Err(error)) => {
            let reason = match error {
                ClaimError::Expired { .. } => "expired-invitation",
                ClaimError::WrongSecret { .. } => "wrong-secret",
                ClaimError::Used | ClaimError::Unknown | ClaimError::Unavailable(_) => "unknown-invitation",
            };
            return Err(refuse(shared, peer, reason, &format!("invitation {}: {error}", asked.id)).await);
        }
    };
    let known = shared.admissions.admitted().borrow().clone().unwrap_or_default();
    let signed = shared.identity.authority.sign_client(&asked.request, &cluster, shared.identity.client_life);
    let (pem, certificate) = signed.map_err(|error| unavailable(shared, &error.to_string()))?;
    let (expires, serial) = (certificate.expires, certificate.serial.clone());
    if let Err(why) = shared.admissions.admit(&cluster, certificate).await {
        return Err(unavailable(shared, &format!("cluster {cluster} can't be admitted, invite it again: {why}")));
    }
    shared.metrics.joined.inc();
    let replaced = known.clusters().contains_key(&cluster);
    tracing::info!(cluster, peer = %peer.address, serial, replaced, "a cluster was admitted by an invitation");
    Ok(give(shared, cluster, pem, expires))
}

/// Gives a new certificate to whoever has one.
pub(super) async fn renew(
    shared: &Arc<Shared>,
    peer: &Peer,
    caller: &Caller,
    request: Request<Body>,
) -> Result<Response, Status> {
    let asked = body(request).await?;
    let Ok(asked) = serde_json::from_slice::<RenewRequest>(&asked) else {
        return Err(Status::bad_request("the body must be {\"request\": a PKCS #10 certificate request in PEM}"));
    };
    let signed = shared.identity.authority.sign_client(&asked.request, &caller.cluster, shared.identity.client_life);
    let (pem, certificate) = signed.map_err(|error| Status::bad_request(error.to_string()))?;
    let (expires, serial) = (certificate.expires, certificate.serial.clone());
    let renewed = shared.admissions.renew(&caller.cluster, &caller.certificate, certificate);
    match tokio::time::timeout(PATIENCE, renewed).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => return Err(unavailable(shared, &why)),
        Err(_) => return Err(unavailable(shared, "the cluster's own API does not answer")),
    }
    shared.metrics.renewed.inc();
    tracing::info!(cluster = caller.cluster, peer = %peer.address, serial, "the certificate of a cluster was renewed");
    Ok(give(shared, caller.cluster.clone(), pem, expires))
}

fn give(shared: &Shared, cluster: String, certificate: String, expires: i64) -> Response {
    let authority = shared.identity.authority.certificate_pem().to_owned();
    let given = Given { cluster, certificate, authority, expires };
    let mut response = Response::new(Body::from(serde_json::to_vec(&given).unwrap_or_default()));
    *response.status_mut() = StatusCode::CREATED;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.into_response()
}

/// 401, and the reason for the people of this cluster.
async fn refuse(shared: &Shared, peer: &Peer, reason: &'static str, why: &str) -> Status {
    shared.metrics.refuse(reason);
    tracing::warn!(peer = %peer.address, reason, why, "an attempt to join this cluster's emitter was refused");
    shared.admissions.refused(&format!("{why} (from {})", peer.address.ip()));
    tokio::time::sleep(DELAY).await;
    Status::unauthorized()
}

/// 503: it is our fault, and says nothing about the invitation.
fn unavailable(shared: &Shared, why: &str) -> Status {
    shared.metrics.refuse("unavailable");
    tracing::error!(why, "a cluster could not be given a certificate");
    Status::new(503, "ServiceUnavailable", "the emitter can't give certificates at this moment; see its log")
}
