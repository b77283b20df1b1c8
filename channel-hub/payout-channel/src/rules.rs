//! R1 to R7 (DESIGN.md §6), each in one place. Both ends ask here before they sign, send, accept or reveal anything.
//!
//! In this crate's own tests, and in the fuzz target of its suite (`world/`), one rule can be switched off to show that the suite
//! notices; in a program there is no such switch.

use bitcoin::{Amount, ScriptBuf};
use lock::Lock;
use std::collections::BTreeMap;

use crate::claim::LockReused;
use crate::params::Params;
use crate::terms::PayoutChannelId;

/// The rules of DESIGN.md §6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// P_B never falls, and is final once X_B has left.
    R1,
    /// S never falls, and grows by P_B when X_B is revealed.
    R2,
    /// X_B leaves only for a win that is deep enough, and not so late that the council could be faster.
    R3,
    /// Nobody works on a height without a signed state for it that holds every unresolved win.
    R4,
    /// One lock for one height.
    R5,
    /// All pendings of a height together stay below the height's cap.
    R6,
    /// A height has pendings in one payout channel of a hasher.
    R7,
}

/// Which rule would be broken, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// R1.
    #[error("R1: the pending of height {height} would fall from {from} to {to}")]
    PendingFalls {
        /// B.
        height: u32,
        /// P_B so far.
        from: Amount,
        /// P_B as asked for.
        to: Amount,
    },
    /// R1.
    #[error("R1: the pending of height {0} is final, its key has left")]
    PendingFinal(u32),
    /// R2.
    #[error("R2: {settled} settled up to height {to}, where at least {least} is due")]
    SettledFalls {
        /// S as asked for.
        settled: Amount,
        /// Up to which height.
        to: u32,
        /// The least that S may be there.
        least: Amount,
    },
    /// R2.
    #[error("R2: height {0} would be settled before its key is known")]
    SettledWithoutKey(u32),
    /// R2.
    #[error("R2: heights up to {0} would count as settled, and may still be won")]
    SettledNotFinal(u32),
    /// R3.
    #[error("R3: height {0} is no win")]
    NotWon(u32),
    /// R3.
    #[error("R3: height {height} has {depth} confirmations, {needed} are needed")]
    TooEarly {
        /// B.
        height: u32,
        /// Its block's confirmations.
        depth: u32,
        /// Those that it takes.
        needed: u32,
    },
    /// R3.
    #[error("R3: height {height} has {depth} confirmations, the council may be faster")]
    TooLate {
        /// B.
        height: u32,
        /// Its block's confirmations.
        depth: u32,
    },
    /// R5.
    #[error("R5: {0}")]
    Lock(#[from] LockReused),
    /// R6.
    #[error("R6: pendings of height {height} would be {sum}, above the cap of {cap}")]
    OverCap {
        /// B.
        height: u32,
        /// Σ_B as it would be.
        sum: Amount,
        /// The most it may be.
        cap: Amount,
    },
    /// R7.
    #[error("R7: height {height} has pendings of this hasher in payout channel {other}")]
    OtherPayoutChannel {
        /// B.
        height: u32,
        /// Where they are.
        other: PayoutChannelId,
    },
}

/// R1, of one height. `left`: whether X_B has left the hub.
///
/// # Errors
/// P_B would fall, or change after X_B has left.
pub fn r1_pendings_never_fall(height: u32, from: Amount, to: Amount, left: bool) -> Result<(), Broken> {
    if to < from && enforced(Rule::R1) {
        return Err(Broken::PendingFalls { height, from, to });
    }
    if to > from && left && enforced(Rule::R1) {
        return Err(Broken::PendingFinal(height));
    }
    Ok(())
}

/// R2. `due`: the pendings of all wins that `to` takes in anew.
///
/// # Errors
/// S would be less than it was with what is due.
pub fn r2_settled_never_falls(from: Amount, due: Amount, settled: Amount, to: u32) -> Result<(), Broken> {
    let least = from.checked_add(due).unwrap_or(Amount::MAX);
    if settled < least && enforced(Rule::R2) {
        return Err(Broken::SettledFalls { settled, to, least });
    }
    Ok(())
}

