//! The world: everybody on one ground, lines between them, and what follows from each action.

use bitcoin::{Amount, OutPoint, TxOut};
use payout_channel::message::Message;
use payout_channel::terms::Scheme;
use payout_channel::watcher::Expected;
use std::cell::OnceCell;
use std::collections::{BTreeMap, VecDeque};

use super::actions::{Action, Fake, Way, Who, Wish};
use super::books::Books;
use super::cast::{HASHERS, PARAMS, cast};
use super::disk::Crash;
use super::ground::{Ground, Party};
use super::hasher::{Hasher, Public, id_of};
use super::hub::{self, Hub, Out, part, pays_hub};
use super::wallet;

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
}

/// Between the hub and a hasher.
#[derive(Debug, Default)]
pub struct Line {
    /// To the hub.
    pub up: VecDeque<Message>,
    /// To the hasher.
    pub down: VecDeque<Message>,
    /// Nothing arrives by itself.
    pub held: bool,
    /// Numbers its connections.
    pub connection: u8,
    /// The hub says nothing.
    pub muted: bool,
}

/// Copies of everybody's disks.
#[derive(Debug, Default)]
struct Backups {
    hub: Option<hub::Backup>,
    hashers: [Option<Vec<usize>>; HASHERS],
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
    /// Somebody's disk was put back: promises that only it held are gone.
    pub restored: bool,
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
    backups: Backups,
    sequence: u32,
    /// Since when a hasher's node knows a win.
    win_seen: Vec<BTreeMap<u32, u64>>,
    /// Until when mempools are full, and hashers asleep.
    fees_until: u32,
    asleep_until: Vec<u32>,
}

/// What everybody knows: the sheet, and Σ_B under the pending root.
pub struct Sheet<'a>(&'a Hub);

impl Public for Sheet<'_> {
    fn expected(&self, height: u32) -> Expected {
        self.0.expected(height)
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
        }
    }
}

impl World {
    /// Both hashers have an open payout channel: always the same beginning, played once by each thread.
    pub fn new(setting: Setting) -> Self {
        thread_local! {
            static BEGUN: [OnceCell<World>; 2] = const { [OnceCell::new(), OnceCell::new()] };
        }
        BEGUN.with(|begun| begun[usize::from(setting.pps)].get_or_init(|| Self::begin(setting)).fork(setting))
    }

