//! What the operator decides about mining channels.

use crate::target;
use bitcoin::Target;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use stratum_core::mining_sv2 as codes;

/// Decides whether work for a user identity can be credited.
pub type IdentityCheck = Arc<dyn Fn(&str) -> Result<(), IdentityRefusal> + Send + Sync>;

/// Why a user identity is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityRefusal {
    /// It has no form that we know.
    Invalid,
    /// Its form is right, but we know nobody by that name.
    Unknown,
}

impl IdentityRefusal {
    /// The error code of OpenMiningChannel.Error.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Invalid => codes::ERROR_CODE_OPEN_MINING_CHANNEL_INVALID_USER_IDENTITY,
            Self::Unknown => codes::ERROR_CODE_OPEN_MINING_CHANNEL_UNKNOWN_USER,
        }
    }
}

/// Settings of all sessions.
#[derive(Clone)]
pub struct Config {
    /// Wanted time between two shares of a channel.
    pub share_interval: Duration,
    /// The easiest target a share may have: minimum difficulty.
    pub easiest_target: Target,
    /// The hardest target a share may have; zero sets no bound. Equal to the easiest, it fixes the difficulty.
    pub hardest_target: Target,
    /// Most mining channels on one connection.
    pub max_channels: usize,
    /// Most shares of one channel that are remembered under one tip, see [`crate::seen`].
    pub max_seen: usize,
    /// Shares that may wait for [`acknowledge`](super::Session::acknowledge) before
    /// [`has_room`](super::Session::has_room) is false.
    pub max_unacknowledged: usize,
    /// Jobs of the current tip that a channel's shares may belong to.
    pub max_jobs: usize,
    /// Who may mine.
    pub identity: IdentityCheck,
}

/// Largest minimum difficulty. Mainnet's own difficulty passed 1e14 in 2024, and whoever asks for more than a block's work with
/// each share gets none; ten times as much leaves the network room to grow.
pub const MAX_DIFFICULTY: f64 = 1e15;

/// Numbers that make no configuration.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Not between one in an hour and 60,000.
    #[error("shares per minute must be between 1/60 and 60,000, not {0}")]
    SharesPerMinute(f64),
    /// Not a number above zero, or above [`MAX_DIFFICULTY`].
    #[error("the minimum difficulty must be above zero and at most {MAX_DIFFICULTY:e}, not {0:e}")]
    MinimumDifficulty(f64),
}

impl Config {
    /// Bounds that suit a hub; what people choose is given.
    ///
    /// # Errors
    /// A number is out of its range, see [`ConfigError`].
    pub fn new(
        shares_per_minute: f64,
        minimum_difficulty: f64,
        identity: IdentityCheck,
    ) -> Result<Self, ConfigError> {
        if !(1.0 / 60.0..=60_000.0).contains(&shares_per_minute) {
            return Err(ConfigError::SharesPerMinute(shares_per_minute));
        }
        let easiest_target = target::from_difficulty(minimum_difficulty)
            .filter(|_| minimum_difficulty <= MAX_DIFFICULTY)
            .ok_or(ConfigError::MinimumDifficulty(minimum_difficulty))?;
        Ok(Self {
            share_interval: Duration::from_secs_f64(60.0 / shares_per_minute),
            easiest_target,
            hardest_target: Target::ZERO,
            max_channels: 4096,
            max_seen: 1 << 20,
            max_unacknowledged: 4096,
            max_jobs: 16,
            identity,
        })
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("share_interval", &self.share_interval)
            .field("easiest_target", &self.easiest_target)
            .field("max_channels", &self.max_channels)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        let config = |shares, difficulty| Config::new(shares, difficulty, Arc::new(|_| Ok(())));
        assert_eq!(config(6.0, 1.0).unwrap().share_interval, Duration::from_secs(10));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(config(bad, 1.0).is_err());
            assert!(config(6.0, bad).is_err());
        }
        assert!(config(6.0, MAX_DIFFICULTY).is_ok());
        let error = config(6.0, 1e30).unwrap_err().to_string();
        assert!(error.contains("at most 1e15, not 1e30"), "{error}");
    }
}
