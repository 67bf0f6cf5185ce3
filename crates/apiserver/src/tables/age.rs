//! Ages as `kubectl` shows them.

use time::OffsetDateTime;

use crate::clock;

/// A duration in seconds in at most two units, the coarser the longer it is: `5s`, `3m12s`, `2d4h`, `3y120d`.
pub fn human_duration(seconds: i64) -> String {
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{large}{large_unit}") } else { format!("{large}{large_unit}{small}{small_unit}") }
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        // Clocks differ a little between machines.
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if hours < 3 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, "d", hours % 24, "h"),
        _ if days < 2 * 365 => format!("{days}d"),
        _ if days < 8 * 365 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// Time from an RFC 3339 timestamp until now; `<unknown>` where there is none.
pub(super) fn since(timestamp: &str, now: OffsetDateTime) -> String {
    let Some(then) = clock::parse(timestamp) else { return "<unknown>".into() };
    let milliseconds = (now - then).whole_milliseconds();
    human_duration(i64::try_from(milliseconds / 1000).unwrap_or(i64::MAX))
}
