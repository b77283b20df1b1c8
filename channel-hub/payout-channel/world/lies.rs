//! What a dishonest hub and a dishonest hasher do beside their programs. The hub has all its keys and no conscience.

use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::{Amount, FeeRate, ScriptBuf};
use lock::Key;
use payout_channel::claim::ClaimTemplate;
use payout_channel::message::{CloseTerms, KeyRevealed, Message, NextHeight, Price, ShareCredited};
use payout_channel::transactions::close::{self, Close};
use payout_channel::transactions::coinbase::{self, WonOutput};
use payout_channel::{PayoutChannelId, Pending, SignedState, State};

use super::actions::Lie;
use super::cast::cast;
use super::exits;
use super::ground::Party;
use super::hub::part;
use super::wallet;
use super::world::World;

/// A close with the hub's signature, as it came.
pub type SignedClose = (PayoutChannelId, CloseTerms, Signature);

impl World {
    /// A dishonest hub lies to a hasher.
    pub fn lie(&mut self, lie: Lie, hasher: usize, how: u8) {
        if self.setting.honest_hub || self.hub_gone {
            return;
        }
        match lie {
            Lie::State => self.lie_state(hasher, how, true),
            Lie::Forged => self.lie_state(hasher, how, false),
            Lie::WrongKey => self.lie_key(hasher, how),
            Lie::ClaimNoWin => self.claim_no_win(),
            Lie::Reveal => self.reveal_to(hasher, how),
            Lie::Close => self.lie_close(hasher, how),
            Lie::TakeBack => self.hub.take_back(&mut self.ground),
            Lie::DoubleSpend => self.double_spend(how),
            Lie::NoClaims => self.no_claims = !self.no_claims,
            Lie::Sum => self.lie_sum(how),
            Lie::Lock => self.lie_lock(hasher, how),
        }
    }

    /// The place among the accounts of a hasher's newest payout channel, or an older one.
    pub fn account_of(&self, hasher: usize, older: bool) -> Option<usize> {
        let own = |place: &usize| self.books.accounts[*place].hasher == hasher;
        let mut places = (0..self.books.accounts.len()).rev().filter(own);
        if older { places.nth(1).or_else(|| self.account_of(hasher, false)) } else { places.next() }
    }

    /// A state that is a little or very wrong, in a message that may be the wrong one.
    fn lie_state(&mut self, hasher: usize, how: u8, signs: bool) {
        let Some(place) = self.account_of(hasher, how & 0x80 != 0) else { return };
        let tip = self.ground.chain.height();
        let account = &mut self.books.accounts[place];
        let last = account.signed.last().map(|signed| signed.state.clone());
        let mut state = last.unwrap_or_else(|| State::empty(tip + 1));
        twist(&mut state, how & 0x3f, tip, &account.signed);
        for pending in &state.pendings {
            let lock = cast().lock(pending.height);
            let _known = account.template.learn(pending.height, lock, &cast().secp);
        }
        let keys = cast().hub_keys(&account.template.funded().terms);
        let key = if signs { &keys.funding } else { &keys.refund };
        let Ok(signature) = account.template.sign(&state, key, &cast().secp) else { return };
        let signed = SignedState { state, signature };
        let id = account.id;
        if signs {
            account.signed.push(signed.clone());
        }
        let message = match how / 64 % 2 {
            0 => Message::Renewed(id, Box::new(signed)),
            _ if how & 1 == 0 => {
                let base = signed.state.pending(signed.state.height);
                Message::NextHeight(id, Box::new(NextHeight { base, price: Price::default(), signed }))
            }
            _ => {
                let credited = ShareCredited { sequence: 0, shares: 1, work: 1, signed };
                Message::ShareCredited(id, Box::new(credited))
            }
        };
        self.lines[hasher].say_down(&message);
    }

    /// Another Σ_B than that of what was signed: R6 allows the second, for pendings of hashers that do not exist.
    fn lie_sum(&mut self, how: u8) {
        let (brings, most) = part(self.ground.chain.height() + 1);
        let sums = [brings + Amount::from_sat(2_000_000), most, Amount::ZERO];
        self.hub.state_sum(sums[usize::from(how) % sums.len()]);
    }

    /// The last state with one more step for its height, as if another sheet had been shown: that of the height before or after.
    fn lie_lock(&mut self, hasher: usize, how: u8) {
        let Some(place) = self.account_of(hasher, false) else { return };
        let account = &self.books.accounts[place];
        let Some(mut state) = account.signed.last().map(|signed| signed.state.clone()) else { return };
        let height = state.height;
        state.number += 1;
        state.set_pending(height, state.pending(height) + Amount::from_sat(100_000));
        let mut template = ClaimTemplate::new(account.template.funded().clone(), &cast().secp).unwrap();
        for pending in &state.pendings {
            let of =
                if pending.height == height { height - 1 + 2 * u32::from(how % 2) } else { pending.height };
            let _known = template.learn(pending.height, cast().lock(of), &cast().secp);
        }
        let key = cast().hub_keys(&account.template.funded().terms).funding;
        let Ok(signature) = template.sign(&state, &key, &cast().secp) else { return };
        let signed = SignedState { state, signature };
        let message = Message::Renewed(account.id, Box::new(signed));
        self.lines[hasher].say_down(&message);
    }

