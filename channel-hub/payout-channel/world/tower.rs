//! A stranger who was handed an exit kit: bytes that were made out of a hasher's stored rows and its seed, and nothing else. It
//! has a node, no keys, and does not know the hub or the hasher's program.

use bitcoin::{OutPoint, Transaction};
use lock::Key;
use payout_channel::exit::{ExitKit, PendingClaim, Priced};
use payout_channel::hasher::{self, PayoutChannel};
use payout_channel::record::Record as _;
use payout_channel::{PayoutChannelId, Watcher};
use std::collections::BTreeMap;

use super::cast::{FIRST, PARAMS, cast};
use super::ground::{Ground, Party};

/// Who holds one kit.
#[derive(Debug)]
pub struct Tower {
    hasher: usize,
    kit: ExitKit,
    keys: BTreeMap<u32, Key>,
    seen_to: u32,
}

/// What a hasher's file holds of a payout channel.
pub fn stored(rows: &[hasher::Event]) -> Vec<Vec<u8>> {
    rows.iter().map(hasher::Event::to_row).collect()
}

/// The payout channel out of a file alone.
///
/// # Panics
/// The file is not what was written.
pub fn read(file: &[Vec<u8>]) -> PayoutChannel {
    let rows: Vec<hasher::Event> = file.iter().map(|row| hasher::Event::from_row(row).unwrap()).collect();
    PayoutChannel::restore(PARAMS, &rows, &cast().secp).unwrap()
}

impl Tower {
    /// With a kit out of a hasher's file and seed, for the wins and keys that `chain` has seen. None if nothing was ever signed.
    pub fn new(hasher: usize, file: &[Vec<u8>], chain: &Watcher) -> Option<Self> {
        let channel = read(file);
        let fate = |height| channel.fate(height, chain);
        let to = cast().hasher_script(hasher);
        let kit = ExitKit::new(&channel, &cast().hasher_seeds[hasher], fate, &to, &cast().secp).ok()?;
        let kit = ExitKit::decode(&kit.encode()).unwrap();
        Some(Self { hasher, kit, keys: BTreeMap::new(), seen_to: FIRST - 1 })
    }

    /// Does what is due: the claim with a child as a package until a block has it, then the pendings whose keys it has seen.
    pub fn act(&mut self, ground: &mut Ground) {
        self.look(ground);
        let txid = self.kit.claim.compute_txid();
        let is_out =
            self.kit.claim.input.iter().all(|input| ground.chain.coin(&input.previous_output).is_none());
        if !is_out {
            return self.publish(ground);
        }
        for (place, pending) in (1..).zip(&self.kit.pendings) {
            let outpoint = OutPoint::new(txid, place);
            if ground.chain.coin(&outpoint).is_some() && !ground.mempool.spends(&outpoint) {
                self.take(pending, ground);
            }
        }
    }

    fn publish(&self, ground: &mut Ground) {
        let by = Party::Hasher(self.hasher);
        match rung(&self.kit.children, ground) {
            Some(child) if ground.mempool.has(&child.transaction.compute_txid()) => {}
            Some(child) => {
                let _refused = ground.broadcast_package(by, &self.kit.claim, &child.transaction);
            }
            None => {
                let _refused = ground.broadcast(by, &self.kit.claim);
            }
        }
    }

    fn take(&self, pending: &PendingClaim, ground: &mut Ground) {
        let Some(ladder) = self.keys.get(&pending.height).and_then(|key| pending.with_key(key)) else {
            return;
        };
        if let Some(priced) = rung(&ladder, ground) {
            let _refused = ground.broadcast(Party::Hasher(self.hasher), &priced.transaction);
        }
    }

    /// Looks for keys in what blocks came since.
    fn look(&mut self, ground: &Ground) {
        let news = (self.seen_to + 1..=ground.chain.height()).filter_map(|height| ground.chain.block(height));
        let bodies: Vec<&Transaction> =
            news.flat_map(|block| &block.transactions).map(|tx| tx.body.as_ref()).collect();
        for pending in &self.kit.pendings {
            if let Some(key) = bodies.iter().find_map(|body| pending.key_in(body)) {
                self.keys.insert(pending.height, key);
            }
        }
        self.seen_to = ground.chain.height();
    }
}

/// The cheapest that pays what blocks ask for.
fn rung<'a>(ladder: &'a [Priced], ground: &Ground) -> Option<&'a Priced> {
    ladder.iter().find(|priced| priced.sat_per_vb * 1_000 >= ground.going_rate())
}

/// Payout channels whose programs publish nothing any more, by the id of their terms.
pub type Towers = BTreeMap<PayoutChannelId, Tower>;
