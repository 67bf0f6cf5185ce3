//! What containers write: a file a run, a record a line, with the time at which it came.
//!
//! ```text
//! 2026-11-21T02:30:53.123456789Z F a line
//! 2026-11-21T02:30:54.000000000Z P the first part of a line that is long, or the last line that has no end
//! ```
//!
//! That is the kubelet's form without its column for the stream: standard output and error are one pipe here, so that
//! lines stay in the order in which they were written.

mod read;
mod write;

pub use read::{Selection, read};
pub use write::Writer;

use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

/// How far a container's log is, for those who follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Growth {
    /// Which run of the container writes it, from 1; 0 before the first.
    pub run: u32,
    /// What was written in this run, in bytes of the file.
    pub size: u64,
    /// Whether that run is over.
    pub ended: bool,
}

/// As long as any other, so that times can be compared as text.
const STAMP: &[FormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:9]Z");
/// The length of such a time.
const STAMP_LENGTH: usize = 30;

/// A time as records have it: RFC 3339 in UTC with nine digits.
pub fn stamp(time: OffsetDateTime) -> String {
    // Only times without a date have no such form.
    time.to_offset(time::UtcOffset::UTC).format(STAMP).unwrap_or_default()
}
