//! What was found in a file. Hashes and ids are in hex as block explorers write them; work is decimal text, since it does not
//! fit a JSON number.

use serde::Serialize;

/// The whole of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The file.
    pub file: String,
    /// Every share was read and keeps every rule.
    pub valid: bool,
    /// What is wrong first.
    pub error: Option<Wrong>,
    /// The network, if the file says that much.
    pub network: Option<Network>,
    /// The shares up to the error, if there is one.
    pub chain: Option<Chain>,
    /// The window by which the next share pays.
    pub window: Option<Window>,
    /// All lock sheets, the lowest first.
    pub sheets: Vec<Sheet>,
    /// Of an import: what became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<Import>,
}

/// An import.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Import {
    /// The store's file.
    pub store: String,
    /// The chain is in it.
    pub done: bool,
    /// Why not.
    pub why: Option<String>,
    /// What to do then.
    pub advice: Option<String>,
}

/// What is wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Wrong {
    /// Which share in the file, from 1; none if it is not about a share.
    pub number: Option<u32>,
    /// Its id.
    pub share: Option<String>,
    /// The height that it states.
    pub height: Option<u32>,
    /// The rule that it breaks, by the name that PROTOCOL.md gives it; or `File`.
    pub rule: String,
    /// What is wrong.
    pub why: String,
    /// What to do.
    pub advice: String,
}

/// The network that the file states.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// The genesis share's id, which binds all rules.
    pub genesis: String,
    /// Longest window, in shares.
    pub window_shares: u32,
    /// Seconds between shares that the difficulty aims at.
    pub interval_seconds: u32,
    /// Least amount of an output, in satoshi.
    pub limit_sat: u64,
}

/// The tree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chain {
    /// Shares in it.
    pub shares: usize,
    /// Those of them of which all rules could be checked; the others stand at the lower end of a chain that does not begin
    /// with the genesis share.
    pub checked_by_every_rule: usize,
    /// Height of the lowest share.
    pub lowest_height: u32,
    /// The best branch's last share.
    pub tip: String,
    /// Its height.
    pub height: u32,
    /// Expected hashes from genesis to the tip, uncles included.
    pub total_work: String,
    /// The tip's time, seconds since 1970.
    pub time: u32,
    /// Height of its block.
    pub block_height: u32,
    /// Seconds between shares of the best branch, on average.
    pub seconds_per_share: f64,
    /// Uncles that the best branch counts.
    pub uncles: usize,
    /// Of a hundred shares and uncles, how many are uncles.
    pub uncle_percent: f64,
    /// Shares that are neither on the best branch nor counted by it.
    pub lost: usize,
}

/// The window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Window {
    /// The share where it ends.
    pub end: String,
    /// Shares in it, without uncles.
    pub shares: u32,
    /// Expected hashes in it.
    pub work: String,
    /// Height of the block that the payouts are for: the tip's.
    pub block_height: u32,
    /// What they divide: the subsidy of that block, in satoshi. Fees come on top.
    pub value_sat: u64,
    /// Whose work, the most first.
    pub recipients: Vec<Recipient>,
}

/// One whose work is in the window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recipient {
    /// `hub` or `script`.
    pub kind: &'static str,
    /// hub_id, or the address; of a script without an address, the script in hex.
    pub name: String,
    /// Expected hashes.
    pub work: String,
    /// Of the window's.
    pub percent: f64,
    /// What the next share's coinbase pays it.
    pub next_payout_sat: u64,
    /// Why it is not paid, if so.
    pub unpaid: Option<&'static str>,
}

/// A lock sheet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sheet {
    /// Whose.
    pub hub_id: String,
    /// For which period.
    pub period: u32,
    /// Its first block height.
    pub first_height: u32,
    /// Its last one.
    pub last_height: u32,
    /// The key that claims its coinbases.
    pub claim_key: String,
    /// The share that carries it.
    pub share: String,
    /// That share's height.
    pub share_height: u32,
    /// Whether that share is on the best branch.
    pub is_best: bool,
}
