//! The time of day, as the API writes it.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// Now, to the second, as `metav1.Time` is written: `2026-11-21T01:09:28Z`.
pub fn now() -> String {
    format_seconds(OffsetDateTime::now_utc())
}

/// Now, to the microsecond, as `metav1.MicroTime` is written: `2026-11-21T01:09:28.000000Z`.
pub fn now_micro() -> String {
    format_micros(OffsetDateTime::now_utc())
}

/// `time` as `metav1.MicroTime` is written (UTC, to the microsecond).
pub fn format_micros(time: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    time.to_offset(time::UtcOffset::UTC).format(&format).unwrap_or_default()
}

/// `time` as `metav1.Time` is written (UTC, to the second).
pub fn format_seconds(time: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    time.to_offset(time::UtcOffset::UTC).format(&format).unwrap_or_default()
}

/// Reads an RFC 3339 time, as any client may write it.
pub fn parse(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}
