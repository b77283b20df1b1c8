//! What the honest noticed: their answers alone and beside abuse, in slices that alternate.
//!
//! A disk or a scheduler has moods that last longer than any answer, so one half after the other says nothing of a tenth. Here
//! both have their part in each mood. A round is one slice beside the abuse and one alone. A single slow fsync decides the
//! percentile of its slice and, if it is slow enough, that of all slices together; so it is told by the median of the rounds'
//! ratios, with a bootstrap over the rounds, and what all slices together say must not contradict it.

use std::time::Instant;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;

use crate::load::Share;

/// How often rounds are drawn anew.
const DRAWS: usize = 1000;
/// What beside abuse may be more than alone.
pub(super) const ALLOWED: f64 = 1.1;

/// Answer times of one slice, microseconds.
pub type Slice = Vec<u32>;

/// One slice of each.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Beside the abuse.
    pub beside: Slice,
    /// Without it.
    pub alone: Slice,
}

/// The ratio of the 99th percentiles, beside to alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Of all slices together.
    pub value: f64,
    /// Of a round: the median.
    pub typical: f64,
    /// The median of 95 % of the draws is between this and [`Self::high`].
    pub low: f64,
    /// See [`Self::low`].
    pub high: f64,
}

/// Whether the abuse costs the honest more than a tenth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The whole interval is within, and so are all slices together.
    Within,
    /// This measurement does not tell.
    Open,
    /// The whole interval is beyond.
    Beyond,
}

impl Ratio {
    /// Of these rounds; the draws are the same each time.
    pub fn of(rounds: &[Round]) -> Self {
        let mut random = SmallRng::seed_from_u64(1);
        let ratios: Vec<f64> = rounds.iter().map(|round| ratio(std::slice::from_ref(round))).collect();
        let mut draw = || median(ratios.iter().map(|_| ratios[random.gen_range(0..ratios.len())]).collect());
        let mut drawn: Vec<f64> = (0..DRAWS).map(|_| draw()).collect();
        drawn.sort_by(f64::total_cmp);
        let at = |part: usize| drawn[(DRAWS - 1) * part / 1000];
        Self { value: ratio(rounds), low: at(25), high: at(975), typical: median(ratios) }
    }

    /// What it says of the tenth.
    pub fn verdict(self) -> Verdict {
        match self {
            Self { high, value, .. } if high.max(value) <= ALLOWED => Verdict::Within,
            Self { low, .. } if low > ALLOWED => Verdict::Beyond,
            _ => Verdict::Open,
        }
    }
}

fn ratio(rounds: &[Round]) -> f64 {
    let beside = p99_ms(rounds.iter().map(|round| &round.beside));
    beside / p99_ms(rounds.iter().map(|round| &round.alone)).max(0.001)
}

/// Of an even number, the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}

/// 99 % of all these answers came within so many milliseconds.
pub fn p99_ms<'a>(slices: impl Iterator<Item = &'a Slice>) -> f64 {
    let mut all: Vec<u32> = slices.flatten().copied().collect();
    if all.is_empty() {
        return 0.0;
    }
    let place = (all.len() - 1) * 99 / 100;
    f64::from(*all.select_nth_unstable(place).1) / 1000.0
}

/// Of these shares, those that were sent within.
pub fn slice(shares: &[Share], (begin, end): (Instant, Instant)) -> Slice {
    let within = shares.iter().filter(|share| (begin..end).contains(&share.sent));
    within.map(|share| u32::try_from(share.took.as_micros()).unwrap_or(u32::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand answers of 1 ms and more, a hundredth of them of `slow` µs.
    fn answers(random: &mut SmallRng, slow: u32) -> Slice {
        (0..1000).map(|n| if n % 50 == 0 { slow } else { 1000 } + random.gen_range(0..200)).collect()
    }

    fn rounds(alone: u32, beside: u32) -> Vec<Round> {
        let mut random = SmallRng::seed_from_u64(7);
        (0..8)
            .map(|_| Round { alone: answers(&mut random, alone), beside: answers(&mut random, beside) })
            .collect()
    }

    #[test]
    fn what_differs_by_less_than_a_tenth_is_told_from_what_differs_by_more() {
        assert_eq!(Ratio::of(&rounds(4000, 4100)).verdict(), Verdict::Within);
        let half_more = Ratio::of(&rounds(4000, 6000));
        assert_eq!(half_more.verdict(), Verdict::Beyond);
        assert!((1.4..1.6).contains(&half_more.value), "{half_more:?}");
    }

    #[test]
    fn a_slow_fsync_in_one_round_decides_nothing_and_one_that_all_slices_together_show_is_no_verdict() {
        let mut rounds = rounds(4000, 4100);
        rounds[3].beside[..30].fill(40_000);
        let ratio = Ratio::of(&rounds);
        assert!((1.0..1.1).contains(&ratio.typical), "{ratio:?}");
        assert_eq!(ratio.verdict(), Verdict::Within);
        rounds[3].beside.fill(40_000);
        assert_eq!(Ratio::of(&rounds).verdict(), Verdict::Open);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert!((median(vec![4.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn the_percentile_is_of_all_slices_together() {
        let slices = [vec![1000; 99], vec![9000; 1], vec![]];
        assert!((p99_ms(slices.iter()) - 1.0).abs() < 1e-9);
        let slices = [vec![1000; 98], vec![9000; 2]];
        assert!((p99_ms(slices.iter()) - 9.0).abs() < 1e-9);
        assert!(p99_ms([].iter()).abs() < 1e-9);
    }
}
