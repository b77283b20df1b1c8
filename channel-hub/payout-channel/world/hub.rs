//! The hub's program, reduced to what decides: its disks, its view of the chain, and what it does after every change. It is
//! honest; lies are made in [`super::lies`] beside it. What it signs is in [`super::ledger`], what it hears in
//! [`super::reception`], what it publishes in [`super::treasury`].

use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid};
use lock::Lock;
use payout_channel::hub::{self, PayoutChannel, Refused, Session, Unheard};
use payout_channel::message::{Message, Standing};
use payout_channel::save::Transition;
use payout_channel::signer::{self, Refusal};
use payout_channel::watcher::Expected;
use payout_channel::{FundedTerms, HubSigner, PayoutChannelId, Watcher, fee};
use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::cast::{FIRST, HASHERS, PARAMS, cast};
use super::disk::{Crash, Disk, Fuse};
use super::ground::Ground;
use super::view::{Step, View, shown};

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
    /// One on each hasher's connection: anybody may send messages about it.
    pub sessions: [Session; HASHERS],
    /// What funds it, which the hub's wallet keeps.
    pub funding: Option<Transaction>,
}

/// A claim of a coinbase that was broadcast.
#[derive(Clone, Copy, Debug)]
pub struct Claimed {
    /// Its name.
    pub txid: Txid,
    /// The tip then.
    pub at: u32,
    /// What it pays, in satoshi per 1,000 vB.
    pub rate: u64,
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
    /// Claims that it broadcast.
    pub claimed: BTreeMap<u32, Claimed>,
    /// What its ledger asked for, by hasher and height, whatever came of it when it ended.
    pub asked: Vec<(usize, u32, Asked)>,
    /// Whose payout channel a message on another one's connection changed.
    pub meddled: Option<usize>,
    /// Payout channels that it took back from its hashers' word.
    pub recalls: u32,
    /// The Noise handshake hash of each hasher's connection.
    pub handshakes: [[u8; 32]; HASHERS],
    view: View,
    signer_view: View,
    /// Σ_B as shares of the sharechain have it, whatever becomes of the hub's disks.
    roots: BTreeMap<u32, Amount>,
}

/// What the hub keeps, in millionths, of whatever it pays.
pub const FEE: u32 = 10_000;

/// What a payout channel holds: the hub's to say, whatever is asked for.
pub const CAPACITY: Amount = Amount::from_sat(12_000_000);

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

/// What a ledger asks for P_B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// At least that.
    Least(Amount),
    /// So much more.
    More(Amount),
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
    /// Messages, each to a hasher.
    pub messages: Vec<(usize, Message)>,
    /// P_B as the hub owes it from now on, by hasher and height.
    pub owed: Vec<(usize, u32, Amount)>,
    /// P_B as a ledger corrected it, downward as well.
    pub corrected: Vec<(usize, u32, Amount)>,
    /// Unconditional credit.
    pub settled: Vec<(usize, Amount)>,
}

impl Out {
    /// Says something to a hasher.
    pub fn say(&mut self, hasher: usize, message: Message) {
        self.messages.push((hasher, message));
    }

