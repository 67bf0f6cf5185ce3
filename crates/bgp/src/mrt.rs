//! The tables and what neighbours say, written to files that others read: MRT (RFC 6396), with path identifiers
//! (RFC 8050).
//!
//! Files are written by threads of their own ([`Options`]), under a name that begins with a dot; when one is whole it
//! gets its name: `rib.20261121.050000.mrt` for a table, `updates.20261121.050000.mrt` for messages, after the time
//! (UTC) of its first record.

pub mod encode;
mod files;
pub(crate) mod thread;

use std::path::PathBuf;
use std::time::Duration;

pub use encode::{IndexPeer, RibEntry};

/// What is written, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The folder of the files. It has to be there.
    pub folder: PathBuf,
    /// How often the tables are written, beginning at the next multiple of it (UTC); `None` is never.
    pub tables: Option<Duration>,
    /// Whether messages and changes of state are written as they come, and how long a file of them is; `None` is not.
    pub updates: Option<Duration>,
    /// How many files of each kind are kept; `None` is all.
    pub keep: Option<usize>,
}
