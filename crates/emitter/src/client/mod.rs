//! The other side: how a cluster that was invited gets its credentials, and renews them.

mod kubeconfig;
mod post;

use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::admissions::now;
use crate::authority::{BACK, fingerprint};
use crate::server::join::{Given, JOIN, JoinRequest, RENEW, RenewRequest};
use crate::{Error, Invitation};
use kubeconfig::Access;
use post::{Answer, Endpoint, Trust};

/// Credentials for an emitter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The name by which this cluster is known to the other.
    pub cluster: String,
    /// Where the emitter was reached.
    pub url: String,
    /// A kubeconfig for it.
    pub kubeconfig: String,
    /// When the certificate in it expires, in Unix seconds.
    pub expires: i64,
}

/// Where an emitter is, as `https://HOST:PORT`, out of that or `HOST:PORT`.
///
/// # Errors
/// When it is neither.
pub fn emitter_url(text: &str) -> Result<String, Error> {
    Endpoint::parse(text).map(|endpoint| endpoint.url())
}

/// Uses an invitation: asks each of its URLs, in order, until one answers, and trusts only the emitter whose CA the
/// invitation names.
///
/// # Errors
/// In words, with what to do.
pub async fn join(invitation: &Invitation) -> Result<Joined, Error> {
    let (key, request) = request()?;
    let body = JoinRequest { id: invitation.id.clone(), secret: invitation.secret.clone(), request };
    let body = serde_json::to_vec(&body).map_err(|error| Error::Remote(error.to_string()))?;
    let mut unreached = Vec::new();
    for url in &invitation.urls {
        let endpoint = Endpoint::parse(url)?;
        let sent = post::post(&endpoint, &Trust::Pin(invitation.ca.clone()), JOIN, body.clone()).await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(failed) if failed.sent => return Err(Error::Remote(failed.to_string())),
            Err(failed) => {
                unreached.push(failed.to_string());
                continue;
            }
        };
        let given = given(url, answer)?;
        let authority = CertificateDer::from_pem_slice(given.authority.as_bytes());
        if authority.ok().is_none_or(|authority| fingerprint(&authority) != invitation.ca) {
            return Err(Error::Remote(format!("{url} gave the certificate of another CA than the invitation names")));
        }
        let access = Access {
            url: endpoint.url(),
            authority: given.authority,
            certificate: given.certificate,
            key: key.serialize_pem(),
            cluster: invitation.from.clone().unwrap_or_else(|| "emitter".into()),
            user: given.cluster.clone(),
        };
        let (cluster, expires) = (given.cluster, given.expires);
        return Ok(Joined { cluster, url: endpoint.url(), kubeconfig: access.write()?, expires });
    }
    let why = unreached.join("; ");
    Err(Error::Remote(format!(
        "the emitter of the other cluster can't be reached: {why}; the invitation is still good: see that the address \
         is right and reachable from here, and try again"
    )))
}

/// A kubeconfig like this one with a new certificate, when two thirds of the life of the present one are over; `None`
/// before that.
///
/// # Errors
/// In words, with what to do. The kubeconfig stays good as long as it was.
pub async fn renew_if_due(kubeconfig: &str) -> Result<Option<String>, Error> {
    renew_if_due_at(kubeconfig, now()).await
}

/// [`renew_if_due`] as of a moment, in Unix seconds.
pub(crate) async fn renew_if_due_at(kubeconfig: &str, moment: i64) -> Result<Option<String>, Error> {
    let Some(access) = Access::read(kubeconfig)? else { return Ok(None) };
    let (begins, expires) = access.life()?;
    // Certificates begin before they are given.
    let given = begins + BACK.whole_seconds();
    if moment < given + (expires - given) / 3 * 2 {
        return Ok(None);
    }
    renew_access(access).await.map(Some)
}

/// A kubeconfig like this one with a new certificate.
///
/// # Errors
/// In words, with what to do. The kubeconfig stays good as long as it was.
pub async fn renew(kubeconfig: &str) -> Result<String, Error> {
    match Access::read(kubeconfig)? {
        Some(access) => renew_access(access).await,
        None => Err(Error::State("the kubeconfig is not one that `tombolo accept` made".into())),
    }
}

async fn renew_access(access: Access) -> Result<String, Error> {
    let (key, request) = request()?;
    let body = serde_json::to_vec(&RenewRequest { request }).map_err(|error| Error::Remote(error.to_string()))?;
    let endpoint = Endpoint::parse(&access.url)?;
    let trust = Trust::Authority {
        authority: access.authority.clone(),
        certificate: access.certificate.clone(),
        key: access.key.clone(),
    };
    let answer = post::post(&endpoint, &trust, RENEW, body).await;
    let answer = answer.map_err(|failed| Error::Remote(failed.to_string()))?;
    if matches!(answer.status, 401 | 403) {
        return Err(Error::Remote(format!(
            "{} no longer admits this cluster: make an invitation with `tombolo invite {}` in the other cluster and \
             use it with `tombolo accept`",
            access.url, access.user
        )));
    }
    let given = given(&access.url, answer)?;
    let renewed = Access { certificate: given.certificate, key: key.serialize_pem(), ..access };
    renewed.write()
}

/// A new key and a request for a certificate for it.
fn request() -> Result<(KeyPair, String), Error> {
    let broken = |error: rcgen::Error| Error::Certificate {
        what: "no certificate request can be made",
        error: error.to_string(),
        next: "this is a fault of Tombolo",
    };
    let key = KeyPair::generate().map_err(broken)?;
    let request = CertificateParams::default().serialize_request(&key).and_then(|request| request.pem());
    Ok((key, request.map_err(broken)?))
}

fn given(url: &str, answer: Answer) -> Result<Given, Error> {
    match answer.status {
        201 => serde_json::from_slice(&answer.body)
            .map_err(|_| Error::Remote(format!("{url} gives an answer that is none of an emitter's"))),
        401 | 403 => Err(Error::Remote(
            "the token has been used, has expired or is wrong: make a new one with `tombolo invite NAME` in the other \
             cluster"
                .into(),
        )),
        404 | 405 => Err(Error::Remote(format!("{url} is no emitter; see the address in `tombolo invite --emitter`"))),
        status => {
            let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let said = said["message"].as_str().unwrap_or("no reason").to_owned();
            Err(Error::Remote(format!("{url} answers {status}: {said}; try again in a moment")))
        }
    }
}

/// How long a step on the network may take.
const STEP: Duration = Duration::from_secs(10);
