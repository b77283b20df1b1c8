//! What goes between the hub and its hashers, and what becomes of whom when a program ends.

use bitcoin::OutPoint;
use payout_channel::message::{CloseTerms, Message};
use payout_channel::transactions::close::Close;

use super::actions::{Way, Who};
use super::cast::{HASHERS, PARAMS, cast};
use super::disk::Crash;
use super::forgeries::FORGER;
use super::frame::id_of;
use super::ground::Party;
use super::hasher::scheme;
use super::hub::{Backup, Out};
use super::world::{Sheet, World};

impl World {
    /// A hasher asks for a payout channel.
    pub fn open(&mut self, hasher: usize) {
        if let Some(asked) = self.hashers[hasher].ask(scheme(hasher, self.setting.pps)) {
            self.lines[hasher].say_up(&asked);
        }
    }

    /// The connection ends; what was on it is lost. The hasher shows what it has.
    pub fn reconnect(&mut self, hasher: usize) {
        let line = &mut self.lines[hasher];
        line.reconnect();
        let handshake = line.handshake();
        let program = self.hashers[hasher].connected(handshake);
        let manner = self.manner.filter(|_| hasher == FORGER);
        let said = manner.map_or(program, |manner| self.forged(manner));
        let line = &mut self.lines[hasher];
        said.iter().for_each(|message| line.say_up(message));
        if !self.hub_gone {
            let offers = self.hub.connected(hasher, handshake);
            let line = &mut self.lines[hasher];
            if !line.muted {
                offers.iter().for_each(|offer| line.say_down(offer));
            }
        }
    }

    /// Gives what a step of the hub gave to the lines, and to the auditor.
    pub fn hub_did(&mut self, out: Result<Out, Crash>) {
        self.note_fundings();
        for (hasher, height, asked) in std::mem::take(&mut self.hub.asked) {
            self.books.asked(hasher, height, asked);
        }
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
        for (hasher, message) in out.messages {
            if let (Some(id), Some(signed)) = (id_of(&message), message.signed()) {
                self.books.signed(id, signed);
            }
            if let Message::CloseSigned(id, CloseTerms { owed, fee, to }, _) = &message {
                self.books.close_signed(*id, Close { owed: *owed, fee: *fee, to: to.clone() });
            }
            if !self.lines[hasher].muted {
                self.lines[hasher].say_down(&message);
            }
        }
    }

    /// What the hub's ledger says is funded is the auditor's to follow.
    fn note_fundings(&mut self) {
        let news = self.hub.funded(|outpoint| self.books.knows(outpoint));
        for (hasher, funded) in news {
            let key_only = |key| payout_channel::script::key_only(key, &cast().secp);
            self.ground.owns(Party::Hasher(hasher), key_only(&funded.terms.hasher_settled));
            self.ground.owns(Party::Hub, key_only(&funded.terms.hub_refund));
            self.books.opened(hasher, funded);
        }
    }

    /// The hub's program ends, and starts again with what its disks hold.
    pub fn hub_ended(&mut self, power: bool) {
        if self.hub_gone {
            return;
        }
        self.lost_power |= power;
        self.hub.reboot(power);
        self.hub_is_back(power);
    }

    /// A program listens when its node is up to date, and not before.
    fn hub_is_back(&mut self, may_have_lost: bool) {
        self.hub.follow(&self.ground);
        self.hub.look_at_mempool(&self.ground);
        if may_have_lost {
            self.hub.lost();
        }
        self.note_fundings();
        (0..HASHERS).for_each(|hasher| self.reconnect(hasher));
    }

    /// A hasher's program ends, and starts again with what its disks hold.
    pub fn hasher_ended(&mut self, hasher: usize, power: bool) {
        self.hashers[hasher].reboot(power);
        self.note_held(hasher);
        self.hashers[hasher].follow(&self.ground, &Sheet(&self.hub));
        self.reconnect(hasher);
    }

    /// A hasher that ended after it saved a state, and before it said so, counts it all the same.
    fn note_held(&mut self, hasher: usize) {
        for kept in &self.hashers[hasher].channels {
            for held in kept.machine.held() {
                self.books.still_counted(kept.machine.id(), &held.state);
            }
        }
    }

    /// A copy is made of somebody's disks.
    pub fn back_up(&mut self, who: Who) {
        match who {
            Who::Hub => self.backups.hub = Some(self.hub.backup()),
            Who::Hasher(hasher) => {
                self.backups.hashers[hasher] = Some(self.hashers[hasher].backup());
                self.books.mark(hasher);
            }
        }
    }

