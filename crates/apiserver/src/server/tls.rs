//! The server's certificate authority and certificate, and the kubeconfig that trusts it.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

use super::Error;

/// The names that pods know the API server by.
const NAMES: [&str; 5] =
    ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];

/// What a TLS connection needs. The certificate is made anew when an address is added.
#[derive(Debug)]
pub(super) struct Tls {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
    key: KeyPair,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    addresses: BTreeSet<IpAddr>,
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the certificate authority of the folder, or makes one (and keeps it there).
    pub(super) fn new(folder: Option<&Path>, addresses: Vec<IpAddr>) -> Result<Self, Error> {
        let broken = |e: rcgen::Error| Error::Certificate(e.to_string());
        let unreadable = |e: std::io::Error| Error::Certificate(e.to_string());
        let known = folder.and_then(|folder| {
            let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
            Some((read("ca.crt")?, read("ca.key")?))
        });
        let (ca_pem, ca_key) = match known {
            Some(known) => known,
            None => {
                let (certificate, key) = make_ca().map_err(broken)?;
                if let Some(folder) = folder {
                    std::fs::create_dir_all(folder).map_err(unreadable)?;
                    write_secret(&folder.join("ca.key"), &key).map_err(unreadable)?;
                    std::fs::write(folder.join("ca.crt"), &certificate).map_err(unreadable)?;
                }
                (certificate, key)
            }
        };
        let ca_key = KeyPair::from_pem(&ca_key).map_err(broken)?;
        let issuer = issuer(ca_key);
        let key = KeyPair::generate().map_err(broken)?;
        let local = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let addresses: BTreeSet<IpAddr> = addresses.into_iter().chain(local).collect();
        let config = config(&issuer, &key, &addresses)?;
        Ok(Tls { ca_pem, issuer, key, state: Mutex::new(State { addresses, config }) })
    }

    /// Makes the certificate good for one more address.
    pub(super) fn add(&self, address: IpAddr) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.addresses.insert(address) {
            return;
        }
        match config(&self.issuer, &self.key, &state.addresses) {
            Ok(config) => state.config = config,
            Err(error) => tracing::error!(%error, %address, "the certificate is not good for this address"),
        }
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).config.clone()
    }

    pub(super) fn ca_pem(&self) -> String {
        self.ca_pem.clone()
    }
}

/// A kubeconfig with one cluster, one user and one context, all named `tombolo`.
pub(super) fn kubeconfig(url: &str, ca_pem: &str, token: &str) -> String {
    use base64::Engine;
    let ca = base64::engine::general_purpose::STANDARD.encode(ca_pem);
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: tombolo\n  cluster:\n    certificate-authority-data: {ca}\n    server: {url}\nusers:\n- name: tombolo\n  user:\n    token: {token}\ncontexts:\n- name: tombolo\n  context:\n    cluster: tombolo\n    user: tombolo\ncurrent-context: tombolo\npreferences: {{}}\n"
    )
}

/// Writes a file that only its owner can read, whole or not at all.
pub(super) fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let unfinished = path.with_extension("new");
    let _ = std::fs::remove_file(&unfinished);
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("tombolo-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(3650);
    params
}

/// The CA is told by its name and key alone, so that the kept certificate need not be read back.
fn issuer(key: KeyPair) -> Issuer<'static, KeyPair> {
    Issuer::new(ca_params(), key)
}

fn make_ca() -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let certificate = ca_params().self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn config(
    issuer: &Issuer<'static, KeyPair>,
    key: &KeyPair,
    addresses: &BTreeSet<IpAddr>,
) -> Result<Arc<ServerConfig>, Error> {
    let broken = |e: rcgen::Error| Error::Certificate(e.to_string());
    let mut params = CertificateParams::new(NAMES.map(str::to_owned)).map_err(broken)?;
    params.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
    params.distinguished_name = named("kube-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.use_authority_key_identifier_extension = true;
    params.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(3650);
    let certificate = params.signed_by(key, issuer).map_err(broken)?;
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let broken = |e: rustls::Error| Error::Certificate(e.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(broken)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, private).map_err(broken)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
