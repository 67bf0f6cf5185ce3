//! The wall clock, as Kubernetes writes it.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Now, as `metav1.Time`: RFC 3339 in whole seconds.
pub fn now() -> String {
    format(OffsetDateTime::now_utc())
}

/// Now, as `metav1.MicroTime`: RFC 3339 with six digits.
pub fn now_micro() -> String {
    let now = OffsetDateTime::now_utc();
    let whole = format(now);
    format!("{}.{:06}Z", whole.trim_end_matches('Z'), now.microsecond())
}

fn format(time: OffsetDateTime) -> String {
    // Only years beyond 9999 don't format.
    time.replace_nanosecond(0).unwrap_or(time).format(&Rfc3339).unwrap_or_default()
}
