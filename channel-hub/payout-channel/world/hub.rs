//! The hub's program, reduced to what decides: its ledger of payout channels, its signer, its view of the chain, and what it
//! does after every change. It is honest; lies are made in [`super::lies`] beside it.

use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid};
use lock::Lock;
use payout_channel::hub::{self, Credit, PayoutChannel, Refused};
use payout_channel::message::{Message, Price, Standing};
use payout_channel::save::Transition;
use payout_channel::signer::{self, Refusal};
use payout_channel::terms::Scheme;
use payout_channel::watcher::Expected;
use payout_channel::{HubSigner, PayoutChannelId, SignedState, Signer as _, State, Terms, Watcher, fee};
use std::collections::BTreeMap;

use super::cast::{FIRST, PARAMS, cast};
use super::chain::Tx;
use super::disk::{Crash, Disk, Fuse};
use super::ground::{Ground, Party};
use super::view::{Step, View, shown};
use super::wallet;

/// A payout channel as the hub's program keeps it.
#[derive(Debug)]
pub struct Kept {
    /// Whose it is.
    pub hasher: usize,
    /// Its end.
    pub machine: PayoutChannel,
    /// The ledger's rows of it.
    pub disk: Disk<hub::Event>,
    /// The hasher has said that it knows it.
    pub locked: bool,
    /// States that the hasher has shown so far, and how many it said there are.
    pub shown: (u16, Vec<SignedState>),
}

/// A claim of a coinbase that was broadcast.
#[derive(Clone, Copy, Debug)]
struct Claimed {
    txid: Txid,
    at: u32,
    rate: u64,
}

/// The hub.
#[derive(Debug)]
pub struct Hub {
    /// Ends it at a save point.
    pub fuse: Fuse,
    /// Its node's chain.
    pub chain: Watcher,
    /// Payout channels, oldest first.
    pub channels: Vec<Kept>,
    /// Who signs.
    pub signer: HubSigner<Disk<signer::Event>>,
    /// What its signer must not forget.
    pub signer_disk: Disk<signer::Event>,
    /// What it was about to owe when it ended: its signer may have signed for it.
    pub perhaps: Perhaps,
    view: View,
    signer_view: View,
    claimed: BTreeMap<u32, Claimed>,
    swept: Vec<OutPoint>,
    /// Σ_B as shares of the sharechain have it, whatever becomes of the hub's disks.
    roots: BTreeMap<u32, Amount>,
}

/// What the hub's part of a block is worth at a height, and the most that its pendings may be (R6).
pub fn part(height: u32) -> (Amount, Amount) {
    let part = Amount::from_sat(6_000_000 + u64::from(height % 3) * 1_000_000);
    (part, Amount::from_sat(part.to_sat() / 100 * 99))
}

/// What a hasher's earlier work is worth at a height: falls and rises, below dust at times.
pub fn base(hasher: usize, height: u32) -> Amount {
    let steps = [1_500_000, 400_000, 0, 2_600_000, 200, 900_000, 1_000];
    Amount::from_sat(steps[(usize::try_from(height).unwrap() * 3 + hasher * 2) % steps.len()])
}

/// What a step of the hub may have made it owe.
#[derive(Clone, Debug, Default)]
pub struct Perhaps {
    /// P_B, by hasher and height.
    pub owed: Vec<(usize, u32, Amount)>,
    /// Unconditional credit.
    pub settled: Vec<(usize, Amount)>,
}

/// Everything that a step of the hub gives to others.
#[derive(Debug, Default)]
pub struct Out {
    /// Messages, each for the hasher of a payout channel.
    pub messages: Vec<(usize, Message)>,
    /// P_B as the hub owes it from now on, by hasher and height.
    pub owed: Vec<(usize, u32, Amount)>,
    /// P_B as a ledger corrected it, downward as well.
    pub corrected: Vec<(usize, u32, Amount)>,
    /// Unconditional credit.
    pub settled: Vec<(usize, Amount)>,
}

