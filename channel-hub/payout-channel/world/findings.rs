//! What the auditor may find: who lost how much, and which promise was not kept.

use bitcoin::Amount;

use crate::rules::Rule;

/// Somebody lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The hub's loss.
    #[error(
        "R1: height {height} was signed to hasher {hasher} as {signed} and is owed as {owed}: the older state still pays"
    )]
    OlderStatePays {
        /// Whose.
        hasher: usize,
        /// B.
        height: u32,
        /// The highest P_B.
        signed: Amount,
        /// P_B as it is owed.
        owed: Amount,
    },
    /// A hasher's loss.
    #[error(
        "R1: hasher {hasher} has {has}, must have {least}, and counted a lower pending of height {height}"
    )]
    PendingFell {
        /// Who.
        hasher: usize,
        /// What it got.
        has: Amount,
        /// What it counted.
        least: Amount,
        /// B.
        height: u32,
    },
    /// A hasher's loss.
    #[error(
        "R2: hasher {hasher} has {has}, must have {least}, and counted a state that calls height {height} settled without paying it"
    )]
    SettledUnpaid {
        /// Who.
        hasher: usize,
        /// What it got.
        has: Amount,
        /// What it counted.
        least: Amount,
        /// B.
        height: u32,
    },
    /// The hub's loss.
    #[error("R2: {settled} is settled for hasher {hasher}, and only {due} is owed without condition")]
    SettledUnowed {
        /// Whose.
        hasher: usize,
        /// S.
        settled: Amount,
        /// What was owed.
        due: Amount,
    },
    /// The hub's loss.
    #[error("R3: the key of height {height} left, and no block pays for the {owed} that it opens")]
    KeyForNothing {
        /// B.
        height: u32,
        /// Σ_B.
        owed: Amount,
    },
    /// A hasher's loss.
    #[error("R4: hasher {hasher} has {has}, and worked for {least} that no state held")]
    WorkedForNothing {
        /// Who.
        hasher: usize,
        /// What it got.
        has: Amount,
        /// What it worked for.
        least: Amount,
    },
    /// The hub's loss.
    #[error("R5: the key of height {by}, which was won, opens {owed} of height {height}, which was not")]
    KeyOpensOther {
        /// The win.
        by: u32,
        /// The other height.
        height: u32,
        /// What is pending for it.
        owed: Amount,
    },
    /// The hub's loss.
    #[error("R6: height {height} costs the hub {owed}, and brings {brings}")]
    CostsMore {
        /// B.
        height: u32,
        /// Σ_B.
        owed: Amount,
        /// The coinbase's output.
        brings: Amount,
    },
    /// The hub's loss.
    #[error(
        "R7: height {height} is pending for hasher {hasher} on two payout channels, {claimed} together, and {owed} is owed"
    )]
    PaidTwice {
        /// Whose.
        hasher: usize,
        /// B.
        height: u32,
        /// The sum.
        claimed: Amount,
        /// P_B as it is owed.
        owed: Amount,
    },
    /// A hasher's loss, no rule's.
    #[error("hasher {hasher} has {has} of its payout channel {place}, and must have {least}")]
    Less {
        /// Who.
        hasher: usize,
        /// Which of all payout channels.
        place: usize,
        /// What it got.
        has: Amount,
        /// What it must have.
        least: Amount,
    },
    /// The hub's loss, no rule's.
    #[error("hasher {hasher} has, or could claim, {has}, and is owed {most}")]
    More {
        /// Who.
        hasher: usize,
        /// What it has or could claim.
        has: Amount,
        /// What it is owed.
        most: Amount,
    },
    /// With an honest hub that lives.
    #[error("hasher {hasher} has {has}, and an honest hub owes it {owed}")]
    NotPaid {
        /// Who.
        hasher: usize,
        /// What it got.
        has: Amount,
        /// What it was owed.
        owed: Amount,
    },
    /// The hub's loss, no rule's.
    #[error("the hub has a payout channel with hasher {0} by terms that it never made")]
    Forged(usize),
    /// A hasher's loss: it can be frozen or closed, or robbed of what it holds.
    #[error("a message that hasher {0} did not send changed its payout channel at the hub's end")]
    Meddled(usize),
    /// With an honest hub that lives.
    #[error("hasher {0} distrusts an honest hub")]
    Distrust(usize),
    /// A hub's key, years later.
    #[error("an honest hub that lives never claimed its win of height {0}")]
    NotClaimed(u32),
    /// Money that came from nowhere, or went there.
    #[error("hasher {hasher} has {has} with its fees, and its payout channels paid it {paid}")]
    Sum {
        /// Who.
        hasher: usize,
        /// Its coins and its fees.
        has: Amount,
        /// What left fundings for it.
        paid: Amount,
    },
    /// An exit cost more than blocks asked for.
    #[error("hasher {hasher} paid a fee of {fee} for {size} vB, where {rate} sat/kvB was asked for")]
    Fee {
        /// Who.
        hasher: usize,
        /// What it paid.
        fee: Amount,
        /// With a parent that was paid for.
        size: u64,
        /// What was asked for.
        rate: u64,
    },
}

impl Finding {
    /// The rule whose absence it shows.
    pub fn rule(&self) -> Option<Rule> {
        match self {
            Self::OlderStatePays { .. } | Self::PendingFell { .. } => Some(Rule::R1),
            Self::SettledUnpaid { .. } | Self::SettledUnowed { .. } => Some(Rule::R2),
            Self::KeyForNothing { .. } => Some(Rule::R3),
            Self::WorkedForNothing { .. } => Some(Rule::R4),
            Self::KeyOpensOther { .. } => Some(Rule::R5),
            Self::CostsMore { .. } => Some(Rule::R6),
            Self::PaidTwice { .. } => Some(Rule::R7),
            Self::Less { .. }
            | Self::More { .. }
            | Self::NotPaid { .. }
            | Self::Forged(_)
            | Self::Meddled(_)
            | Self::Distrust(_)
            | Self::NotClaimed(_)
            | Self::Sum { .. }
            | Self::Fee { .. } => None,
        }
    }
}
