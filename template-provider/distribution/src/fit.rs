//! Which transactions of a template stay, so that the block is valid with whatever a client adds to the coinbase.

use stratum_core::template_distribution_sv2::CoinbaseOutputConstraints;

use crate::block_template::{Parts, TemplateTransaction};

/// What a client wants to add to the coinbase at most (SV2 spec §7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Constraints {
    /// Serialised outputs, in bytes.
    pub max_additional_size: u32,
    /// Sigops in these outputs, counted as before segwit: each costs 4 of the block's 80,000.
    pub max_additional_sigops: u16,
}

/// Why a template cannot serve a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Not even an empty block is valid with so much in the coinbase.
    #[error(
        "coinbase outputs of {} bytes with {} sigops fit into no block",
        .0.max_additional_size, .0.max_additional_sigops
    )]
    Constraints(Constraints),
    /// The ids of this template are used up.
    #[error("too many changes of CoinbaseOutputConstraints under one template")]
    TooManyVariants,
}

/// Which transactions of a template stay beside a client's coinbase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// All of them.
    All,
    /// Those at these positions, in block order.
    Only(Vec<usize>),
    /// That depends on the transactions, which are not there.
    Unknown,
}

/// Weight units of a byte outside the witness (BIP141).
const SCALE: u64 = 4;
/// Longest script of a coinbase's input, in bytes.
const MAX_SCRIPT_SIG: u64 = 100;
/// Weight of the coinbase's witness: marker, flag, one item of 32 bytes.
const COINBASE_WITNESS: u64 = 2 + 1 + 1 + 32;
/// Smallest serialised output, in bytes: bounds how many the client can add.
const MIN_OUTPUT: u64 = 9;
/// Length of the script that commits to the witnesses (BIP141), in bytes.
const COMMITMENT_SCRIPT: u64 = 38;
/// More transactions than a block can hold; their number is serialised in as many bytes as that of any large block.
const MOST_TRANSACTIONS: u64 = 65_535;

impl Constraints {
    /// Which transactions stay.
    ///
    /// In order, each that still fits and whose ancestors all stayed. So it is the last ones that go, which the
    /// node found the least worth, and their dependants with them. Before the transactions are there it is known where
    /// the source left enough room.
    ///
    /// # Errors
    /// Not even an empty block has room for what the client wants to add.
    pub fn choose(&self, parts: &Parts) -> Result<Chosen, Unfit> {
        let transactions = &parts.transactions;
        let Some(all) = transactions.all() else {
            let has_room = transactions.room().is_some_and(|room| self.has_room_within(room, parts));
            let is_known = has_room && transactions.are_awaited();
            return Ok(if is_known { Chosen::All } else { Chosen::Unknown });
        };
        self.choose_among(all, parts)
    }

    /// The same, if these are the transactions of the template.
    ///
    /// # Errors
    /// As [`Self::choose`].
    pub fn choose_among(&self, all: &[TemplateTransaction], parts: &Parts) -> Result<Chosen, Unfit> {
        let mut room = self.room(parts, all.len()).ok_or(Unfit::Constraints(*self))?;
        let mut stays = vec![false; all.len()];
        let mut chosen = Vec::with_capacity(all.len());
        for (position, transaction) in all.iter().enumerate() {
            let complete = transaction.depends.iter().all(|&ancestor| stays[ancestor]);
            if complete && room.take(transaction) {
                stays[position] = true;
                chosen.push(position);
            }
        }
        Ok(if chosen.len() == all.len() { Chosen::All } else { Chosen::Only(chosen) })
    }

    /// Weight that a block keeps free for its header, the number of its transactions, and the largest coinbase that
    /// the client may make with a witness commitment.
    pub fn reserved_weight(&self) -> u64 {
        overhead(MOST_TRANSACTIONS) + self.max_coinbase_weight(COMMITMENT_SCRIPT)
    }

    /// Sigop cost that a block keeps free for the client's outputs.
    pub fn reserved_sigops(&self) -> u64 {
        SCALE * u64::from(self.max_additional_sigops)
    }

    /// Whether what a block keeps free for a client with constraints `other` is enough for this one.
    fn has_room_within(&self, other: Self, parts: &Parts) -> bool {
        self.reserved_weight() <= other.reserved_weight().min(parts.weight_limit)
            && self.reserved_sigops() <= other.reserved_sigops().min(parts.sigop_limit)
    }

    /// What a block has left for so many transactions beside the largest coinbase that the client may make.
    fn room(&self, parts: &Parts, transactions: usize) -> Option<Room> {
        let most_transactions = transactions as u64 + 1;
        let commitment = parts.coinbase.witness_commitment.as_ref().map_or(0, |script| script.len() as u64);
        let taken = overhead(most_transactions) + self.max_coinbase_weight(commitment);
        Some(Room {
            weight: parts.weight_limit.checked_sub(taken)?,
            sigops: parts.sigop_limit.checked_sub(self.reserved_sigops())?,
        })
    }

    /// `commitment`: length of the script that commits to the witnesses, 0 without one.
    fn max_coinbase_weight(&self, commitment: u64) -> u64 {
        let required = if commitment == 0 { 0 } else { 8 + var_int_size(commitment) + commitment };
        let additional = u64::from(self.max_additional_size);
        let most_outputs = additional / MIN_OUTPUT + 1;
        // Version, one input (outpoint, script, sequence), outputs, lock time.
        let size =
            4 + (1 + 36 + 1 + MAX_SCRIPT_SIG + 4) + (var_int_size(most_outputs) + additional + required) + 4;
        SCALE * size + COINBASE_WITNESS
    }
}

impl From<CoinbaseOutputConstraints> for Constraints {
    fn from(message: CoinbaseOutputConstraints) -> Self {
        Self {
            max_additional_size: message.coinbase_output_max_additional_size,
            max_additional_sigops: message.coinbase_output_max_additional_sigops,
        }
    }
}

impl From<Constraints> for CoinbaseOutputConstraints {
    fn from(constraints: Constraints) -> Self {
        Self {
            coinbase_output_max_additional_size: constraints.max_additional_size,
            coinbase_output_max_additional_sigops: constraints.max_additional_sigops,
        }
    }
}

/// Weight of the header and of the number of transactions.
fn overhead(most_transactions: u64) -> u64 {
    SCALE * (80 + var_int_size(most_transactions))
}

/// What is left of a block's limits.
struct Room {
    weight: u64,
    sigops: u64,
}

impl Room {
    /// Takes the room of one transaction, if there is enough.
    fn take(&mut self, transaction: &TemplateTransaction) -> bool {
        let weight = self.weight.checked_sub(transaction.weight);
        let sigops = self.sigops.checked_sub(transaction.sigops);
        let (Some(weight), Some(sigops)) = (weight, sigops) else { return false };
        *self = Self { weight, sigops };
        true
    }
}

/// Serialised size of a count, in bytes.
pub(crate) fn var_int_size(count: u64) -> u64 {
    bitcoin::VarInt(count).size() as u64
}
