//! R6: what a hub may promise for a height, so that revealing the key always pays (DESIGN.md §6, §7).

use bitcoin::Amount;

use super::rate::part_of;
use super::work::{Work, mul_div};

/// A hub's part of the sharechain's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubPart {
    /// Weight of its shares in the window.
    pub weight: Work,
    /// Weight of the oldest [`Self::left_out`] of them, which may leave the window before the height is won.
    pub oldest: Work,
    /// Weight of the whole window.
    pub window: Work,
}

/// What one hasher should be promised for a height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Its work in the window at the height's price.
    pub earned: Amount,
    /// What it was short at earlier wins.
    pub carry: Amount,
}

/// The pendings of one height when they are fixed, before later work is added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bases {
    /// In the order of the wishes.
    pub amounts: Vec<Amount>,
    /// What may still be added.
    pub room: Room,
    /// How all that was earned was scaled; none if it fitted.
    pub scaled: Option<Scale>,
}

/// A common factor: fits / wished, at most 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// What there is, in satoshi.
    pub fits: u128,
    /// What it should be, in satoshi.
    pub wished: u128,
}

/// What may still be promised for a height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room(Amount);

impl HubPart {
    /// How many of the hub's oldest shares R6 leaves out on public networks: 120, but never more than a tenth of the
    /// `shares` in the window, which may be short when the pool is a large part of the network (decision 0021).
    pub const fn left_out(shares: usize) -> usize {
        let tenth = shares / 10;
        if tenth < 120 { tenth } else { 120 }
    }

    /// R6: ⌊99·subsidy·(weight − oldest) / (100·window)⌋, of the bare subsidy. None for an empty window.
    pub fn bound(&self, subsidy: Amount) -> Option<Amount> {
        let sure = self.weight.minus(self.oldest).to_hashes();
        let whole = self.window.to_hashes();
        let of_subsidy = mul_div(u128::from(subsidy.to_sat()) * 99, sure.min(whole), whole)? / 100;
        u64::try_from(of_subsidy).ok().map(Amount::from_sat)
    }

    /// ⌊subsidy·weight / window⌋: what a block with this split pays the hub at least, if it pays it at all. Fees add to it, and so does
    /// what is too small to be paid to others. [`crate::watcher::Expected::floor`]. None for an empty window.
    pub fn floor(&self, subsidy: Amount) -> Option<Amount> {
        let whole = self.window.to_hashes();
        let of_subsidy = mul_div(u128::from(subsidy.to_sat()), self.weight.to_hashes().min(whole), whole)?;
        u64::try_from(of_subsidy).ok().map(Amount::from_sat)
    }
}

impl Scale {
    /// Shares out `available` satoshi among wishes that come to `wished`.
    pub fn new(available: u128, wished: u128) -> Self {
        Self { fits: available.min(wished), wished }
    }

    /// ⌊wish·fits / wished⌋.
    pub fn of(self, wish: Amount) -> Amount {
        if self.is_whole() { wish } else { part_of(wish, self.fits, self.wished) }
    }

    /// Whether everything fits.
    pub fn is_whole(self) -> bool {
        self.fits == self.wished
    }
}

impl Bases {
    /// What was earned first, all scaled alike where it is more than the bound; then, out of what is left, the carries, all
    /// scaled alike. So a newcomer does not pay for what others are short. The sum never exceeds the bound.
    pub fn fix(wishes: &[Wish], bound: Amount) -> Self {
        let available = u128::from(bound.to_sat());
        let earned = Scale::new(available, sum(wishes.iter().map(|wish| wish.earned)));
        let carried = Scale::new(available - earned.fits, sum(wishes.iter().map(|wish| wish.carry)));
        let amounts: Vec<Amount> =
            wishes.iter().map(|wish| earned.of(wish.earned) + carried.of(wish.carry)).collect();
        let room = Room::below(bound, &amounts);
        Self { amounts, room, scaled: (!earned.is_whole()).then_some(earned) }
    }
}

impl Room {
    /// What a bound leaves beside these amounts; nothing if they are more.
    pub fn below(bound: Amount, amounts: &[Amount]) -> Self {
        let left = u128::from(bound.to_sat()).saturating_sub(sum(amounts.iter().copied()));
        Self(Amount::from_sat(u64::try_from(left).unwrap_or_default()))
    }

    /// The amount.
    pub const fn amount(self) -> Amount {
        self.0
    }

    /// Takes `amount` for a share that came while the height was open; if it does not fit, nothing, and the share counts
    /// for the next height.
    #[must_use = "whether the share counts for this height"]
    pub fn take(&mut self, amount: Amount) -> bool {
        let left = self.0.checked_sub(amount);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}

/// The sum in satoshi, in a type that no list of amounts can overflow.
pub(super) fn sum(amounts: impl IntoIterator<Item = Amount>) -> u128 {
    amounts.into_iter().map(|amount| u128::from(amount.to_sat())).sum()
}
