//! The hub's own coins, and when they are due: won coinbases, and what comes back of fundings and claims.

use bitcoin::{FeeRate, ScriptBuf, Transaction, TxOut};
use std::ops::RangeInclusive;

use super::{Event, HubSigner, Refusal};
use crate::claim::NoClaim;
use crate::due::Due;
use crate::rules::Broken;
use crate::save::Store;
use crate::state::State;
use crate::terms::{BadTerms, PayoutChannelId};
use crate::transactions::CannotPay;
use crate::transactions::coinbase::{self, WonOutput};
use crate::transactions::refund::{self, Refund};
use crate::watcher::{Watcher, Win};

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

    /// Wins that the hub claims: unspent, and their keys may leave or have left. So what is claimed and not confirmed is among them, however
    /// deep: its fee may have to be raised.
    pub fn claims_due(&self) -> Vec<Due<(u32, Win)>> {
        let (chain, params) = (&self.chain, &self.params);
        let due = chain.wins().filter(|(height, _)| chain.claimed(*height).is_none());
        due.filter(|(height, _)| self.may_reveal(*height).is_ok())
            .map(|(height, win)| Due {
                what: (height, win),
                from: height + params.maturity,
                by: Some(height + params.claimed_by),
            })
            .collect()
    }

    /// What of a payout channel comes back to the hub and is not back in `chain`, which watches the funding: all of it from E on, while
    /// nobody has spent it; the hub's part of a close; of a claim the remainder and the pendings, those that were won included (their
    /// hashers had until then). States in `signed` spare the search for the one that was claimed.
    ///
    /// # Errors
    /// Unknown.
    pub fn comes_back<'a>(
        &mut self,
        id: PayoutChannelId,
        chain: &Watcher,
        signed: impl IntoIterator<Item = &'a State>,
    ) -> Result<Vec<Due<Refund>>, Refusal<S::Error>> {
        let known = self.known(id)?;
        let outpoint = known.template.funded().outpoint;
        let Some(spend) = chain.spend(&outpoint) else {
            let refund = refund::funding(known.template.funded(), &known.keys, &self.secp);
            let is_there = chain.confirmations(&outpoint) > 0;
            return Ok(is_there.then_some(refund.map_err(BadTerms::from)?.due(0)).into_iter().collect());
        };
        let mut refunds = self.refunds_of_claim(id, &spend.by, signed, chain.heights_of(&outpoint))?;
        let known = self.known(id)?;
        let terms = &known.template.funded().terms;
        refunds.extend(refund::of_close(&spend.by, terms, &known.keys, &self.secp));
        let open = refunds.into_iter().filter(|refund| chain.spend(&refund.coin.outpoint).is_none());
        Ok(open.map(|refund| refund.due(spend.height)).collect())
    }

    fn refunds_of_claim<'a>(
        &mut self,
        id: PayoutChannelId,
        claim: &Transaction,
        signed: impl IntoIterator<Item = &'a State>,
        heights: RangeInclusive<u32>,
    ) -> Result<Vec<Refund>, Refusal<S::Error>> {
        let template = &self.known(id)?.template;
        let lock = |height| Some(self.lock(height));
        let state = template.state_of(claim, signed, heights, lock, &self.secp);
        let Some(state) = state else { return Ok(Vec::new()) };
        self.learn(id, &state)?;
        let known = self.known(id)?;
        let amounts = known.template.amounts(&state).map_err(NoClaim::from)?;
        Ok(refund::of_claim(claim, &amounts, &known.template, &known.keys, &self.secp))
    }

    /// Spends refunds that are due.
    ///
    /// # Errors
    /// They do not pay for it.
    pub fn sweep(&self, refunds: &[Refund], to: ScriptBuf, rate: FeeRate) -> Result<Transaction, CannotPay> {
        refund::sweep(refunds, to, rate, &self.secp)
    }
}
