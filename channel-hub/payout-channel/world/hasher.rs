//! A hasher's program, reduced to what decides: its payout channels, its view of the chain, what it publishes. An honest one
//! does what the machine says; what a dishonest one does besides is in [`super::lies`].

use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Transaction, Txid};
use lock::Lock;
use payout_channel::claim::ClaimTemplate;
use payout_channel::hasher::{self, Idle, PayoutChannel, Publish, Refused, Taken};
use payout_channel::message::{self, Message, Standing};
use payout_channel::terms::{Scheme, Terms};
use payout_channel::transactions::exit;
use payout_channel::watcher::Expected;
use payout_channel::{PayoutChannelId, SignedState, State, Watcher};

use super::cast::{FIRST, PARAMS, cast};
use super::disk::{Crash, Disk, Fuse};
use super::ground::{Ground, Party};
use super::view::{Step, View, shown};

/// A payout channel as the hasher's program keeps it.
#[derive(Debug)]
pub struct Kept {
    /// Its end.
    pub machine: PayoutChannel,
    /// The rows of it.
    pub disk: Disk<hasher::Event>,
    /// A claim that was published in vain so far, and what it paid.
    rate: u64,
}

/// A hasher.
#[derive(Debug)]
pub struct Hasher {
    /// Which one.
    pub number: usize,
    /// Ends it at a save point.
    pub fuse: Fuse,
    /// Its node's chain.
    pub chain: Watcher,
    /// Payout channels, oldest first.
    pub channels: Vec<Kept>,
    /// Sees no block and does nothing.
    pub asleep: bool,
    /// The hub broke a rule: no more work for it.
    pub distrusts: bool,
    /// It closed by itself because the hub did not do what it must, or could not be heard.
    pub left: bool,
    view: View,
}

/// What a message did.
#[derive(Debug, Default)]
pub struct Heard {
    /// Answers.
    pub said: Vec<Message>,
    /// A state that counts from now on, and on which payout channel.
    pub counted: Option<(usize, State)>,
}

/// What the hub's sheet and the sharechain say of a height; shared by all.
pub trait Public {
    /// script_B, h_B, Σ_B.
    fn expected(&self, height: u32) -> Expected;
}

impl Hasher {
    /// Without payout channels, at the beginning of the chain.
    pub fn new(number: usize) -> Self {
        Self {
            number,
            fuse: Fuse::default(),
            chain: Watcher::new(FIRST - 1, PARAMS.council),
            channels: Vec::new(),
            asleep: false,
            distrusts: false,
            left: false,
            view: View::default(),
        }
    }

    /// The same again, with disks of its own.
    pub fn fork(&self) -> Self {
        let fuse = Fuse::default();
        let channels = self.channels.iter().map(|kept| Kept {
            machine: kept.machine.clone(),
            disk: kept.disk.fork(&fuse),
            rate: kept.rate,
        });
        Self {
            number: self.number,
            chain: self.chain.clone(),
            channels: channels.collect(),
            asleep: self.asleep,
            distrusts: self.distrusts,
            left: self.left,
            view: self.view.clone(),
            fuse,
        }
    }

    /// Stops and starts again with what its disks hold.
    pub fn reboot(&mut self, power: bool) {
        self.fuse.mend();
        self.channels.iter().for_each(|kept| kept.disk.stop(power));
        self.start();
    }

    /// Starts with disks that were put back to an earlier time.
    pub fn restore(&mut self, lengths: &[usize]) {
        self.fuse.mend();
        for (place, kept) in self.channels.iter().enumerate() {
            kept.disk.put_back(lengths.get(place).copied().unwrap_or(0));
        }
        self.start();
    }

    /// How much is on its disks now.
    pub fn backup(&self) -> Vec<usize> {
        self.channels.iter().map(|kept| kept.disk.length()).collect()
    }

    fn start(&mut self) {
        self.chain = Watcher::new(FIRST - 1, PARAMS.council);
        self.view = View::default();
        self.channels.retain(|kept| kept.disk.length() > 0);
        for kept in &mut self.channels {
            let rows = kept.disk.rows();
            kept.machine =
                PayoutChannel::restore(PARAMS, &rows, &cast().secp).expect("the hasher's own rows");
            watch(&mut self.chain, &kept.machine);
        }
    }