    /// Says several things to a hasher.
    pub fn say_all(&mut self, hasher: usize, messages: impl IntoIterator<Item = Message>) {
        self.messages.extend(messages.into_iter().map(|message| (hasher, message)));
    }
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
            claimed: BTreeMap::new(),
            asked: Vec::new(),
            meddled: None,
            recalls: 0,
            handshakes: [[0; 32]; HASHERS],
            view: View::default(),
            signer_view: View::default(),
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
            sessions: kept.sessions.clone(),
            funding: kept.funding.clone(),
        });
        Self {
            chain: self.chain.clone(),
            channels: channels.collect(),
            signer: self.signer.with_store(signer_disk.clone()),
            signer_disk,
            fuse,
            perhaps: Perhaps::default(),
            claimed: self.claimed.clone(),
            asked: Vec::new(),
            meddled: None,
            recalls: self.recalls,
            handshakes: self.handshakes,
            view: self.view.clone(),
            signer_view: self.signer_view.clone(),
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

    /// Starts with disks that were put back to an earlier time: so many rows of each. Its signer may have kept what it had.
    pub fn restore(&mut self, backup: &Backup, signer_too: bool) {
        self.fuse.mend();
        if signer_too {
            self.signer_disk.put_back(backup.signer);
        }
        for kept in &self.channels {
            kept.disk.put_back(backup.channels.get(&kept.machine.id()).copied().unwrap_or(0));
        }
        self.start();
        // Whether and where what was only accepted is funded is lost: hashers recall it.
        self.channels.retain(|kept| kept.machine.standing() != Standing::Accepted);
    }

    /// How much is on its disks now.
    pub fn backup(&self) -> Backup {
        let channels = self.channels.iter().map(|kept| (kept.machine.id(), kept.disk.length())).collect();
        Backup { signer: self.signer_disk.length(), channels }
    }

    fn start(&mut self) {
        self.signer = blank_signer().with_store(self.signer_disk.clone());
        self.signer.restore(self.signer_disk.rows()).expect("the signer's own rows");
        self.signer_view = View::default();
        self.channels.retain(|kept| kept.disk.length() > 0);
        for kept in &mut self.channels {
            kept.locked = false;
            kept.sessions = self.handshakes.map(Session::new);
            kept.machine = PayoutChannel::restore(PARAMS, &kept.disk.rows()).expect("the ledger's own rows");
            if let Some(funded) = kept.machine.funded_terms() {
                // It may have ended before its signer knew of it, or the signer is restored and the ledger is not.
                let _other_funding = self.signer.open(funded);
            }
            kept.machine.catch_up(&self.signer);
        }
        self.look_again();
    }

    /// Its disks may have lost rows: tells its ends and its signer, once it has followed the chain.
    pub fn lost(&mut self) {
        self.signer.lost().expect("its fuse is mended");
        for kept in &mut self.channels {
            kept.machine.lost(&self.chain).save(&mut kept.disk).expect("its fuse is mended");
        }
    }

    /// Shows its signer what waits for a block: a key in it has left, whatever its memory says.
    pub fn look_at_mempool(&mut self, ground: &Ground) {
        ground.mempool.waiting().iter().for_each(|waiting| self.signer.chain().unconfirmed(&waiting.tx.body));
    }

    /// Whether its signer's disk has it that X_B may leave.
    pub fn remembers_reveal(&self, height: u32) -> bool {
        let is_it = |event: &signer::Event| matches!(event, signer::Event::Revealing(of, _) if *of == height);
        self.signer_disk.rows().iter().any(is_it)
    }

    /// Goes through the chain once more, for payout channels that it did not watch so far.
    pub fn look_again(&mut self) {
        self.chain = Watcher::new(FIRST - 1, PARAMS.council);
        self.view = View::default();
        for kept in &self.channels {
            if let Some(funded) = kept.machine.funded_terms() {
                let output = funded.terms.funding(&cast().secp).unwrap();
                self.chain.watch(kept.machine.id(), funded.outpoint, output);
            }
        }
    }

    /// h_B out of its sheet.
    pub fn lock(&self, height: u32) -> Lock {
        cast().lock(height)
    }

    /// What a win looks like to the hub, with Σ_B as it stands under the pending root.
    pub fn expected(&self, height: u32) -> Expected {
        let script = cast().script(height).clone();
        let root = self.roots.get(&height).copied().unwrap_or(Amount::ZERO);
        let sum = self.signer.sum(height).max(root);
        Expected { script, lock: self.lock(height), sum, floor: Amount::MAX_MONEY }
    }

    /// States another Σ_B for the next height than that of its pendings.
    pub fn state_sum(&mut self, sum: Amount) {
        self.roots.insert(self.chain.tip() + 1, sum);
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
            self.see_to_funding(place, ground, &mut out)?;
            self.look_after(place, &mut out)?;
        }
        Ok(out)
    }

    /// Whose fundings it knows, but for those that `known` holds for.
    pub fn funded(&self, known: impl Fn(&OutPoint) -> bool) -> Vec<(usize, FundedTerms)> {
        let news = self.channels.iter().filter(|kept| kept.machine.outpoint().is_some_and(|at| !known(&at)));
        news.filter_map(|kept| Some((kept.hasher, kept.machine.funded_terms()?))).collect()
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

    /// Its number of that payout channel.
    pub fn place(&self, id: PayoutChannelId) -> Option<usize> {
        self.channels.iter().position(|kept| kept.machine.id() == id)
    }
}

/// How much a hub's disks held at some time.
#[derive(Clone, Debug, Default)]
pub struct Backup {
    signer: usize,
    channels: BTreeMap<PayoutChannelId, usize>,
}

fn signer(disk: Disk<signer::Event>) -> HubSigner<Disk<signer::Event>> {
    blank_signer().with_store(disk)
}

/// One that remembers nothing: to make one takes a context of libsecp256k1 and several keys.
fn blank_signer() -> &'static HubSigner<Vec<signer::Event>> {
    static BLANK: OnceLock<HubSigner<Vec<signer::Event>>> = OnceLock::new();
    BLANK.get_or_init(|| {
        let cast = cast();
        let (pool, locks, seed) = (cast.pool.clone(), cast.lock_seed.clone(), cast.hub_seed.clone());
        HubSigner::new(pool, PARAMS, locks, seed, FIRST - 1, Vec::new()).unwrap()
    })
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
///
/// # Errors
/// The hub ends.
pub fn ended<T, E: Ends>(result: Result<T, E>) -> Result<Option<T>, Crash> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.ends() => Err(Crash),
        Err(_) => Ok(None),
    }
}

/// Saves a transition that the machine gives; a refusal is none.
///
/// # Errors
/// The hub ends.
pub fn saved<M>(
    transition: Result<Transition<hub::Event, M>, Refused<Refusal<Crash>>>,
    disk: &mut Disk<hub::Event>,
) -> Result<Option<M>, Crash> {
    match ended(transition)? {
        Some(transition) => Ok(Some(transition.save(disk)?)),
        None => Ok(None),
    }
}

/// What may be the end of the hub.
pub trait Ends {
    /// Whether its disk failed.
    fn ends(&self) -> bool;
}

impl Ends for Refusal<Crash> {
    fn ends(&self) -> bool {
        matches!(self, Self::Store(Crash))
    }
}

impl Ends for Refused<Refusal<Crash>> {
    fn ends(&self) -> bool {
        matches!(self, Self::Signer(refusal) | Self::Close(refusal) if refusal.ends())
    }
}

impl Ends for Unheard<Refusal<Crash>> {
    fn ends(&self) -> bool {
        matches!(self, Self::Refused(refused) if refused.ends())
    }
}

/// A pool block's output for the hub.
pub fn pays_hub(height: u32, value: Amount) -> TxOut {
    TxOut { value: value.max(fee::DUST), script_pubkey: cast().script(height).clone() }
}
