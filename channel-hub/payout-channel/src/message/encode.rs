//! Messages to bytes.

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, OutPoint};

use super::{CloseTerms, Code, MAX_TEXT, Message, Price, Request, Standing};
use crate::claim::SignedState;
use crate::state::State;
use crate::terms::{PayoutChannelId, Scheme};

pub(super) fn message(message: &Message) -> Vec<u8> {
    let mut to = Vec::with_capacity(192);
    match message {
        Message::Request(request) => {
            to.extend(unsigned_request(request));
            to.extend(request.signature.as_ref());
            to.extend(request.identity.as_ref());
        }
        Message::Accept(terms) => to.extend(terms.encode()),
        Message::Funded(id, outpoint) => {
            to.extend(id.0);
            place(*outpoint, &mut to);
        }
        Message::Recall(terms, outpoint) => {
            to.extend(terms.encode());
            place(*outpoint, &mut to);
        }
        Message::Locked(id) | Message::Freeze(id) | Message::Frozen(id) => to.extend(id.0),
        Message::NextHeight(id, next) => {
            to.extend(id.0);
            amount(next.base, &mut to);
            price(next.price, &mut to);
            signed(&next.signed, &mut to);
        }
        Message::ShareCredited(id, credited) => {
            to.extend(id.0);
            to.extend(credited.sequence.to_le_bytes());
            to.extend(credited.shares.to_le_bytes());
            to.extend(credited.work.to_le_bytes());
            signed(&credited.signed, &mut to);
        }
        Message::BlockWon(id, won) => {
            to.extend(id.0);
            to.extend(won.height.to_le_bytes());
            to.extend(won.block.as_byte_array());
            signed(&won.signed, &mut to);
        }
        Message::KeyRevealed(id, revealed) => {
            to.extend(id.0);
            to.extend(revealed.height.to_le_bytes());
            to.extend(revealed.key.to_bytes());
            signed(&revealed.signed, &mut to);
        }
        Message::Renewed(id, state) | Message::Held(id, state) => {
            to.extend(id.0);
            signed(state, &mut to);
        }
        Message::RequestClose(id, terms) => close(*id, terms, &mut to),
        Message::CloseSigned(id, terms, signature) => {
            close(*id, terms, &mut to);
            to.extend(signature.as_ref());
        }
        Message::Reestablish(id, held, signature) => {
            to.extend(unsigned_reestablish(*id, *held));
            to.extend(signature.as_ref());
        }
        Message::Reestablished(id, standing) => {
            to.extend(id.0);
            to.push(standing_byte(*standing));
        }
        Message::Error(id, code, text) => error(*id, *code, text, &mut to),
    }
    to
}

pub(super) fn unsigned_request(request: &Request) -> Vec<u8> {
    let mut to = Vec::new();
    for key in [request.hasher_id, request.funding, request.pending, request.settled] {
        to.extend(key.serialize());
    }
    amount(request.capacity, &mut to);
    to.push(scheme_byte(request.scheme));
    to
}

pub(super) fn unsigned_reestablish(id: PayoutChannelId, held: u16) -> Vec<u8> {
    [&id.0[..], &held.to_le_bytes()].concat()
}

/// A state with its signature.
pub(crate) fn signed(signed: &SignedState, to: &mut Vec<u8>) {
    state(&signed.state, to);
    to.extend(signed.signature.as_ref());
}

/// number, height, settled_to, S, count, (B, P_B)…
pub(crate) fn state(state: &State, to: &mut Vec<u8>) {
    to.extend(state.number.to_le_bytes());
    to.extend(state.height.to_le_bytes());
    to.extend(state.settled_to.to_le_bytes());
    amount(state.settled, to);
    let count = u16::try_from(state.pendings.len()).unwrap_or(u16::MAX);
    to.extend(count.to_le_bytes());
    for pending in state.pendings.iter().take(count.into()) {
        to.extend(pending.height.to_le_bytes());
        amount(pending.amount, to);
    }
}

pub(crate) fn place(outpoint: OutPoint, to: &mut Vec<u8>) {
    to.extend(outpoint.txid.as_byte_array());
    to.extend(outpoint.vout.to_le_bytes());
}

fn amount(amount: Amount, to: &mut Vec<u8>) {
    to.extend(amount.to_sat().to_le_bytes());
}

fn price(price: Price, to: &mut Vec<u8>) {
    amount(price.pays, to);
    to.extend(price.per.to_le_bytes());
}

fn close(id: PayoutChannelId, terms: &CloseTerms, to: &mut Vec<u8>) {
    to.extend(id.0);
    amount(terms.owed, to);
    amount(terms.fee, to);
    to.push(u8::try_from(terms.to.len()).unwrap_or(u8::MAX));
    to.extend(terms.to.as_bytes());
}

/// Texts are cut where a character ends.
fn error(id: PayoutChannelId, code: Code, text: &str, to: &mut Vec<u8>) {
    to.extend(id.0);
    to.push(code_byte(code));
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    to.push(u8::try_from(end).unwrap_or(0));
    to.extend(&text.as_bytes()[..end]);
}

pub(super) fn scheme_byte(scheme: Scheme) -> u8 {
    match scheme {
        Scheme::Pplns => 0,
        Scheme::Pps => 1,
    }
}

fn standing_byte(standing: Standing) -> u8 {
    match standing {
        Standing::Accepted => 0,
        Standing::Funded => 1,
        Standing::Open => 2,
        Standing::Frozen => 3,
        Standing::Closed => 4,
    }
}

fn code_byte(code: Code) -> u8 {
    match code {
        Code::Unknown => 0,
        Code::NotAuthentic => 1,
        Code::NotNow => 2,
        Code::Terms => 3,
        Code::TooSmall => 4,
        Code::Rule => 5,
        Code::BadState => 6,
        Code::Close => 7,
        Code::Internal => 8,
    }
}
