//! A kubeconfig for an emitter.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::{Error, SERVER_NAME};

/// What is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) url: String,
    /// The CA's certificate, in PEM, as the two after it.
    pub(super) authority: String,
    pub(super) certificate: String,
    pub(super) key: String,
    /// The names of the cluster and of the user.
    pub(super) cluster: String,
    pub(super) user: String,
}

impl Access {
    /// As YAML.
    pub(super) fn write(&self) -> Result<String, Error> {
        let encode = |pem: &str| STANDARD.encode(pem);
        let cluster = json!({
            "server": self.url,
            "certificate-authority-data": encode(&self.authority),
            "tls-server-name": SERVER_NAME,
        });
        let user = json!({
            "client-certificate-data": encode(&self.certificate),
            "client-key-data": encode(&self.key),
        });
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": self.cluster, "cluster": cluster}],
            "users": [{"name": self.user, "user": user}],
            "contexts": [{"name": self.cluster, "context": {"cluster": self.cluster, "user": self.user}}],
            "current-context": self.cluster,
            "preferences": {},
        });
        serde_yaml_ng::to_string(&kubeconfig).map_err(|error| Error::State(error.to_string()))
    }

    /// Reads one back; `None` for one that is not ours to renew.
    pub(super) fn read(text: &str) -> Result<Option<Self>, Error> {
        let known: Value = serde_yaml_ng::from_str(text)
            .map_err(|error| Error::State(format!("the kubeconfig can't be read: {error}")))?;
        let (cluster, user) = (&known["clusters"][0], &known["users"][0]);
        if cluster["cluster"]["tls-server-name"] != SERVER_NAME {
            return Ok(None);
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let decode = |value: &Value| String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok();
        let access = || {
            Some(Access {
                url: text(&cluster["cluster"]["server"])?,
                authority: decode(&cluster["cluster"]["certificate-authority-data"])?,
                certificate: decode(&user["user"]["client-certificate-data"])?,
                key: decode(&user["user"]["client-key-data"])?,
                cluster: text(&cluster["name"])?,
                user: text(&user["name"])?,
            })
        };
        Ok(access())
    }

    /// From when to when its certificate is good, in Unix seconds.
    pub(super) fn life(&self) -> Result<(i64, i64), Error> {
        let broken = || Error::State("the certificate in the kubeconfig can't be read; accept a new invitation".into());
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).map_err(|_| broken())?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|_| broken())?;
        let validity = parsed.validity();
        Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_and_others_are_left_alone() {
        let access = Access {
            url: "https://192.0.2.1:6444".into(),
            authority: "a".into(),
            certificate: "b".into(),
            key: "c".into(),
            cluster: "tokyo".into(),
            user: "paris".into(),
        };
        let text = access.write().unwrap();
        assert_eq!(Access::read(&text).unwrap(), Some(access));
        kube::config::Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(Access::read("clusters: [{name: a, cluster: {server: b}}]").unwrap(), None);
        assert!(Access::read("{").is_err());
    }
}
