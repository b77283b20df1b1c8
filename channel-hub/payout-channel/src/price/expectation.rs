//! The hasher's side: what it must be promised, what it must be paid, and when it leaves (DESIGN.md §7).

use bitcoin::Amount;

use super::cap::HubPart;
use super::rate::{Fee, NoRate, Rate, part_of};
use super::win::minus;
use super::work::{Work, mul_div, wide_mul};

/// What everybody can read off the sharechain when a height's bases are fixed, and the hub's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicFigures {
    /// The bare subsidy at the height.
    pub subsidy: Amount,
    /// The hub's part of the window.
    pub hub: HubPart,
    /// n: the hub's shares in the window.
    pub hub_shares: u64,
    /// o: the orphaned part of the work, in millionths.
    pub orphaned: u32,
    /// f.
    pub fee: Fee,
}

/// What a hasher's work on a height is worth, by its own figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// c.
    pub rate: Rate,
    /// The most that Σ_B may be (R6); none where that does not bound what is credited (`pps`).
    pub bound: Option<Amount>,
}

/// A hub promised less for a height than R6 and chance can explain, or credited less than was worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hub promises {promised}, and {fair} would be fair")]
pub struct Short {
    /// P_B's base; of credit, what P_B or S grew by.
    pub promised: Amount,
    /// What it would be if the hub's chain shares were exactly as many as its hashers' work should bring; of credit, what accepted shares
    /// are worth.
    pub fair: Amount,
}

/// What a hasher is owed from wins that paid less than was due, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CarryWatch {
    /// Still due.
    pub carry: Amount,
    /// Wins since it was 0.
    pub wins: u32,
}

/// Why a hasher leaves its hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Leave {
    /// More than chance explains.
    #[error("the hub owes {carry} from earlier wins; a win pays {due}")]
    Carry {
        /// Still due.
        carry: Amount,
        /// Due for the last win.
        due: Amount,
    },
    /// For longer than chance explains.
    #[error("the hub has owed something from earlier wins for {wins} wins, now {carry}")]
    NeverReturns {
        /// Still due.
        carry: Amount,
        /// Wins since nothing was.
        wins: u32,
    },
}

impl PublicFigures {
    /// Standard deviations of the hub's chain share count that a promise may be short by.
    pub const DEVIATIONS: u128 = 3;

    /// c for the height.
    ///
    /// # Errors
    /// See [`NoRate`].
    pub fn rate(&self) -> Result<Rate, NoRate> {
        Rate::pplns(self.subsidy, self.fee, self.hub.window, self.orphaned)
    }

    /// What work on the height adds (`pplns`).
    ///
    /// # Errors
    /// See [`NoRate`].
    pub fn expectation(&self) -> Result<Expectation, NoRate> {
        Ok(Expectation { rate: self.rate()?, bound: self.hub.bound(self.subsidy) })
    }

    /// What a base that should be `earned` comes to where R6 binds, if work and chain shares agree:
    /// ⌊earned·min(bound, all) / all⌋ with all = ⌊(1−f)·subsidy·weight / W⌋, which is c for the work that brings the hub's
    /// weight in the mean.
    pub fn fair(&self, earned: Amount) -> Amount {
        let all = self.fee.leaves_of(self.subsidy);
        let all = mul_div(all.to_sat().into(), self.hub.weight.to_hashes(), self.hub.window.to_hashes());
        match (self.hub.bound(self.subsidy), all) {
            (Some(bound), Some(all)) if all > 0 => part_of(earned, u128::from(bound.to_sat()).min(all), all),
            _ => Amount::ZERO,
        }
    }

    /// Accepts a base that is short of [`Self::fair`] by 3/√n of it at most: (fair − promised)²·n ≤ 9·fair².
    ///
    /// `earned` is the hasher's own credited work in the window at [`Self::rate`], times its own factor.
    ///
    /// # Errors
    /// It is shorter.
    pub fn check_promise(&self, earned: Amount, promised: Amount) -> Result<(), Short> {
        let fair = self.fair(earned);
        let short = u128::from(minus(fair, promised).to_sat());
        // Amounts are below 2^51, so the squares fit.
        let allowed = u128::from(fair.to_sat()).pow(2);
        let is_fair = wide_mul(short.pow(2), self.hub_shares.into())
            <= wide_mul(allowed, Self::DEVIATIONS * Self::DEVIATIONS);
        if is_fair { Ok(()) } else { Err(Short { promised, fair }) }
    }
}

impl CarryWatch {
    /// An honest hub's carry is above x·(a win's pay) at a part e^(−2·f·n·x/3) of all wins (docs/price.md): this many
    /// parts of 1/(f·n) are beyond chance, 1 in 22,000.
    const MOST: u128 = 15;
    /// Wins that a carry may last whatever f and n are, and in parts of 1/(n·f²) beyond.
    const LASTS: (u128, u128) = (20, 45);
    /// A lower fee is taken for this one, 0.1 %: with no fee, no carry ever returns.
    const LEAST_FEE: u32 = 1_000;

    /// After a win: `due` without the carry, `paid` the final P_B.
    #[must_use]
    pub fn after_win(self, due: Amount, paid: Amount) -> Self {
        let carry = minus(due + self.carry, paid);
        let wins = if carry == Amount::ZERO { 0 } else { self.wins.saturating_add(1) };
        Self { carry, wins }
    }

    /// Stays while carry·f·n ≤ 15·due and wins ≤ 20 + 45 / (n·f²), f being 0.1 % at least.
    ///
    /// # Errors
    /// The reason to leave.
    pub fn check(&self, fee: Fee, hub_shares: u64, due: Amount) -> Result<(), Leave> {
        let Self { carry, wins } = *self;
        let (fee, whole) = (u128::from(fee.parts().max(Self::LEAST_FEE)), u128::from(Fee::WHOLE));
        let shares = u128::from(hub_shares.max(1));
        let owed = wide_mul(u128::from(carry.to_sat()) * fee, shares);
        if owed > wide_mul(u128::from(due.to_sat()) * whole, Self::MOST) {
            return Err(Leave::Carry { carry, due });
        }
        let most = Self::LASTS.0 + Self::LASTS.1 * whole * whole / (shares.saturating_mul(fee * fee));
        if u128::from(wins) > most { Err(Leave::NeverReturns { carry, wins }) } else { Ok(()) }
    }
}

/// What a hasher has earned at a price, its factor applied: ⌊pays·work' / per⌋.
pub fn earned(rate: Rate, factor: super::Factor, work: Work) -> Amount {
    rate.of(factor.of(work))
}