/// R2: a pending is settled when its key is known.
///
/// # Errors
/// It is not known.
pub fn r2_settled_with_its_key(height: u32, known: bool) -> Result<(), Broken> {
    if known || !enforced(Rule::R2) { Ok(()) } else { Err(Broken::SettledWithoutKey(height)) }
}

/// R2: what is called settled takes pendings away, so nothing up to there may still be won. Any reorganisation that leaves coinbase
/// claims alive is survived, so that takes maturity (docs/decisions/0007). `depth`: confirmations of the block at the height `to`.
///
/// # Errors
/// It has too few.
pub fn r2_settled_heights_are_final(to: u32, depth: u32, params: &Params) -> Result<(), Broken> {
    if depth < params.maturity && enforced(Rule::R2) {
        return Err(Broken::SettledNotFinal(to));
    }
    Ok(())
}

/// R3. `depth`: confirmations of the block that won; none if there is no win at that height.
///
/// # Errors
/// It is no win, not deep enough, or so deep that the council could spend first.
pub fn r3_keys_leave_for_mature_wins(height: u32, depth: Option<u32>, params: &Params) -> Result<(), Broken> {
    match depth {
        _ if !enforced(Rule::R3) => Ok(()),
        None => Err(Broken::NotWon(height)),
        Some(depth) if depth < params.maturity => {
            Err(Broken::TooEarly { height, depth, needed: params.maturity })
        }
        Some(depth) if depth > params.last_reveal() => Err(Broken::TooLate { height, depth }),
        Some(_) => Ok(()),
    }
}

/// R4: whether this rule stops a hasher whose state is not what it must be.
pub fn r4_holds(state_is_right: bool) -> bool {
    state_is_right || !enforced(Rule::R4)
}

/// R5.
///
/// # Errors
/// The height has another lock, or the lock another height.
pub(crate) fn r5_one_lock_for_one_height(
    known: &BTreeMap<u32, (Lock, ScriptBuf)>,
    height: u32,
    lock: Lock,
) -> Result<(), LockReused> {
    let contradicts = |(other, (theirs, _)): (&u32, &(Lock, ScriptBuf))| {
        ((*other == height) != (*theirs == lock)).then_some(*other)
    };
    match known.iter().find_map(contradicts).filter(|_| enforced(Rule::R5)) {
        None => Ok(()),
        Some(other) => Err(LockReused { height, other }),
    }
}

/// R5: the height whose lock serves a height, which is itself.
pub(crate) fn r5_lock_of(height: u32) -> u32 {
    if enforced(Rule::R5) { height } else { height & !1 }
}

/// R6, of one height.
///
/// # Errors
/// Σ_B would be above the cap.
pub fn r6_pendings_stay_below_the_cap(height: u32, sum: Amount, cap: Amount) -> Result<(), Broken> {
    if sum > cap && enforced(Rule::R6) {
        return Err(Broken::OverCap { height, sum, cap });
    }
    Ok(())
}

/// R7, of one hasher and one height. `used`: where pendings of that height were signed for it.
///
/// # Errors
/// They were signed on another payout channel.
pub fn r7_one_payout_channel_for_a_height(
    height: u32,
    id: PayoutChannelId,
    used: Option<PayoutChannelId>,
) -> Result<(), Broken> {
    match used.filter(|used| *used != id && enforced(Rule::R7)) {
        None => Ok(()),
        Some(other) => Err(Broken::OtherPayoutChannel { height, other }),
    }
}

#[cfg(not(any(test, feature = "world")))]
const fn enforced(_: Rule) -> bool {
    true
}

#[cfg(any(test, feature = "world"))]
thread_local! {
    static SWITCHED_OFF: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

#[cfg(any(test, feature = "world"))]
fn enforced(rule: Rule) -> bool {
    SWITCHED_OFF.get() != Some(rule)
}

/// Switches one rule off in this thread, until called again. For suites that must notice.
#[cfg(any(test, feature = "world"))]
pub fn switch_off(rule: Option<Rule>) {
    SWITCHED_OFF.set(rule);
}
