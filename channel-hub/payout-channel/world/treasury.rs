//! What the hub's program does on the chain: claims of won coinbases, and what comes back to it.

use bitcoin::FeeRate;
use payout_channel::State;
use payout_channel::signer;

use super::cast::cast;
use super::disk::Crash;
use super::ground::{Ground, Party};
use super::hub::{Claimed, Hub, ended};

impl Hub {
    /// Takes back what is due to it: fundings that nobody closed, and its parts of claims.
    pub fn take_back(&mut self, ground: &mut Ground) {
        let rate = FeeRate::from_sat_per_kwu(ground.going_rate().div_ceil(4).max(250));
        for place in 0..self.channels.len() {
            self.take_back_of(place, rate, ground);
        }
    }

    fn take_back_of(&mut self, place: usize, rate: FeeRate, ground: &mut Ground) {
        let (id, signed) = (self.channels[place].machine.id(), self.signed_states(place));
        let Ok(back) = self.signer.comes_back(id, &self.chain, &signed) else { return };
        for due in back.into_iter().filter(|due| due.is_due(self.chain.tip())) {
            if let Ok(sweep) = self.signer.sweep(&[due.what], cast().hub_script(), rate) {
                let _taken = ground.broadcast(Party::Hub, &sweep);
            }
        }
    }

    /// Every state that was signed on a payout channel, as its ledger and its signer have them.
    pub fn signed_states(&self, place: usize) -> Vec<State> {
        let id = self.channels[place].machine.id();
        let of_signer = self.signer_disk.rows().into_iter().filter_map(|event| match event {
            signer::Event::Signed(of, state) if of == id => Some(state),
            _ => None,
        });
        of_signer.collect()
    }

    /// Claims wins that are deep enough, and again with a higher fee if no block takes the claim.
    ///
    /// # Errors
    /// The hub ends.
    pub fn claim(&mut self, ground: &mut Ground) -> Result<(), Crash> {
        let tip = self.chain.tip();
        for due in self.signer.claims_due().into_iter().filter(|due| due.is_due(tip)) {
            let (height, _) = due.what;
            let before = self.claimed.get(&height).copied();
            let waits = before.is_some_and(|claimed| ground.mempool.has(&claimed.txid));
            if before.is_some_and(|claimed| waits && tip < claimed.at + 2) {
                continue;
            }
            let going = ground.going_rate();
            let rate = before.map_or(going, |claimed| going.max(claimed.rate + claimed.rate / 4 + 250));
            let feerate = FeeRate::from_sat_per_kwu(rate.div_ceil(4).max(250));
            let claim = self.signer.claim(&[height], &[], cast().hub_script(), feerate);
            let Some(claim) = ended(claim)? else { continue };
            if ground.broadcast(Party::Hub, &claim).is_ok() {
                let txid = claim.compute_txid();
                self.claimed.insert(height, Claimed { txid, at: tip, rate });
            }
        }
        Ok(())
    }
}