    /// A message of the hub.
    ///
    /// # Errors
    /// The hasher ends.
    pub fn hear(&mut self, message: &Message, public: &impl Public) -> Result<Heard, Crash> {
        let mut heard = Heard::default();
        match message {
            Message::Accept(terms) => self.accept(terms)?,
            Message::Funded(id, outpoint) => self.funded(*id, *outpoint)?,
            Message::CloseSigned(id, terms, signature) => {
                let Some(place) = self.place(*id) else { return Ok(heard) };
                let kept = &mut self.channels[place];
                let keys = &cast().hasher_keys[self.number][index(&kept.machine)];
                let closed = kept.machine.close(terms, signature, &keys.funding, &self.chain, &cast().secp);
                if let Ok(closed) = closed {
                    closed.save(&mut kept.disk)?;
                }
            }
            Message::KeyRevealed(id, revealed) => {
                if let Some(place) = self.place(*id) {
                    let kept = &mut self.channels[place];
                    let (height, key) = (revealed.height, revealed.key);
                    match kept.machine.take_key(height, key, &self.chain, &cast().secp) {
                        Ok(taken) => taken.save(&mut kept.disk)?,
                        Err(Refused::Standing(_)) => return Ok(heard),
                        Err(_) => self.distrusts = true,
                    }
                    heard.counted = self.take(place, &revealed.signed, public)?;
                }
            }
            other => {
                let place = id_of(other).and_then(|id| self.place(id));
                if let (Some(place), Some(signed)) = (place, other.signed()) {
                    heard.counted = self.take(place, signed, public)?;
                }
            }
        }
        Ok(heard)
    }

    /// What it does whenever something changed.
    ///
    /// # Errors
    /// The hasher ends.
    pub fn tick(
        &mut self,
        ground: &mut Ground,
        public: &impl Public,
        now_ms: u64,
    ) -> Result<Vec<Message>, Crash> {
        if self.asleep {
            return Ok(Vec::new());
        }
        self.follow(ground, public);
        let mut said = Vec::new();
        for kept in &mut self.channels {
            if let Ok(opened) = kept.machine.opened(&self.chain, &cast().secp) {
                said.push(opened.save(&mut kept.disk)?);
            }
            if let Some(seen) = kept.machine.keys_seen(&self.chain, &cast().secp) {
                seen.save(&mut kept.disk)?;
            }
            if kept.machine.must_close(&self.chain).is_some() {
                self.left = true;
                kept.machine.leave(&cast().secp).save(&mut kept.disk)?;
            }
            kept.machine.forget(&self.chain);
            kept.machine.look(&self.chain, now_ms);
        }
        for place in 0..self.channels.len() {
            self.collect(place, ground);
        }
        Ok(said)
    }

    /// Asks for a close, or for a freeze before it.
    ///
    /// # Errors
    /// The hasher ends.
    pub fn ask_close(&mut self, place: usize, fee: Amount) -> Result<Vec<Message>, Crash> {
        let to = cast().hasher_script(self.number);
        let Some(kept) = self.channels.get_mut(place) else { return Ok(Vec::new()) };
        let mut said = Vec::new();
        if let Ok(frozen) = kept.machine.freeze(&cast().secp) {
            said.push(frozen.save(&mut kept.disk)?);
        }
        said.extend(kept.machine.request_close(to, fee, &self.chain).ok());
        Ok(said)
    }

    /// Closes by itself.
    ///
    /// # Errors
    /// The hasher ends.
    pub fn leave(&mut self, place: usize) -> Result<(), Crash> {
        let Some(kept) = self.channels.get_mut(place) else { return Ok(()) };
        if kept.machine.template().is_some() {
            kept.machine.leave(&cast().secp).save(&mut kept.disk)?;
        }
        Ok(())
    }

