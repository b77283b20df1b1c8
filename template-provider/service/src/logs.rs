//! Log lines to stderr, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::operation::{Log, LogFormat};

/// The filter that a text stands for, as `info` or `info,link=debug`.
pub(crate) fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(level)
}

/// Sends the log of this process to stderr from now on. A second call changes nothing: the first one holds.
///
/// # Errors
/// A level that is no filter.
pub fn start_logs(log: &Log) -> Result<(), ParseError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(&log.level)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    drop(started); // fails only when a log was started before
    Ok(())
}
