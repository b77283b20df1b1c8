//! What a share may vary, and the reasons to reject one.

use crate::EXTRANONCE_SIZE;
use crate::extranonce::Space;
use crate::time::Now;
use crate::tip::Tip;
use std::fmt;
use stratum_core::mining_sv2 as codes;

/// Version bits that a miner may roll (BIP323).
pub const VERSION_ROLLING_MASK: u32 = stratum_core::channels_sv2::VERSION_ROLLING_MASK;
/// How far a block's time may be ahead of the clock, in seconds (consensus).
pub const MAX_FUTURE_BLOCK_TIME: u32 = stratum_core::channels_sv2::MAX_FUTURE_BLOCK_TIME;

/// What a miner chose, as it submits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// Header nonce.
    pub nonce: u32,
    /// Header time, seconds since 1970.
    pub ntime: u32,
    /// Header version, all of it.
    pub version: u32,
    /// The rollable part of the extranonce; empty on a standard channel.
    pub extranonce: &'a [u8],
}

/// What a share's header was made from, without a heap: for those who hand the share on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solution {
    /// Header nonce.
    pub nonce: u32,
    /// Header time, seconds since 1970.
    pub ntime: u32,
    /// Header version, all of it.
    pub version: u32,
    extranonce: [u8; EXTRANONCE_SIZE],
    size: u8,
}

impl Solution {
    /// What `choice` makes on a channel that has `space`; its extranonce has been checked.
    #[allow(clippy::cast_possible_truncation)] // at most EXTRANONCE_SIZE
    pub(crate) fn new(choice: &Choice<'_>, space: &Space) -> Self {
        let Choice { nonce, ntime, version, extranonce: rolled } = *choice;
        let rolled = if rolled.is_empty() { space.not_rolled() } else { rolled };
        let mut extranonce = [0; EXTRANONCE_SIZE];
        let (prefix, rest) = extranonce.split_at_mut(space.prefix().len());
        prefix.copy_from_slice(space.prefix());
        rest[..rolled.len()].copy_from_slice(rolled);
        let size = (space.prefix().len() + rolled.len()) as u8;
        Self { nonce, ntime, version, extranonce, size }
    }

    /// The extranonce: the channel's prefix and what was rolled behind it.
    pub fn extranonce(&self) -> &[u8] {
        &self.extranonce[..usize::from(self.size)]
    }
}

/// [`Rejection::LedgerFull`]'s code: a name of ours, since the specification has none.
pub const LEDGER_FULL: &str = "ledger-full";

/// Why a share is not counted. [`Self::code`] is what the miner is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rejection {
    /// No such mining channel on this connection, or one of the other kind.
    InvalidChannelId,
    /// The job belongs to an earlier tip, or is too many jobs back.
    Stale,
    /// Never handed out on this channel, or still a future job.
    InvalidJobId,
    /// The hash misses the target that the job was handed out with.
    DifficultyTooLow,
    /// Counted before.
    Duplicate,
    /// The extranonce is not as long as the channel's.
    BadExtranonceSize,
    /// A version other than the job's, and this job does not allow that.
    VersionRollingNotAllowed,
    /// A version that differs from the job's outside of [`VERSION_ROLLING_MASK`].
    InvalidVersionBit,
    /// The time is before the tip's `min_ntime` or too far ahead.
    InvalidTime,
    /// Nothing is wrong with it, but the ledger has no room and takes nothing.
    LedgerFull,
}

