//! TLS: the emitter's own certificate, made anew before it expires, and those of clients.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::Identity;
use crate::admissions::now;
use crate::{Authority, Error};

/// How the emitter shows itself, and how it knows others.
pub(super) struct Tls {
    config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Tls {
    pub(super) fn new(identity: &Identity) -> Result<Self, Error> {
        let broken = |error: rustls::Error| Error::Serve(error.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(identity.authority.certificate().clone()).map_err(broken)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| Error::Serve(error.to_string()))?;
        let own = Own::new(identity.authority.clone(), identity.names.clone())?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(broken)?
            .with_client_cert_verifier(Arc::new(Anyone(verifier.clone())))
            .with_cert_resolver(Arc::new(own));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Tls { config: Arc::new(config), verifier })
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Whether the authority signed it for a client, and it is in its time.
    pub(super) fn is_ours(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((first, rest)) = chain.split_first() else { return false };
        self.verifier.verify_client_cert(first, rest, UnixTime::now()).is_ok()
    }
}

/// Lets every client through the handshake, with or without a certificate: what it may do is said by HTTP, as a
/// kube-apiserver does, so that a client whose certificate is not good hears 401 and not a broken connection. That it
/// has the key of the certificate that it shows is checked.
#[derive(Debug)]
struct Anyone(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Anyone {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The emitter's certificate.
#[derive(Debug)]
struct Own {
    authority: Authority,
    names: Vec<String>,
    present: Mutex<(Arc<CertifiedKey>, i64)>,
}

impl Own {
    fn new(authority: Authority, names: Vec<String>) -> Result<Self, Error> {
        let present = make(&authority, &names)?;
        Ok(Own { authority, names, present: Mutex::new(present) })
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if present.1 <= now() {
            match make(&self.authority, &self.names) {
                Ok(new) => *present = new,
                Err(error) => tracing::error!(%error, "the emitter's certificate is about to expire"),
            }
        }
        Some(present.0.clone())
    }
}

fn make(authority: &Authority, names: &[String]) -> Result<(Arc<CertifiedKey>, i64), Error> {
    let signed = authority.sign_server(names)?;
    let key = rustls::crypto::ring::sign::any_supported_type(&signed.key);
    let key = key.map_err(|error| Error::Serve(error.to_string()))?;
    Ok((Arc::new(CertifiedKey::new(signed.chain, key)), signed.renew_at))
}
