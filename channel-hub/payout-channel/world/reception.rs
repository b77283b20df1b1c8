//! What the hub's program does with a hasher's messages, and how it funds payout channels.

use bitcoin::secp256k1::Keypair;
use bitcoin::{Amount, OutPoint};
use payout_channel::hub::{PayoutChannel, Refused, Session};
use payout_channel::keys::public;
use payout_channel::message::{Code, Message, Request, Standing};
use payout_channel::signer::Refusal;
use payout_channel::{FundedTerms, Terms};

use super::cast::{PARAMS, cast};
use super::disk::{Crash, Disk};
use super::frame::id_of;
use super::ground::{Ground, Party};
use super::hub::{CAPACITY, Ends as _, FEE, Hub, Kept, Out, ended};
use super::wallet;

impl Hub {
    /// A hasher connects: its sessions begin anew. It is offered again what it may never have heard of.
    pub fn connected(&mut self, hasher: usize, handshake: [u8; 32]) -> Vec<Message> {
        self.handshakes[hasher] = handshake;
        self.channels.iter_mut().for_each(|kept| kept.sessions[hasher] = Session::new(handshake));
        let unheard = self.channels.iter().filter(|kept| kept.hasher == hasher && !kept.locked);
        unheard.flat_map(|kept| offers(&kept.machine)).collect()
    }

    /// A message on a hasher's connection; it may be about another one's payout channel.
    ///
    /// # Errors
    /// The hub ends.
    pub fn hear(&mut self, hasher: usize, message: &Message, ground: &mut Ground) -> Result<Out, Crash> {
        let mut out = Out::default();
        let place = id_of(message).and_then(|id| self.place(id));
        match (message, place) {
            (Message::Request(request), _) => self.requested(hasher, request, ground, &mut out)?,
            (Message::Recall(terms, outpoint), None) => {
                self.recalled(hasher, terms, *outpoint, ground, &mut out)?;
            }
            (Message::Error(..) | Message::Recall(..), _) => {}
            (Message::Reestablish(id, ..), None) => {
                out.say(hasher, Message::Error(*id, Code::Unknown, "nothing is known of it".to_owned()));
            }
            (_, None) => {}
            (message, Some(place)) => self.heard_about(hasher, place, message, &mut out)?,
        }
        Ok(out)
    }

    fn heard_about(
        &mut self,
        hasher: usize,
        place: usize,
        message: &Message,
        out: &mut Out,
    ) -> Result<(), Crash> {
        let kept = &mut self.channels[place];
        let before = (hasher != kept.hasher).then(|| kept.machine.clone());
        let (session, secp) = (&mut kept.sessions[hasher], &cast().secp);
        let answers = session.handle(message, &mut kept.machine, &self.chain, &mut self.signer, secp);
        if before.is_some_and(|before| before != kept.machine) {
            self.meddled = Some(kept.hasher);
        }
        match answers {
            Ok(answers) => {
                let answers = answers.save(&mut kept.disk)?;
                let is_back = |said: &Message| matches!(said, Message::Reestablished(..));
                kept.locked |= matches!(message, Message::Locked(_)) || answers.iter().any(is_back);
                out.say_all(hasher, answers);
            }
            Err(unheard) if unheard.ends() => return Err(Crash),
            Err(unheard) => out.say(hasher, unheard.reply(kept.machine.id())),
        }
        Ok(())
    }

    /// Makes terms for whoever asks. Asked twice, it answers the same.
    fn requested(
        &mut self,
        hasher: usize,
        request: &Request,
        ground: &Ground,
        out: &mut Out,
    ) -> Result<(), Crash> {
        let cast = cast();
        if !request.is_authentic(&self.handshakes[hasher], &cast.secp) {
            return Ok(());
        }
        let asked = |kept: &&Kept| kept.machine.terms().hasher_funding == request.funding;
        if let Some(kept) = self.channels.iter().find(asked) {
            out.say_all(hasher, offers(&kept.machine));
            return Ok(());
        }
        let terms = Terms {
            magic: cast.pool.magic,
            hub_id: cast.hub_id,
            hasher_id: request.hasher_id,
            hub_funding: cast.hub_id,
            hub_refund: cast.hub_id,
            hasher_funding: request.funding,
            hasher_pending: request.pending,
            hasher_settled: request.settled,
            capacity: CAPACITY,
            expiry: ground.chain.height() + PARAMS.life,
            refund: PARAMS.refund,
            max_pendings: PARAMS.max_pendings,
            fee_ppm: FEE,
            scheme: request.scheme,
        };
        let terms = self.signer.with_keys(terms).unwrap();
        let Ok((machine, offer)) = PayoutChannel::accept(PARAMS, terms, &cast.secp) else { return Ok(()) };
        let mut sessions = self.handshakes.map(Session::new);
        sessions[hasher] = Session::of_request(self.handshakes[hasher]);
        let disk = Disk::new(&self.fuse);
        self.channels.push(Kept { hasher, machine, disk, locked: false, sessions, funding: None });
        let Some(kept) = self.channels.last_mut() else { return Ok(()) };
        out.say(hasher, offer.save(&mut kept.disk)?);
        Ok(())
    }

