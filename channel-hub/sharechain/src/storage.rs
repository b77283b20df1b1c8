//! What a store keeps of a tree, and how a node comes back from it (DESIGN.md §9).
//!
//! A store applies [`Update`]s, one for each change of the tree, in order, each whole or not at all. What it gives back is
//! believed in nothing: [`load`] computes every id, commitment and link again, checks every proof of work, and the last
//! [`RULES_AGAIN`] shares by every rule; what does not fit is named by its row.

use bitcoin::consensus::encode;
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256t_hash_newtype};
use bitcoin::secp256k1::{Secp256k1, Verification};
use lock::LockSheet;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;

use crate::chain::{Chain, Change};
use crate::full::FullShare;
use crate::id::ShareId;
use crate::params::Params;
use crate::share::{Body, Share};
use crate::work::Work;

sha256t_hash_newtype! {
    struct RowTag = hash_str("sluice/stored-share");
    #[hash_newtype(forward)]
    struct RowDigest(_);
}

/// So many heights below the tip every rule is checked again.
pub const RULES_AGAIN: u32 = 100;

/// Keeps a tree.
pub trait Storage {
    /// What tells when an update is safe.
    type Receipt;
    /// Why an update was not taken.
    type Refused;

    /// Takes an update.
    ///
    /// # Errors
    /// It was not taken; the caller must not go on as if it were.
    fn apply(&mut self, update: Update) -> Result<Self::Receipt, Self::Refused>;
}

/// What one change of the tree is to a store.
#[derive(Clone, Debug)]
pub struct Update {
    /// The network.
    pub genesis: ShareId,
    /// The share that is new.
    pub added: ShareId,
    /// Its height.
    pub height: u32,
    /// Its bytes, as they travel.
    pub share: Arc<[u8]>,
    /// The sheet that it carries.
    pub sheet: Option<Arc<LockSheet>>,
    /// Shares that are forgotten.
    pub pruned: Vec<ShareId>,
    /// The best branch's end after it.
    pub tip: ShareId,
}

/// A store's rows as they are: any of them may have been altered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// What the whole should be; none if nothing was ever stored.
    pub head: Option<Head>,
    /// One row for each share, in the order in which they came.
    pub shares: Vec<ShareRow>,
    /// The locks of sheets, encoded as [`Body`], by their root.
    pub sheets: BTreeMap<[u8; 32], Vec<u8>>,
}

impl Stored {
    /// Whether nothing was ever stored.
    pub fn is_empty(&self) -> bool {
        self.head.is_none() && self.shares.is_empty() && self.sheets.is_empty()
    }
}

/// The one row about all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The network.
    pub genesis: ShareId,
    /// The best branch's end.
    pub tip: ShareId,
    /// Shares that are stored.
    pub shares: u64,
}

/// A share's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareRow {
    /// Grows with each: of two tips with the same work, the first one stays the tip.
    pub sequence: u64,
    /// The share's id.
    pub id: ShareId,
    /// Its height.
    pub height: u32,
    /// Its bytes.
    pub share: Vec<u8>,
    /// The root of its sheet, if it carries one.
    pub sheet: Option<[u8; 32]>,
    /// [`digest`] of the rest.
    pub digest: [u8; 32],
}

/// TaggedHash("sluice/stored-share", sequence `u64` ‖ id): what else a row says follows from its share.
pub fn digest(sequence: u64, id: &ShareId) -> [u8; 32] {
    let mut engine = RowDigest::engine();
    engine.input(&sequence.to_le_bytes());
    engine.input(&id.to_bytes());
    RowDigest::from_engine(engine).to_byte_array()
}

/// The bytes of a sheet's locks, and the name they are stored under.
pub fn sheet_row(sheet: &LockSheet) -> ([u8; 32], Vec<u8>) {
    (sheet.promise().root.to_bytes(), encode::serialize(&Body { locks: sheet.locks().to_vec() }))
}

impl Chain {
    /// What a change that this tree has just made is to a store.
    pub fn update(&self, change: &Change) -> Update {
        let share = self.encoded(&change.added).cloned().unwrap_or_else(|| Arc::from([]));
        Update {
            genesis: self.params().genesis(),
            added: change.added,
            height: self.standing(&change.added).map_or(0, |standing| standing.height),
            share,
            sheet: self.sheet_of(&change.added).cloned(),
            pruned: change.pruned.clone(),
            tip: self.tip(),
        }
    }
}

/// Rows that were altered, or are of another network. Says which, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "table {table}, {row}: {why}. The sharechain's store was altered or damaged; delete its rows, and the shares are fetched anew from peers"
)]
pub struct Altered {
    /// The table.
    pub table: Table,
    /// The row, by the values of its key.
    pub row: String,
    /// What is wrong, and in which column.
    pub why: String,
}

