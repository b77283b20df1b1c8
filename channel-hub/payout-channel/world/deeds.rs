//! What shares, fakes, reorganisations, wishes and the council do, each in one step.

use bitcoin::{Amount, OutPoint};
use std::collections::BTreeMap;

use super::actions::{Fake, Wish};
use super::cast::{PARAMS, cast};
use super::disk::Crash;
use super::exits::CLOSE_FEE;
use super::ground::{Change, Party};
use super::hasher::Public as _;
use super::hub::{Out, part, pays_hub};
use super::wallet;
use super::world::{Sheet, World};

impl World {
    /// A hasher works, if it may, and hands in a share.
    pub fn share(&mut self, hasher: usize, steps: u32) {
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
        let Some(account) = self.books.open_account(id) else { return };
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

    /// Since when a hasher's node knows wins.
    pub fn see_wins(&mut self, hasher: usize) {
        let (chain, now) = (&self.hashers[hasher].chain, self.now);
        self.win_seen[hasher].retain(|height, _| chain.is_win(*height));
        for (height, _) in chain.wins() {
            self.win_seen[hasher].entry(height).or_insert(now);
        }
    }

    /// Something that looks like a win.
    pub fn fake_win(&mut self, fake: Fake) {
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
                let least = Sheet(&self.hub).expected(height).least();
                if let Some(less) = least.checked_sub(Amount::ONE_SAT).filter(|less| less.to_sat() >= 330) {
                    self.mine(vec![pays_hub(height, less)]);
                }
            }
            Fake::OtherHeight => self.mine(vec![pays_hub(height - 1, part(height - 1).0)]),
        }
    }

    /// The newest blocks are replaced.
    pub fn reorganise(&mut self, depth: usize, place: Option<usize>) {
        let depth = depth.min(self.deepest());
        let first = self.ground.chain.height() + 1 - u32::try_from(depth).unwrap();
        if depth >= usize::try_from(PARAMS.confirmations).unwrap() {
            for account in &mut self.books.accounts {
                let funding = account.template.funded().outpoint;
                let is_spent = self.ground.chain.spender(&funding).is_some();
                if is_spent || self.ground.mempool.spends(&funding) {
                    account.overtaken.extend(first..=self.ground.chain.height());
                }
            }
        }
        let pool = |n: usize| {
            let height = first + u32::try_from(n).unwrap();
            if place == Some(n) { vec![pays_hub(height, part(height).0)] } else { Vec::new() }
        };
        let change = self.ground.reorganise(depth, (0..=depth).map(pool).collect());
        self.note(&change);
    }

    /// How many blocks may go: none that funds what is open, since nothing is promised then, and never the beginning.
    fn deepest(&self) -> usize {
        let tip = self.ground.chain.height();
        let room = tip - super::cast::FIRST;
        let youngest = self.hub.channels.iter().filter_map(|kept| {
            let confirmations = self.hub.chain.confirmations(&kept.machine.outpoint()?);
            (confirmations >= PARAMS.confirmations).then_some(confirmations)
        });
        let fundings = youngest.min().map_or(room, |confirmations| confirmations - 1);
        usize::try_from(room.saturating_sub(8).min(fundings)).unwrap()
    }

    /// Takes down which heights' blocks pay the hub.
    pub fn note(&mut self, change: &Change) {
        for block in &change.gone {
            self.paid.remove(&block.height);
        }
        for block in &change.came {
            let Some(coinbase) = &block.coinbase else { continue };
            let script = cast().script(block.height);
            let place = coinbase.body.output.iter().position(|output| output.script_pubkey == *script);
            if let Some(place) = place {
                self.paid.insert(block.height, coinbase.outpoint(place));
            }
        }
    }

    /// A hasher asks for closes.
    pub fn ask_close(&mut self, hasher: usize) {
        for place in 0..self.hashers[hasher].channels.len() {
            let asked = self.hashers[hasher].ask_close(place, CLOSE_FEE);
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

    /// The hub's ledger asks for what no rule allows.
    pub fn wish(&mut self, wish: Wish, which: u8) {
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
                // More than the block brings, now and then.
                let brings = self.hub.chain.win(win).map_or(0, |win| win.value.to_sat());
                let to = match which {
                    192.. => brings + 500_000,
                    _ => [amount / 2, amount + 50_000, 1_000][usize::from(which) % 3],
                };
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
    pub fn council(&mut self) {
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