impl Hub {
    /// Without payout channels, at the beginning of the chain.
    pub fn new() -> Self {
        let fuse = Fuse::default();
        let signer_disk = Disk::new(&fuse);
        Self {
            chain: Watcher::new(FIRST - 1, PARAMS.council),
            channels: Vec::new(),
            signer: signer(signer_disk.clone()),
            signer_disk,
            fuse,
            perhaps: Perhaps::default(),
            view: View::default(),
            signer_view: View::default(),
            claimed: BTreeMap::new(),
            swept: Vec::new(),
            roots: BTreeMap::new(),
        }
    }

    /// The same again, with disks of its own.
    pub fn fork(&self) -> Self {
        let fuse = Fuse::default();
        let signer_disk = self.signer_disk.fork(&fuse);
        let channels = self.channels.iter().map(|kept| Kept {
            hasher: kept.hasher,
            machine: kept.machine.clone(),
            disk: kept.disk.fork(&fuse),
            locked: kept.locked,
            shown: kept.shown.clone(),
        });
        Self {
            chain: self.chain.clone(),
            channels: channels.collect(),
            signer: self.signer.with_store(signer_disk.clone()),
            signer_disk,
            fuse,
            perhaps: Perhaps::default(),
            view: self.view.clone(),
            signer_view: self.signer_view.clone(),
            claimed: self.claimed.clone(),
            swept: self.swept.clone(),
            roots: self.roots.clone(),
        }
    }

    /// Stops and starts again with what its disks hold.
    pub fn reboot(&mut self, power: bool) {
        self.fuse.mend();
        self.signer_disk.stop(power);
        self.channels.iter().for_each(|kept| kept.disk.stop(power));
        self.start();
    }

    /// Starts with disks that were put back to an earlier time: so many rows of each.
    pub fn restore(&mut self, backup: &Backup) {
        self.fuse.mend();
        self.signer_disk.put_back(backup.signer);
        for (place, kept) in self.channels.iter().enumerate() {
            kept.disk.put_back(backup.channels.get(place).copied().unwrap_or(0));
        }
        self.start();
    }

    /// How much is on its disks now.
    pub fn backup(&self) -> Backup {
        let channels = self.channels.iter().map(|kept| kept.disk.length()).collect();
        Backup { signer: self.signer_disk.length(), channels }
    }

    fn start(&mut self) {
        self.chain = Watcher::new(FIRST - 1, PARAMS.council);
        (self.view, self.signer_view) = (View::default(), View::default());
        self.signer = signer(Disk::with(&self.fuse, Vec::new()));
        self.signer = signer(self.signer_disk.clone());
        self.signer.restore(self.signer_disk.rows()).expect("the signer's own rows");
        self.channels.retain(|kept| kept.disk.length() > 0);
        for kept in &mut self.channels {
            kept.shown = (0, Vec::new());
            kept.machine = PayoutChannel::restore(PARAMS, &kept.disk.rows()).expect("the ledger's own rows");
            kept.machine.catch_up(&self.signer);
            if let Some(funded) = kept.machine.funded_terms() {
                let output = funded.terms.funding(&cast().secp).unwrap();
                self.chain.watch(kept.machine.id(), funded.outpoint, output);
            }
        }
    }

    /// Its disks may have lost rows: tells its ends and its signer, once it has followed the chain.
    pub fn lost(&mut self) {
        self.signer.lost().expect("its fuse is mended");
        for kept in &mut self.channels {
            kept.machine.lost(&self.chain).save(&mut kept.disk).expect("its fuse is mended");
        }
    }

    /// h_B out of its sheet.
    pub fn lock(&self, height: u32) -> Lock {
        self.signer.lock(height)
    }

    /// What a win looks like, with Σ_B as it stands under the pending root.
    pub fn expected(&self, height: u32) -> Expected {
        let script = cast().locked(height).script_pubkey();
        let root = self.roots.get(&height).copied().unwrap_or(Amount::ZERO);
        Expected { script, lock: self.lock(height), sum: self.signer.sum(height).max(root) }
    }

    /// Publishes Σ_B of the next heights under their roots in shares: that cannot be taken back.
    pub fn publish_roots(&mut self) {
        let next = self.chain.tip() + 1;
        for height in next..next + 2 {
            let sum = self.signer.sum(height);
            let root = self.roots.entry(height).or_default();
            *root = (*root).max(sum);
        }
    }