    /// What it sends when it connects again.
    pub fn reconnects(&self, handshake: &[u8; 32]) -> Vec<Message> {
        let said = self.channels.iter().filter(|kept| kept.machine.template().is_some()).flat_map(|kept| {
            let held = kept.machine.show();
            let keys = &cast().hasher_keys[self.number][index(&kept.machine)];
            let count = u16::try_from(held.len()).unwrap();
            let first =
                message::reestablish(kept.machine.id(), count, handshake, &keys.funding, &cast().secp);
            std::iter::once(first).chain(held)
        });
        said.collect()
    }

    /// The payout channel on which it may work at the next height, by R4.
    ///
    /// # Errors
    /// Why it may not, on the newest one.
    pub fn may_work(&mut self, public: &impl Public, now_ms: u64) -> Result<usize, Option<Idle>> {
        let height = self.chain.tip() + 1;
        let expected = public.expected(height);
        let job = cast().locked(height).script_pubkey();
        self.chain.expect(height, expected);
        if self.distrusts || self.asleep {
            return Err(None);
        }
        let mut why = None;
        for (place, kept) in self.channels.iter_mut().enumerate().rev() {
            kept.machine.look(&self.chain, now_ms);
            match kept.machine.may_work(height, &job, &self.chain, now_ms) {
                Ok(()) => return Ok(place),
                Err(idle) => why = why.or(Some(idle)),
            }
        }
        Err(why)
    }

    /// Its number of that payout channel.
    pub fn place(&self, id: PayoutChannelId) -> Option<usize> {
        self.channels.iter().position(|kept| kept.machine.id() == id)
    }

    fn accept(&mut self, terms: &Terms) -> Result<(), Crash> {
        if self.place(terms.id()).is_some() {
            return Ok(());
        }
        let cast = cast();
        let next = self.channels.len();
        let Some(keys) = cast.hasher_keys[self.number].get(next) else { return Ok(()) };
        let id = payout_channel::keys::public(&cast.hasher_ids[self.number]);
        let asked = hasher::request(id, keys, terms.capacity, terms.scheme).unwrap();
        let (index, tip) = (u32::try_from(next).unwrap(), self.chain.tip());
        let (hub_id, magic) = (cast.hub_id, cast.pool.magic);
        let asked = hasher::Asked { index, request: asked, hub_id, magic, tip };
        let accepted = PayoutChannel::accept(PARAMS, &asked, terms.clone(), &cast.secp);
        if let Ok((machine, accepted)) = accepted {
            let mut disk = Disk::new(&self.fuse);
            accepted.save(&mut disk)?;
            self.channels.push(Kept { machine, disk, rate: 0 });
        }
        Ok(())
    }

    fn funded(&mut self, id: PayoutChannelId, outpoint: OutPoint) -> Result<(), Crash> {
        let Some(place) = self.place(id) else { return Ok(()) };
        let kept = &mut self.channels[place];
        if let Ok(funded) = kept.machine.funded(outpoint, &cast().secp) {
            funded.save(&mut kept.disk)?;
            watch(&mut self.chain, &kept.machine);
        }
        Ok(())
    }

    fn take(
        &mut self,
        place: usize,
        signed: &SignedState,
        public: &impl Public,
    ) -> Result<Option<(usize, State)>, Crash> {
        let kept = &mut self.channels[place];
        let lock = |height| -> Option<Lock> { Some(public.expected(height).lock) };
        match kept.machine.take(signed, lock, &self.chain, &cast().secp) {
            Ok(taken) => {
                let counts = taken.save(&mut kept.disk)? == Taken::Counts;
                Ok(counts.then(|| (place, signed.state.clone())))
            }
            Err(Refused::Standing(_)) => Ok(None),
            Err(_) => {
                self.distrusts = true;
                Ok(None)
            }
        }
    }

    /// Sees what it missed of the chain.
    pub fn follow(&mut self, ground: &Ground, public: &impl Public) {
        while let Some(step) = self.view.step(&ground.chain) {
            match step {
                Step::Disconnected(height) => self.chain.disconnected(height).unwrap(),
                Step::Connected(height) => {
                    self.chain.expect(height, public.expected(height));
                    let block = ground.chain.block(height).unwrap();
                    shown(block, |block| self.chain.connected(block)).unwrap();
                }
            }
        }
    }

