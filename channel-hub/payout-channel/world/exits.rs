//! What a hasher publishes by itself: claims with their children, pendings, closes.

use bitcoin::{Amount, FeeRate, Transaction, Txid};
use payout_channel::State;
use payout_channel::claim::ClaimTemplate;
use payout_channel::hasher::Publish;
use payout_channel::message::Standing;
use payout_channel::transactions::Coin;
use payout_channel::transactions::exit;
use payout_channel::watcher::Spend;

use super::cast::cast;
use super::ground::{Ground, Party};
use super::hasher::{Hasher, index, index_of};

/// What a cooperative close pays, as all of them ask here.
pub const CLOSE_FEE: Amount = Amount::from_sat(600);

impl Hasher {
    /// Publishes what is due of a payout channel that is closing, and takes what is its own.
    pub fn collect(&mut self, place: usize, ground: &mut Ground) {
        let kept = &mut self.channels[place];
        let Some(outpoint) = kept.machine.outpoint() else { return };
        if kept.machine.standing() != Standing::Closed || kept.handed_over {
            return;
        }
        let keys = &cast().hasher_keys[self.number][index(&kept.machine)];
        if let Some(spend) = self.chain.spend(&outpoint).cloned() {
            self.take_pendings(place, &spend, ground);
            return;
        }
        match kept.machine.must_publish(&self.chain).map(|due| due.what) {
            Some(Publish::Close) => {
                let close = kept.machine.agreed_close(&keys.funding, &cast().secp).unwrap();
                let _refused = ground.broadcast_close(Party::Hasher(self.number), &close);
                return;
            }
            Some(Publish::Claim) => {}
            None => return,
        }
        let Some(template) = kept.machine.template() else { return };
        let Some(best) = kept.machine.best(&self.chain) else { return };
        let claim = template.signed(best, &keys.funding, &cast().secp).unwrap();
        let rate = ground.going_rate();
        if ground.mempool.has(&claim.compute_txid()) && rate <= kept.rate {
            return;
        }
        kept.rate = rate;
        let opened = |height| kept.machine.key(height, &self.chain).map(|published| published.key);
        let _refused = publish(self.number, template, &best.state, &claim, opened, rate, ground);
    }

    /// Whether it has left and does not publish anything yet: its states pay for different wins.
    pub fn is_waiting(&self) -> bool {
        self.channels.iter().map(|kept| &kept.machine).any(|machine| {
            let chain = &self.chain;
            let is_unspent = machine.outpoint().is_some_and(|outpoint| chain.spend(&outpoint).is_none());
            let has_left = machine.standing() == Standing::Closed && machine.best(chain).is_some();
            is_unspent && has_left && machine.must_publish(chain).is_none()
        })
    }

    fn take_pendings(&mut self, place: usize, claim: &Spend, ground: &mut Ground) {
        let kept = &mut self.channels[place];
        if kept.spent_by.as_ref().is_none_or(|(known, _)| *known != claim.txid) {
            let lock = |height| Some(cast().lock(height));
            let state = kept.machine.state_of(&claim.by, lock, &self.chain, &cast().secp);
            kept.spent_by = Some((claim.txid, state.map(Box::new)));
        }
        let Some((_, Some(of))) = &kept.spent_by else { return };
        let (template, state) = of.as_ref();
        let amounts = template.amounts(state).unwrap();
        let keys = &cast().hasher_keys[self.number][index(&kept.machine)];
        let opened = |height| kept.machine.key(height, &self.chain).map(|published| published.key);
        let due = exit::pendings_due(claim, &amounts, template, keys, opened, &self.chain, &cast().secp);
        take(self.number, due.into_iter().map(|due| due.what), ground);
    }
}

/// Publishes a claim, with a child at that rate (satoshi per 1,000 vB) if it alone does not pay it.
pub fn publish(
    number: usize,
    template: &ClaimTemplate,
    state: &State,
    claim: &Transaction,
    opened: impl Fn(u32) -> Option<lock::Key>,
    rate: u64,
    ground: &mut Ground,
) -> bool {
    let party = Party::Hasher(number);
    let amounts = template.amounts(state).unwrap();
    let index = index_of(number, template);
    let keys = &cast().hasher_keys[number][index];
    let (first, pendings) = exit::coins(claim, &amounts, template, keys, opened, &cast().secp);
    let to = cast().hasher_script(number);
    let feerate = FeeRate::from_sat_per_kwu(rate.div_ceil(4).max(250));
    let worth = exit::worth_it(&pendings, feerate);
    let child = exit::child(claim, amounts.fee, &first, &worth, to, feerate, &cast().secp);
    match child {
        Ok(child) => ground.broadcast_package(party, claim, &child).is_ok(),
        Err(_) => ground.broadcast(party, claim).is_ok(),
    }
}

/// Takes what a confirmed claim of a hasher that keeps no rules pays: the pendings whose keys are known.
pub fn sweep(
    number: usize,
    template: &ClaimTemplate,
    state: &State,
    claim: &Transaction,
    opened: impl Fn(u32) -> Option<lock::Key>,
    ground: &mut Ground,
) {
    let amounts = template.amounts(state).unwrap();
    let keys = &cast().hasher_keys[number][index_of(number, template)];
    let (_, pendings) = exit::coins(claim, &amounts, template, keys, opened, &cast().secp);
    take(number, pendings, ground);
}

/// Spends those that are there, each by itself.
fn take(number: usize, coins: impl IntoIterator<Item = Coin>, ground: &mut Ground) {
    let rate = FeeRate::from_sat_per_kwu(ground.going_rate().div_ceil(4).max(250));
    for coin in coins {
        if ground.chain.coin(&coin.outpoint).is_none() || ground.mempool.spends(&coin.outpoint) {
            continue;
        }
        let to = cast().hasher_script(number);
        if let Ok(sweep) = exit::sweep(&[coin], to, rate, &cast().secp) {
            let _refused = ground.broadcast(Party::Hasher(number), &sweep);
        }
    }
}

/// Whether a claim is the one of a state.
pub fn is_of(template: &ClaimTemplate, state: &State, txid: &Txid) -> bool {
    template.unsigned(state).is_ok_and(|claim| claim.compute_txid() == *txid)
}
