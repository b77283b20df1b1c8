//! Which lock sheets shares carry, and the scripts that follow from them.

use bitcoin::secp256k1::{Secp256k1, VerifyOnly};
use bitcoin::{ScriptBuf, XOnlyPublicKey};
use lock::{Council, LockSheet, LockedOutput, Promise};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::tree::{Spot, Tree};

/// Scripts of one sheet that are kept once computed: each costs a multiplication on the curve.
const MAX_SCRIPTS: usize = 64;

/// Sheets of which only the promise is remembered.
const MAX_FORGOTTEN: usize = 1_024;

/// All sheets in the tree.
#[derive(Debug, Default)]
pub(crate) struct Sheets {
    published: HashMap<(XOnlyPublicKey, u32), Vec<Published>>,
    /// What those promised that are in the tree no more, the first forgotten first: a hub must not wait for that with its second.
    forgotten: VecDeque<Promise>,
}

/// One sheet, and the shares that carry it.
#[derive(Debug)]
struct Published {
    sheet: Arc<LockSheet>,
    carriers: Vec<Spot>,
    scripts: BTreeMap<u32, ScriptBuf>,
}

impl Sheets {
    /// The sheet that counts at a share: carried by one of the last `reach` shares of the branch that ends there, itself
    /// included. With the height of the nearest carrier. The rules let no branch carry two.
    pub(crate) fn on_branch(
        &self,
        tree: &Tree,
        hub_id: &XOnlyPublicKey,
        period: u32,
        (end, reach): (Spot, u32),
    ) -> Option<(&Arc<LockSheet>, u32)> {
        let published = self.published.get(&(*hub_id, period))?;
        published.iter().find_map(|one| Some((&one.sheet, one.height_on(tree, end, reach)?)))
    }

    /// The script of a hub at a block's height, by the sheet that counts at a share.
    pub(crate) fn script(
        &mut self,
        tree: &Tree,
        (hub_id, period): (&XOnlyPublicKey, u32),
        block_height: u32,
        (end, reach): (Spot, u32),
        (council, secp): (&Council, &Secp256k1<VerifyOnly>),
    ) -> Option<ScriptBuf> {
        let published = self.published.get_mut(&(*hub_id, period))?;
        let counts = published.iter_mut().find(|one| one.height_on(tree, end, reach).is_some())?;
        if let Some(script) = counts.scripts.get(&block_height) {
            return Some(script.clone());
        }
        let script = script(&counts.sheet, block_height, council, secp)?;
        if counts.scripts.len() >= MAX_SCRIPTS {
            counts.scripts.pop_first();
        }
        counts.scripts.insert(block_height, script.clone());
        Some(script)
    }

    /// A sheet like this one, if any share of the tree carries it.
    pub(crate) fn same(&self, promise: &Promise) -> Option<&Arc<LockSheet>> {
        let published = self.published.get(&(promise.hub_id, promise.period))?;
        published.iter().map(|one| &one.sheet).find(|sheet| sheet.promise().is_same_sheet(promise))
    }

    /// Whether any share of the tree carries a sheet of the same hub for the same period, be it another one.
    pub(crate) fn has(&self, promise: &Promise) -> bool {
        self.published.contains_key(&(promise.hub_id, promise.period))
    }

    /// Another sheet of the same hub for the same period, if any share of the tree carries one, or did.
    pub(crate) fn other(&self, promise: &Promise) -> Option<&Promise> {
        let published = self.published.get(&(promise.hub_id, promise.period)).into_iter().flatten();
        let of_hub = |other: &&Promise| (other.hub_id, other.period) == (promise.hub_id, promise.period);
        let forgotten = self.forgotten.iter().filter(of_hub);
        let mut all = published.map(|one| one.sheet.promise()).chain(forgotten);
        all.find(|other| !other.is_same_sheet(promise))
    }

    /// A share with a sheet joined the tree.
    pub(crate) fn add(&mut self, sheet: &Arc<LockSheet>, carrier: Spot) {
        let promise = sheet.promise();
        let published = self.published.entry((promise.hub_id, promise.period)).or_default();
        match published.iter_mut().find(|one| one.sheet.promise().is_same_sheet(promise)) {
            Some(one) => one.carriers.push(carrier),
            None => published.push(Published {
                sheet: sheet.clone(),
                carriers: vec![carrier],
                scripts: BTreeMap::new(),
            }),
        }
    }

    /// Hubs with two sheets for one period: two of each.
    pub(crate) fn second(&self) -> impl Iterator<Item = (Promise, Promise)> + '_ {
        self.published.values().filter_map(|published| match published.as_slice() {
            [one, other, ..] => Some((*one.sheet.promise(), *other.sheet.promise())),
            _ => None,
        })
    }

    /// All shares that carry one.
    pub(crate) fn carriers(&self) -> impl Iterator<Item = Spot> + '_ {
        self.published.values().flatten().flat_map(|one| one.carriers.iter().copied())
    }

    /// Forgets all carriers that are gone, and sheets without one but for what they promised.
    pub(crate) fn prune(&mut self, is_gone: impl Fn(Spot) -> bool) {
        self.published.retain(|_, published| {
            published.iter_mut().for_each(|one| one.carriers.retain(|carrier| !is_gone(*carrier)));
            let gone = published.iter().filter(|one| one.carriers.is_empty());
            self.forgotten.extend(gone.map(|one| *one.sheet.promise()));
            published.retain(|one| !one.carriers.is_empty());
            !published.is_empty()
        });
        let too_many = self.forgotten.len().saturating_sub(MAX_FORGOTTEN);
        self.forgotten.drain(..too_many);
    }
}

impl Published {
    /// Height of the nearest carrier among the last `reach` shares of a branch.
    fn height_on(&self, tree: &Tree, end: Spot, reach: u32) -> Option<u32> {
        let highest = tree[end].height;
        let carriers = self.carriers.iter().filter(|carrier| tree.is_on_branch(**carrier, end));
        carriers.map(|carrier| tree[*carrier].height).max().filter(|height| highest - height < reach)
    }
}

/// script_B by one sheet; none if B is not of its period.
pub(crate) fn script(
    sheet: &LockSheet,
    block_height: u32,
    council: &Council,
    secp: &Secp256k1<VerifyOnly>,
) -> Option<ScriptBuf> {
    let lock = sheet.lock(block_height)?;
    Some(LockedOutput::new(&sheet.promise().claim_key, lock, council, secp).script_pubkey())
}