    /// Publishes what is due of a payout channel that is closing, and takes what is its own.
    fn collect(&mut self, place: usize, ground: &mut Ground) {
        let kept = &mut self.channels[place];
        let Some(outpoint) = kept.machine.outpoint() else { return };
        if kept.machine.standing() != Standing::Closed {
            return;
        }
        let keys = &cast().hasher_keys[self.number][index(&kept.machine)];
        if let Some(spend) = self.chain.spend(&outpoint) {
            let claim = spend.by.clone();
            self.take_pendings(place, &claim, ground);
            return;
        }
        match kept.machine.must_publish(&self.chain) {
            Some(Publish::Close) => {
                let close = kept.machine.agreed_close(&keys.funding, &cast().secp).unwrap();
                let _refused = ground.broadcast(Party::Hasher(self.number), &close);
                return;
            }
            Some(Publish::Claim) if is_time(&kept.machine, &self.chain) => {}
            _ => return,
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
        let published = publish(self.number, template, &best.state, &claim, opened, rate, ground);
        let _ = published;
    }

    fn take_pendings(&mut self, place: usize, claim: &Transaction, ground: &mut Ground) {
        let machine = &self.channels[place].machine;
        let Some(template) = machine.template() else { return };
        let txid = claim.compute_txid();
        let states = machine.held().iter().map(|held| &held.state);
        let Some(state) = states.into_iter().find(|state| is_of(template, state, &txid)) else { return };
        let opened = |height| machine.key(height, &self.chain).map(|published| published.key);
        sweep(self.number, template, state, claim, opened, ground);
    }
}

/// One state can be published, and no state has two heights that are both still open: a hasher waits until it is certain which
/// of them were won, unless E is near.
fn is_time(machine: &PayoutChannel, chain: &Watcher) -> bool {
    let last =
        machine.held().iter().flat_map(|held| &held.state.pendings).map(|pending| pending.height).max();
    let is_certain = last.is_none_or(|last| chain.depth(last) >= PARAMS.confirmations);
    is_certain || chain.tip() + PARAMS.close_before >= machine.terms().expiry
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

/// Takes what a confirmed claim pays: its first output, and the pendings whose keys are known.
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
    let there = |coin: &payout_channel::transactions::Coin| {
        ground.chain.coin(&coin.outpoint).is_some() && !ground.mempool.spends(&coin.outpoint)
    };
    let due: Vec<_> = pendings.into_iter().filter(there).collect();
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

/// Number of a payout channel's keys.
pub fn index(machine: &PayoutChannel) -> usize {
    usize::try_from(machine.index()).unwrap()
}

fn index_of(number: usize, template: &ClaimTemplate) -> usize {
    let funding = template.funded().terms.hasher_funding;
    let keys = cast().hasher_keys[number].iter();
    keys.map(|keys| payout_channel::keys::public(&keys.funding)).position(|key| key == funding).unwrap()
}

fn watch(chain: &mut Watcher, machine: &PayoutChannel) {
    if let Some(outpoint) = machine.outpoint() {
        chain.watch(machine.id(), outpoint, machine.terms().funding(&cast().secp).unwrap());
    }
}

/// The payout channel that a message of the hub is about.
pub fn id_of(message: &Message) -> Option<PayoutChannelId> {
    match message {
        Message::Funded(id, _)
        | Message::Locked(id)
        | Message::NextHeight(id, _)
        | Message::ShareCredited(id, _)
        | Message::BlockWon(id, _)
        | Message::KeyRevealed(id, _)
        | Message::Renewed(id, _)
        | Message::Freeze(id)
        | Message::Frozen(id)
        | Message::RequestClose(id, _)
        | Message::CloseSigned(id, ..)
        | Message::Reestablish(id, ..)
        | Message::Held(id, _)
        | Message::Reestablished(id, _)
        | Message::Error(id, ..) => Some(*id),
        Message::Recall(terms, _) => Some(terms.id()),
        Message::Request(_) | Message::Accept(_) => None,
    }
}

/// How the second hasher is paid in half of all traces.
pub fn scheme(number: usize, pps: bool) -> Scheme {
    if pps && number == 1 { Scheme::Pps } else { Scheme::Pplns }
}
