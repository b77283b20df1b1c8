//! Shares that were refused while nothing was restarted: a few at each new tip, and no more.
//!
//! While a program is away shares are refused for that, and a busy machine needs some seconds until all miners are back. What is
//! judged are the quiet seconds, which the last quarter of a course is full of.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::load::Report;

/// After a restart, until its miners are all back and what they had sent is answered.
const SETTLING: Duration = Duration::from_secs(10);
/// Of a thousand answers. A tip comes every twenty seconds, so this is a tenth of a second at each in which miners do not know of it.
const MOST: u64 = 5;

/// What a crowd was answered in quiet seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quiet {
    /// Shares.
    pub accepted: u64,
    /// Shares.
    pub rejected: u64,
}

impl Quiet {
    /// Of a report, the seconds in which no restart went on, nor had just ended.
    pub fn of(report: &Report, restarts: &[Range<Instant>]) -> Self {
        let of = |seconds: &[u64]| {
            let quiet =
                seconds.iter().zip(0..).filter(|(_, second)| is_quiet(report.begun, *second, restarts));
            quiet.map(|(count, _)| count).sum()
        };
        Self { accepted: of(&report.each_second), rejected: of(&report.rejected_each_second) }
    }

    /// What is wrong with it, if anything.
    pub fn fault(self) -> Option<String> {
        let Self { accepted, rejected } = self;
        let all = accepted + rejected;
        if accepted == 0 {
            return Some("no share was accepted while nothing was restarted".to_owned());
        }
        (rejected * 1000 > all * MOST)
            .then(|| format!("{rejected} of {all} shares were refused while nothing was restarted"))
    }
}

fn is_quiet(begun: Option<Instant>, second: u32, restarts: &[Range<Instant>]) -> bool {
    let Some(begun) = begun else { return false };
    let (from, to) = (begun + Duration::from_secs(1) * second, begun + Duration::from_secs(1) * (second + 1));
    restarts.iter().all(|restart| to <= restart.start || restart.end + SETTLING <= from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_quiet_before_a_restart_and_when_its_miners_are_back() {
        let begun = Instant::now();
        let at = |second| begun + Duration::from_secs(second);
        let restarts = [at(5)..at(7)];
        let quiet: Vec<u32> = (0..20).filter(|second| is_quiet(Some(begun), *second, &restarts)).collect();
        assert_eq!(quiet, [0, 1, 2, 3, 4, 17, 18, 19]);
        assert!(!is_quiet(None, 0, &[]));
    }

    #[test]
    fn a_few_refused_shares_are_borne_and_more_are_a_fault() {
        let fault = |accepted, rejected| Quiet { accepted, rejected }.fault();
        assert_eq!(fault(995, 5), None);
        assert!(fault(994, 6).is_some_and(|fault| fault.contains("6 of 1000")));
        assert!(fault(0, 0).is_some());
    }
}