    /// Offers again what a hasher may never have heard of.
    pub fn offer_again(&self, hasher: usize) -> Vec<Message> {
        let unheard = self.channels.iter().filter(|kept| kept.hasher == hasher && !kept.locked);
        let offers = unheard.flat_map(|kept| {
            let (id, terms) = (kept.machine.id(), kept.machine.terms().clone());
            let funded = kept.machine.outpoint().map(|outpoint| Message::Funded(id, outpoint));
            std::iter::once(Message::Accept(Box::new(terms))).chain(funded)
        });
        offers.collect()
    }

    /// Offers a payout channel to a hasher and funds it; the funding is broadcast once it is on disk.
    ///
    /// # Errors
    /// The hub ends.
    pub fn open(&mut self, hasher: usize, scheme: Scheme, ground: &mut Ground) -> Result<Out, Crash> {
        let mut out = Out::default();
        let cast = cast();
        let index = u32::try_from(self.channels.len()).unwrap();
        let of_hasher = self.channels.iter().filter(|kept| kept.hasher == hasher).count();
        let Some(hub_keys) = cast.hub_keys.get(self.channels.len()) else { return Ok(out) };
        let Some(keys) = cast.hasher_keys[hasher].get(of_hasher) else { return Ok(out) };
        let public = payout_channel::keys::public;
        let terms = Terms {
            magic: cast.pool.magic,
            hub_id: cast.hub_id,
            hasher_id: public(&cast.hasher_ids[hasher]),
            hub_funding: public(&hub_keys.funding),
            hub_refund: public(&hub_keys.refund),
            hasher_funding: public(&keys.funding),
            hasher_pending: public(&keys.pending),
            hasher_settled: public(&keys.settled),
            capacity: Amount::from_sat(12_000_000),
            expiry: ground.chain.height() + PARAMS.life,
            refund: PARAMS.refund,
            max_pendings: PARAMS.max_pendings,
            fee_ppm: 10_000,
            scheme,
        };
        let funding = terms.funding(&cast.secp).unwrap();
        let coins = ground.coins_of(&cast.hub_script());
        let Some(coin) = coins.first() else { return Ok(out) };
        let rate = ground.going_rate();
        let fee = Amount::from_sat(rate * 200 / 1_000 + 200);
        let script = cast.hub_script();
        let paid = wallet::pay(&cast.hub_wallet, &script, &[*coin], vec![funding.clone()], fee);
        let Some(transaction) = paid else { return Ok(out) };
        let mut disk = Disk::new(&self.fuse);
        let (mut machine, offer) = PayoutChannel::accept(PARAMS, index, terms, &cast.secp).unwrap();
        let offer = offer.save(&mut disk)?;
        let outpoint = OutPoint::new(transaction.compute_txid(), 0);
        let funded: Result<_, Refused<Refusal<Crash>>> = machine.funded(outpoint);
        let funded = funded.unwrap().save(&mut disk)?;
        let place = self.channels.len();
        self.chain.watch(machine.id(), outpoint, funding);
        let terms = machine.funded_terms().unwrap();
        self.channels.push(Kept { hasher, machine, disk, locked: false, shown: (0, Vec::new()) });
        ended(self.signer.open(index, terms))?;
        out.messages = vec![(place, offer), (place, funded)];
        let _low = ground.broadcast(Party::Hub, &transaction);
        Ok(out)
    }

    /// What it does whenever something changed: follows the chain, opens, merges, claims, settles, signs for the next height.
    ///
    /// # Errors
    /// The hub ends.
    pub fn tick(&mut self, ground: &mut Ground, claims: bool) -> Result<Out, Crash> {
        let mut out = Out::default();
        self.follow(ground);
        if claims {
            self.claim(ground)?;
        }
        for place in 0..self.channels.len() {
            self.look_after(place, &mut out)?;
        }
        Ok(out)
    }

    /// A hasher is there: signs for the next height what was not pre-signed.
    ///
    /// # Errors
    /// The hub ends.
    pub fn prepare(&mut self, hasher: usize) -> Result<Out, Crash> {
        let mut out = Out::default();
        self.sign_ahead(hasher, self.chain.tip() + 1, &mut out)?;
        Ok(out)
    }

