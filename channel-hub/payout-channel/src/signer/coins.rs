//! The hub's own coins: won coinbases, and what comes back of fundings and claims.

use bitcoin::{FeeRate, ScriptBuf, Transaction, TxOut};

use super::{Event, HubSigner, Refusal};
use crate::claim::NoClaim;
use crate::rules::Broken;
use crate::save::Store;
use crate::state::State;
use crate::terms::{BadTerms, PayoutChannelId};
use crate::transactions::coinbase::{self, WonOutput};
use crate::transactions::{CannotPay, refund};

impl<S: Store<Event>> HubSigner<S> {
    /// Claims won coinbases, which publishes their keys, and funds payout channels in the same transaction.
    ///
    /// # Errors
    /// R3, or the coins do not pay for it.
    pub fn claim(
        &mut self,
        heights: &[u32],
        fundings: &[TxOut],
        rest: ScriptBuf,
        rate: FeeRate,
    ) -> Result<Transaction, Refusal<S::Error>> {
        // All or none: what one of them is refused for, or the coins do not pay, lets no other key out.
        let mut revealing = Vec::new();
        let mut won = Vec::new();
        for height in heights {
            revealing.extend(self.may_reveal(*height)?);
            let win = self.chain.win(*height).ok_or(Broken::NotWon(*height))?;
            let period = self.pool.period_of(*height);
            let claim_key = self.locks.claim_key(&self.pool, &self.hub_id, period, &self.secp)?;
            let output = self.output(*height)?;
            let output = WonOutput { outpoint: win.outpoint, value: win.value, output };
            won.push((output, self.key(*height), claim_key));
        }
        let claim = coinbase::claim(&won, fundings, rest, rate, &self.secp)?;
        self.keep_revealing(revealing)?;
        Ok(claim)
    }

    /// Takes back a funding that nobody closed, from E on.
    ///
    /// # Errors
    /// Unknown, or it does not pay for itself.
    pub fn refund(
        &self,
        id: PayoutChannelId,
        to: ScriptBuf,
        rate: FeeRate,
    ) -> Result<Transaction, Refusal<S::Error>> {
        let known = self.known(id)?;
        let refund =
            refund::funding(known.template.funded(), &known.keys, &self.secp).map_err(BadTerms::from)?;
        Ok(refund::sweep(&[refund], to, rate, &self.secp)?)
    }

    /// What comes back to the hub from a claim: each output with the height after which it may be taken. `state` is the one that
    /// the claim is of.
    ///
    /// # Errors
    /// Unknown, or the state is none of that payout channel.
    pub fn refunds_of_claim(
        &mut self,
        id: PayoutChannelId,
        claim: &Transaction,
        state: &State,
    ) -> Result<Vec<refund::Refund>, Refusal<S::Error>> {
        self.learn(id, state)?;
        let known = self.known(id)?;
        let amounts = known.template.amounts(state).map_err(NoClaim::from)?;
        Ok(refund::of_claim(claim, &amounts, &known.template, &known.keys, &self.secp))
    }

    /// Spends refunds that are due.
    ///
    /// # Errors
    /// They do not pay for it.
    pub fn sweep(
        &self,
        refunds: &[refund::Refund],
        to: ScriptBuf,
        rate: FeeRate,
    ) -> Result<Transaction, CannotPay> {
        refund::sweep(refunds, to, rate, &self.secp)
    }
}