impl Rejection {
    /// The error code of SubmitShares.Error (SV2 spec §5.3.14).
    pub const fn code(self) -> &'static str {
        match self {
            Self::InvalidChannelId => codes::ERROR_CODE_SUBMIT_SHARES_INVALID_CHANNEL_ID,
            Self::Stale => codes::ERROR_CODE_SUBMIT_SHARES_STALE_SHARE,
            Self::InvalidJobId => codes::ERROR_CODE_SUBMIT_SHARES_INVALID_JOB_ID,
            Self::DifficultyTooLow => codes::ERROR_CODE_SUBMIT_SHARES_DIFFICULTY_TOO_LOW,
            Self::Duplicate => codes::ERROR_CODE_SUBMIT_SHARES_DUPLICATE_SHARE,
            Self::BadExtranonceSize => codes::ERROR_CODE_SUBMIT_SHARES_BAD_EXTRANONCE_SIZE,
            Self::VersionRollingNotAllowed => codes::ERROR_CODE_VERSION_ROLLING_NOT_ALLOWED,
            Self::InvalidVersionBit => codes::ERROR_CODE_SUBMIT_SHARES_INVALID_NON_ROLLABLE_VERSION_BIT,
            Self::InvalidTime => codes::ERROR_CODE_SUBMIT_SHARES_INVALID_SHARE,
            Self::LedgerFull => LEDGER_FULL,
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Whether `version` may be submitted for a job of version `job`.
///
/// # Errors
/// [`Rejection::InvalidVersionBit`] or [`Rejection::VersionRollingNotAllowed`].
pub fn check_version(version: u32, job: u32, rolling_allowed: bool) -> Result<(), Rejection> {
    let difference = version ^ job;
    match rolling_allowed {
        true if difference & !VERSION_ROLLING_MASK != 0 => Err(Rejection::InvalidVersionBit),
        false if difference != 0 => Err(Rejection::VersionRollingNotAllowed),
        _ => Ok(()),
    }
}

/// Whether `ntime` may be submitted under `tip`: from its `min_ntime` to as far ahead as a block may be, with
/// the time that has passed since the tip came added. A miner that rolls time stays far below; one that
/// stamps its wall clock does too.
///
/// # Errors
/// [`Rejection::InvalidTime`].
pub fn check_time(ntime: u32, tip: &Tip, now: Now) -> Result<(), Rejection> {
    let latest = tip.ntime_at(now.instant).saturating_add(MAX_FUTURE_BLOCK_TIME);
    if (tip.min_ntime()..=latest).contains(&ntime) { Ok(()) } else { Err(Rejection::InvalidTime) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn only_the_bits_of_bip323_may_roll() {
        let job = 0x2000_0000;
        assert_eq!(check_version(0x3fff_ffe0, job, true), Ok(()));
        assert_eq!(check_version(0x2000_0001, job, true), Err(Rejection::InvalidVersionBit));
        assert_eq!(check_version(0x6000_0000, job, true), Err(Rejection::InvalidVersionBit));
        assert_eq!(check_version(job, job, false), Ok(()));
        assert_eq!(check_version(0x2000_0020, job, false), Err(Rejection::VersionRollingNotAllowed));
    }

    #[test]
    fn time_moves_the_latest_ntime_but_not_the_earliest() {
        let start = Now { instant: Instant::now(), unix: 1_000_000 };
        let tip = Tip::new([0; 32], 0x207f_ffff, 1_000_000, start.instant);
        let later = start.after(Duration::from_secs(60));
        assert_eq!(check_time(999_999, &tip, later), Err(Rejection::InvalidTime));
        assert_eq!(check_time(1_000_000, &tip, later), Ok(()));
        assert_eq!(check_time(1_007_200, &tip, start), Ok(()));
        assert_eq!(check_time(1_007_201, &tip, start), Err(Rejection::InvalidTime));
        assert_eq!(check_time(1_007_260, &tip, later), Ok(()));
        assert_eq!(check_time(1_007_261, &tip, later), Err(Rejection::InvalidTime));
    }

    #[test]
    fn an_ntime_near_the_end_of_u32_does_not_overflow() {
        let start = Now { instant: Instant::now(), unix: u32::MAX };
        let tip = Tip::new([0; 32], 0x207f_ffff, u32::MAX - 1, start.instant);
        assert_eq!(check_time(u32::MAX, &tip, start), Ok(()));
    }
}