    /// Shares came in: the first ones of a height are the sign to sign for the next. `steps` is what they are worth.
    ///
    /// # Errors
    /// The hub ends.
    pub fn share(&mut self, hasher: usize, height: u32, steps: u32, sequence: u32) -> Result<Out, Crash> {
        let mut out = Out::default();
        let amount = Amount::from_sat(u64::from(steps) * 100_000);
        if height == self.chain.tip() + 1 {
            let counted = self.credit(hasher, height, amount, sequence, &mut out)?;
            self.sign_ahead(hasher, height + 1, &mut out)?;
            if !counted {
                // R6: what the cap does not hold counts for the next height, or is the hub's word.
                self.credit(hasher, height + 1, amount, sequence, &mut out)?;
            }
        }
        Ok(out)
    }

    /// Signs the merged state with a higher pending after a win, if the rules let it; lower ones are refused.
    ///
    /// # Errors
    /// The hub ends.
    pub fn raise(&mut self, place: usize, height: u32, to: Amount) -> Result<Out, Crash> {
        let mut out = Out::default();
        let Some(kept) = self.channels.get_mut(place) else { return Ok(out) };
        self.perhaps.owed.push((kept.hasher, height, to));
        let raised = kept.machine.raise(height, to, &self.chain, &mut self.signer);
        if let Some(messages) = saved(raised, &mut kept.disk)? {
            if !messages.is_empty() {
                out.corrected.push((kept.hasher, height, to));
            }
            out.messages.extend(messages.into_iter().map(|message| (place, message)));
        }
        Ok(out)
    }

    /// Takes the pendings of wins up to a height into S, if the rules let it.
    ///
    /// # Errors
    /// The hub ends.
    pub fn settle(&mut self, place: usize, height: u32) -> Result<Out, Crash> {
        let mut out = Out::default();
        // A ledger that is wrong about a key would pass on any 32 bytes.
        let key = self.chain.key(height).map_or(lock::Key::from_bytes([0; 32]), |published| published.key);
        let Some(kept) = self.channels.get_mut(place) else { return Ok(out) };
        let settled = kept.machine.settle(height, key, &self.chain, &mut self.signer);
        let messages = saved(settled, &mut kept.disk)?.unwrap_or_default();
        out.messages.extend(messages.into_iter().map(|message| (place, message)));
        Ok(out)
    }

    /// Lets X_B out, if the rules let it, and tells it to everybody.
    ///
    /// # Errors
    /// The hub ends.
    pub fn reveal(&mut self, height: u32) -> Result<Option<lock::Key>, Crash> {
        ended(self.signer.reveal(height))
    }

    /// Signs for a height on the payout channel where a hasher's next height belongs, or on another one.
    ///
    /// # Errors
    /// The hub ends.
    pub fn sign_for(
        &mut self,
        place: usize,
        height: u32,
        amount: Amount,
        out: &mut Out,
    ) -> Result<bool, Crash> {
        ended(self.signer.cap(height, part(height).1))?;
        let Some(kept) = self.channels.get_mut(place).filter(|kept| kept.locked) else { return Ok(false) };
        self.perhaps.owed.push((kept.hasher, height, amount));
        let price = Price { pays: Amount::from_sat(100_000), per: 1 };
        let signed = kept.machine.next_height(height, amount, price, &self.chain, &mut self.signer);
        let Some(message) = saved(signed, &mut kept.disk)? else { return Ok(false) };
        out.owed.push((kept.hasher, height, kept.machine.account().promised(height)));
        out.messages.push((place, message));
        Ok(true)
    }

