//! Logs on standard error: one line per change of the world.

use anyhow::{Context as _, Result};
use tracing_subscriber::EnvFilter;

/// Starts logging. `level` is one of all, debug, info, warn, error, none (Kilo's names), or a filter of
/// `tracing-subscriber`.
///
/// # Errors
/// The filter does not parse.
pub(crate) fn start(level: &str, json: bool) -> Result<()> {
    let filter = match level {
        "all" => "trace",
        "none" => "off",
        other => other,
    };
    let filter = EnvFilter::try_new(filter).with_context(|| {
        format!("--log-level {level:?} is none of all, debug, info, warn, error, none, nor a filter")
    })?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        subscriber.json().init()
    } else {
        subscriber.with_ansi(false).with_target(false).init()
    }
    Ok(())
}