    fn lie_key(&mut self, hasher: usize, how: u8) {
        let Some(place) = self.account_of(hasher, false) else { return };
        let account = &self.books.accounts[place];
        let Some(signed) = account.signed.last().cloned() else { return };
        let height = signed.state.height;
        let key = match how % 3 {
            0 => Key::from_bytes([how; 32]),
            1 => cast().key(height + 1),
            _ => Key::from_bytes(sha256::Hash::hash(&cast().lock(height).to_bytes()).to_byte_array()),
        };
        let revealed = KeyRevealed { height, key, signed };
        let message = Message::KeyRevealed(account.id, Box::new(revealed));
        self.lines[hasher].say_down(&message);
    }

    /// Spends coinbase outputs that pay script_B too little to be a win, or all that are there.
    fn claim_no_win(&mut self) {
        let paid: Vec<_> = self.paid.iter().map(|(height, outpoint)| (*height, *outpoint)).collect();
        for (height, outpoint) in paid {
            let Some(coin) = self.ground.chain.coin(&outpoint).cloned() else { continue };
            let output = cast().locked(height).clone();
            let won = WonOutput { outpoint, value: coin.output.value, output };
            let coins = [(won, cast().key(height), cast().claim_key)];
            let rate = FeeRate::from_sat_per_vb(3).unwrap();
            if let Ok(claim) = coinbase::claim(&coins, &[], cast().hub_script(), rate, &cast().secp) {
                let _immature = self.ground.broadcast(Party::Hub, &claim);
            }
        }
    }

    /// Tells one hasher a key that nobody else knows, in a state that leaves everything else as it is.
    fn reveal_to(&mut self, hasher: usize, how: u8) {
        let Some(place) = self.account_of(hasher, false) else { return };
        let account = &self.books.accounts[place];
        let Some(signed) = account.signed.last().cloned() else { return };
        let pendings = &signed.state.pendings;
        let Some(pending) = pendings.get(usize::from(how) % pendings.len().max(1)) else { return };
        let (height, key) = (pending.height, cast().key(pending.height));
        self.books.revealed.insert(height);
        let revealed = KeyRevealed { height, key, signed };
        let message = Message::KeyRevealed(account.id, Box::new(revealed));
        self.lines[hasher].say_down(&message);
    }

    fn lie_close(&mut self, hasher: usize, how: u8) {
        let Some(place) = self.account_of(hasher, false) else { return };
        let account = &self.books.accounts[place];
        let settled = account.signed.last().map_or(Amount::ZERO, |signed| signed.state.settled);
        let owed = match how % 3 {
            0 => Amount::ZERO,
            1 => settled / 2,
            _ => settled,
        };
        let fee = Amount::from_sat(600 + 2_000_000 * u64::from(how / 128));
        let to = if how & 64 == 0 { cast().hasher_script(hasher) } else { cast().hub_script() };
        let funded = account.template.funded().clone();
        let keys = cast().hub_keys(&funded.terms);
        let close = Close { owed, to: to.clone(), fee };
        let Ok(signature) = close::sign(&funded, &close, &keys.funding, &cast().secp) else { return };
        let signature: Signature = signature;
        let message = Message::CloseSigned(account.id, CloseTerms { owed, fee, to }, signature);
        self.lines[hasher].say_down(&message);
    }

    /// Spends the hub's coins elsewhere, with a fee that replaces what waits.
    fn double_spend(&mut self, how: u8) {
        let script: ScriptBuf = cast().hub_script();
        let waiting = self.ground.mempool.waiting().iter().flat_map(|one| one.tx.body.input.clone());
        let coins: Vec<_> = waiting
            .filter_map(|input| {
                let coin = self.ground.chain.coin(&input.previous_output)?;
                (coin.output.script_pubkey == script).then_some((input.previous_output, coin.output.value))
            })
            .collect();
        let Some(coin) = coins.get(usize::from(how) % coins.len().max(1)) else { return };
        let fee = Amount::from_sat(50_000);
        if let Some(paid) = wallet::pay(&cast().hub_wallet, &script, &[*coin], Vec::new(), fee) {
            let _refused = self.ground.broadcast(Party::Hub, &paid);
        }
    }

    /// A dishonest hasher publishes a state or a close that was signed for it at any time.
    pub fn publish(&mut self, hasher: usize, which: u8) {
        if hasher == 0 || self.setting.honest_second {
            return;
        }
        let own = (0..self.books.accounts.len()).filter(|place| self.books.accounts[*place].hasher == hasher);
        let own: Vec<usize> = own.collect();
        let Some(place) = own.get(usize::from(which) % own.len().max(1)) else { return };
        let account = &self.books.accounts[*place];
        let closes: Vec<_> = self.closes.iter().filter(|(of, ..)| *of == account.id).collect();
        let nth = usize::from(which / 2) % (account.signed.len() + closes.len()).max(1);
        match (account.signed.get(nth).cloned(), closes.get(nth.wrapping_sub(account.signed.len()))) {
            (Some(signed), _) => self.publish_state(*place, &signed),
            (None, Some(close)) => self.publish_close((*close).clone()),
            (None, None) => {}
        }
    }