    /// A message of a hasher. `handshake` names the connection.
    ///
    /// # Errors
    /// The hub ends.
    pub fn hear(&mut self, place: usize, message: &Message, handshake: &[u8; 32]) -> Result<Out, Crash> {
        let mut out = Out::default();
        let secp = &cast().secp;
        let Some(kept) = self.channels.get_mut(place) else { return Ok(out) };
        let mut said = Vec::new();
        match message {
            Message::Freeze(_) => {
                let frozen: Result<_, Refused<Refusal<Crash>>> = kept.machine.freeze();
                said.extend(saved(frozen, &mut kept.disk)?);
            }
            Message::RequestClose(_, asked) => {
                let closed = kept.machine.close(asked, &mut self.signer);
                said.extend(saved(closed, &mut kept.disk)?);
            }
            Message::Reestablish(id, held, signature) => {
                let key = &kept.machine.terms().hasher_funding;
                let is_hashers = payout_channel::message::is_authentic_reestablish(
                    *id, *held, signature, handshake, key, secp,
                );
                kept.shown = (if is_hashers { *held } else { 0 }, Vec::new());
                if *held == 0 && is_hashers {
                    let adopted = kept.machine.adopt(&[], &self.chain, &mut self.signer);
                    saved(adopted, &mut kept.disk)?;
                    kept.locked = true;
                    said = self.reestablished(place)?;
                }
            }
            Message::Held(_, state) if usize::from(kept.shown.0) > kept.shown.1.len() => {
                kept.shown.1.push((**state).clone());
                if kept.shown.1.len() == usize::from(kept.shown.0) {
                    let shown = std::mem::take(&mut kept.shown.1);
                    let adopted = kept.machine.adopt(&shown, &self.chain, &mut self.signer);
                    saved(adopted, &mut kept.disk)?;
                    kept.locked = true;
                    said = self.reestablished(place)?;
                }
            }
            Message::Locked(_) => kept.locked = true,
            _ => {}
        }
        out.messages = said.into_iter().map(|message| (place, message)).collect();
        Ok(out)
    }

    /// Takes back what is due to it: fundings that nobody closed, and its parts of claims.
    pub fn take_back(&mut self, ground: &mut Ground) {
        let rate = bitcoin::FeeRate::from_sat_per_kwu(ground.going_rate().div_ceil(4).max(250));
        for place in 0..self.channels.len() {
            self.take_back_of(place, rate, ground);
        }
    }

