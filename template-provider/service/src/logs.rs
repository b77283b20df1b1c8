//! Log lines to stderr, as text or JSON. One that cannot be written is lost, and nothing else is.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

use crate::operation::{Log, LogFormat};

/// The filter that a text stands for, as `info` or `info,link=debug`.
pub(crate) fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(level)
}

/// The same; a filter that is one word must be a level: any other would be taken for a module, and all lines but its be lost.
///
/// # Errors
/// Why it is no filter.
pub(crate) fn checked(level: &str) -> Result<EnvFilter, String> {
    let is_word = level.trim().chars().all(char::is_alphabetic);
    if is_word && level.trim().parse::<LevelFilter>().is_err() {
        return Err(format!("{} is no level", level.trim()));
    }
    filter(level).map_err(|error| error.to_string())
}

/// Sends the log of this process to stderr from now on. A second call changes nothing: the first one holds.
///
/// # Errors
/// A level that is no filter.
pub fn start_logs(log: &Log) -> Result<(), ParseError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(&log.level)?)
        .with_writer(std::io::stderr)
        // It would be told by `eprintln!`, which panics where stderr cannot be written to: on a full disk, say.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    drop(started); // fails only when a log was started before
    Ok(())
}
