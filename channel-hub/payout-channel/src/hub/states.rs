//! States: pre-signed heights, credits, wins, raises, settlements.

use bitcoin::Amount;
use lock::Key;

use super::{Event, PayoutChannel, Refused};
use crate::claim::SignedState;
use crate::message::{BlockWon, KeyRevealed, Message, NextHeight, Price, ShareCredited, Standing};
use crate::price::pps::Accrued;
use crate::price::{Rate, Work};
use crate::rules;
use crate::save::{Durability, Transition};
use crate::signer::Signer;
use crate::state::State;
use crate::terms::Scheme;
use crate::watcher::Watcher;

/// Accepted shares that are credited together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// The height that they worked on.
    pub height: u32,
    /// What they are worth: [`Credit::pending`], [`Credit::at_once`].
    pub amount: Amount,
    /// Sequence number of the last, as in the mining channel.
    pub sequence: u32,
    /// How many.
    pub shares: u32,
    /// Their work, in expected hashes.
    pub work: u128,
}

impl Credit {
    /// Of shares with so much work, by `pplns`: c·work at the height's price, as [`Rate::of`] rounds it.
    pub fn pending(height: u32, rate: Rate, work: Work, sequence: u32, shares: u32) -> Self {
        Self { height, amount: rate.of(work), sequence, shares, work: work.to_hashes() }
    }

    /// The same by `pps`. `accrued` is what the hasher was credited so far, and is kept with the credit.
    pub fn at_once(
        height: u32,
        rate: Rate,
        work: Work,
        sequence: u32,
        shares: u32,
        accrued: Accrued,
    ) -> (Self, Accrued) {
        let after = accrued.plus(rate, work);
        let amount = after.settled().checked_sub(accrued.settled()).unwrap_or(Amount::ZERO);
        (Self { height, amount, sequence, shares, work: work.to_hashes() }, after)
    }
}

type Signed<M, E> = Result<Transition<Event, M>, Refused<E>>;

impl PayoutChannel {
    /// Signs for work on a height that is not worked on yet, with `base` pending for it. To be called when the hub sees its first
    /// chain share of the height before (R4).
    ///
    /// # Errors
    /// See [`Refused`]; [`Refused::Full`] asks for another payout channel.
    pub fn next_height<S: Signer>(
        &mut self,
        height: u32,
        base: Amount,
        price: Price,
        chain: &Watcher,
        signer: &mut S,
    ) -> Signed<Message, S::Error> {
        self.may_credit(height, chain)?;
        let promised = self.account.promised(height);
        if self.live.contains_key(&height) && base <= promised {
            return Err(Refused::NoNews);
        }
        let base = base.max(promised);
        let signed = self.promise(height, base, chain, signer)?;
        let next = Message::NextHeight(self.id, Box::new(NextHeight { base, price, signed: signed.clone() }));
        Ok(self.signed(signed, next))
    }

    /// Credits shares: pending for their height, or settled at once by the terms of `pps`.
    ///
    /// # Errors
    /// See [`Refused`]. Where the height's cap binds, the signer refuses (R6): the share counts for the next height.
    pub fn credit<S: Signer>(
        &mut self,
        credit: Credit,
        chain: &Watcher,
        signer: &mut S,
    ) -> Signed<Message, S::Error> {
        let Credit { height, amount, sequence, shares, work } = credit;
        self.may_credit(height, chain)?;
        let signed = match self.terms.scheme {
            Scheme::Pplns => {
                let to = self.account.promised(height).checked_add(amount).ok_or(Refused::Full)?;
                self.promise(height, to, chain, signer)?
            }
            Scheme::Pps => self.settle_at_once(height, amount, chain, signer)?,
        };
        let credited = ShareCredited { sequence, shares, work, signed: signed.clone() };
        Ok(self.signed(signed, Message::ShareCredited(self.id, Box::new(credited))))
    }

