//! A watch on a Poisson process: has the miner become faster or slower than estimated, and since when?
//!
//! Page's cumulative sums of log-likelihood ratios, one for each of six suspicions. Each begins anew when what
//! happened since speaks against it; so the evidence behind one that rises dates from the change itself.

use super::evidence::{Evidence, ONE};

/// One suspicion: the miner is `factor` times as fast as estimated.
struct Suspicion {
    /// ln(factor).
    log: i64,
    /// factor − 1.
    more: i64,
}

/// 1.4, 2.5 and 8 times; 0.7, 0.4 and 0.1 times.
const SUSPICIONS: [Suspicion; 6] = [
    Suspicion { log: 352_817, more: 419_430 },
    Suspicion { log: 960_801, more: 1_572_864 },
    Suspicion { log: 2_180_452, more: 7_340_032 },
    Suspicion { log: -374_001, more: -314_572 },
    Suspicion { log: -960_801, more: -629_145 },
    Suspicion { log: -2_414_435, more: -943_718 },
];

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    score: i64,
    since: Evidence,
}

/// One miner's six sums.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch([Sum; 6]);

impl Watch {
    pub(super) fn add(&mut self, more: Evidence) {
        for (sum, suspicion) in self.0.iter_mut().zip(&SUSPICIONS) {
            sum.score = sum.score.saturating_add(suspicion.gain(more));
            sum.since.add(more);
            if sum.score <= 0 {
                *sum = Sum::default();
            }
        }
    }

    /// The evidence behind the strongest suspicion, if it is above `threshold` (in nats).
    pub(super) fn alarm(&self, threshold: u64) -> Option<Evidence> {
        let strongest = self.0.iter().max_by_key(|sum| sum.score)?;
        (u64::try_from(strongest.score).ok()? > threshold).then_some(strongest.since)
    }

    /// How many shares must be expected, and none found, for an alarm.
    pub(super) fn patience(&self, threshold: u64) -> u64 {
        let threshold = i64::try_from(threshold).unwrap_or(i64::MAX);
        let slower = self.0.iter().zip(&SUSPICIONS).filter(|(_, suspicion)| suspicion.more < 0);
        let needed = slower.map(|(sum, suspicion)| {
            let nats = u128::from(threshold.saturating_sub(sum.score).max(0).unsigned_abs());
            nats * u128::from(ONE) / u128::from(suspicion.more.unsigned_abs()) + 4
        });
        needed.min().and_then(|shares| u64::try_from(shares).ok()).unwrap_or(u64::MAX)
    }
}

impl Suspicion {
    /// What `more` adds to the log-likelihood ratio of this suspicion against the estimate.
    fn gain(&self, more: Evidence) -> i64 {
        let part = |shares: u64, weight: i64| i128::from(shares) * i128::from(weight) / i128::from(ONE);
        let gain = part(more.found, self.log) - part(more.expected, self.more);
        i64::try_from(gain).unwrap_or(if gain > 0 { i64::MAX } else { i64::MIN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::cast_precision_loss)]
    fn the_logarithms_are_those_of_the_factors() {
        let one = ONE as f64;
        for (suspicion, factor) in SUSPICIONS.iter().zip([1.4_f64, 2.5, 8.0, 0.7, 0.4, 0.1]) {
            assert!((suspicion.log as f64 / one - factor.ln()).abs() < 1e-6);
            assert!((suspicion.more as f64 / one - (factor - 1.0)).abs() < 1e-6);
        }
    }

    #[test]
    fn silence_alarms_after_exactly_the_patience_that_was_announced() {
        let threshold = 9 * ONE;
        let mut watch = Watch::default();
        watch.add(Evidence::new(ONE, 3 * ONE));
        let patience = watch.patience(threshold);
        let mut early = watch.clone();
        early.add(Evidence::new(0, patience - 100));
        assert_eq!(early.alarm(threshold), None);
        watch.add(Evidence::new(0, patience));
        assert!(watch.alarm(threshold).is_some());
    }

    #[test]
    fn evidence_behind_an_alarm_dates_from_the_change() {
        let mut watch = Watch::default();
        (0..1000).for_each(|_| watch.add(Evidence::new(ONE, ONE)));
        let mut steps = 0;
        let since = loop {
            watch.add(Evidence::new(8 * ONE, ONE));
            steps += 1;
            if let Some(since) = watch.alarm(9 * ONE) {
                break since;
            }
        };
        assert!(steps <= 2, "{steps}");
        assert!(since.expected <= 3 * ONE, "{since:?}");
    }
}
