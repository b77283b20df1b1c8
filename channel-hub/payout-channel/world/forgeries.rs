//! What a dishonest hasher tells the hub beside what its program says. It has its keys, all that was ever signed for it, knows
//! what was signed for the other one, and what that one sent.

use bitcoin::hashes::Hash as _;
use bitcoin::key::{CompressedPublicKey, PublicKey};
use bitcoin::opcodes::all::OP_PUSHNUM_1;
use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::secp256k1::{Keypair, Parity};
use bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf};
use lock::Key;
use payout_channel::message::{
    self, BlockWon, CloseTerms, Code, KeyRevealed, Message, NextHeight, Price, Request, ShareCredited,
    Standing,
};
use payout_channel::script::key_only;
use payout_channel::{HasherKeys, PayoutChannelId, Pending, SignedState, hasher};

use super::actions::Forgery;
use super::cast::{CHANNELS, cast};
use super::ground::Party;
use super::hasher::{forged, index_of, scheme};
use super::lies::{learn, twist};
use super::world::World;

/// The one that may be dishonest.
pub const FORGER: usize = 1;

/// A forgery with the numbers that it uses.
pub type Manner = (Forgery, u8, u8);

/// Most states of one show.
const MOST: usize = 12;

impl World {
    /// A dishonest hasher tells the hub what is not so: once, or from now on whenever it connects instead of what it holds.
    pub fn forge(&mut self, manner: Manner) {
        if self.setting.honest_second {
            return;
        }
        let (forgery, also, _) = manner;
        let is_show = matches!(forgery, Forgery::Twisted | Forgery::Chosen | Forgery::Others);
        self.manner = (is_show && also & 8 != 0).then_some(manner);
        for message in self.forged(manner) {
            self.lines[FORGER].say_up(&message);
        }
    }

    /// What is sent.
    pub fn forged(&mut self, (forgery, also, how): Manner) -> Vec<Message> {
        match forgery {
            Forgery::Twisted => self.twisted(also, how),
            Forgery::Chosen => self.chosen(also, how),
            Forgery::Others => self.others(how),
            Forgery::Reestablish => self.re_establishes(also, how),
            Forgery::Close => self.closes(also, how),
            Forgery::Stray => self.strays(also, how),
            Forgery::Request => self.requests(also, how),
            Forgery::Recall => self.recalls(also, how),
        }
    }

    /// The forger's newest payout channel among the accounts, or the one before.
    fn own(&self, older: bool) -> Option<usize> {
        self.account_of(FORGER, older)
    }

