//! Log lines to stderr, as text or JSON. One that cannot be written is lost, and nothing else is.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter, ParseError};

use crate::operation::{Log, LogFormat};

/// Whose warnings are about what a peer sends, one for each connection and without a bound: anybody could fill a disk. What such
/// a peer did is counted and said in our own words.
const TALKATIVE: &str = "rustls";

/// The filter that a text stands for, as `info` or `info,link=debug`. Only errors of [`TALKATIVE`], unless the text names it.
pub(crate) fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    let filter = EnvFilter::builder().parse(level)?;
    Ok(match is_off(level) || names(level, TALKATIVE) {
        true => filter,
        false => filter.add_directive(quiet(TALKATIVE)?),
    })
}

fn quiet(target: &str) -> Result<Directive, ParseError> {
    format!("{target}=error").parse()
}

fn is_off(level: &str) -> bool {
    level.trim().parse::<LevelFilter>().is_ok_and(|level| level == LevelFilter::OFF)
}

/// Whether a filter has a directive for this target or a module of it.
fn names(level: &str, target: &str) -> bool {
    level.split(',').any(|directive| {
        let named = directive.trim().split(['=', '[']).next().unwrap_or_default();
        named == target || named.starts_with(&format!("{target}::"))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_peers_make_the_tls_library_warn_of_is_left_out_unless_it_is_asked_for() {
        let said = |level| filter(level).map(|filter| filter.to_string()).unwrap_or_default();
        for level in ["info", "debug", "info,link=debug", "warn,tokio_rustls=debug"] {
            assert!(said(level).contains("rustls=error"), "{level}: {}", said(level));
        }
        for level in ["off", "info,rustls=debug", "info,rustls::check=warn", "rustls", "info,rustls[a]=trace"]
        {
            assert!(!said(level).contains("rustls=error"), "{level}: {}", said(level));
        }
    }
}
