//! The config keys that every program has: where its data lies, how it logs, where its page is, how long it drains.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::config::Problem;
use crate::key::Key;
use crate::path::expand_home;

/// How a program is operated; checked.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The program's own directory.
    pub data_dir: PathBuf,
    /// How long a program may take to end after a signal.
    pub drain: Duration,
    /// Which log lines are written, and how.
    pub log: Log,
    /// Where the status page listens.
    pub page: SocketAddr,
}

/// Which log lines are written, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A filter in the form of `tracing-subscriber`'s `EnvFilter`.
    pub level: String,
    /// Text or JSON.
    pub format: LogFormat,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOperation {
    data_dir: String,
    drain_seconds: u64,
    log: RawLog,
    page: RawPage,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    level: String,
    format: LogFormat,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPage {
    listen: String,
}

/// How long a drain may take, in seconds.
const DRAIN: RangeInclusive<u64> = 1..=600;

/// First levels of the keys below, by which they are told from a program's own.
pub(crate) const SECTIONS: [&str; 4] = ["data_dir", "drain_seconds", "log", "page"];

/// Where a program called `name` has its data if nobody says otherwise.
fn default_data_dir(name: &str) -> String {
    format!("~/.local/share/sluice/{name}")
}

impl Operation {
    /// Whether the data directory is the default one of a program called `name`.
    pub(crate) fn has_default_data_dir(&self, name: &str) -> bool {
        expand_home(&default_data_dir(name)).is_some_and(|default| default == self.data_dir)
    }
}

/// The keys, for a program called `name` with this default page address.
pub(crate) fn keys(name: &'static str, page: &'static str) -> [Key; 5] {
    [
        Key::new(
            "data_dir",
            leaked(format!("\"{}\"", default_data_dir(name))),
            "Directory of this program's own data. Made when it is missing; one running program per directory.",
        ),
        Key::new(
            "drain_seconds",
            "10",
            "Seconds that open work may take to end after SIGTERM or SIGINT, 1 to 600. A second signal ends at once.",
        ),
        Key::new(
            "log.level",
            "\"info\"",
            "error, warn, info, debug or trace; or a filter, as \"info,link=debug\". RUST_LOG sets it too.",
        ),
        Key::new("log.format", "\"text\"", "text or json. Logs go to stderr."),
        Key::new(
            "page.listen",
            leaked(format!("\"{page}\"")),
            "Address of the status page, the JSON API and /metrics. They have no password: keep it local.",
        ),
    ]
}

/// Keys are `'static` and are made once in a process; this is how a formatted default becomes one.
fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

impl RawOperation {
    pub(crate) fn check(self) -> Result<Operation, Vec<Problem>> {
        let mut problems = Vec::new();
        let page = self.page.listen.parse();
        if page.is_err() {
            problems.push(Problem::new(
                "page.listen",
                "is not an address with a port",
                "write it as 127.0.0.1:8401",
            ));
        }
        if let Err(error) = crate::logs::checked(&self.log.level) {
            let mend = "write error, warn, info, debug or trace, or a list as \"info,link=debug\"";
            problems.push(Problem::new("log.level", format!("is not a log filter: {error}"), mend));
        }
        if !DRAIN.contains(&self.drain_seconds) {
            let reason = match self.drain_seconds {
                0 => "would cut off what is under way at every end",
                _ => "is longer than anything under way takes",
            };
            let mend = format!("write {} to {}", DRAIN.start(), DRAIN.end());
            problems.push(Problem::new("drain_seconds", reason, mend));
        }
        let data_dir = expand_home(&self.data_dir);
        if data_dir.is_none() {
            let mend = "set HOME, or write the whole path";
            problems.push(Problem::new("data_dir", "begins with ~, but there is no home directory", mend));
        }
        match (page, data_dir) {
            (Ok(page), Some(data_dir)) if problems.is_empty() => Ok(Operation {
                data_dir,
                drain: Duration::from_secs(self.drain_seconds),
                log: Log { level: self.log.level, format: self.log.format },
                page,
            }),
            _ => Err(problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(drain_seconds: u64) -> Vec<String> {
        let raw = RawOperation {
            data_dir: "/data".into(),
            drain_seconds,
            log: RawLog { level: "info".into(), format: LogFormat::Text },
            page: RawPage { listen: "127.0.0.1:0".into() },
        };
        raw.check().err().into_iter().flatten().map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn a_drain_that_is_none_or_never_ends_is_refused_with_the_reason() {
        for (seconds, reason) in [(0, "cut off"), (601, "longer than")] {
            let said = problems(seconds).join("");
            assert!(said.contains("drain_seconds") && said.contains(reason), "{said}");
        }
        for seconds in [1, 600] {
            assert_eq!(problems(seconds), [""; 0]);
        }
    }
}
