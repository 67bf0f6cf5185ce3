//! The certificate authority of an emitter, and what it signs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngCore;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::Error;
use crate::admissions::{Certificate, now};

/// A name that every emitter's certificate is good for. Clients ask for it (`tls-server-name` in a kubeconfig), so that
/// it does not matter by which address, of which load balancer, they reach it.
pub const SERVER_NAME: &str = "tombolo-emitter";

/// The organisation in the certificates of clusters.
pub const CLUSTERS: &str = "tombolo:clusters";

/// How far back certificates begin: the clock of the other side may be wrong by hours.
pub(crate) const BACK: time::Duration = time::Duration::days(1);
const CA_LIFE: time::Duration = time::Duration::days(3650);
const SERVER_LIFE: time::Duration = time::Duration::days(90);

const NEXT: &str = "if the Secret tombolo-emitter-ca is broken, delete it and invite the clusters again";

/// A certificate authority: its key and its certificate. Clones share them.
#[derive(Clone)]
pub struct Authority {
    inner: Arc<Inner>,
}

struct Inner {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
}

/// A server certificate with its key.
pub(crate) struct ServerCertificate {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// When it is to be made anew, in Unix seconds.
    pub(crate) renew_at: i64,
}

impl Authority {
    /// A new one, good for ten years.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn generate() -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(broken("no key can be made"))?;
        let mut params = CertificateParams::default();
        // Two authorities of the same name are told apart by it in what tools show.
        params.distinguished_name = named(&format!("tombolo-emitter-ca-{}", hex(&random::<4>())), None);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial());
        (params.not_before, params.not_after) = life(CA_LIFE);
        let certificate = params.self_signed(&key).map_err(broken("no certificate authority can be made"))?;
        Authority::from_pem(&certificate.pem(), &key.serialize_pem())
    }

    /// Reads one that was kept: the certificate and the private key, both in PEM.
    ///
    /// # Errors
    /// When one of them can't be read, or they do not belong together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        let what = "the certificate authority of the emitter can't be read";
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(broken(what))?;
        let pair = KeyPair::from_pem(key).map_err(broken(what))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(broken(what))?;
        if parsed.public_key().subject_public_key.data.as_ref() != pair.public_key_raw() {
            return Err(broken(what)("its key is not the certificate's"));
        }
        if !parsed.is_ca() {
            return Err(broken(what)("the certificate is not that of an authority"));
        }
        let der = der.into_owned();
        let issuer = Issuer::from_ca_cert_der(&der, pair).map_err(broken(what))?;
        let inner = Inner { issuer, certificate: der, certificate_pem: certificate.into(), key_pem: key.into() };
        Ok(Authority { inner: Arc::new(inner) })
    }

    /// The certificate and the private key, in PEM, to be kept.
    pub fn to_pem(&self) -> (String, String) {
        (self.inner.certificate_pem.clone(), self.inner.key_pem.clone())
    }

    /// The certificate in PEM, which is no secret.
    pub fn certificate_pem(&self) -> &str {
        &self.inner.certificate_pem
    }

    /// The SHA-256 of the certificate (DER), in hexadecimal: what an invitation carries.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.inner.certificate)
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.inner.certificate
    }

    /// Signs a certificate for a cluster: the key is that of the request (PKCS #10, PEM), everything else is ours.
    ///
    /// # Errors
    /// When the request is broken or its signature wrong.
    pub fn sign_client(&self, request: &str, cluster: &str, life: Duration) -> Result<(String, Certificate), Error> {
        let what = "the certificate request can't be used";
        let request = CertificateSigningRequestParams::from_pem(request).map_err(broken(what))?;
        let life = time::Duration::try_from(life).map_err(broken(what))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(cluster, Some(CLUSTERS));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let number = serial();
        params.serial_number = Some(number.clone());
        (params.not_before, params.not_after) = self::life(life);
        let signed = params.signed_by(&request.public_key, &self.inner.issuer).map_err(broken(what))?;
        let certificate = Certificate {
            fingerprint: fingerprint(signed.der()),
            serial: hex(&number.to_bytes()),
            issued: now(),
            expires: params.not_after.unix_timestamp(),
        };
        Ok((signed.pem(), certificate))
    }

    /// A certificate for the server itself, by these names and addresses.
    pub(crate) fn sign_server(&self, names: &[String]) -> Result<ServerCertificate, Error> {
        let what = "the emitter's own certificate can't be made";
        let key = KeyPair::generate().map_err(broken(what))?;
        let mut params = CertificateParams::default();
        for name in std::iter::once(SERVER_NAME).chain(names.iter().map(String::as_str)) {
            let name = match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.try_into().map_err(broken(what))?),
            };
            params.subject_alt_names.push(name);
        }
        params.distinguished_name = named(SERVER_NAME, None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        (params.not_before, params.not_after) = life(SERVER_LIFE);
        let signed = params.signed_by(&key, &self.inner.issuer).map_err(broken(what))?;
        Ok(ServerCertificate {
            chain: vec![signed.der().clone(), self.inner.certificate.clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            renew_at: now() + SERVER_LIFE.whole_seconds() / 3 * 2,
        })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

/// The SHA-256 of a certificate, in hexadecimal.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex(&Sha256::digest(certificate))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// A positive number of 16 bytes (RFC 5280, 4.1.2.2).
fn serial() -> SerialNumber {
    let mut bytes = random::<16>();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn life(life: time::Duration) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - BACK, now + life)
}

fn named(name: &str, organisation: Option<&str>) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    if let Some(organisation) = organisation {
        names.push(DnType::OrganizationName, organisation);
    }
    names.push(DnType::CommonName, name);
    names
}

fn broken<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::Certificate { what, error: error.to_string(), next: NEXT }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn request() -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = named("somebody-else", Some("system:masters"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serialize_request(&key).unwrap().pem().unwrap()
    }

    #[test]
    fn what_was_kept_signs_as_before() {
        let authority = Authority::generate().unwrap();
        let (certificate, key) = authority.to_pem();
        let again = Authority::from_pem(&certificate, &key).unwrap();
        assert_eq!(again.fingerprint(), authority.fingerprint());
        assert!(again.sign_client(&request(), "paris", Duration::from_secs(60)).is_ok());
        let (_, other) = Authority::generate().unwrap().to_pem();
        assert!(Authority::from_pem(&certificate, &other).is_err());
        assert!(Authority::from_pem("", &key).is_err());
    }

    #[test]
    fn of_a_request_only_the_key_counts() {
        let authority = Authority::generate().unwrap();
        let year = Duration::from_secs(365 * 86400);
        let (pem, known) = authority.sign_client(&request(), "paris", year).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert_eq!(parsed.subject().to_string(), "O=tombolo:clusters, CN=paris");
        assert!(!parsed.is_ca());
        assert_eq!(known.fingerprint, fingerprint(&der));
        assert_eq!(parsed.tbs_certificate.raw_serial_as_string().replace(':', ""), known.serial);
        let now = now();
        assert!(parsed.validity().not_before.timestamp() <= now - 3600);
        assert!((now + 364 * 86400..now + 366 * 86400).contains(&known.expires));
        assert!(authority.sign_client("-----BEGIN CERTIFICATE REQUEST-----", "paris", year).is_err());
    }
}
