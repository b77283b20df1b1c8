//! The world: everybody on one ground, lines between them, and what follows from each action.

use bitcoin::{OutPoint, TxOut};
use payout_channel::watcher::Expected;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use super::actions::{Action, Who};
use super::books::Books;
use super::cast::{HASHERS, PARAMS};
use super::forgeries::Manner;
use super::frame::Line;
use super::ground::Ground;
use super::hasher::{self, Hasher, Public};
use super::hub::{self, Hub, part, pays_hub};
use super::lies::SignedClose;
use super::tower::Towers;

/// How a trace is played: its first three bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The hub keeps the rules.
    pub honest_hub: bool,
    /// The second hasher keeps them; the first one always does.
    pub honest_second: bool,
    /// The second hasher is paid per share.
    pub pps: bool,
    /// The council repays, or sleeps.
    pub council: bool,
    /// In the end hashers wait for what is pending, or leave at once.
    pub patient: bool,
    /// In the end the hub takes back what is left, or the trace ends before.
    pub to_the_end: bool,
    /// What mempools and blocks ask for while hashers leave in the end, in satoshi per 1,000 vB.
    pub dear: u64,
    /// What hashers have not published by then is taken by strangers with exit kits, or by their own programs.
    pub kits: bool,
}

/// Copies of everybody's disks.
#[derive(Debug, Default)]
pub struct Backups {
    /// The hub's.
    pub hub: Option<hub::Backup>,
    /// The hashers'.
    pub hashers: [Option<hasher::Backup>; HASHERS],
}

/// Everything.
#[derive(Debug)]
pub struct World {
    /// How it is played.
    pub setting: Setting,
    /// Chain and mempool.
    pub ground: Ground,
    /// The hub.
    pub hub: Hub,
    /// For good.
    pub hub_gone: bool,
    /// The hub lost power, and with it credits that it had not sent yet.
    pub lost_power: bool,
    /// The hub's disk was put back: what only it held is gone.
    pub restored: bool,
    /// Heights whose key left, and that a hub which was put back cannot know of.
    pub keys_lost: BTreeSet<u32>,
    /// A hasher closed by itself in the middle: the hub promised it things afterwards that no state has.
    pub left_early: [bool; HASHERS],
    /// A dishonest hub's claims are not published.
    pub no_claims: bool,
    /// The hashers.
    pub hashers: Vec<Hasher>,
    /// A line for each.
    pub lines: Vec<Line>,
    /// The auditor.
    pub books: Books,
    /// Milliseconds since the beginning.
    pub now: u64,
    /// Coinbase outputs that pay the script of their own height, on the best chain.
    pub paid: BTreeMap<u32, OutPoint>,
    /// Copies of disks.
    pub backups: Backups,
    /// Numbers shares.
    pub sequence: u32,
    /// Since when a hasher's node knows a win.
    pub win_seen: Vec<BTreeMap<u32, u64>>,
    /// Strangers with exit kits, at the end.
    pub towers: Towers,
    /// Until when mempools are full.
    pub fees_until: u32,
    /// What a dishonest hasher shows when it connects, instead of what it holds.
    pub manner: Option<Manner>,
    /// Closes that the hub signed for a dishonest hasher.
    pub closes: Vec<SignedClose>,
    asleep_until: Vec<u32>,
}

/// What everybody knows: the sheet, Σ_B under the pending root, and the hub's part of the split.
pub struct Sheet<'a>(pub &'a Hub);

impl Public for Sheet<'_> {
    fn expected(&self, height: u32) -> Expected {
        Expected { floor: part(height).0, ..self.0.expected(height) }
    }
}

/// No trace goes beyond this height, its end apart.
const LAST: u32 = super::cast::FIRST + 600;

/// Blocks that a full mempool, or a hasher's sleep, lasts at most: less than every deadline leaves.
const LONGEST_DELAY: u32 = 5;

impl Setting {
    /// Every three bytes are one.
    pub fn of(bytes: [u8; 3]) -> Self {
        let bit = |n: u8| bytes[0] >> n & 1 == 1;
        Self {
            honest_hub: bytes[0] % 3 != 2,
            honest_second: bit(3),
            pps: bytes[1] % 4 == 1,
            council: bit(4),
            patient: bit(5),
            to_the_end: bytes[1] % 8 >= 6,
            dear: [1_000, 1_000, 1_000, 1_000, 1_000, 3_000, 20_000, 90_000][usize::from(bytes[2]) % 8],
            kits: (bytes[2] / 8).is_multiple_of(3),
        }
    }
}

impl World {
    /// Both hashers have an open payout channel: always the same beginning, played once by each thread.
    pub fn new(setting: Setting) -> Self {
        crate::curve::quick::turn_on();
        thread_local! {
            static BEGUN: [OnceCell<World>; 2] = const { [OnceCell::new(), OnceCell::new()] };
        }
        BEGUN.with(|begun| begun[usize::from(setting.pps)].get_or_init(|| Self::begin(setting)).fork(setting))
    }

    fn fork(&self, setting: Setting) -> Self {
        let mut hashers: Vec<Hasher> = self.hashers.iter().map(Hasher::fork).collect();
        hashers[1].forges = !setting.honest_second;
        Self {
            setting,
            ground: self.ground.clone(),
            hub: self.hub.fork(),
            hub_gone: false,
            restored: false,
            keys_lost: BTreeSet::new(),
            lost_power: false,
            left_early: self.left_early,
            no_claims: false,
            hashers,
            lines: self.lines.clone(),
            books: self.books.clone(),
            now: self.now,
            paid: self.paid.clone(),
            backups: Backups::default(),
            sequence: self.sequence,
            win_seen: self.win_seen.clone(),
            towers: Towers::new(),
            fees_until: 0,
            manner: None,
            closes: Vec::new(),
            asleep_until: vec![0; HASHERS],
        }
    }