    fn own_keys(&self, place: usize) -> &'static HasherKeys {
        let account = &self.books.accounts[place];
        &cast().hasher_keys[FORGER][index_of(FORGER, &account.template)]
    }

    /// A re-establishment that says `count`, signed with a key of the forger's for its connection, and states.
    fn show(
        &self,
        id: PayoutChannelId,
        key: &Keypair,
        count: usize,
        states: Vec<SignedState>,
    ) -> Vec<Message> {
        let count = u16::try_from(count).unwrap().min(message::MAX_HELD);
        let first = message::reestablish(id, count, &self.lines[FORGER].handshake(), key, &cast().secp);
        let held = states.into_iter().map(|state| Message::Held(id, Box::new(state)));
        std::iter::once(first).chain(held).collect()
    }

    /// A state that was never signed, with a signature that is another's or of another state; alone, or behind real ones.
    fn twisted(&mut self, also: u8, how: u8) -> Vec<Message> {
        let Some(place) = self.own(how & 0x80 != 0) else { return Vec::new() };
        let tip = self.ground.chain.height();
        let keys = self.own_keys(place);
        let account = &mut self.books.accounts[place];
        let Some(base) = account.signed.last().cloned() else { return Vec::new() };
        let mut state = base.state.clone();
        twist(&mut state, how & 0x3f, tip, &account.signed);
        if how & 0x40 != 0 {
            state.number = state.number.saturating_sub(1);
        }
        learn(account, &state, &self.hub);
        let first = account.signed[0].signature;
        let by = |key| account.template.sign(&state, key, &cast().secp).ok();
        let signature = match also % 4 {
            0 => None,
            1 => by(&keys.funding),
            2 => by(&cast().council[0]),
            _ => Some(first),
        };
        let forged = SignedState { state, signature: signature.unwrap_or(base.signature) };
        let states = if also & 4 != 0 { vec![base, forged] } else { vec![forged] };
        let id = account.id;
        self.show(id, &keys.funding, states.len(), states)
    }

    /// Real states: old ones, some twice, in another order, or none; changed where their signature does not say.
    fn chosen(&self, also: u8, how: u8) -> Vec<Message> {
        let Some(place) = self.own(how & 0x80 != 0) else { return Vec::new() };
        let account = &self.books.accounts[place];
        let signed = &account.signed;
        let last = signed.len().saturating_sub(1);
        let at = |place: usize| signed.get(place).cloned();
        let nth = usize::from(how / 8 % 16);
        let mut states: Vec<SignedState> = match how % 8 {
            0 => Vec::new(),
            1 => at(0).into_iter().collect(),
            2 => at(nth % signed.len().max(1)).into_iter().collect(),
            3 => signed.iter().rev().take(MOST).cloned().collect(),
            4 => signed[..last].iter().rev().take(1 + nth).cloned().collect(),
            5 => at(last).into_iter().cycle().take(2 + nth % 3).collect(),
            6 => signed.iter().skip(nth).chain(signed.iter().take(nth)).take(MOST).cloned().collect(),
            _ => at(last.saturating_sub(nth)).into_iter().chain(at(last)).collect(),
        };
        let tip = self.ground.chain.height();
        for (place, shown) in states.iter_mut().enumerate() {
            let state = &mut shown.state;
            match also % 4 {
                0 => {}
                1 => state.height = tip + 1 + u32::from(how / 64),
                // A pending of dust has no output in a claim.
                2 => {
                    state.set_pending(tip + 1 + u32::try_from(place % 2).unwrap(), Amount::from_sat(329));
                }
                _ => {
                    let dust = |height| Pending { height, amount: Amount::from_sat(300) };
                    state.pendings.extend((tip + 3..tip + 200).map(dust).take(100));
                }
            }
        }
        // One more or less than is said.
        let count = states.len() + usize::from(also & 4 != 0) * (1 + nth % 2);
        self.show(account.id, &self.own_keys(place).funding, count, states)
    }

    /// States of one payout channel under the name of another; and the other hasher's, with what that one sent.
    fn others(&self, how: u8) -> Vec<Message> {
        let (own, other) = (self.own(false), self.account_of(0, how & 0x80 != 0));
        let Some((own, other)) = own.zip(other) else { return Vec::new() };
        let older = self.own(true).filter(|older| *older != own).unwrap_or(other);
        let key = &self.own_keys(own).funding;
        let id = |place: usize| self.books.accounts[place].id;
        let last = |place: usize| self.books.accounts[place].signed.iter().rev().take(3).cloned().collect();
        let states: Vec<SignedState> = last(if how & 4 != 0 { older } else { other });
        let settled = last(other).last().map_or(Amount::ZERO, |signed: &SignedState| signed.state.settled);
        let close =
            CloseTerms { owed: settled, fee: Amount::from_sat(600), to: cast().hasher_script(FORGER) };
        let takes = [Message::Freeze(id(other)), Message::RequestClose(id(other), close)];
        match how % 4 {
            0 => self.show(id(own), key, states.len(), states),
            1 => self.show(id(older), key, states.len(), states).into_iter().chain(takes).collect(),
            2 => self.show(id(other), key, states.len(), states).into_iter().chain(takes).collect(),
            // As the other one sent it on its own connection.
            _ => {
                let account = &self.books.accounts[other];
                let keys = &cast().hasher_keys[0][index_of(0, &account.template)];
                let handshake = self.lines[0].handshake();
                let sent = message::reestablish(account.id, 0, &handshake, &keys.funding, &cast().secp);
                std::iter::once(sent).chain(takes).collect()
            }
        }
    }

    /// Numbers and signatures of re-establishments that are not right; several at once; more states than were announced.
    fn re_establishes(&self, also: u8, how: u8) -> Vec<Message> {
        let Some(place) = self.own(how & 0x80 != 0) else { return Vec::new() };
        let (account, keys) = (&self.books.accounts[place], self.own_keys(place));
        let signed = &account.signed;
        let shown = usize::from(how / 5 % 8).min(signed.len());
        let count = [0, shown.saturating_sub(1), shown, shown + 1, 1_024][usize::from(how % 5)];
        let (key, handshake) = match also % 4 {
            0 => (&keys.funding, self.lines[FORGER].handshake()),
            1 => (&keys.funding, self.lines[FORGER].handshake_before()),
            2 => (&keys.funding, self.lines[0].handshake()),
            _ => (&keys.pending, self.lines[FORGER].handshake()),
        };
        let count = u16::try_from(count).unwrap();
        let first = message::reestablish(account.id, count, &handshake, key, &cast().secp);
        let held = signed.iter().rev().take(shown);
        let held: Vec<_> = held.map(|state| Message::Held(account.id, Box::new(state.clone()))).collect();
        let mut said = vec![first.clone()];
        said.extend(held.iter().cloned());
        if also & 4 != 0 {
            said.push(first);
            said.extend(held.into_iter().rev());
        }
        if also & 8 != 0 {
            said.push(Message::Locked(account.id));
        }
        said
    }

    /// A close over another amount, at another fee, to another destination; before the freeze, or twice.
    fn closes(&mut self, also: u8, how: u8) -> Vec<Message> {
        let Some(place) = self.own(how & 8 != 0) else { return Vec::new() };
        let account = &self.books.accounts[place];
        let (id, reserve) = (account.id, account.template.funded().terms.reserve());
        let last = account.signed.last().map(|signed| signed.state.clone());
        let settled = last.as_ref().map_or(Amount::ZERO, |state| state.settled);
        let all = last.as_ref().and_then(payout_channel::State::total).unwrap_or(Amount::ZERO);
        let older =
            account.signed.get(account.signed.len() / 2).map_or(Amount::ZERO, |old| old.state.settled);
        let capacity = account.template.funded().terms.capacity;
        let most = Amount::MAX_MONEY;
        let (sat, one) = (Amount::from_sat, Amount::ONE_SAT);
        let owed = [settled, settled, settled + one, all, Amount::ZERO, older, capacity, most];
        let fees = [sat(600), sat(204), reserve, reserve + one, settled, settled + reserve, sat(0), most];
        let (owed, fee) = (owed[usize::from(how % 8)], fees[usize::from(also % 8)]);
        let script = usize::from(how / 16 % 8);
        let to = self.destination(place, script);
        let asked = Message::RequestClose(id, CloseTerms { owed, fee, to });
        let to = self.destination(place, script + 1);
        let again = Message::RequestClose(id, CloseTerms { owed, fee: sat(700), to });
        let freeze = (also & 8 == 0).then_some(Message::Freeze(id));
        let again = (how & 0x80 != 0).then_some(again);
        freeze.into_iter().chain([asked]).chain(again).collect()
    }

    /// Where a close may go: to itself in four ways, to the hub, and to what is no destination.
    fn destination(&mut self, place: usize, script: usize) -> ScriptBuf {
        let cast = cast();
        let key = cast.hasher_wallets[FORGER].x_only_public_key().0.public_key(Parity::Even);
        let terms = &self.books.accounts[place].template.funded().terms;
        let anything = ScriptBuf::builder().push_opcode(OP_PUSHNUM_1).into_script();
        let own = [
            cast.hasher_script(FORGER),
            ScriptBuf::new_p2wpkh(&CompressedPublicKey(key).wpubkey_hash()),
            ScriptBuf::new_p2pkh(&PublicKey::new(key).pubkey_hash()),
            anything.to_p2sh(),
        ];
        let others = [key_only(&terms.hub_refund, &cast.secp), cast.hub_script(), anything, ScriptBuf::new()];
        own.iter().for_each(|script| self.ground.owns(Party::Hasher(FORGER), script.clone()));
        own.into_iter().chain(others).nth(script % 8).unwrap_or_default()
    }

    /// Messages that come at the wrong time, or from the wrong side; about its own payout channel, the other hasher's or none.
    fn strays(&self, also: u8, how: u8) -> Vec<Message> {
        let of = if also & 1 == 0 { FORGER } else { 0 };
        let Some(place) = self.account_of(of, also & 2 != 0) else { return Vec::new() };
        let account = &self.books.accounts[place];
        let id = if also & 12 == 12 { PayoutChannelId([how; 32]) } else { account.id };
        let nothing = SignedState {
            state: payout_channel::State::empty(self.ground.chain.height()),
            signature: Signature::from_slice(&[0; 64]).unwrap(),
        };
        let signed = account.signed.last().cloned().unwrap_or(nothing);
        let (height, block) = (signed.state.height, BlockHash::all_zeros());
        let key = Key::from_bytes([how; 32]);
        let to = cast().hasher_script(FORGER);
        let close = CloseTerms { owed: signed.state.settled, fee: Amount::from_sat(600), to };
        let (base, price) = (signed.state.settled, Price::default());
        let signature = signed.signature;
        vec![match how % 16 {
            0..=2 => Message::Freeze(id),
            3 => Message::Locked(id),
            4 => Message::Frozen(id),
            5 => Message::Error(id, Code::Unknown, String::new()),
            6 => Message::Funded(id, OutPoint::null()),
            7 => Message::KeyRevealed(id, Box::new(KeyRevealed { height, key, signed })),
            8 => Message::Renewed(id, Box::new(signed)),
            9 => Message::NextHeight(id, Box::new(NextHeight { base, price, signed })),
            10 => {
                let credited = ShareCredited { sequence: 0, shares: 1, work: 1, signed };
                Message::ShareCredited(id, Box::new(credited))
            }
            11 => Message::BlockWon(id, Box::new(BlockWon { height, block, signed })),
            12 => Message::CloseSigned(id, close, signature),
            13 => Message::Reestablished(id, Standing::Closed),
            14 => Message::Accept(Box::new(account.template.funded().terms.clone())),
            _ => Message::Held(id, Box::new(signed)),
        }]
    }

    /// Requests with keys in other places, in another's name, signed with other keys, for another connection.
    fn requests(&self, also: u8, how: u8) -> Vec<Message> {
        let cast = cast();
        let keys = &cast.hasher_keys[FORGER][usize::from(also) % CHANNELS as usize];
        let others = &cast.hasher_keys[0][0];
        let public = payout_channel::keys::public;
        let id = public(&cast.hasher_ids[if how & 1 == 0 { FORGER } else { 0 }]);
        let capacity = [Amount::ZERO, Amount::ONE_SAT, Amount::MAX_MONEY][usize::from(how / 64) % 3];
        let scheme = scheme(FORGER, self.setting.pps);
        let request = hasher::request(id, keys, capacity, scheme).unwrap();
        let (funding, pending, settled) = (request.funding, request.pending, request.settled);
        let request = match how / 2 % 8 {
            0 | 1 => request,
            2 => Request { pending: settled, settled: pending, ..request },
            3 => Request { pending: funding, ..request },
            4 => Request { settled: pending, ..request },
            5 => Request { pending: public(&others.pending), ..request },
            6 => Request { funding: public(&others.funding), ..request },
            _ => Request { hasher_id: cast.hub_id, ..request },
        };
        let handshake = match how / 16 % 4 {
            0..=1 => self.lines[FORGER].handshake(),
            2 => self.lines[FORGER].handshake_before(),
            _ => self.lines[0].handshake(),
        };
        let key = if also & 8 == 0 { &keys.funding } else { &others.pending };
        let identity = &cast.hasher_ids[FORGER];
        vec![Message::Request(Box::new(request.sign(&handshake, key, identity, &cast.secp)))]
    }

    /// Payout channels that the hub knows, or not; by terms that it made, or not; with this funding or another; the other hasher's too.
    fn recalls(&self, also: u8, how: u8) -> Vec<Message> {
        let of = if how & 1 == 0 { FORGER } else { 0 };
        let Some(place) = self.account_of(of, how & 2 != 0) else { return Vec::new() };
        let funded = self.books.accounts[place].template.funded().clone();
        let any = &self.books.accounts[usize::from(how / 4) % self.books.accounts.len()];
        let outpoints = [funded.outpoint, funded.outpoint, any.template.funded().outpoint, OutPoint::null()];
        let changed = forged(&funded.terms);
        let terms = changed.get(usize::from(how / 32)).unwrap_or(&funded.terms);
        let (terms, outpoint) = (terms.clone(), outpoints[usize::from(also % 4)]);
        vec![Message::Recall(Box::new(terms), outpoint)]
    }
}