/// The tables of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// [`Head`].
    Head,
    /// [`ShareRow`].
    Share,
    /// [`Stored::sheets`].
    Sheet,
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Head => "sharechain_head",
            Self::Share => "sharechain_share",
            Self::Sheet => "sharechain_sheet",
        })
    }
}

/// Builds the tree that was stored, and checks it.
///
/// # Errors
/// The first row that does not fit.
pub fn load<C: Verification>(params: Params, stored: Stored, secp: &Secp256k1<C>) -> Result<Chain, Altered> {
    let Stored { head, shares, sheets } = stored;
    let Some(head) = head else { return load_nothing(params, &shares, &sheets) };
    check_head(&params, &head, &shares)?;
    let mut loading = Loading { secp, sheets, used: BTreeSet::new(), opened: HashMap::new() };
    let checked = shares.iter().map(|row| loading.check(&params, row)).collect::<Result<Vec<_>, _>>()?;
    loading.check_use()?;
    let chain = place(params, &shares, &checked)?;
    if chain.tip() != head.tip {
        return Err(of_head(format!("column tip: it says {}, the rows end at {}", head.tip, chain.tip())));
    }
    Ok(chain)
}

fn load_nothing(
    params: Params,
    shares: &[ShareRow],
    sheets: &BTreeMap<[u8; 32], Vec<u8>>,
) -> Result<Chain, Altered> {
    if !shares.is_empty() || !sheets.is_empty() {
        return Err(of_head("it is missing".to_owned()));
    }
    Ok(Chain::new(params))
}

fn check_head(params: &Params, head: &Head, shares: &[ShareRow]) -> Result<(), Altered> {
    let genesis = params.genesis();
    if head.genesis != genesis {
        return Err(of_head(format!("column genesis: it is of network {}, this is {genesis}", head.genesis)));
    }
    let has = u64::try_from(shares.len()).unwrap_or(u64::MAX);
    if head.shares != has {
        return Err(of_head(format!("column shares: it says {}, there are {has}", head.shares)));
    }
    Ok(())
}

/// Checks rows one by one.
struct Loading<'a, C: Verification> {
    secp: &'a Secp256k1<C>,
    sheets: BTreeMap<[u8; 32], Vec<u8>>,
    used: BTreeSet<[u8; 32]>,
    /// One copy of a sheet, however many shares carry it.
    opened: HashMap<[u8; 32], Arc<LockSheet>>,
}

impl<C: Verification> Loading<'_, C> {
    fn check(&mut self, params: &Params, row: &ShareRow) -> Result<FullShare, Altered> {
        let of_column =
            |column: &str, why: &dyn std::fmt::Display| of_share(row, format!("column {column}: {why}"));
        let share: Share = encode::deserialize(&row.share).map_err(|why| of_column("share", &why))?;
        let (id, height) = (share.id(), share.data.height);
        let checked = share.check(params, self.secp).map_err(|why| of_column("share", &why))?;
        if id != row.id {
            return Err(of_column("id", &format!("the share is {id}")));
        }
        if height != row.height {
            return Err(of_column("height", &format!("it says {}, the share {height}", row.height)));
        }
        let root = checked.share().data.promise.map(|promise| promise.root.to_bytes());
        if root != row.sheet {
            return Err(of_column("sheet", &"not the root that the share announces"));
        }
        if row.digest != digest(row.sequence, &id) {
            return Err(of_share(row, "columns sequence and digest do not fit each other".to_owned()));
        }
        let sheet = root.map(|root| self.open(params, &checked, root)).transpose()?;
        checked.with_sheet(sheet).map_err(|why| of_column("sheet", &why))
    }

    fn open(
        &mut self,
        params: &Params,
        share: &crate::check::CheckedShare,
        root: [u8; 32],
    ) -> Result<Arc<LockSheet>, Altered> {
        self.used.insert(root);
        let promise = share.share().data.promise.unwrap_or_else(|| unreachable!("it has a root"));
        if let Some(sheet) = self.opened.get(&root).filter(|sheet| sheet.promise().is_same_sheet(&promise)) {
            return Ok(sheet.clone());
        }
        let bytes = self.sheets.get(&root).ok_or_else(|| of_sheet(&root, "it is missing".to_owned()))?;
        let locks = |why: &dyn std::fmt::Display| of_sheet(&root, format!("column locks: {why}"));
        let body: Body = encode::deserialize(bytes).map_err(|why| locks(&why))?;
        let sheet = promise.with_locks(&params.locks, body.locks).map_err(|why| locks(&why))?;
        let sheet = Arc::new(sheet);
        self.opened.insert(root, sheet.clone());
        Ok(sheet)
    }

    fn check_use(&self) -> Result<(), Altered> {
        let idle = self.sheets.keys().find(|root| !self.used.contains(*root));
        idle.map_or(Ok(()), |root| Err(of_sheet(root, "no share carries it".to_owned())))
    }
}

