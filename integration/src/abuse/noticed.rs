//! What the honest noticed: their answers alone and beside abuse, in slices that alternate.
//!
//! A disk or a scheduler has moods that last longer than any answer, so one half after the other says nothing of a tenth. Here
//! both have their part in each mood, and how far the moods still differ is seen from slice to slice: the interval is a
//! bootstrap over rounds, each of which is one slice beside the abuse and one alone.

use std::time::Instant;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde::Serialize;

use crate::load::Share;

/// How often rounds are drawn anew.
const DRAWS: usize = 1000;
/// What beside abuse may be more than alone.
const ALLOWED: f64 = 1.1;

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
    /// 95 % of the draws are not below.
    pub low: f64,
    /// 95 % of the draws are not above `high` or below [`Self::low`].
    pub high: f64,
}

/// Whether the abuse costs the honest more than a tenth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The whole interval is within.
    Within,
    /// It lies on both sides: this measurement does not tell.
    Open,
    /// The whole interval is beyond.
    Beyond,
}

impl Ratio {
    /// Of these rounds; the draws are the same each time.
    pub fn of(rounds: &[Round]) -> Self {
        let mut random = SmallRng::seed_from_u64(1);
        let mut drawn: Vec<f64> = (0..DRAWS)
            .map(|_| {
                let draw: Vec<&Round> =
                    rounds.iter().map(|_| &rounds[random.gen_range(0..rounds.len())]).collect();
                ratio(&draw)
            })
            .collect();
        drawn.sort_by(f64::total_cmp);
        let at = |part: usize| drawn[(DRAWS - 1) * part / 1000];
        Self { value: ratio(&rounds.iter().collect::<Vec<_>>()), low: at(25), high: at(975) }
    }

    /// What it says of the tenth.
    pub fn verdict(self) -> Verdict {
        match self {
            Self { high, .. } if high <= ALLOWED => Verdict::Within,
            Self { low, .. } if low > ALLOWED => Verdict::Beyond,
            _ => Verdict::Open,
        }
    }
}

fn ratio(rounds: &[&Round]) -> f64 {
    let beside = p99_ms(rounds.iter().map(|round| &round.beside));
    beside / p99_ms(rounds.iter().map(|round| &round.alone)).max(0.001)
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
    fn one_round_that_was_slow_is_no_verdict() {
        let mut rounds = rounds(4000, 4000);
        rounds[3].beside = vec![40_000; 1000];
        assert_eq!(Ratio::of(&rounds).verdict(), Verdict::Open);
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
