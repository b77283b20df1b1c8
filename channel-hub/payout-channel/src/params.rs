//! Timeouts of a sharechain network, in blocks unless they say otherwise. One struct; both ends must have the same.

/// Timeouts and bounds (DESIGN.md §6). Times count from the height B of a block, or from E, a payout channel's expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Confirmations before a payout channel may be worked for.
    pub confirmations: u32,
    /// E is the height of the opening plus this.
    pub life: u32,
    /// Nothing is credited for heights from E minus this on.
    pub last_credit: u32,
    /// The hasher has closed by E minus this.
    pub close_before: u32,
    /// Confirmations before X_B may leave: coinbase maturity, 100 by Bitcoin's consensus.
    pub maturity: u32,
    /// The hub has claimed by B plus this.
    pub claimed_by: u32,
    /// The hasher closes when P_B is not settled this long after X_B became public.
    pub settled_within: u32,
    /// The recovery council may spend at B plus this; the hasher closes then. The hub claims no later than
    /// `maturity` blocks before.
    pub council: u32,
    /// The hub may take back pendings at B plus this, and not before E.
    pub refund: u32,
    /// Both ends keep the last state of a height this long.
    pub kept: u32,
    /// Milliseconds that a hasher goes on after a win without the merged state.
    pub merge_wait_ms: u64,
    /// Milliseconds within which accepted shares are credited.
    pub credit_wait_ms: u64,
    /// Most pendings in one state: all wins whose coinbases are not claimed, and two heights (docs/decisions/0009). Decides the reserve;
    /// see [`crate::fee::reserve`].
    pub max_pendings: u16,
}

/// Why timeouts do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timeouts out of order: {0}")]
pub struct BadParams(&'static str);

/// A claim with that many pendings has 6,654 vB with its remainder, below the 10,000 of a version 3 transaction.
pub const MAX_PENDINGS: u16 = 150;

impl Params {
    /// Every public network.
    pub const PUBLIC: Self = Self {
        confirmations: 6,
        life: 25_920,
        last_credit: 2_448,
        close_before: 432,
        maturity: 100,
        claimed_by: 144,
        settled_within: 144,
        council: 1_008,
        refund: 4_032,
        kept: 144,
        merge_wait_ms: 5_000,
        credit_wait_ms: 30_000,
        max_pendings: 80,
    };

    /// A private network whose pool wins every block: room for all the wins whose coinbases mature.
    pub const PRIVATE: Self = Self {
        confirmations: 2,
        life: 2_000,
        last_credit: 600,
        close_before: 50,
        claimed_by: 110,
        settled_within: 20,
        council: 300,
        refund: 600,
        kept: 110,
        max_pendings: MAX_PENDINGS,
        ..Self::PUBLIC
    };

    /// Whether every deadline leaves time for the one before it.
    ///
    /// # Errors
    /// Names the first pair that does not.
    pub fn check(&self) -> Result<(), BadParams> {
        let rules = [
            (self.confirmations > 0, "confirmations ≥ 1"),
            (self.maturity >= 100, "maturity ≥ 100, by consensus"),
            (self.claimed_by > self.maturity, "maturity < claimed_by"),
            (self.kept >= self.maturity, "maturity ≤ kept"),
            (self.council >= self.claimed_by + self.maturity, "claimed_by + maturity ≤ council"),
            (self.refund > self.council + self.settled_within, "council + settled_within < refund"),
            (self.last_credit > self.council + self.close_before, "council + close_before < last_credit"),
            (self.life > self.last_credit + self.confirmations, "last_credit + confirmations < life"),
            (self.settled_within > 0 && self.close_before > 0, "settled_within and close_before ≥ 1"),
            ((3..=MAX_PENDINGS).contains(&self.max_pendings), "3 ≤ max_pendings ≤ 150"),
        ];
        rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(BadParams(what)))
    }

    /// The last depth (confirmations of block B) at which the hub still reveals X_B: later its claim could race the
    /// council's sweep, and it could pay without being paid.
    pub fn last_reveal(&self) -> u32 {
        self.council - self.maturity
    }

    /// Blocks after B within which a council that is awake has its sweep of an unclaimed win in a block (docs/timeouts.md, 1.): until
    /// then either it or the hub may take the coin.
    pub fn council_done(&self) -> u32 {
        self.refund.saturating_sub(self.close_before).max(self.council)
    }

    /// From which height on the hub may take back the pendings of height B.
    pub fn refund_height(&self, expiry: u32, height: u32) -> u32 {
        expiry.max(height.saturating_add(self.refund))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeouts_of_every_network_fit_together() {
        assert_eq!(Params::PUBLIC.check(), Ok(()));
        assert_eq!(Params::PRIVATE.check(), Ok(()));
    }

    #[test]
    fn a_deadline_that_leaves_no_time_for_the_one_before_is_named() {
        let late = Params { refund: 1_100, ..Params::PUBLIC };
        assert_eq!(late.check(), Err(BadParams("council + settled_within < refund")));
        let many = Params { max_pendings: 151, ..Params::PUBLIC };
        assert!(many.check().is_err());
    }
}