    /// A copy is put back: the hub's with its signer's memory or without, or nothing at all where none was made.
    pub fn restore(&mut self, who: Who, how: u8) {
        match who {
            Who::Hub => {
                let empty = (how % 4 == 3).then(Backup::default);
                let Some(backup) = self.backups.hub.clone().or(empty).filter(|_| !self.hub_gone) else {
                    return;
                };
                self.restored = true;
                self.hub.restore(&backup, how.is_multiple_of(2) || how % 8 == 7);
                self.hub_is_back(true);
                self.note_lost_keys();
            }
            Who::Hasher(hasher) => {
                let Some(backup) = self.backups.hashers[hasher].clone() else { return };
                let closed = |world: &Self| -> Vec<_> {
                    let kept = world.hashers[hasher].channels.iter();
                    kept.map(|kept| (kept.machine.id(), kept.machine.standing())).collect()
                };
                let before = closed(self);
                self.hashers[hasher].restore(&backup);
                self.books.put_back(hasher, &before, &closed(self));
                self.hashers[hasher].follow(&self.ground, &Sheet(&self.hub));
                self.reconnect(hasher);
            }
        }
    }

    /// Keys that left, and of which a signer that was put back is shown nothing: too deep a win it then leaves alone (docs/decisions/0004).
    fn note_lost_keys(&mut self) {
        let tip = self.ground.chain.height();
        let is_too_deep = |height: u32| tip + 1 - height > PARAMS.last_reveal();
        let is_shown = |outpoint: &OutPoint| {
            self.ground.chain.coin(outpoint).is_none() || self.ground.mempool.spends(outpoint)
        };
        let left = self.paid.iter().filter(|(height, outpoint)| {
            self.books.is_revealed(**height)
                && is_too_deep(**height)
                && !is_shown(outpoint)
                && !self.hub.remembers_reveal(**height)
        });
        self.keys_lost.extend(left.map(|(height, _)| *height));
    }

    /// What a hasher's step said goes to the hub.
    pub fn hasher_said(&mut self, hasher: usize, said: Result<Vec<Message>, Crash>) {
        match said {
            Ok(said) => said.iter().for_each(|message| self.lines[hasher].say_up(message)),
            Err(Crash) => self.hasher_ended(hasher, false),
        }
    }

    /// What is on the way arrives, unless its line is held.
    pub fn deliver(&mut self) {
        while let Some(hasher) = (0..HASHERS).find(|hasher| {
            let line = &self.lines[*hasher];
            let waits = !line.up.is_empty() || !line.down.is_empty();
            waits && !line.held && !self.hashers[*hasher].asleep
        }) {
            self.one_each_way(hasher);
        }
    }

    fn one_each_way(&mut self, hasher: usize) {
        if let Some(frame) = self.lines[hasher].up.pop_front() {
            self.hub_hears(hasher, &frame.read());
        }
        if let Some(frame) = self.lines[hasher].down.pop_front() {
            self.hasher_hears(hasher, &frame.read());
        }
    }

    fn hub_hears(&mut self, hasher: usize, message: &Message) {
        if !self.hub_gone {
            let out = self.hub.hear(hasher, message, &mut self.ground);
            self.hub_did(out);
        }
    }

    fn hasher_hears(&mut self, hasher: usize, message: &Message) {
        if let Message::CloseSigned(id, close, signature) = message
            && !self.is_honest(hasher)
        {
            self.closes.push((*id, close.clone(), *signature));
        }
        let done = match self.hashers[hasher].hear(message, &Sheet(&self.hub), self.now) {
            Ok(done) => done,
            Err(Crash) => return self.hasher_ended(hasher, false),
        };
        if done.must_look_again {
            self.hashers[hasher].look_again();
            self.hashers[hasher].follow(&self.ground, &Sheet(&self.hub));
        }
        if let Some((id, state)) = done.counted {
            self.books.counted(id, state);
        }
        done.said.iter().for_each(|message| self.lines[hasher].say_up(message));
    }

    /// Something that is on the way arrives, is lost, comes twice, or is overtaken.
    pub fn on_the_way(&mut self, hasher: usize, way: Way, which: usize) {
        let down = &mut self.lines[hasher].down;
        match way {
            Way::Arrives => self.one_each_way(hasher),
            Way::Lost => drop(down.pop_front()),
            Way::Twice => {
                let first = down.front().cloned();
                down.extend(first);
            }
            Way::Overtakes if down.len() > 1 => {
                let other = which % down.len();
                down.swap(0, other);
            }
            Way::Overtakes => {}
        }
    }
}
