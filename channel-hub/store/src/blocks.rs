//! Found blocks: kept whole, with what became of them.

use rusqlite::{Connection, Row, Transaction};

/// A block that a share turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// Its hash in hex, as block explorers write it.
    pub hash: String,
    /// Its height.
    pub height: u32,
    /// When it was found, in seconds of unix time.
    pub found: u32,
    /// Who found it: the hasher credited for the share.
    pub hasher: String,
    /// The worker below.
    pub worker: String,
    /// Address of the template provider whose template it is built on.
    pub provider: String,
    /// That provider's number of the template.
    pub template_id: u64,
    /// Value of the coinbase's outputs, in satoshi.
    pub value_sat: u64,
    /// Number of transactions, coinbase included; unknown if `block` is.
    pub transactions: Option<u32>,
    /// Header, 80 bytes.
    pub header: Vec<u8>,
    /// Coinbase transaction, with its witness.
    pub coinbase: Vec<u8>,
    /// The whole block; none if the template's transactions never reached the hub.
    pub block: Option<Vec<u8>>,
    /// What became of it.
    pub state: BlockState,
}

/// What became of a found block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// Kept and handed out; the hub's node has not told that it has it, or has it off its best chain.
    Pending,
    /// The hub's node has taken it, into its best chain as far as it was asked.
    Accepted,
    /// The hub's node calls it invalid, and why.
    Rejected(String),
    /// It is deep in the best chain of the hub's node.
    Confirmed,
    /// Valid, but the best chain has gone on without it.
    Stale,
}

impl BlockState {
    /// Every [`Self::name`].
    pub const NAMES: [&str; 5] = ["pending", "accepted", "rejected", "confirmed", "stale"];

    /// One word for tables and labels.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Accepted => "accepted",
            Self::Rejected(_) => "rejected",
            Self::Confirmed => "confirmed",
            Self::Stale => "stale",
        }
    }

    /// Why, for a rejected one; else empty.
    pub fn reason(&self) -> &str {
        if let Self::Rejected(reason) = self { reason } else { "" }
    }

    fn from_columns(name: &str, reason: String) -> Self {
        match name {
            "accepted" => Self::Accepted,
            "rejected" => Self::Rejected(reason),
            "confirmed" => Self::Confirmed,
            "stale" => Self::Stale,
            _ => Self::Pending,
        }
    }
}

pub(crate) fn keep(transaction: &Transaction<'_>, block: &StoredBlock) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO found_block (hash, height, found, hasher, worker, provider, template_id, value_sat,
            transactions, header, coinbase, block, state, reason)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        ON CONFLICT (hash) DO UPDATE SET block = coalesce(found_block.block, excluded.block),
            transactions = coalesce(found_block.transactions, excluded.transactions)";
    let value_sat = i64::try_from(block.value_sat).unwrap_or(i64::MAX);
    transaction.prepare_cached(sql)?.execute((
        &block.hash,
        block.height,
        block.found,
        &block.hasher,
        &block.worker,
        &block.provider,
        block.template_id.to_string(),
        value_sat,
        block.transactions,
        &block.header,
        &block.coinbase,
        &block.block,
        block.state.name(),
        block.state.reason(),
    ))?;
    Ok(())
}

pub(crate) fn set_state(
    transaction: &Transaction<'_>,
    hash: &str,
    state: &BlockState,
) -> rusqlite::Result<()> {
    let sql = "UPDATE found_block SET state = $1, reason = $2 WHERE hash = $3";
    transaction.prepare_cached(sql)?.execute((state.name(), state.reason(), hash))?;
    Ok(())
}

pub(crate) fn newest(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<StoredBlock>> {
    let sql = "SELECT hash, height, found, hasher, worker, provider, template_id, value_sat, transactions,
            header, coinbase, state, reason, NULL FROM found_block ORDER BY found DESC, height DESC LIMIT $1";
    connection.prepare_cached(sql)?.query_map([limit], from_row)?.collect()
}

pub(crate) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM found_block";
    let count: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

pub(crate) fn open(connection: &Connection) -> rusqlite::Result<Vec<StoredBlock>> {
    let sql = "SELECT hash, height, found, hasher, worker, provider, template_id, value_sat, transactions,
            header, coinbase, state, reason, block FROM found_block
        WHERE state IN ('pending', 'accepted') ORDER BY found, height";
    connection.prepare_cached(sql)?.query_map([], from_row)?.collect()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<StoredBlock> {
    let template_id: String = row.get(6)?;
    Ok(StoredBlock {
        hash: row.get(0)?,
        height: row.get(1)?,
        found: row.get(2)?,
        hasher: row.get(3)?,
        worker: row.get(4)?,
        provider: row.get(5)?,
        template_id: template_id.parse().unwrap_or(0),
        value_sat: u64::try_from(row.get::<_, i64>(7)?).unwrap_or(0),
        transactions: row.get(8)?,
        header: row.get(9)?,
        coinbase: row.get(10)?,
        block: row.get(13)?,
        state: BlockState::from_columns(row.get_ref(11)?.as_str()?, row.get(12)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_one_name() {
        for name in BlockState::NAMES {
            assert_eq!(BlockState::from_columns(name, "why".into()).name(), name);
        }
    }
}
