//! A hasher's program, reduced to what decides: its payout channels, its view of the chain. An honest one does what the machine
//! says; what a dishonest one does besides is in [`super::lies`]. What it publishes is in [`super::exits`].

use bitcoin::{Amount, Txid};
use payout_channel::claim::ClaimTemplate;
use payout_channel::hasher::{self, Heard, Idle, PayoutChannel, Refused, Taken, Unheard};
use payout_channel::message::{self, Code, Message, Request};
use payout_channel::terms::{Scheme, Terms};
use payout_channel::watcher::Expected;
use payout_channel::{PayoutChannelId, State, Watcher};

use super::cast::{FIRST, PARAMS, cast};
use super::disk::{Crash, Disk, Fuse};
use super::frame::id_of;
use super::ground::Ground;
use super::hub::{CAPACITY, pays_hub};
use super::view::{Step, View, shown};

/// A transaction that spends a funding, and the state that it claims, with what it takes to spend that.
pub type SpentBy = (Txid, Option<Box<(ClaimTemplate, State)>>);

/// A payout channel as the hasher's program keeps it.
#[derive(Debug)]
pub struct Kept {
    /// Its end.
    pub machine: PayoutChannel,
    /// The rows of it.
    pub disk: Disk<hasher::Event>,
    /// What a claim that was published in vain so far paid, in satoshi per 1,000 vB.
    pub rate: u64,
    /// Somebody else has its exit kit: its program publishes nothing.
    pub handed_over: bool,
    /// The claim that spends the funding, and the state that it is of, once they were looked for.
    pub spent_by: Option<SpentBy>,
    /// The hub was reminded of it on this connection.
    recalled: bool,
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
    /// A dishonest one recalls changed terms before the right ones.
    pub forges: bool,
    /// It has recalled changed terms.
    pub forged: bool,
    /// What it asked for, by the number of its keys: none is asked for twice, whatever becomes of its disk.
    asked: Vec<Request>,
    handshake: [u8; 32],
    view: View,
}

/// What a message did.
#[derive(Debug, Default)]
pub struct Done {
    /// Answers.
    pub said: Vec<Message>,
    /// A state that counts from now on, and on which payout channel.
    pub counted: Option<(PayoutChannelId, State)>,
    /// Blocks that went by may hold what it watches from now on.
    pub must_look_again: bool,
}