    fn begin(setting: Setting) -> Self {
        let mut world = Self {
            setting,
            ground: Ground::new(),
            hub: Hub::new(),
            hub_gone: false,
            restored: false,
            keys_lost: BTreeSet::new(),
            lost_power: false,
            left_early: [false; HASHERS],
            no_claims: false,
            hashers: (0..HASHERS).map(Hasher::new).collect(),
            lines: (0..).take(HASHERS).map(Line::new).collect(),
            books: Books::default(),
            now: 0,
            paid: BTreeMap::new(),
            backups: Backups::default(),
            sequence: 0,
            win_seen: vec![BTreeMap::new(); HASHERS],
            towers: Towers::new(),
            fees_until: 0,
            manner: None,
            closes: Vec::new(),
            asleep_until: vec![0; HASHERS],
        };
        world.mine(Vec::new());
        for hasher in 0..HASHERS {
            world.reconnect(hasher);
            world.open(hasher);
            world.deliver();
            world.react();
        }
        (0..PARAMS.confirmations).for_each(|_| world.mine(Vec::new()));
        world
    }

    /// One action and all that follows.
    pub fn act(&mut self, action: Action) {
        match action {
            Action::Share(hasher, steps) => self.share(hasher, steps),
            Action::Blocks(count) => self.blocks(count),
            Action::Win => {
                let height = self.ground.chain.height() + 1;
                self.mine(vec![pays_hub(height, part(height).0)]);
            }
            Action::FakeWin(fake) => self.fake_win(fake),
            Action::Reorganise(depth, place) => self.reorganise(depth, place),
            Action::Wait(ms) => self.now += ms,
            Action::Hold(hasher, held) => self.lines[hasher].held = held,
            Action::OnTheWay(hasher, way, which) => self.on_the_way(hasher, way, which.into()),
            Action::Reconnect(hasher) => self.reconnect(hasher),
            Action::Crash(who, commits, written) => match who {
                Who::Hub => self.hub.fuse.set(commits, written),
                Who::Hasher(hasher) => self.hashers[hasher].fuse.set(commits, written),
            },
            Action::PowerCut(Who::Hub, power) => self.hub_ended(power),
            Action::PowerCut(Who::Hasher(hasher), power) => self.hasher_ended(hasher, power),
            Action::Backup(who) => self.back_up(who),
            Action::Restore(who, how) => self.restore(who, how),
            Action::Forge(forgery, also, how) => self.forge((forgery, also, how)),
            Action::Publish(hasher, which) => self.publish(hasher, which),
            Action::AskClose(hasher) => self.ask_close(hasher),
            Action::Leave(hasher) => {
                self.left_early[hasher] = true;
                self.leave(hasher);
            }
            Action::TopUp(hasher) => self.open(hasher),
            Action::Sleep(hasher) => {
                self.asleep_until[hasher] = self.ground.chain.height() + LONGEST_DELAY;
                self.hashers[hasher].asleep = !self.hashers[hasher].asleep;
            }
            Action::Fees(rate) => {
                self.fees_until = self.ground.chain.height() + LONGEST_DELAY;
                self.ground.blocks_want = rate;
                self.ground.mempool.set_floor(rate.min(5_000));
            }
            Action::HubGone => self.hub_gone = true,
            Action::Wish(wish, which) => self.wish(wish, which),
            Action::Lie(lie, hasher, how) => self.lie(lie, hasher, how),
            Action::Lies(first, second, hasher, how) => {
                self.lie(first, hasher, how);
                self.lie(second, hasher, how.rotate_left(4));
            }
            Action::Mute(hasher) => {
                self.lines[hasher].muted = !self.setting.honest_hub && !self.lines[hasher].muted;
            }
        }
        self.react();
        self.ground.chain.check_sum();
    }

    /// Everybody does what follows from what changed, until nothing does.
    pub fn react(&mut self) {
        if !self.hub_gone {
            let out = self.hub.tick(&mut self.ground, !self.no_claims);
            self.hub_did(out);
        }
        for hasher in 0..HASHERS {
            if self.ground.chain.height() >= self.asleep_until[hasher] {
                self.hashers[hasher].asleep = false;
            }
            let said = self.hashers[hasher].tick(&mut self.ground, &Sheet(&self.hub), self.now);
            self.hasher_said(hasher, said);
            self.see_wins(hasher);
        }
        self.deliver();
        let hears = |hasher: usize| !self.lines[hasher].held && !self.hashers[hasher].asleep;
        self.books.note_hearing(self.ground.chain.height(), hears);
        self.hub.publish_roots();
        let public = self.ground.public_keys().keys();
        self.books.revealed.extend(public);
    }

    /// Mines a block of what waits; its coinbase pays `outputs`.
    pub fn mine(&mut self, outputs: Vec<TxOut>) {
        if self.ground.chain.height() >= self.fees_until {
            self.ground.blocks_want = 0;
            self.ground.mempool.set_floor(0);
        }
        self.council();
        self.towers.values_mut().for_each(|tower| tower.act(&mut self.ground));
        let change = self.ground.mine(outputs);
        self.note(&change);
        self.react();
    }

    /// Mines blocks of others.
    pub fn blocks(&mut self, count: u32) {
        // Keys are known for so many heights, and everything ends before.
        for _ in 0..count {
            if self.ground.chain.height() < LAST {
                self.mine(Vec::new());
            }
        }
    }
}
