//! Why sessions end, in words.

use std::fmt;

use super::Negotiated;
use crate::wire::Notification;

/// The end of an established session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// Why.
    pub why: Reason,
    /// Whether the neighbour's routes are kept, as stale, for its restart time (RFC 4724, RFC 8538).
    pub keeps_routes: bool,
    /// What had been agreed on.
    pub negotiated: Box<Negotiated>,
}

/// Who ended a session or an attempt, and why. `Display` says it in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// This side, with a NOTIFICATION.
    Sent(Notification),
    /// This side: what the neighbour's OPEN says cannot be accepted.
    Refused {
        /// What is wrong, and what next.
        words: String,
        /// What it was told.
        notification: Notification,
    },
    /// The neighbour, with a NOTIFICATION.
    Received(Notification),
    /// The connection ended by itself.
    Closed(String),
    /// There was no connection.
    NoConnection(String),
    /// A person here.
    Shutdown(Option<String>),
    /// The neighbour came with a new connection: it has restarted (RFC 4724, section 5).
    Restarted,
}

impl Reason {
    /// Whether the routes of a session that ended so are kept.
    pub(super) fn keeps_routes(&self, negotiated: &Negotiated) -> bool {
        let Some(graceful) = negotiated.graceful.as_ref().filter(|graceful| !graceful.families.is_empty()) else {
            return false;
        };
        match self {
            Self::Closed(_) | Self::Restarted => true,
            Self::Sent(n) | Self::Received(n) | Self::Refused { notification: n, .. } => {
                graceful.notification && !n.is_hard_reset()
            }
            Self::Shutdown(_) | Self::NoConnection(_) => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(notification) => notification.sent().fmt(f),
            Self::Refused { words, notification } => write!(f, "{words} ({})", notification.names()),
            Self::Received(notification) => notification.fmt(f),
            Self::Closed(why) => write!(f, "the connection ended: {why}"),
            Self::NoConnection(why) => write!(f, "no connection: {why}"),
            Self::Shutdown(None) => f.write_str("shut down here"),
            Self::Shutdown(Some(words)) => write!(f, "shut down here: \"{words}\""),
            Self::Restarted => f.write_str("the neighbour restarted and connected again"),
        }
    }
}
