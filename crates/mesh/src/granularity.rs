//! How finely a cluster is divided into the segments between which packets are encrypted.

use std::fmt;
use std::str::FromStr;

/// Between what the mesh is woven; Kilo's `--mesh-granularity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Granularity {
    /// Between locations: the nodes of one reach each other directly, the others through its leader.
    Location,
    /// Between all nodes: each is a segment of its own.
    Full,
}

/// A text that names no [`Granularity`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no mesh granularity; write location or full")]
pub struct GranularityError(String);

impl Granularity {
    /// The name as annotations and flags have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Location => "location",
            Self::Full => "full",
        }
    }
}

impl FromStr for Granularity {
    type Err = GranularityError;

    fn from_str(text: &str) -> Result<Self, GranularityError> {
        match text {
            "location" => Ok(Self::Location),
            "full" => Ok(Self::Full),
            other => Err(GranularityError(other.to_owned())),
        }
    }
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