    fn fork(&self, setting: Setting) -> Self {
        Self {
            setting,
            ground: self.ground.clone(),
            hub: self.hub.fork(),
            hub_gone: false,
            restored: false,
            lost_power: false,
            left_early: self.left_early,
            no_claims: false,
            hashers: self.hashers.iter().map(Hasher::fork).collect(),
            lines: (0..HASHERS).map(|_| Line::default()).collect(),
            books: self.books.clone(),
            now: self.now,
            paid: self.paid.clone(),
            backups: Backups::default(),
            sequence: self.sequence,
            win_seen: self.win_seen.clone(),
            fees_until: 0,
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
            lost_power: false,
            left_early: [false; HASHERS],
            no_claims: false,
            hashers: (0..HASHERS).map(Hasher::new).collect(),
            lines: (0..HASHERS).map(|_| Line::default()).collect(),
            books: Books::default(),
            now: 0,
            paid: BTreeMap::new(),
            backups: Backups::default(),
            sequence: 0,
            win_seen: vec![BTreeMap::new(); HASHERS],
            fees_until: 0,
            asleep_until: vec![0; HASHERS],
        };
        world.mine(Vec::new());
        for hasher in 0..HASHERS {
            world.open(hasher);
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
            Action::Backup(Who::Hub) => self.backups.hub = Some(self.hub.backup()),
            Action::Backup(Who::Hasher(hasher)) => {
                self.backups.hashers[hasher] = Some(self.hashers[hasher].backup());
            }
            Action::Restore(who) => self.restore(who),
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

    /// Opens a payout channel.
    pub fn open(&mut self, hasher: usize) {
        if self.hub_gone {
            return;
        }
        let scheme = if self.setting.pps && hasher == 1 { Scheme::Pps } else { Scheme::Pplns };
        let opened = self.hub.open(hasher, scheme, &mut self.ground);
        if opened.is_ok() {
            let last = self.hub.channels.last().and_then(|kept| kept.machine.funded_terms());
            if let Some(funded) = last {
                let index = self.hub.channels.iter().filter(|kept| kept.hasher == hasher).count() - 1;
                let settled = &cast().hasher_keys[hasher][index].settled;
                let script =
                    payout_channel::script::key_only(&payout_channel::keys::public(settled), &cast().secp);
                self.ground.owns(Party::Hasher(hasher), script);
                let refund = payout_channel::script::key_only(&funded.terms.hub_refund, &cast().secp);
                self.ground.owns(Party::Hub, refund);
                self.books.opened(hasher, funded);
            }
        }
        self.hub_did(opened);
        self.deliver();
    }

    /// The connection ends; what was on it is lost. The hasher shows what it has.
    pub fn reconnect(&mut self, hasher: usize) {
        let line = &mut self.lines[hasher];
        line.connection = line.connection.wrapping_add(1);
        line.up.clear();
        line.down.clear();
        let handshake = [line.connection; 32];
        let said = self.hashers[hasher].reconnects(&handshake);
        self.lines[hasher].up.extend(said);
        if !self.hub_gone && !self.lines[hasher].muted {
            let offers = self.hub.offer_again(hasher);
            self.lines[hasher].down.extend(offers);
        }
    }

    /// Gives what a step of the hub gave to the lines, and to the auditor.
    pub fn hub_did(&mut self, out: Result<Out, Crash>) {
        let perhaps = std::mem::take(&mut self.hub.perhaps);
        let Ok(out) = out else {
            for (hasher, height, amount) in perhaps.owed {
                let owed = self.books.perhaps.entry((hasher, height)).or_default();
                *owed = (*owed).max(amount);
            }
            for (hasher, amount) in perhaps.settled {
                self.books.perhaps_settled[hasher] += amount;
            }
            return self.hub_ended(false);
        };
        for (hasher, height, amount) in out.owed {
            self.books.owes(hasher, height, amount);
        }
        for (hasher, height, amount) in out.corrected {
            self.books.owed.insert((hasher, height), amount);
        }
        for (hasher, amount) in out.settled {
            self.books.settled[hasher] += amount;
        }
        for (place, message) in out.messages {
            let kept = &self.hub.channels[place];
            let (hasher, id) = (kept.hasher, kept.machine.id());
            if let Some(signed) = message.signed() {
                self.books.signed(id, signed);
            }
            if !self.lines[hasher].muted {
                self.lines[hasher].down.push_back(message);
            }
        }
    }

    fn hub_ended(&mut self, power: bool) {
        if self.hub_gone {
            return;
        }
        self.lost_power |= power;
        self.hub.reboot(power);
        // A program listens when its node is up to date, and not before.
        self.hub.follow(&self.ground);
        if power {
            self.hub.lost();
        }
        (0..HASHERS).for_each(|hasher| self.reconnect(hasher));
    }

    fn hasher_ended(&mut self, hasher: usize, power: bool) {
        self.hashers[hasher].reboot(power);
        self.hashers[hasher].follow(&self.ground, &Sheet(&self.hub));
        self.reconnect(hasher);
    }

    fn restore(&mut self, who: Who) {
        match who {
            Who::Hub => {
                let Some(backup) = self.backups.hub.clone().filter(|_| !self.hub_gone) else { return };
                self.restored = true;
                self.hub.restore(&backup);
                self.hub.follow(&self.ground);
                self.hub.lost();
                (0..HASHERS).for_each(|hasher| self.reconnect(hasher));
            }
            Who::Hasher(hasher) => {
                let Some(backup) = self.backups.hashers[hasher].clone() else { return };
                self.hashers[hasher].restore(&backup);
                self.hashers[hasher].follow(&self.ground, &Sheet(&self.hub));
                for account in self.books.accounts.iter_mut().filter(|account| account.hasher == hasher) {
                    account.forgot = true;
                }
                self.reconnect(hasher);
            }
        }
    }

    fn hasher_said(&mut self, hasher: usize, said: Result<Vec<Message>, Crash>) {
        match said {
            Ok(said) => self.lines[hasher].up.extend(said),
            Err(Crash) => self.hasher_ended(hasher, false),
        }
    }

    /// What is on the way arrives, unless its line is held.
    fn deliver(&mut self) {
        while let Some(hasher) = (0..HASHERS).find(|hasher| {
            let line = &self.lines[*hasher];
            let waits = !line.up.is_empty() || !line.down.is_empty();
            waits && !line.held && !self.hashers[*hasher].asleep
        }) {
            if let Some(message) = self.lines[hasher].up.pop_front() {
                self.hub_hears(hasher, &message);
            }
            if let Some(message) = self.lines[hasher].down.pop_front() {
                self.hasher_hears(hasher, &message);
            }
        }
    }

    fn hub_hears(&mut self, hasher: usize, message: &Message) {
        let place = id_of(message).and_then(|id| self.hub.place(id));
        let own = place.filter(|place| self.hub.channels[*place].hasher == hasher && !self.hub_gone);
        if let Some(place) = own {
            let handshake = [self.lines[hasher].connection; 32];
            let out = self.hub.hear(place, message, &handshake);
            self.hub_did(out);
        }
    }

    fn hasher_hears(&mut self, hasher: usize, message: &Message) {
        match self.hashers[hasher].hear(message, &Sheet(&self.hub)) {
            Ok(heard) => {
                if let Some((place, state)) = heard.counted {
                    let id = self.hashers[hasher].channels[place].machine.id();
                    if let Some(account) = self.books.account_mut(id) {
                        account.counted.push(state);
                    }
                }
            }
            Err(Crash) => self.hasher_ended(hasher, false),
        }
    }

    fn on_the_way(&mut self, hasher: usize, way: Way, which: usize) {
        let line = &mut self.lines[hasher];
        let count = line.down.len();
        match way {
            Way::Arrives => {
                if let Some(message) = line.up.pop_front() {
                    self.hub_hears(hasher, &message);
                }
                if let Some(message) = self.lines[hasher].down.pop_front() {
                    self.hasher_hears(hasher, &message);
                }
            }
            Way::Lost => drop(line.down.pop_front()),
            Way::Twice => {
                let first = line.down.front().cloned();
                line.down.extend(first);
            }
            Way::Overtakes if count > 1 => line.down.swap(0, which % count),
            Way::Overtakes => {}
        }
    }

    /// A hasher works, if it may, and hands in a share.
    fn share(&mut self, hasher: usize, steps: u32) {
        let talks = !self.hub_gone && !self.lines[hasher].held && !self.lines[hasher].muted;
        if talks {
            let out = self.hub.prepare(hasher);
            self.hub_did(out);
            self.deliver();
        }
        let Ok(place) = self.hashers[hasher].may_work(&Sheet(&self.hub), self.now) else { return };
        self.note_work(hasher, place, steps);
        self.sequence += 1;
        let height = self.hashers[hasher].chain.tip() + 1;
        if talks {
            let out = self.hub.share(hasher, height, steps, self.sequence);
            self.hub_did(out);
        }
    }

    /// What R4 says is covered now: the height that is worked on, and every win that was known for long enough.
    fn note_work(&mut self, hasher: usize, place: usize, steps: u32) {
        let known = &self.hashers[hasher];
        let (height, id) = (known.chain.tip() + 1, known.channels[place].machine.id());
        let wins: Vec<u32> = self.win_seen[hasher]
            .iter()
            .filter(|(_, since)| self.now >= **since + PARAMS.merge_wait_ms)
            .map(|(height, _)| *height)
            .collect();
        let Some(account) = self.books.account_mut(id) else { return };
        let counted = |height: u32| {
            let pendings = account.counted.iter().map(|state| state.pending(height));
            pendings.max().unwrap_or(Amount::ZERO)
        };
        let has_state = account.counted.iter().any(|state| state.height == height);
        // Work without a signed state is all the hub's word; then all of it is at stake.
        let own = if has_state { counted(height) } else { Amount::from_sat(u64::from(steps) * 100_000) };
        let mut work: BTreeMap<u32, Amount> = wins.iter().map(|height| (*height, counted(*height))).collect();
        work.insert(height, own);
        account.worked.push(work);
    }

    fn see_wins(&mut self, hasher: usize) {
        let (chain, now) = (&self.hashers[hasher].chain, self.now);
        self.win_seen[hasher].retain(|height, _| chain.is_win(*height));
        for (height, _) in chain.wins() {
            self.win_seen[hasher].entry(height).or_insert(now);
        }
    }

    fn fake_win(&mut self, fake: Fake) {
        let height = self.ground.chain.height() + 1;
        match fake {
            Fake::Plain => {
                let (key, script) = (&cast().stranger, cast().stranger_script());
                let coins = self.ground.coins_of(&script);
                let Some(coin) = coins.first() else { return };
                let output = pays_hub(height, Amount::from_sat(8_000_000));
                let fee = Amount::from_sat(20_000);
                if let Some(paid) = wallet::pay(key, &script, &[*coin], vec![output], fee) {
                    let _refused = self.ground.broadcast(Party::Council, &paid);
                }
                self.mine(Vec::new());
            }
            Fake::Less => {
                let sum = self.hub.expected(height).sum;
                if let Some(less) = sum.checked_sub(Amount::ONE_SAT).filter(|less| less.to_sat() >= 330) {
                    self.mine(vec![pays_hub(height, less)]);
                }
            }
            Fake::OtherHeight => self.mine(vec![pays_hub(height - 1, part(height - 1).0)]),
        }
    }

    fn reorganise(&mut self, depth: usize, place: Option<usize>) {
        let room = usize::try_from(self.ground.chain.height() - super::cast::FIRST).unwrap();
        let depth = depth.min(room.saturating_sub(8));
        let first = self.ground.chain.height() + 1 - u32::try_from(depth).unwrap();
        let pool = |n: usize| {
            let height = first + u32::try_from(n).unwrap();
            if place == Some(n) { vec![pays_hub(height, part(height).0)] } else { Vec::new() }
        };
        let change = self.ground.reorganise(depth, (0..=depth).map(pool).collect());
        self.note(&change);
    }

    fn note(&mut self, change: &super::ground::Change) {
        for block in &change.gone {
            self.paid.remove(&block.height);
        }
        for block in &change.came {
            let Some(coinbase) = &block.coinbase else { continue };
            let script = cast().locked(block.height).script_pubkey();
            let place = coinbase.body.output.iter().position(|output| output.script_pubkey == script);
            if let Some(place) = place {
                self.paid.insert(block.height, coinbase.outpoint(place));
            }
        }
    }

    fn ask_close(&mut self, hasher: usize) {
        for place in 0..self.hashers[hasher].channels.len() {
            let asked = self.hashers[hasher].ask_close(place, Amount::from_sat(600));
            self.hasher_said(hasher, asked);
        }
    }

    /// A hasher closes all its payout channels by itself.
    pub fn leave(&mut self, hasher: usize) {
        for place in 0..self.hashers[hasher].channels.len() {
            if self.hashers[hasher].leave(place).is_err() {
                self.hasher_ended(hasher, false);
            }
        }
    }

    fn wish(&mut self, wish: Wish, which: u8) {
        if self.hub_gone {
            return;
        }
        let place = usize::from(which) % self.hub.channels.len().max(1);
        let tip = self.ground.chain.height();
        let wins: Vec<u32> = self.hub.chain.wins().map(|(height, _)| height).collect();
        let win = wins.get(usize::from(which / 4) % wins.len().max(1)).copied();
        let out = match (wish, win) {
            (Wish::Raise, Some(win)) => {
                let Some(kept) = self.hub.channels.get(place) else { return };
                let amount = kept.machine.account().promised(win).to_sat();
                if amount == 0 {
                    return;
                }
                let to = [amount / 2, amount + 50_000, 1_000][usize::from(which) % 3];
                self.hub.raise(place, win, Amount::from_sat(to))
            }
            (Wish::SettleEarly, Some(win)) => self.hub.settle(place, win),
            (Wish::RevealEarly, _) => {
                let height = win.filter(|_| which & 1 == 0).unwrap_or(tip + 1 - u32::from(which % 4));
                match self.hub.reveal(height) {
                    Ok(key) => {
                        if key.is_some() {
                            self.books.revealed.insert(height);
                        }
                        return;
                    }
                    Err(Crash) => Err(Crash),
                }
            }
            (Wish::SecondChannel, _) => {
                let mut out = Out::default();
                let amount = Amount::from_sat(700_000);
                let height = tip + 1 + u32::from(which / 8 % 2);
                self.hub.sign_for(place, height, amount, &mut out).map(|_| out)
            }
            (Wish::OverCap, _) => {
                let mut out = Out::default();
                let amount = Amount::from_sat(5_000_000);
                self.hub.credit_on(place, tip + 1, amount, 0, &mut out).map(|_| out)
            }
            _ => return,
        };
        self.hub_did(out);
    }

    /// The council sweeps wins that nobody claimed for long enough, if it is awake, and repays what was owed for them.
    fn council(&mut self) {
        if !self.setting.council {
            return;
        }
        let tip = self.ground.chain.height();
        let due: Vec<(u32, OutPoint)> = self
            .paid
            .iter()
            .filter(|(height, outpoint)| {
                tip + 1 >= **height + PARAMS.council
                    && self.ground.chain.coin(outpoint).is_some()
                    && !self.ground.mempool.spends(outpoint)
                    && !self.books.revealed.contains(height)
            })
            .map(|(height, outpoint)| (*height, *outpoint))
            .collect();
        for (height, outpoint) in due {
            super::council::sweep(self, height, outpoint);
        }
    }
}
