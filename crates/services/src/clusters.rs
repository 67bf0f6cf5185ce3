//! The ids of clusters, and which source has which.

use std::collections::BTreeMap;
use std::fmt;

use tombolo_proxy::Refused;

/// The id of a cluster in its ClusterSet: a DNS label (RFC 1123), as it stands in names of hosts and in labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(String);

/// A text that is not an id of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be a cluster's id, which is 1 to 63 of a-z, 0-9 and - with neither - first nor last; change the \
     ClusterProperty cluster.clusterset.k8s.io or the flag"
)]
pub struct BadClusterId(String);

impl ClusterId {
    /// Reads an id.
    ///
    /// # Errors
    /// Where it is not a DNS label.
    pub fn parse(text: &str) -> Result<Self, BadClusterId> {
        if is_dns_label(text) { Ok(Self(text.to_owned())) } else { Err(BadClusterId(text.chars().take(80).collect())) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text is a DNS label (RFC 1123) in small letters.
pub(crate) fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Gives each id to one source, by the name that the source has here.
///
/// `known` is who had which id before: it keeps it, so that a newcomer with a wrong id takes nothing down. Among
/// newcomers the first by name has it. Our own id is never given away.
pub fn admit(
    own: &ClusterId,
    known: &BTreeMap<ClusterId, String>,
    claims: &BTreeMap<String, ClusterId>,
) -> (BTreeMap<ClusterId, String>, Vec<Refused>) {
    let mut admitted: BTreeMap<ClusterId, String> = BTreeMap::new();
    let keeps = |source: &String, id: &ClusterId| known.get(id) == Some(source);
    for first in [true, false] {
        for (source, id) in claims.iter().filter(|(source, id)| keeps(source, id) == first && *id != own) {
            admitted.entry(id.clone()).or_insert_with(|| source.clone());
        }
    }
    let refused = claims.iter().filter(|(source, id)| admitted.get(id) != Some(source)).map(|(source, id)| {
        let holder = admitted.get(id).map_or("this cluster".to_owned(), |holder| format!("source {holder}"));
        Refused {
            object: format!("source {source}"),
            field: "ClusterProperty cluster.clusterset.k8s.io".to_owned(),
            reason: format!("{id} is the id of {holder} already; give each cluster an id of its own"),
        }
    });
    let refused = refused.collect();
    (admitted, refused)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(text: &str) -> ClusterId {
        ClusterId::parse(text).unwrap()
    }

    #[test]
    fn an_id_is_a_dns_label() {
        for good in ["a", "cluster-1", "9", &"a".repeat(63)] {
            assert_eq!(id(good).as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a b", "ä", &"a".repeat(64)] {
            assert!(ClusterId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_had_an_id_keeps_it() {
        let claims = BTreeMap::from([
            ("east".to_owned(), id("x")),
            ("north".to_owned(), id("own")),
            ("west".to_owned(), id("x")),
        ]);
        let (admitted, refused) = admit(&id("own"), &BTreeMap::from([(id("x"), "west".to_owned())]), &claims);
        assert_eq!(admitted, BTreeMap::from([(id("x"), "west".to_owned())]));
        let texts: Vec<String> = refused.iter().map(ToString::to_string).collect();
        assert!(texts[0].starts_with("source east: ") && texts[0].contains("x is the id of source west"), "{texts:?}");
        assert!(texts[1].starts_with("source north: ") && texts[1].contains("own is the id of this cluster"));

        let (admitted, refused) = admit(&id("own"), &BTreeMap::new(), &claims);
        assert_eq!((admitted[&id("x")].as_str(), refused.len()), ("east", 2));
    }
}