    /// Funds what was agreed to, and sends the funding again until a block has it.
    ///
    /// # Errors
    /// The hub ends.
    pub fn see_to_funding(&mut self, place: usize, ground: &mut Ground, out: &mut Out) -> Result<(), Crash> {
        let kept = &self.channels[place];
        match (kept.machine.standing(), kept.machine.outpoint()) {
            (Standing::Accepted, _) => self.fund(place, ground, out)?,
            (Standing::Funded, Some(outpoint)) if self.chain.confirmations(&outpoint) == 0 => {
                if let Some(funding) = kept.funding.as_ref().filter(|_| !ground.mempool.has(&outpoint.txid)) {
                    let _low = ground.broadcast(Party::Hub, funding);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn fund(&mut self, place: usize, ground: &mut Ground, out: &mut Out) -> Result<(), Crash> {
        let cast = cast();
        let kept = &mut self.channels[place];
        let funding = kept.machine.terms().funding(&cast.secp).unwrap();
        let script = cast.hub_script();
        let coins = ground.coins_of(&script);
        let Some(coin) = coins.first() else { return Ok(()) };
        let fee = Amount::from_sat(ground.going_rate() * 200 / 1_000 + 200);
        let paid = wallet::pay(&cast.hub_wallet, &script, &[*coin], vec![funding.clone()], fee);
        let Some(transaction) = paid else { return Ok(()) };
        let outpoint = OutPoint::new(transaction.compute_txid(), 0);
        kept.funding = Some(transaction.clone());
        let funded: Result<_, Refused<Refusal<Crash>>> = kept.machine.funded(outpoint);
        let funded = funded.unwrap().save(&mut kept.disk)?;
        let terms = kept.machine.funded_terms().unwrap();
        self.chain.watch(kept.machine.id(), outpoint, funding);
        ended(self.signer.open(terms))?;
        out.say(kept.hasher, funded);
        let _low = ground.broadcast(Party::Hub, &transaction);
        Ok(())
    }

    /// Takes a payout channel that it lost: terms of its own, the funding unspent in the chain.
    fn recalled(
        &mut self,
        hasher: usize,
        terms: &Terms,
        outpoint: OutPoint,
        ground: &Ground,
        out: &mut Out,
    ) -> Result<(), Crash> {
        let cast = cast();
        let is_there =
            ground.chain.coin(&outpoint).map(|coin| &coin.output) == terms.funding(&cast.secp).ok().as_ref();
        let funded = FundedTerms { terms: terms.clone(), outpoint };
        if !is_there || ended(self.signer.open(funded))?.is_none() {
            out.say(hasher, Message::Error(terms.id(), Code::Terms, "not this hub's".to_owned()));
            return Ok(());
        }
        let recalled = PayoutChannel::recalled(PARAMS, terms.clone(), outpoint, &self.chain, &cast.secp);
        let Ok((machine, recalled)) = recalled else { return Ok(()) };
        let (disk, sessions) = (Disk::new(&self.fuse), self.handshakes.map(Session::new));
        let is_named = |id: &Keypair| public(id) == terms.hasher_id;
        let hasher = cast.hasher_ids.iter().position(is_named).unwrap_or(hasher);
        self.channels.push(Kept { hasher, machine, disk, locked: false, sessions, funding: None });
        let Some(kept) = self.channels.last_mut() else { return Ok(()) };
        recalled.save(&mut kept.disk)?;
        kept.machine.catch_up(&self.signer);
        self.recalls += 1;
        self.look_again();
        self.follow(ground);
        Ok(())
    }
}

/// What a hasher is told of a payout channel that it does not know yet.
fn offers(machine: &PayoutChannel) -> impl Iterator<Item = Message> + use<> {
    let funded = machine.outpoint().map(|outpoint| Message::Funded(machine.id(), outpoint));
    std::iter::once(Message::Accept(Box::new(machine.terms().clone()))).chain(funded)
}
