//! What `tombolo invite` prints: one line that admits one cluster, once.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::authority::{hex, random};

const PREFIX: &str = "tombolo-invite.v1.";
/// No honest token comes near it.
const LONGEST: usize = 16 << 10;

/// An invitation, as it travels: `tombolo-invite.v1.` and JSON in base64url.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Where the emitter can be reached, `https://HOST:PORT`, in the order to try.
    pub urls: Vec<String>,
    /// The SHA-256 of the emitter's CA certificate (DER), in hexadecimal.
    pub ca: String,
    /// Which invitation it is.
    pub id: String,
    /// What proves that one has it.
    pub secret: String,
    /// Until when it is good, in Unix seconds by the serving cluster's clock. For people: the emitter decides.
    pub expires: i64,
    /// The name by which the invited cluster is known to the serving one.
    pub cluster: String,
    /// The name of the serving cluster, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// A new id and secret.
pub(crate) fn make() -> (String, String) {
    (hex(&random::<6>()), URL_SAFE_NO_PAD.encode(random::<32>()))
}

/// Whether it is an id as [`make`] makes them: nothing else is looked up.
pub(crate) fn is_id(id: &str) -> bool {
    id.len() == 12 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a cluster or a source may have this name: a DNS label (RFC 1123), as it becomes part of a Secret's name.
pub fn is_cluster_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= 63
        && bytes.iter().all(|b| inner(*b) || *b == b'-')
        && inner(bytes[0])
        && inner(bytes[bytes.len() - 1])
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = serde_json::to_vec(self).map_err(|_| fmt::Error)?;
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invitation").field("urls", &self.urls).field("id", &self.id).finish_non_exhaustive()
    }
}

impl FromStr for Invitation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // A terminal that broke the line in two, or a mail that did, takes nothing away.
        let text: String = text.chars().filter(|c| !c.is_whitespace()).take(LONGEST).collect();
        let Some(body) = text.strip_prefix(PREFIX) else {
            return Err(Error::Token("it does not begin with tombolo-invite.v1."));
        };
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| Error::Token("a part of it is missing or altered"))?;
        let invitation: Invitation =
            serde_json::from_slice(&bytes).map_err(|_| Error::Token("a part of it is missing or altered"))?;
        let is_pin = invitation.ca.len() == 64 && invitation.ca.bytes().all(|b| b.is_ascii_hexdigit());
        if invitation.urls.is_empty() || !is_pin || !is_id(&invitation.id) || !is_cluster_name(&invitation.cluster) {
            return Err(Error::Token("it lacks something"));
        }
        Ok(invitation)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn invitation() -> Invitation {
        let (id, secret) = make();
        let (ca, urls) = ("ab".repeat(32), vec!["https://192.0.2.1:6444".to_owned()]);
        Invitation { urls, ca, id, secret, expires: 1, cluster: "paris".into(), from: Some("tokyo".into()) }
    }

    #[test]
    fn a_token_is_read_as_it_was_written_even_when_broken_into_lines() {
        let invitation = invitation();
        let token = invitation.to_string();
        assert!(!token.contains(char::is_whitespace));
        assert_eq!(token.parse::<Invitation>().unwrap(), invitation);
        let folded = format!("  {}\n{}\n", &token[..70], &token[70..]);
        assert_eq!(folded.parse::<Invitation>().unwrap(), invitation);
        assert!(token[..token.len() - 7].parse::<Invitation>().is_err());
        assert!("tombolo-invite.v2.e30".parse::<Invitation>().is_err());
        assert!("tombolo-invite.v1.e30".parse::<Invitation>().is_err());
    }

    #[test]
    fn its_secret_is_in_no_log() {
        let invitation = invitation();
        assert!(!format!("{invitation:?}").contains(&invitation.secret));
    }

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "paris", "paris-2", "2-paris", &"a".repeat(63)] {
            assert!(is_cluster_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "Paris", "a.b", "a_b", "ä", &"a".repeat(64)] {
            assert!(!is_cluster_name(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in ".*", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = text.parse::<Invitation>();
            let _ = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)).parse::<Invitation>();
        }
    }
}