/// What the hub's sheet and the sharechain say of a height; shared by all.
pub trait Public {
    /// script_B, h_B, Σ_B, and what every block of the pool pays.
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
            forges: false,
            forged: false,
            asked: Vec::new(),
            handshake: [0; 32],
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
            handed_over: kept.handed_over,
            spent_by: kept.spent_by.clone(),
            recalled: kept.recalled,
        });
        Self {
            number: self.number,
            chain: self.chain.clone(),
            channels: channels.collect(),
            asleep: self.asleep,
            distrusts: self.distrusts,
            left: self.left,
            forges: self.forges,
            forged: self.forged,
            asked: self.asked.clone(),
            handshake: self.handshake,
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
    pub fn restore(&mut self, backup: &Backup) {
        self.fuse.mend();
        for kept in &self.channels {
            kept.disk.put_back(backup.get(&kept.machine.id()).copied().unwrap_or(0));
        }
        self.start();
    }

    /// How much is on its disks now.
    pub fn backup(&self) -> Backup {
        self.channels.iter().map(|kept| (kept.machine.id(), kept.disk.length())).collect()
    }

    fn start(&mut self) {
        self.channels.retain(|kept| kept.disk.length() > 0);
        for kept in &mut self.channels {
            let rows = kept.disk.rows();
            kept.machine =
                PayoutChannel::restore(PARAMS, &rows, &cast().secp).expect("the hasher's own rows");
            (kept.rate, kept.spent_by) = (0, None);
        }
        self.look_again();
    }

    /// Goes through the chain once more, for payout channels that it did not watch so far.
    pub fn look_again(&mut self) {
        self.chain = Watcher::new(FIRST - 1, PARAMS.council);
        self.view = View::default();
        for kept in &self.channels {
            if let Some(outpoint) = kept.machine.outpoint() {
                let funding = kept.machine.terms().funding(&cast().secp).unwrap();
                self.chain.watch(kept.machine.id(), outpoint, funding);
            }
        }
    }

    /// Asks for a payout channel, while it has keys.
    pub fn ask(&mut self, scheme: Scheme) -> Option<Message> {
        let cast = cast();
        let keys = cast.hasher_keys[self.number].get(self.asked.len())?;
        let id = payout_channel::keys::public(&cast.hasher_ids[self.number]);
        let request = hasher::request(id, keys, CAPACITY, scheme).unwrap();
        self.asked.push(request.clone());
        let signed = request.sign(&self.handshake, &keys.funding, &cast.hasher_ids[self.number], &cast.secp);
        Some(Message::Request(Box::new(signed)))
    }

    /// A message of the hub.
    ///
    /// # Errors
    /// The hasher ends.
    pub fn hear(&mut self, message: &Message, public: &impl Public, now_ms: u64) -> Result<Done, Crash> {
        let mut done = Done::default();
        let place = id_of(message).and_then(|id| self.place(id));
        match (message, place) {
            (Message::Accept(terms), _) => self.accept(terms)?,
            (Message::Error(_, Code::Unknown, _), Some(place)) => done.said = self.recall(place),
            (message, Some(place)) => self.heard_about(place, message, public, now_ms, &mut done)?,
            (_, None) => {}
        }
        Ok(done)
    }

    fn heard_about(
        &mut self,
        place: usize,
        message: &Message,
        public: &impl Public,
        now_ms: u64,
        done: &mut Done,
    ) -> Result<(), Crash> {
        let kept = &mut self.channels[place];
        let keys = &cast().hasher_keys[self.number][index(&kept.machine)];
        let lock = |height| Some(public.expected(height).lock);
        let id = kept.machine.id();
        match kept.machine.handle(now_ms, message, lock, keys, &self.chain, &cast().secp) {
            Ok(heard) => match heard.save(&mut kept.disk)? {
                Heard::State(Taken::Counts) => {
                    done.counted = message.signed().map(|signed| (id, signed.state.clone()));
                }
                Heard::KeyOnly(refused) => {
                    let unheard = Unheard::Refused(refused);
                    self.distrusts |= !is_late(&unheard);
                    done.said.push(unheard.reply(id));
                }
                Heard::Funded => done.must_look_again = true,
                _ => {}
            },
            Err(unheard) => {
                self.distrusts |= !is_late(&unheard);
                done.said.push(unheard.reply(id));
            }
        }
        Ok(())
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

    /// What it sends when it connects again: everything that it holds.
    pub fn connected(&mut self, handshake: [u8; 32]) -> Vec<Message> {
        self.handshake = handshake;
        self.channels.iter_mut().for_each(|kept| kept.recalled = false);
        (0..self.channels.len()).flat_map(|place| self.shows(place)).collect()
    }

    /// The hub knows nothing of a payout channel: it is told terms and funding, and shown everything, once on a connection.
    fn recall(&mut self, place: usize) -> Vec<Message> {
        let kept = &mut self.channels[place];
        let Some(outpoint) = kept.machine.outpoint().filter(|_| !kept.recalled) else { return Vec::new() };
        kept.recalled = true;
        self.forged |= self.forges;
        let kept = &self.channels[place];
        let terms = kept.machine.terms();
        let forged = if self.forges { forged(terms).to_vec() } else { Vec::new() };
        let recalled: Vec<Terms> = forged.into_iter().chain([terms.clone()]).collect();
        let recall = |terms: Terms| {
            let shows = self.shows_as(terms.id(), place);
            std::iter::once(Message::Recall(Box::new(terms), outpoint)).chain(shows)
        };
        recalled.into_iter().flat_map(recall).collect()
    }

    fn shows(&self, place: usize) -> Vec<Message> {
        self.shows_as(self.channels[place].machine.id(), place)
    }

    /// What it holds of a payout channel, by its name or another.
    fn shows_as(&self, id: PayoutChannelId, place: usize) -> Vec<Message> {
        let machine = &self.channels[place].machine;
        let by_that_name = |shown| match shown {
            Message::Held(_, held) => Message::Held(id, held),
            other => other,
        };
        let held: Vec<Message> = machine.show().into_iter().map(by_that_name).collect();
        let count = u16::try_from(held.len()).unwrap();
        let key = &cast().hasher_keys[self.number][index(machine)].funding;
        let first = message::reestablish(id, count, &self.handshake, key, &cast().secp);
        std::iter::once(first).chain(held).collect()
    }

    /// The payout channel on which it may work at the next height, by R4.
    ///
    /// # Errors
    /// Why it may not, on the newest one.
    pub fn may_work(&mut self, public: &impl Public, now_ms: u64) -> Result<usize, Option<Idle>> {
        let height = self.chain.tip() + 1;
        let expected = public.expected(height);
        let job = pays_hub(height, expected.floor);
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
        let asked = self.asked.iter().position(|request| request.funding == terms.hasher_funding);
        let Some(number) = asked else { return Ok(()) };
        let (index, tip) = (u32::try_from(number).unwrap(), self.chain.tip());
        let (hub_id, magic, request) = (cast.hub_id, cast.pool.magic, self.asked[number].clone());
        let asked = hasher::Asked { index, request, hub_id, magic, tip };
        let accepted = PayoutChannel::accept(PARAMS, &asked, terms.clone(), &cast.secp);
        if let Ok((machine, accepted)) = accepted {
            let disk = Disk::new(&self.fuse);
            self.channels.push(Kept {
                machine,
                disk,
                rate: 0,
                handed_over: false,
                spent_by: None,
                recalled: false,
            });
            let last = self.channels.len() - 1;
            accepted.save(&mut self.channels[last].disk)?;
        }
        Ok(())
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
}

/// How much a hasher's disks held at some time.
pub type Backup = std::collections::BTreeMap<PayoutChannelId, usize>;

/// Number of a payout channel's keys.
pub fn index(machine: &PayoutChannel) -> usize {
    usize::try_from(machine.index()).unwrap()
}

/// Number of its keys, out of what was agreed.
pub fn index_of(number: usize, template: &ClaimTemplate) -> usize {
    let funding = template.funded().terms.hasher_funding;
    let keys = cast().hasher_keys[number].iter();
    keys.map(|keys| payout_channel::keys::public(&keys.funding)).position(|key| key == funding).unwrap()
}

/// Terms with the same scripts, and so with the same claims, that would be worth more: no fee, more than is won, or a second payout
/// channel for the same heights.
pub fn forged(terms: &Terms) -> [Terms; 3] {
    let scheme = if terms.scheme == Scheme::Pps { Scheme::Pplns } else { Scheme::Pps };
    let other = payout_channel::keys::public(&cast().stranger);
    [
        Terms { fee_ppm: 0, ..terms.clone() },
        Terms { scheme, ..terms.clone() },
        Terms { hasher_id: other, ..terms.clone() },
    ]
}

/// Comes at the wrong time, but is no lie.
fn is_late(unheard: &Unheard) -> bool {
    match unheard {
        Unheard::Refused(refused) => refused.is_ahead() || matches!(refused, Refused::Standing(_)),
        Unheard::Life(_) => true,
        Unheard::NoPlace(_) => false,
    }
}

/// How the second hasher is paid in some traces.
pub fn scheme(number: usize, pps: bool) -> Scheme {
    if pps && number == 1 { Scheme::Pps } else { Scheme::Pplns }
}