    /// Publishes a close that the hub signed, whatever its hasher's program asked for.
    pub fn publish_close(&mut self, (id, close, signature): SignedClose) {
        let Some(account) = self.books.account(id) else { return };
        let index = super::hasher::index_of(account.hasher, &account.template);
        let key = &cast().hasher_keys[account.hasher][index].funding;
        let close = Close { owed: close.owed, to: close.to, fee: close.fee };
        let by = Party::Hasher(account.hasher);
        if let Ok(close) = close::signed(account.template.funded(), &close, &signature, key, &cast().secp) {
            let _refused = self.ground.broadcast_close(by, &close);
        }
    }

    /// Publishes a claim, by its hasher.
    pub fn publish_state(&mut self, place: usize, signed: &SignedState) {
        let account = &mut self.books.accounts[place];
        learn(account, &signed.state, &self.hub);
        let account = &self.books.accounts[place];
        let index = super::hasher::index_of(account.hasher, &account.template);
        let keys = &cast().hasher_keys[account.hasher][index];
        let Ok(claim) = account.template.signed(signed, &keys.funding, &cast().secp) else { return };
        let rate = self.ground.going_rate();
        let public = self.ground.public_keys().clone();
        let opened = |height: u32| public.get(&height).copied();
        exits::publish(
            account.hasher,
            &account.template,
            &signed.state,
            &claim,
            opened,
            rate,
            &mut self.ground,
        );
    }

    /// Takes what confirmed claims of a dishonest hasher pay.
    pub fn sweep_claims(&mut self, hasher: usize) {
        for place in 0..self.books.accounts.len() {
            let account = &self.books.accounts[place];
            if account.hasher != hasher {
                continue;
            }
            let outpoint = account.template.funded().outpoint;
            let Some(spend) = self.ground.chain.spender(&outpoint) else { continue };
            let states: Vec<State> = account.signed.iter().map(|signed| signed.state.clone()).collect();
            for state in &states {
                learn(&mut self.books.accounts[place], state, &self.hub);
            }
            let template = &self.books.accounts[place].template;
            let Some(state) = states.iter().find(|state| exits::is_of(template, state, &spend.txid)) else {
                continue;
            };
            let public: std::collections::BTreeMap<u32, Key> =
                self.books.revealed.iter().map(|height| (*height, self.hub_key(*height))).collect();
            let opened = |height: u32| public.get(&height).copied();
            exits::sweep(hasher, template, state, &spend.body, opened, &mut self.ground);
        }
    }

    fn hub_key(&self, height: u32) -> Key {
        cast().key(height)
    }
}

/// Scripts of all heights that a state has pendings for.
pub fn learn(account: &mut super::books::Account, state: &State, hub: &super::hub::Hub) {
    for pending in &state.pendings {
        let _known = account.template.learn(pending.height, hub.lock(pending.height), &cast().secp);
    }
}

/// Changes a state as `how` says.
pub fn twist(state: &mut State, how: u8, tip: u32, signed: &[SignedState]) {
    state.number += 1;
    let thousand = Amount::from_sat(1_000);
    match how % 16 {
        0 => state.settled_to = tip + 1,
        1 => state.settled_to = tip + 3,
        2 => state.settled_to = tip.saturating_sub(u32::from(how / 16)),
        3 => state.settled /= 2,
        4 => state.settled += thousand,
        5 => drop(state.pendings.pop()),
        6 => state.pendings.iter_mut().for_each(|pending| pending.amount /= 2),
        7 => state.pendings.iter_mut().for_each(|pending| pending.amount += thousand),
        8 => state.pendings.clear(),
        9 => state.number = State::LAST,
        10 => state.number = u32::from(how / 16),
        11 => state.height = tip + 1 + u32::from(how / 16),
        12 => {
            state.height = tip + 2;
            state.pendings = vec![Pending { height: tip + 2, amount: Amount::from_sat(500_000) }];
        }
        13 => {
            let old = signed.get(usize::from(how) * 7 % signed.len().max(1));
            let number = state.number;
            if let Some(old) = old {
                *state = old.state.clone();
                state.number = number;
            }
        }
        14 => {
            // A pending moves into S, though nothing was won.
            if let Some(pending) = state.pendings.first().copied() {
                state.settled_to = pending.height;
                state.settled += pending.amount / 2;
                state.pendings.retain(|other| other.height > pending.height);
            }
        }
        _ => {
            state.settled_to = tip + 200;
            state.pendings.clear();
        }
    }
    state.pendings.retain(|pending| pending.height > state.settled_to && pending.amount > Amount::ZERO);
}
