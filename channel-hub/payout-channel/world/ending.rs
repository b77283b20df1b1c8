//! The end of a trace: everybody wakes and collects. Hashers leave; what each has is then taken by a stranger, with a kit out
//! of its stored file alone.

use payout_channel::SignedState;
use payout_channel::exit::LADDER;

use super::actions::Action;
use super::cast::{HASHERS, PARAMS};
use super::findings::Finding;
use super::tower::{Tower, stored};
use super::world::World;

impl World {
    /// Plays the end, and checks it.
    ///
    /// # Errors
    /// Somebody lost.
    pub fn end(&mut self) -> Result<(), Finding> {
        self.calm();
        if self.setting.patient {
            // What is pending matures and is settled.
            (0..PARAMS.claimed_by + 2).for_each(|_| self.mine(Vec::new()));
            self.calm();
        }
        self.leave_all();
        if self.setting.to_the_end {
            self.ask_for(0);
            let last = self.books.accounts.iter().map(|account| account.template.funded().terms.expiry).max();
            let last = last.unwrap_or(0).max(self.ground.chain.height()) + 30;
            while self.ground.chain.height() < last {
                (0..20).for_each(|_| self.mine(Vec::new()));
                self.hub.take_back(&mut self.ground);
            }
            self.collect(3);
        }
        self.check()
    }

    /// Lines are free, fees low, everybody awake and connected.
    fn calm(&mut self) {
        self.act(Action::Fees(0));
        for hasher in 0..HASHERS {
            self.hashers[hasher].asleep = false;
            self.lines[hasher].held = false;
            self.lines[hasher].muted = false;
            self.hashers[hasher].fuse.mend();
            self.reconnect(hasher);
        }
        self.hub.fuse.mend();
        self.react();
    }

    /// Mempools and blocks want that from now on.
    fn ask_for(&mut self, rate: u64) {
        self.fees_until = u32::MAX;
        self.ground.blocks_want = rate;
        self.ground.mempool.set_floor(rate);
    }

    /// Everybody leaves, whatever it costs. Kits are made when it is certain which heights were won.
    fn leave_all(&mut self) {
        let rate = self.setting.dear;
        let rung = LADDER.iter().map(|rung| rung * 1_000).find(|rung| *rung >= rate);
        self.books.rate = rung.unwrap_or(rate);
        for hasher in 0..HASHERS {
            self.note_revealed();
            if self.is_honest(hasher) {
                self.hand_over(hasher);
                self.leave(hasher);
            }
        }
        if rate > 1_000 {
            self.ask_for(rate);
        }
        for hasher in 0..HASHERS {
            if !self.is_honest(hasher) {
                self.publish_best(hasher);
            }
        }
        self.collect(usize::try_from(PARAMS.confirmations).unwrap());
        while self.is_waiting() {
            self.collect(1);
        }
        self.note_revealed();
        self.books.known = self.books.taken.keys().copied().collect();
        (0..HASHERS).for_each(|hasher| self.make_kits(hasher));
        self.collect(5);
    }

    /// From now on a hasher's program leaves alone what it has not published yet.
    fn hand_over(&mut self, hasher: usize) {
        for kept in &mut self.hashers[hasher].channels {
            let Some(outpoint) = kept.machine.outpoint() else { continue };
            let is_spent =
                self.ground.chain.coin(&outpoint).is_none() || self.ground.mempool.spends(&outpoint);
            kept.handed_over = !is_spent && self.setting.kits;
        }
    }

    fn make_kits(&mut self, hasher: usize) {
        let who = &self.hashers[hasher];
        for kept in who.channels.iter().filter(|kept| kept.handed_over) {
            let file = stored(&kept.disk.rows());
            if let Some(tower) = Tower::new(hasher, &file, &who.chain) {
                self.towers.insert(kept.machine.id(), tower);
            }
        }
    }

    /// Whether an honest hasher waits. It ends when the hub has no more time to publish keys.
    fn is_waiting(&self) -> bool {
        (0..HASHERS).any(|hasher| self.is_honest(hasher) && self.hashers[hasher].is_waiting())
    }

    /// Blocks in which everybody takes what is due.
    fn collect(&mut self, blocks: usize) {
        for _ in 0..blocks {
            for hasher in 0..HASHERS {
                if !self.is_honest(hasher) {
                    self.sweep_claims(hasher);
                }
            }
            self.mine(Vec::new());
            self.ground.chain.check_sum();
        }
    }

    /// Whether a hasher keeps the rules.
    pub fn is_honest(&self, hasher: usize) -> bool {
        hasher == 0 || self.setting.honest_second
    }

    /// A dishonest hasher publishes the state or close that pays it most, of all that were ever signed.
    fn publish_best(&mut self, hasher: usize) {
        for place in 0..self.books.accounts.len() {
            if self.books.accounts[place].hasher != hasher {
                continue;
            }
            let value = |signed: &&SignedState| signed.state.value(|height| self.books.is_revealed(height));
            let best = self.books.accounts[place].signed.iter().max_by_key(value).cloned();
            let id = self.books.accounts[place].id;
            let own = self.closes.iter().filter(|(of, ..)| *of == id);
            let close = own.max_by_key(|(_, close, _)| close.owed).cloned();
            let worth = best.as_ref().map(|best| value(&best));
            match (best, close) {
                (_, Some(close)) if worth <= Some(close.1.owed) => self.publish_close(close),
                (Some(best), _) => self.publish_state(place, &best),
                (None, _) => {}
            }
        }
    }
}
