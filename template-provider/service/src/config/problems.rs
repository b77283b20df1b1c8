//! Collects what is wrong with a config, so that a check reports all of it.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::problem::Problem;

/// What a check found so far. Its methods give `None` for a value that is wrong, and go on.
///
/// ```
/// use service::{Problem, Problems};
///
/// fn check(listen: &str, retry_seconds: u64) -> Result<(std::net::SocketAddr, std::time::Duration), Vec<Problem>> {
///     let mut problems = Problems::default();
///     let listen = problems.parse("listen", listen, "write address:port, as 0.0.0.0:3333");
///     let retry = problems.seconds("retry_seconds", retry_seconds, 1..=600);
///     problems.finish(|| Some((listen?, retry?)))
/// }
///
/// assert!(check("127.0.0.1:3333", 5).is_ok());
/// assert_eq!(check("here", 0).unwrap_err().len(), 2);
/// ```
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds a problem; `None`, for the value that it is about.
    pub fn add<T>(
        &mut self,
        key: impl Into<String>,
        reason: impl Into<String>,
        mend: impl Into<String>,
    ) -> Option<T> {
        self.0.push(Problem::new(key, reason, mend));
        None
    }

    /// The value, unless there is a problem with it.
    pub fn keep<T>(&mut self, outcome: Result<T, Problem>) -> Option<T> {
        outcome.map_err(|problem| self.0.push(problem)).ok()
    }

    /// The value that the text stands for.
    pub fn parse<T: FromStr<Err: Display>>(&mut self, key: &str, text: &str, mend: &str) -> Option<T> {
        self.keep(
            text.parse()
                .map_err(|error: T::Err| Problem::new(key, format!("is not accepted: {error}"), mend)),
        )
    }

    /// The number, if it lies in the range; a float that is not a number lies in none.
    pub fn number<N: PartialOrd + Display>(
        &mut self,
        key: &str,
        number: N,
        range: RangeInclusive<N>,
    ) -> Option<N> {
        if range.contains(&number) {
            return Some(number);
        }
        self.add(key, "is out of range", format!("write {} to {}", range.start(), range.end()))
    }

    /// So many seconds, if they lie in the range.
    pub fn seconds(&mut self, key: &str, seconds: u64, range: RangeInclusive<u64>) -> Option<Duration> {
        self.number(key, seconds, range).map(Duration::from_secs)
    }

    /// The text, if it is a host and a port: `hub.example:34254`, `[::1]:34254`. The host is not looked up.
    pub fn host_and_port(&mut self, key: &str, text: &str) -> Option<String> {
        let good = text.rsplit_once(':').is_some_and(|(host, port)| {
            let bracketed = host.starts_with('[') && host.ends_with(']');
            !host.is_empty()
                && (bracketed || !host.contains(':'))
                && port.parse().is_ok_and(|port: u16| port > 0)
        });
        if good {
            return Some(text.to_owned());
        }
        self.add(key, "is not a host and a port", "write host:port, as 127.0.0.1:34254 or [::1]:34254")
    }

    /// The config, made only if there is no problem: there, every `?` on what the other methods gave is `Some`.
    ///
    /// # Errors
    /// All problems. If `config` gives `None` although none was added, a problem that says just that.
    pub fn finish<T>(self, config: impl FnOnce() -> Option<T>) -> Result<T, Vec<Problem>> {
        if !self.0.is_empty() {
            return Err(self.0);
        }
        let unnamed =
            || vec![Problem::new("config", "was refused, and the check did not say why", "report this")];
        config().ok_or_else(unnamed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_port_has_both_and_brackets_around_an_ipv6_address() {
        let mut problems = Problems::default();
        for good in ["hub.example:34254", "127.0.0.1:1", "[::1]:65535"] {
            assert_eq!(problems.host_and_port("address", good).as_deref(), Some(good));
        }
        let bad = ["hub.example", ":1", "hub:", "hub:0", "hub:65536", "::1:80", ""];
        for bad in bad {
            assert_eq!(problems.host_and_port("address", bad), None, "{bad}");
        }
        assert_eq!(problems.finish(|| Some(())).unwrap_err().len(), bad.len());
    }

    #[test]
    fn a_number_outside_of_its_range_is_refused_with_the_range() {
        let mut problems = Problems::default();
        assert_eq!(problems.number("n", 0.5, 0.5..=1.0), Some(0.5));
        assert_eq!(problems.number("n", f64::NAN, 0.5..=1.0), None);
        assert_eq!(problems.seconds("n", 601, 1..=600), None);
        let found = problems.finish(|| Some(())).unwrap_err();
        assert_eq!((found[0].mend.as_str(), found[1].mend.as_str()), ("write 0.5 to 1", "write 1 to 600"));
    }

    #[test]
    fn a_config_that_is_refused_without_a_problem_is_one() {
        assert_eq!(Problems::default().finish(|| None::<()>).unwrap_err().len(), 1);
    }
}
