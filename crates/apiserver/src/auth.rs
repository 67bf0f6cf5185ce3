//! Who a bearer token stands for.
//!
//! Fixed tokens are compared in constant time. Tokens of ServiceAccounts are JSON Web Tokens signed with a key of this
//! server (HMAC-SHA256), good until they expire or the account is gone.

use std::sync::{PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use time::OffsetDateTime;

use crate::rest::User;
use crate::status::Status;
use crate::{Gvr, Store, object};

/// Whom tokens are for.
pub(crate) const AUDIENCE: &str = "https://kubernetes.default.svc";

/// The users of an API server.
#[derive(Debug)]
pub(crate) struct Auth {
    tokens: RwLock<Vec<(String, User)>>,
    key: [u8; 32],
    store: Store,
}

impl Auth {
    pub(crate) fn new(key: [u8; 32], store: Store) -> Self {
        Auth { tokens: RwLock::default(), key, store }
    }

    /// Takes a token for a user's.
    pub(crate) fn add(&self, token: &str, user: User) {
        self.tokens.write().unwrap_or_else(PoisonError::into_inner).push((token.to_owned(), user));
    }

    /// The user of a request; `None` for a request without credentials.
    ///
    /// # Errors
    /// 401 for credentials that are wrong.
    pub(crate) fn user(&self, headers: &HeaderMap) -> Result<Option<User>, Status> {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
        let token = value.to_str().ok().and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        token.and_then(|token| self.user_of(token)).map(Some).ok_or_else(Status::unauthorized)
    }

    /// The user whose token it is.
    pub(crate) fn user_of(&self, token: &str) -> Option<User> {
        let given = Sha256::digest(token.as_bytes());
        let mut found = None;
        // All are compared, so that the time says nothing about which one was nearly right.
        for (known, user) in self.tokens.read().unwrap_or_else(PoisonError::into_inner).iter() {
            if bool::from(Sha256::digest(known.as_bytes()).ct_eq(&given)) {
                found = Some(user.clone());
            }
        }
        found.or_else(|| self.service_account(token))
    }

    /// A token for a ServiceAccount.
    pub(crate) fn sign(&self, account: &Value, audiences: &Value, expires: OffsetDateTime) -> String {
        let (namespace, name, uid) = (object::namespace(account), object::name(account), object::uid(account));
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let claims = json!({
            "aud": audiences,
            "exp": expires.unix_timestamp(),
            "iat": now,
            "nbf": now,
            "iss": AUDIENCE,
            "jti": uuid::Uuid::new_v4().to_string(),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
        });
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let body = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = URL_SAFE_NO_PAD.encode(hmac(&self.key, body.as_bytes()));
        format!("{body}.{signature}")
    }

    fn service_account(&self, token: &str) -> Option<User> {
        let (body, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        if !bool::from(hmac(&self.key, body.as_bytes()).as_slice().ct_eq(&signature)) {
            return None;
        }
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body.split_once('.')?.1).ok()?).ok()?;
        if claims["exp"].as_i64()? < OffsetDateTime::now_utc().unix_timestamp() {
            return None;
        }
        let origin = &claims["kubernetes.io"];
        let (namespace, account) = (origin["namespace"].as_str()?, &origin["serviceaccount"]);
        let stored = self.store.get(&Gvr::new("", "v1", "serviceaccounts"), namespace, account["name"].as_str()?)?;
        (account["uid"] == object::uid(&stored)).then(|| User {
            name: claims["sub"].as_str().unwrap_or("").to_owned(),
            groups: vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".into(),
            ],
            uid: object::uid(&stored).to_owned(),
        })
    }
}

/// RFC 2104 with SHA-256; the key is shorter than a block.
fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn auth() -> (Auth, Value) {
        let store = Store::new();
        let account = json!({"metadata": {"name": "a", "namespace": "n"}});
        let account = store.create(&Gvr::new("", "v1", "serviceaccounts"), account).unwrap();
        (Auth::new([7; 32], store), Value::clone(&account))
    }

    #[test]
    fn the_hmac_is_that_of_rfc_4231() {
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let found: String = hmac(&key, b"what do ya want for nothing?").iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_token_is_good_until_it_expires_or_is_touched() {
        let (auth, account) = auth();
        let later = OffsetDateTime::now_utc() + time::Duration::hours(1);
        let earlier = OffsetDateTime::now_utc() - time::Duration::hours(1);
        let token = auth.sign(&account, &json!([AUDIENCE]), later);
        assert_eq!(auth.user_of(&token).unwrap().name, "system:serviceaccount:n:a");
        assert_eq!(auth.user_of(&auth.sign(&account, &json!([AUDIENCE]), earlier)), None);
        assert_eq!(auth.user_of(&token.replacen('.', "x.", 1)), None);
        assert_eq!(auth.user_of(""), None);
    }
}
