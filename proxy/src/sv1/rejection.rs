//! SV1's error codes 20–25, and what an SV2 upstream's error codes mean in them.

/// Why a request is refused; `[code, text, null]` on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// 20: anything without a code of its own; the text says what.
    Other(String),
    /// 20: there is no upstream that could credit the share.
    NoUpstream,
    /// 20: an SV2 miner has no such channel.
    UnknownChannel,
    /// 20: the upstream cannot store shares at present.
    LedgerFull,
    /// 21: the job is unknown or belongs to an older tip.
    JobNotFound,
    /// 22: the same work was handed in before.
    Duplicate,
    /// 23: the hash misses the miner's target.
    LowDifficulty,
    /// 24: this connection has not authorised that worker.
    Unauthorized,
    /// 25: `mining.subscribe` has to come first.
    NotSubscribed,
}

impl Rejection {
    /// All that [`Self::reason`] says.
    pub const REASONS: [&str; 9] = [
        "20 other",
        "20 no upstream",
        "20 unknown channel",
        "20 ledger full",
        "21 job not found",
        "22 duplicate share",
        "23 low difficulty",
        "24 unauthorized",
        "25 not subscribed",
    ];

    /// 20 with this text.
    pub fn other(text: impl Into<String>) -> Self {
        Self::Other(text.into())
    }

    /// From the error code of an SV2 `SubmitShares.Error`.
    pub fn from_upstream(code: &str) -> Self {
        match code {
            "stale-share" | "stale-chain-tip" | "invalid-job-id" => Self::JobNotFound,
            "duplicate-share" => Self::Duplicate,
            "difficulty-too-low" => Self::LowDifficulty,
            mining::share::LEDGER_FULL => Self::LedgerFull,
            other => Self::Other(format!("Upstream: {}", other.chars().take(64).collect::<String>())),
        }
    }

    /// SV1's number for it.
    pub fn code(&self) -> u8 {
        match self {
            Self::Other(_) | Self::NoUpstream | Self::UnknownChannel | Self::LedgerFull => 20,
            Self::JobNotFound => 21,
            Self::Duplicate => 22,
            Self::LowDifficulty => 23,
            Self::Unauthorized => 24,
            Self::NotSubscribed => 25,
        }
    }

    /// SV1's usual text for it.
    pub fn text(&self) -> &str {
        match self {
            Self::Other(text) => text,
            Self::NoUpstream => "No upstream: the share is lost",
            Self::UnknownChannel => "Unknown channel",
            Self::LedgerFull => "The upstream cannot store shares: the share is lost",
            Self::JobNotFound => "Job not found",
            Self::Duplicate => "Duplicate share",
            Self::LowDifficulty => "Low difficulty share",
            Self::Unauthorized => "Unauthorized worker",
            Self::NotSubscribed => "Not subscribed",
        }
    }

    /// Name in counters: one of [`Self::REASONS`].
    pub fn reason(&self) -> &'static str {
        let [
            other,
            no_upstream,
            unknown_channel,
            ledger_full,
            job_not_found,
            duplicate,
            low_difficulty,
            unauthorized,
            not_subscribed,
        ] = Self::REASONS;
        match self {
            Self::Other(_) => other,
            Self::NoUpstream => no_upstream,
            Self::UnknownChannel => unknown_channel,
            Self::LedgerFull => ledger_full,
            Self::JobNotFound => job_not_found,
            Self::Duplicate => duplicate,
            Self::LowDifficulty => low_difficulty,
            Self::Unauthorized => unauthorized,
            Self::NotSubscribed => not_subscribed,
        }
    }
}

/// What an SV2 session refuses a share for.
impl From<mining::Rejection> for Rejection {
    fn from(rejection: mining::Rejection) -> Self {
        match rejection {
            mining::Rejection::InvalidChannelId => Self::UnknownChannel,
            mining::Rejection::Stale | mining::Rejection::InvalidJobId => Self::JobNotFound,
            mining::Rejection::DifficultyTooLow => Self::LowDifficulty,
            mining::Rejection::Duplicate => Self::Duplicate,
            mining::Rejection::LedgerFull => Self::LedgerFull,
            mining::Rejection::BadExtranonceSize
            | mining::Rejection::VersionRollingNotAllowed
            | mining::Rejection::InvalidVersionBit
            | mining::Rejection::InvalidTime => Self::other(rejection.code()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstreams_error_codes_become_sv1_codes() {
        let codes =
            ["invalid-job-id", "stale-share", "duplicate-share", "difficulty-too-low", "bad-extranonce-size"];
        assert_eq!(codes.map(|code| Rejection::from_upstream(code).code()), [21, 21, 22, 23, 20]);
    }

    #[test]
    fn an_upstream_without_room_in_its_ledger_is_named() {
        let rejection = Rejection::from_upstream(mining::Rejection::LedgerFull.code());
        assert_eq!((rejection.code(), rejection.reason()), (20, "20 ledger full"));
        assert_eq!(rejection, mining::Rejection::LedgerFull.into());
    }

    #[test]
    fn an_upstreams_text_is_bounded() {
        assert!(Rejection::from_upstream(&"x".repeat(1000)).text().len() < 100);
    }
}