    /// Signs anew where wins are missing from the states that are worked with, or are none any more. To be called after every
    /// change of the best chain; nothing comes of it if nothing changed.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn merge<S: Signer>(&mut self, chain: &Watcher, signer: &mut S) -> Signed<Vec<Message>, S::Error> {
        if self.may_sign::<S::Error>().is_err() {
            return Ok(Transition::new(Vec::new(), Durability::Process, Vec::new()));
        }
        let stale = |height: &u32| {
            let now = self.account.state(0, *height, |won| chain.is_win(won));
            match self.live.get(height) {
                Some(live) => !same(live, &now),
                None => !now.pendings.is_empty(),
            }
        };
        let stale: Vec<u32> = self.worked_on(chain).into_iter().filter(stale).collect();
        let before: Vec<u32> =
            self.live.values().flat_map(|state| &state.pendings).map(|p| p.height).collect();
        self.renew(&stale, chain, signer, |channel, signed| {
            let news = signed.state.pendings.iter().rev().map(|pending| pending.height);
            let news = news.filter(|height| chain.is_win(*height) && !before.contains(height));
            let news = news.filter_map(|height| Some((height, chain.win(height)?.block))).next();
            match news {
                Some((height, block)) => {
                    Message::BlockWon(channel, Box::new(BlockWon { height, block, signed }))
                }
                None => Message::Renewed(channel, Box::new(signed)),
            }
        })
    }

    /// Raises the pending of a win: fees, and what the hub owed from before (R1 allows it until the key leaves).
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn raise<S: Signer>(
        &mut self,
        height: u32,
        to: Amount,
        chain: &Watcher,
        signer: &mut S,
    ) -> Signed<Vec<Message>, S::Error> {
        self.may_sign()?;
        if !chain.is_win(height) || height <= self.account.settled_to {
            return Err(Refused::NotNow { height, tip: chain.tip() });
        }
        let left = chain.key(height).is_some();
        rules::r1_pendings_never_fall(height, self.account.promised(height), to, left)?;
        let work = self.worked_on(chain);
        let id = self.id;
        let mut made = Vec::new();
        for at in work {
            let number = self.next_number(made.len(), signer)?;
            let mut state = self.state(at, number, chain);
            state.set_pending(height, to);
            made.push(self.sign(state, signer)?);
        }
        Ok(self.signed_all(made, |signed| Message::Renewed(id, Box::new(signed))))
    }

    /// Takes the pendings of all wins up to `height` into S; their keys are known, and the height is as deep as a coinbase must be
    /// (R2, docs/decisions/0001). The key is the one of `height`.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn settle<S: Signer>(
        &mut self,
        height: u32,
        key: Key,
        chain: &Watcher,
        signer: &mut S,
    ) -> Signed<Vec<Message>, S::Error> {
        self.may_sign()?;
        if height <= self.account.settled_to {
            return Err(Refused::NoNews);
        }
        let opens = chain.expected(height).is_some_and(|expected| expected.lock.is_opened_by(&key));
        rules::r2_settled_with_its_key(height, opens)?;
        for (won, _) in chain.wins().filter(|(won, _)| *won <= height) {
            let owed = self.account.promised(won) > Amount::ZERO;
            rules::r2_settled_with_its_key(won, !owed || chain.key(won).is_some())?;
        }
        rules::r2_settled_with_its_key(
            height,
            chain.is_win(height) && chain.depth(height) >= self.params.maturity,
        )?;
        let settled = self.account.settled_with(height, |won| chain.is_win(won));
        let id = self.id;
        let mut made = Vec::new();
        for at in self.worked_on(chain) {
            let number = self.next_number(made.len(), signer)?;
            let mut state = self.state(at, number, chain);
            (state.settled, state.settled_to) = (settled, height);
            state.pendings.retain(|pending| pending.height > height);
            made.push(self.sign(state, signer)?);
        }
        Ok(self.signed_all(made, |signed| {
            Message::KeyRevealed(id, Box::new(KeyRevealed { height, key, signed }))
        }))
    }

    /// What is worked with, once more: for a hasher that is back, perhaps without its data. What was signed and is still right is sent
    /// as it is, so that a hasher that asks again and again costs nothing.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn again<S: Signer>(&mut self, chain: &Watcher, signer: &mut S) -> Signed<Vec<Message>, S::Error> {
        if self.may_sign::<S::Error>().is_err() {
            return Ok(Transition::new(Vec::new(), Durability::Process, Vec::new()));
        }
        let (mut sent, mut made) = (Vec::new(), Vec::new());
        for height in self.worked_on(chain) {
            let now = self.state(height, 0, chain);
            match self.sent.get(&height).filter(|signed| same(&signed.state, &now)) {
                Some(signed) => sent.push(Message::Renewed(self.id, Box::new(signed.clone()))),
                None => {
                    let number = self.next_number(made.len(), signer)?;
                    made.push(self.sign(State { number, ..now }, signer)?);
                }
            }
        }
        let id = self.id;
        let made = self.signed_all(made, |signed| Message::Renewed(id, Box::new(signed)));
        Ok(made.map(|made| sent.into_iter().chain(made).collect()))
    }

    /// Forgets pendings of heights that were lost for good, and states of heights that are past. They are not needed any more,
    /// so nothing is saved: a restored end forgets them again.
    pub fn forget(&mut self, chain: &Watcher) {
        let below = chain.tip().saturating_sub(self.params.kept);
        self.account.forget_below(below, |height| chain.is_win(height));
        self.live.retain(|height, _| *height > chain.tip());
        self.sent.retain(|height, _| *height > chain.tip());
    }

    /// Heights that are worked on: the next block's, and the one beyond if it is pre-signed. What was signed further ahead before a
    /// reorganisation waits until the tip is back: a hasher drops states of heights so far below the latest one's.
    fn worked_on(&self, chain: &Watcher) -> Vec<u32> {
        let next = chain.tip() + 1;
        let beyond = self.live.range(next + 1..=next + 1).map(|(height, _)| *height);
        std::iter::once(next).chain(beyond).collect()
    }

    fn may_credit<E>(&self, height: u32, chain: &Watcher) -> Result<(), Refused<E>> {
        if self.standing != Standing::Open {
            return Err(Refused::Standing(self.standing));
        }
        self.may_sign()?;
        let tip = chain.tip();
        // What others were promised for a height before the ledger was lost is not known until all have shown it (R6).
        if height <= tip || height > tip + 2 || height <= self.perhaps_signed {
            return Err(Refused::NotNow { height, tip });
        }
        if height >= self.last_height() {
            return Err(Refused::Expiring(self.last_height()));
        }
        Ok(())
    }

    fn promise<S: Signer>(
        &self,
        height: u32,
        to: Amount,
        chain: &Watcher,
        signer: &mut S,
    ) -> Result<SignedState, Refused<S::Error>> {
        let more = to.checked_sub(self.account.promised(height)).unwrap_or(Amount::ZERO);
        self.holds(height, more, chain)?;
        let mut state = self.state(height, self.next_number(0, signer)?, chain);
        state.set_pending(height, to);
        self.sign(state, signer)
    }

    fn settle_at_once<S: Signer>(
        &self,
        height: u32,
        amount: Amount,
        chain: &Watcher,
        signer: &mut S,
    ) -> Result<SignedState, Refused<S::Error>> {
        self.holds(height, amount, chain)?;
        let mut state = self.state(height, self.next_number(0, signer)?, chain);
        state.settled += amount;
        self.sign(state, signer)
    }

    /// R4: a state has places enough, and the capacity covers what is at stake at this height, and so much more; also at the next
    /// one, which may be promised already and has this one as its B − 1.
    fn holds<E>(&self, height: u32, more: Amount, chain: &Watcher) -> Result<(), Refused<E>> {
        if !self.account.has_places(self.terms.max_pendings, |won| chain.is_win(won)) {
            return Err(Refused::Full);
        }
        for worked_on in [height, height + 1] {
            let stake = self.account.at_stake(worked_on, |won| chain.is_win(won));
            let stake = stake.and_then(|stake| stake.checked_add(more));
            if stake.is_none_or(|stake| stake > self.terms.capacity) {
                return Err(Refused::Full);
            }
        }
        Ok(())
    }

    fn renew<S: Signer>(
        &mut self,
        heights: &[u32],
        chain: &Watcher,
        signer: &mut S,
        message: impl Fn(crate::PayoutChannelId, SignedState) -> Message,
    ) -> Signed<Vec<Message>, S::Error> {
        let mut made = Vec::new();
        for height in heights {
            let number = self.next_number(made.len(), signer)?;
            made.push(self.sign(self.state(*height, number, chain), signer)?);
        }
        let id = self.id;
        Ok(self.signed_all(made, |signed| message(id, signed)))
    }

    /// Above every number that was signed, also where the signer signed what then did not leave.
    fn next_number<S: Signer>(&self, after: usize, signer: &S) -> Result<u32, Refused<S::Error>> {
        let after = u32::try_from(after).unwrap_or(u32::MAX);
        let signed = signer.account(self.id).map_or(0, |account| account.number);
        let number = self.account.number.saturating_add(after).max(signed).saturating_add(1);
        if number > State::LAST { Err(Refused::Full) } else { Ok(number) }
    }

    fn signed<M>(&mut self, signed: SignedState, message: M) -> Transition<Event, M> {
        self.signed_all(vec![signed], |_| ()).map(|_| message)
    }

    fn signed_all<M>(
        &mut self,
        made: Vec<SignedState>,
        message: impl Fn(SignedState) -> M,
    ) -> Transition<Event, Vec<M>> {
        let events: Vec<Event> = made.iter().map(|signed| Event::Signed(signed.state.clone())).collect();
        events.iter().for_each(|event| self.apply(event));
        self.sent.extend(made.iter().map(|signed| (signed.state.height, signed.clone())));
        let live = &self.live;
        self.sent.retain(|height, _| live.contains_key(height));
        Transition::new(events, Durability::Process, made.into_iter().map(message).collect())
    }
}

/// Whether both owe the same, whatever their numbers.
fn same(one: &State, other: &State) -> bool {
    (one.settled_to, one.settled, &one.pendings) == (other.settled_to, other.settled, &other.pendings)
}