    fn take_back_of(&mut self, place: usize, rate: bitcoin::FeeRate, ground: &mut Ground) {
        let kept = &self.channels[place];
        let (Some(outpoint), id) = (kept.machine.outpoint(), kept.machine.id()) else { return };
        let to = cast().hub_script();
        let Some(spend) = self.chain.spend(&outpoint).cloned() else {
            let due =
                ground.chain.coin(&outpoint).is_some() && self.chain.tip() >= kept.machine.terms().expiry;
            if let Some(refund) = due.then(|| self.signer.refund(id, to, rate).ok()).flatten() {
                let _taken = ground.broadcast(Party::Hub, &refund);
            }
            return;
        };
        let Some((number, settled_to)) = payout_channel::claim::committed(&spend.by) else { return };
        let states = self.signed_states(place);
        let is_it = |state: &&State| state.number == number && state.settled_to == settled_to;
        for state in states.iter().filter(is_it) {
            let Ok(refunds) = self.signer.refunds_of_claim(id, &spend.by, state) else { continue };
            let due = refunds.into_iter().filter(|refund| {
                let coin = ground.chain.coin(&refund.coin.outpoint);
                let is_right = coin.is_some_and(|coin| coin.output.value == refund.coin.value);
                refund.height <= self.chain.tip() && is_right && !self.swept.contains(&refund.coin.outpoint)
            });
            let due: Vec<_> = due.collect();
            for refund in due {
                if let Ok(sweep) = self.signer.sweep(std::slice::from_ref(&refund), to.clone(), rate) {
                    let _taken = ground.broadcast(Party::Hub, &sweep);
                }
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

    fn reestablished(&mut self, place: usize) -> Result<Vec<Message>, Crash> {
        let kept = &mut self.channels[place];
        let standing = Message::Reestablished(kept.machine.id(), kept.machine.standing());
        let again = kept.machine.again(&self.chain, &mut self.signer);
        let again = saved(again, &mut kept.disk)?.unwrap_or_default();
        Ok(std::iter::once(standing).chain(again).collect())
    }

    /// Sees what it missed of the chain.
    pub fn follow(&mut self, ground: &Ground) {
        while let Some(step) = self.signer_view.step(&ground.chain) {
            if let Step::Connected(height) = step {
                let expected = self.expected(height);
                self.signer.chain().expect(height, expected);
            }
            apply(self.signer.chain(), step, ground);
        }
        while let Some(step) = self.view.step(&ground.chain) {
            if let Step::Connected(height) = step {
                let expected = self.expected(height);
                self.chain.expect(height, expected);
            }
            apply(&mut self.chain, step, ground);
        }
    }

    /// Claims wins that are deep enough, and again with a higher fee if no block takes the claim.
    fn claim(&mut self, ground: &mut Ground) -> Result<(), Crash> {
        let tip = self.chain.tip();
        let due: Vec<u32> = self.chain.wins().map(|(height, _)| height).collect();
        for height in due.into_iter().filter(|height| self.chain.depth(*height) >= PARAMS.maturity) {
            let win = self.chain.win(height).expect("it was just listed");
            if self.chain.spend(&win.outpoint).is_some() {
                continue;
            }
            let before = self.claimed.get(&height).copied();
            let waits = before.is_some_and(|claimed| ground.mempool.has(&claimed.txid));
            if before.is_some_and(|claimed| waits && tip < claimed.at + 2) {
                continue;
            }
            let going = ground.going_rate();
            let rate = before.map_or(going, |claimed| going.max(claimed.rate + claimed.rate / 4 + 250));
            let feerate = bitcoin::FeeRate::from_sat_per_kwu(rate.div_ceil(4).max(250));
            let claim = self.signer.claim(&[height], &[], cast().hub_script(), feerate);
            let Some(claim) = ended(claim)? else { continue };
            if ground.broadcast(Party::Hub, &claim).is_ok() {
                let txid = claim.compute_txid();
                self.claimed.insert(height, Claimed { txid, at: tip, rate });
            }
        }
        Ok(())
    }

    fn look_after(&mut self, place: usize, out: &mut Out) -> Result<(), Crash> {
        let settle_to = self.settled_to_be(place);
        let kept = &mut self.channels[place];
        let mut said = Vec::new();
        if kept.machine.standing() == Standing::Funded {
            let opened: Result<_, Refused<Refusal<Crash>>> = kept.machine.opened(&self.chain);
            said.extend(saved(opened, &mut kept.disk)?);
        }
        if let Some(spent) = kept.machine.spent(&self.chain) {
            spent.save(&mut kept.disk)?;
        }
        said.extend(
            saved(kept.machine.merge(&self.chain, &mut self.signer), &mut kept.disk)?.unwrap_or_default(),
        );
        out.messages.extend(said.into_iter().map(|message| (place, message)));
        if let Some(height) = settle_to {
            let settled = self.settle(place, height)?;
            out.messages.extend(settled.messages);
        }
        Ok(())
    }

    /// The highest win that is deep, with its key and those of all before it public.
    fn settled_to_be(&self, place: usize) -> Option<u32> {
        let account = self.channels[place].machine.account();
        let wins = self.chain.wins().map(|(height, _)| height);
        let mut due = wins.filter(|height| *height > account.settled_to);
        let is_due =
            |height: &u32| self.chain.key(*height).is_some() && self.chain.depth(*height) >= PARAMS.maturity;
        due.by_ref().take_while(is_due).last()
    }

    fn sign_ahead(&mut self, hasher: usize, height: u32, out: &mut Out) -> Result<(), Crash> {
        let Some(place) = self.channel_for(hasher, height) else { return Ok(()) };
        if self.channels[place].machine.live(height).is_some() {
            return Ok(());
        }
        // Where R6 binds, what is left of the cap; never nothing, so that work can go on.
        let left = part(height).1.checked_sub(self.signer.sum(height)).unwrap_or(Amount::ZERO);
        let wanted = base(hasher, height);
        if !self.sign_for(place, height, wanted, out)? {
            self.sign_for(place, height, wanted.min(left), out)?;
        }
        Ok(())
    }

    /// Where a hasher's height belongs: where it has pendings already, or else the newest open payout channel (R7).
    pub fn channel_for(&self, hasher: usize, height: u32) -> Option<usize> {
        let own = self.channels.iter().enumerate().filter(|(_, kept)| kept.hasher == hasher);
        let open = own.filter(|(_, kept)| kept.machine.standing() == Standing::Open && kept.locked);
        let has = |kept: &Kept| {
            kept.machine.account().promised(height) > Amount::ZERO || kept.machine.live(height).is_some()
        };
        let open: Vec<_> = open.collect();
        let used = open.iter().find(|(_, kept)| has(kept));
        used.or(open.last()).map(|(place, _)| *place)
    }

    fn credit(
        &mut self,
        hasher: usize,
        height: u32,
        amount: Amount,
        sequence: u32,
        out: &mut Out,
    ) -> Result<bool, Crash> {
        let Some(place) = self.channel_for(hasher, height) else { return Ok(true) };
        self.credit_on(place, height, amount, sequence, out)
    }

    /// Credits on that payout channel, if the rules let it.
    ///
    /// # Errors
    /// The hub ends.
    pub fn credit_on(
        &mut self,
        place: usize,
        height: u32,
        amount: Amount,
        sequence: u32,
        out: &mut Out,
    ) -> Result<bool, Crash> {
        let Some(kept) = self.channels.get_mut(place).filter(|kept| kept.locked) else { return Ok(false) };
        let credit = Credit { height, amount, sequence, shares: 1, work: 1 };
        let before = kept.machine.account().promised(height);
        match kept.machine.terms().scheme {
            Scheme::Pplns => self.perhaps.owed.push((kept.hasher, height, before + amount)),
            Scheme::Pps => self.perhaps.settled.push((kept.hasher, amount)),
        }
        let credited = kept.machine.credit(credit, &self.chain, &mut self.signer);
        let Some(message) = saved(credited, &mut kept.disk)? else { return Ok(false) };
        match kept.machine.terms().scheme {
            Scheme::Pplns => out.owed.push((kept.hasher, height, before + amount)),
            Scheme::Pps => out.settled.push((kept.hasher, amount)),
        }
        out.messages.push((place, message));
        Ok(true)
    }

    /// Its number of that payout channel.
    pub fn place(&self, id: PayoutChannelId) -> Option<usize> {
        self.channels.iter().position(|kept| kept.machine.id() == id)
    }
}

/// How much a hub's disks held at some time.
#[derive(Clone, Debug, Default)]
pub struct Backup {
    signer: usize,
    channels: Vec<usize>,
}

fn signer(disk: Disk<signer::Event>) -> HubSigner<Disk<signer::Event>> {
    let cast = cast();
    let (pool, locks, seed) = (cast.pool.clone(), cast.lock_seed.clone(), cast.hub_seed.clone());
    HubSigner::new(pool, PARAMS, locks, seed, FIRST - 1, disk).unwrap()
}

fn apply(chain: &mut Watcher, step: Step, ground: &Ground) {
    match step {
        Step::Disconnected(height) => chain.disconnected(height).unwrap(),
        Step::Connected(height) => {
            shown(ground.chain.block(height).unwrap(), |block| chain.connected(block)).unwrap();
        }
    }
}

/// Something that the signer may refuse, but a crash is passed on.
fn ended<T, E: Ends>(result: Result<T, E>) -> Result<Option<T>, Crash> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.ends() => Err(Crash),
        Err(_) => Ok(None),
    }
}

/// Saves a transition that the machine gives; a refusal is none.
fn saved<M>(
    transition: Result<Transition<hub::Event, M>, Refused<Refusal<Crash>>>,
    disk: &mut Disk<hub::Event>,
) -> Result<Option<M>, Crash> {
    match ended(transition)? {
        Some(transition) => Ok(Some(transition.save(disk)?)),
        None => Ok(None),
    }
}

trait Ends {
    fn ends(&self) -> bool;
}

impl Ends for Refusal<Crash> {
    fn ends(&self) -> bool {
        matches!(self, Self::Store(Crash))
    }
}

impl Ends for Refused<Refusal<Crash>> {
    fn ends(&self) -> bool {
        matches!(self, Self::Signer(refusal) if refusal.ends())
    }
}

/// Whether a transaction waits or is confirmed.
pub fn is_known(ground: &Ground, transaction: &Transaction) -> bool {
    let txid = Tx::new(transaction.clone()).txid;
    ground.mempool.has(&txid) || ground.chain.confirmed(&txid)
}

/// A pool block's output for the hub.
pub fn pays_hub(height: u32, value: Amount) -> TxOut {
    TxOut { value: value.max(fee::DUST), script_pubkey: cast().locked(height).script_pubkey() }
}
