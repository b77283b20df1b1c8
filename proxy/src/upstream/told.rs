//! What an upstream was told of a channel's hash rate, and when it is told anew (SV2 spec §5.3.7).

use crate::farm::Miner;

/// How far off it may be, down and up.
const NEAR: (f64, f64) = (0.7, 1.5);

/// What all miners of a channel do together, in hashes a second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HashRate {
    /// As their shares tell; of those that have few, no more than a miner is taken to have.
    believed: f64,
    /// As their shares tell; of those that have few, as they say. Not less than `believed`.
    claimed: f64,
}

impl HashRate {
    /// As shares tell.
    pub(super) fn known(hash_rate: f64) -> Self {
        Self { believed: hash_rate, claimed: hash_rate }
    }

    /// Of one connection, whatever channels it has.
    pub(super) fn of(miner: &Miner) -> Self {
        let view = miner.view();
        Self { believed: view.hash_rate, claimed: view.claimed_hash_rate }
    }
}

/// In hashes a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told(pub(super) f64);

impl Told {
    /// What the upstream is to be told now, if what it was told is wrong by much. A claim that no shares bear out is no reason to
    /// tell it more; nor is it one to tell less that those who said it have brought few shares yet.
    pub(super) fn news(self, now: HashRate) -> Option<f64> {
        let Self(told) = self;
        let (down, up) = NEAR;
        let news = match now {
            HashRate { believed, .. } if believed >= up * told => believed,
            HashRate { claimed, .. } if claimed < down * told => claimed,
            _ => return None,
        };
        // Of a miner that has just come nothing is known.
        (news > 0.0).then_some(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_hears_of_what_is_off_by_much() {
        let told = Told(100.0);
        let news = [69.0, 70.0, 149.0, 150.0].map(|hash_rate| told.news(HashRate::known(hash_rate)));
        assert_eq!(news, [Some(69.0), None, None, Some(150.0)]);
    }

    #[test]
    fn a_claim_moves_nothing_until_shares_bear_it_out() {
        let claims = |claimed| HashRate { believed: 1.0, claimed };
        assert_eq!(Told(1.0).news(claims(1000.0)), None, "of one that says it is faster than it was");
        assert_eq!(Told(1000.0).news(claims(1000.0)), None, "of one that said so when it came");
        assert_eq!(Told(1.0).news(HashRate::known(1000.0)), Some(1000.0));
        assert_eq!(Told(1000.0).news(claims(10.0)), Some(10.0), "nobody says that it is as fast as that");
    }

    #[test]
    fn nobody_is_told_of_a_miner_of_which_nothing_is_known() {
        assert_eq!(Told(100.0).news(HashRate::default()), None);
        assert_eq!(Told(0.0).news(HashRate::default()), None);
    }
}