/// Builds the tree, the last shares by every rule. It is what the rows say: what is too deep by these parameters is forgotten with
/// the next insertion, whose change says so.
fn place(own: Params, rows: &[ShareRow], checked: &[FullShare]) -> Result<Chain, Altered> {
    let params = Params { margin: u32::MAX / 2, ..own.clone() };
    let highest = rows.iter().map(|row| row.height).max().unwrap_or(0);
    let lowest = rows.iter().map(|row| row.height).min().unwrap_or(0);
    let again = highest.saturating_sub(RULES_AGAIN);
    let (mut chain, root) = root(params, checked, lowest);
    let mut loose: BTreeSet<ShareId> = BTreeSet::new();
    for (row, share) in rows.iter().zip(checked).filter(|(row, _)| Some(row.id) != root) {
        let parent = share.checked().share().data.parent;
        // Branches that left the best one below the lowest share: no rule looks at them any more.
        let is_loose = root.is_some() && (row.height == lowest || loose.contains(&parent));
        if is_loose {
            loose.insert(row.id);
            continue;
        }
        let placed = match row.height > again {
            true => chain.insert_or_restore(share).map(drop),
            false => chain.restore(share).map(drop),
        };
        placed.map_err(|why| of_share(row, format!("column share: {why}")))?;
    }
    chain.params = Arc::new(own);
    Ok(chain)
}

/// A tree with its first share: genesis, which is never forgotten alone, or the lowest that was kept of the branch with the most work.
fn root(params: Params, checked: &[FullShare], lowest: u32) -> (Chain, Option<ShareId>) {
    let genesis = params.genesis();
    if checked.iter().any(|share| share.checked().share().data.parent == genesis) || checked.is_empty() {
        return (Chain::new(params), None);
    }
    let by_id: HashMap<ShareId, &FullShare> =
        checked.iter().map(|share| (share.checked().id(), share)).collect();
    let total_work = |share: &&FullShare| share.checked().share().data.total_work;
    let mut first_most = (Work::ZERO, checked.first());
    for share in checked {
        if total_work(&share) > first_most.0 {
            first_most = (total_work(&share), Some(share));
        }
    }
    let parent = |share: &&FullShare| by_id.get(&share.checked().share().data.parent).copied();
    let branch = std::iter::successors(first_most.1, parent);
    let root = branch.last().filter(|share| share.checked().share().data.height == lowest);
    match root {
        Some(root) => (Chain::restored(params, root), Some(root.checked().id())),
        // A row is missing: the first share that lacks its parent is named.
        None => (Chain::new(params), None),
    }
}

fn of_head(why: String) -> Altered {
    Altered { table: Table::Head, row: "its only row".to_owned(), why }
}

fn of_share(row: &ShareRow, why: String) -> Altered {
    Altered { table: Table::Share, row: format!("row sequence = {}, share {}", row.sequence, row.id), why }
}

fn of_sheet(root: &[u8; 32], why: String) -> Altered {
    let root: String = root.iter().map(|byte| format!("{byte:02x}")).collect();
    Altered { table: Table::Sheet, row: format!("row root = {root}"), why }
}

/// Keeps a tree in memory: for tests and simulations, and as the model that other stores are compared with.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    stored: Stored,
    ids: HashSet<ShareId>,
}

impl Memory {
    /// What it keeps.
    pub fn stored(&self) -> &Stored {
        &self.stored
    }
}

impl Storage for Memory {
    type Receipt = ();
    type Refused = Infallible;

    fn apply(&mut self, update: Update) -> Result<(), Infallible> {
        let Stored { head, shares, sheets } = &mut self.stored;
        if self.ids.insert(update.added) {
            let sequence = shares.last().map_or(1, |row| row.sequence + 1);
            let sheet = update.sheet.as_deref().map(sheet_row);
            shares.push(ShareRow {
                sequence,
                id: update.added,
                height: update.height,
                share: update.share.to_vec(),
                sheet: sheet.as_ref().map(|(root, _)| *root),
                digest: digest(sequence, &update.added),
            });
            sheets.extend(sheet);
        }
        if !update.pruned.is_empty() {
            shares.retain(|row| !update.pruned.contains(&row.id));
            for id in &update.pruned {
                self.ids.remove(id);
            }
            sheets.retain(|root, _| shares.iter().any(|row| row.sheet == Some(*root)));
        }
        let count = u64::try_from(shares.len()).unwrap_or(u64::MAX);
        *head = Some(Head { genesis: update.genesis, tip: update.tip, shares: count });
        Ok(())
    }
}
