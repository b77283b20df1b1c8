//! What a hasher publishes by itself: claims with their children, pendings, closes.

use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Transaction, Txid};
use payout_channel::claim::ClaimTemplate;
use payout_channel::hasher::Publish;
use payout_channel::message::Standing;
use payout_channel::transactions::exit;
use payout_channel::{Pending, State};

use super::cast::{PARAMS, cast};
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
        if let Some(spend) = self.chain.spend(&outpoint) {
            let (claim, txid) = (spend.by.clone(), spend.txid);
            self.take_pendings(place, &claim, txid, ground);
            return;
        }
        match kept.machine.must_publish(&self.chain) {
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

    fn take_pendings(&mut self, place: usize, claim: &Transaction, txid: Txid, ground: &mut Ground) {
        if self.channels[place].spent_by.as_ref().is_none_or(|(known, _)| *known != txid) {
            let state = self.state_of(place, claim, &txid);
            self.channels[place].spent_by = Some((txid, state.map(Box::new)));
        }
        let kept = &self.channels[place];
        let Some((_, Some(of))) = &kept.spent_by else { return };
        let opened = |height| kept.machine.key(height, &self.chain).map(|published| published.key);
        sweep(self.number, &of.0, &of.1, claim, opened, ground);
    }

    /// The state that a claim is of. It may be one that is not held: a hasher that was restored may have published before.
    fn state_of(&self, place: usize, claim: &Transaction, txid: &Txid) -> Option<(ClaimTemplate, State)> {
        let machine = &self.channels[place].machine;
        let template = machine.template()?;
        payout_channel::claim::committed(claim)?;
        let mut states = machine.held().iter().map(|held| &held.state);
        if let Some(state) = states.find(|state| is_of(template, state, txid)) {
            return Some((template.clone(), state.clone()));
        }
        let mut template = template.clone();
        let heights = template.funded().terms.expiry - PARAMS.life..=self.chain.tip();
        for height in heights.clone() {
            let _known = template.learn(height, cast().lock(height), &cast().secp);
        }
        let state = template.read(claim, heights)?;
        Some((template, state))
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
    // Pendings pay more than they cost, or stay for later.
    let cost = feerate.fee_vb(101).unwrap();
    let worth: Vec<_> = pendings.into_iter().filter(|coin| coin.value > cost).collect();
    let child = exit::child(claim, amounts.fee, &first, &worth, to, feerate, &cast().secp);
    match child {
        Ok(child) => ground.broadcast_package(party, claim, &child).is_ok(),
        Err(_) => ground.broadcast(party, claim).is_ok(),
    }
}

/// Takes what a confirmed claim pays: the pendings whose keys are known.
pub fn sweep(
    number: usize,
    template: &ClaimTemplate,
    state: &State,
    claim: &Transaction,
    opened: impl Fn(u32) -> Option<lock::Key>,
    ground: &mut Ground,
) {
    let amounts = template.amounts(state).unwrap();
    let txid = claim.compute_txid();
    let is_there = |place: u32| {
        let outpoint = OutPoint::new(txid, place);
        ground.chain.coin(&outpoint).is_some() && !ground.mempool.spends(&outpoint)
    };
    let due = |(place, pending): (u32, &Pending)| is_there(place) && opened(pending.height).is_some();
    if !(1..).zip(&amounts.pendings).any(due) {
        return;
    }
    let keys = &cast().hasher_keys[number][index_of(number, template)];
    let (_, pendings) = exit::coins(claim, &amounts, template, keys, opened, &cast().secp);
    let due: Vec<_> = pendings.into_iter().filter(|coin| is_there(coin.outpoint.vout)).collect();
    let feerate = FeeRate::from_sat_per_kwu(ground.going_rate().div_ceil(4).max(250));
    for coin in due {
        let to: ScriptBuf = cast().hasher_script(number);
        if let Ok(sweep) = exit::sweep(std::slice::from_ref(&coin), to, feerate, &cast().secp) {
            let _refused = ground.broadcast(Party::Hasher(number), &sweep);
        }
    }
}

/// Whether a claim is the one of a state.
pub fn is_of(template: &ClaimTemplate, state: &State, txid: &Txid) -> bool {
    template.unsigned(state).is_ok_and(|claim| claim.compute_txid() == *txid)
}
