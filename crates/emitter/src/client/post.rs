//! One POST over TLS, to a server that is known by the fingerprint of its CA or by the CA itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::STEP;
use crate::authority::fingerprint;
use crate::{Error, SERVER_NAME};

/// The largest answer that is read, in bytes.
const LIMIT: usize = 256 << 10;
/// How long the other side may think.
const ANSWER: Duration = Duration::from_secs(40);

/// `https://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    host: String,
    port: u16,
}

/// Whom to trust, and what to show.
#[derive(Debug, Clone)]
pub(super) enum Trust {
    /// The server that shows a CA of this SHA-256 (hexadecimal), and a certificate of it.
    Pin(String),
    /// The server with a certificate of this CA; all in PEM.
    Authority { authority: String, certificate: String, key: String },
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// Why nothing came back.
#[derive(Debug)]
pub(super) struct Failed {
    url: String,
    why: String,
    /// Whether the request may have been read: an invitation may be used up.
    pub(super) sent: bool,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failed { url, why, sent } = self;
        match sent {
            false => write!(f, "{url}: {why}"),
            true => write!(f, "{url} was asked and gave no answer: {why}; if the token is refused now, make a new one"),
        }
    }
}

impl Endpoint {
    /// Reads `https://HOST[:PORT]` or `HOST:PORT`.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Remote(format!("{text:?} is no address of an emitter; it is https://HOST:PORT"));
        let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let uri: http::Uri = whole.parse().map_err(|_| wrong())?;
        let plain = uri.scheme_str() == Some("https") && matches!(uri.path(), "" | "/") && uri.query().is_none();
        let host = uri.host().filter(|host| plain && !host.is_empty()).ok_or_else(wrong)?;
        Ok(Endpoint { host: host.to_owned(), port: uri.port_u16().unwrap_or(443) })
    }

    /// `https://HOST:PORT`
    pub(super) fn url(&self) -> String {
        format!("https://{}:{}", self.host, self.port)
    }

    fn address(&self) -> (&str, u16) {
        (self.host.trim_start_matches('[').trim_end_matches(']'), self.port)
    }
}

/// Sends a body of JSON and reads the answer.
pub(super) async fn post(endpoint: &Endpoint, trust: &Trust, path: &str, body: Vec<u8>) -> Result<Answer, Failed> {
    let failed = |sent: bool, why: String| Failed { url: endpoint.url(), why, sent };
    let before = |why: String| failed(false, why);
    let config = config(trust).map_err(|why| before(why.to_string()))?;
    let connect = async {
        let stream = TcpStream::connect(endpoint.address()).await.map_err(|error| error.to_string())?;
        let name = ServerName::try_from(SERVER_NAME).map_err(|error| error.to_string())?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| said(&error))
    };
    let stream = tokio::time::timeout(STEP, connect).await;
    let stream = stream.map_err(|_| before("no answer".into()))?.map_err(before)?;
    let request = Request::post(path)
        .header(header::HOST, format!("{}:{}", endpoint.host, endpoint.port))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("tombolo/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| before(error.to_string()))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| before(error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), LIMIT).collect().await.map_err(|error| error.to_string())?;
        Ok(Answer { status, body: body.to_bytes() })
    };
    let exchange = tokio::time::timeout(ANSWER, exchange);
    tokio::pin!(exchange);
    let done = tokio::select! {
        done = &mut exchange => done,
        // It ends after the last answer has been handed over, or before one came, which the exchange then says.
        _ = connection => exchange.await,
    };
    done.map_err(|_| failed(true, "no answer in time".into()))?.map_err(|why: String| failed(true, why))
}

/// The TLS error in words that help.
fn said(error: &std::io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "this is another server than the one that the credentials are for: its certificate is of another CA".into()
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })) => {
            "this is no emitter: its certificate is not one of an emitter's".into()
        }
        _ => error.to_string(),
    }
}

fn config(trust: &Trust) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unreadable = |error: rustls_pki_types::pem::Error| rustls::Error::General(error.to_string());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    match trust {
        Trust::Pin(pin) => {
            let verifier = Pinned { pin: pin.clone(), provider };
            Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
        }
        Trust::Authority { authority, certificate, key } => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).map_err(unreadable)?)?;
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(unreadable)?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(unreadable)?;
            builder.with_root_certificates(roots).with_client_auth_cert(vec![certificate], key)
        }
    }
}

/// Trusts the CA of one fingerprint, which the server sends along.
#[derive(Debug)]
struct Pinned {
    pin: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(authority) = intermediates.iter().find(|certificate| fingerprint(certificate) == self.pin) else {
            return Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_a_scheme() {
        for (text, expected) in [
            ("192.0.2.1:6444", "https://192.0.2.1:6444"),
            ("https://emitter.example.com", "https://emitter.example.com:443"),
            ("https://[2001:db8::1]:6444/", "https://[2001:db8::1]:6444"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().url(), expected);
        }
        assert_eq!(Endpoint::parse("[2001:db8::1]:1").unwrap().address(), ("2001:db8::1", 1));
        for text in ["http://a:1", "https://", "https://a:1/path", "a b"] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }
}
