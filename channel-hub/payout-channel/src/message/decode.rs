//! Bytes to messages.

use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, OutPoint, ScriptBuf, Txid};
use lock::Key;

use super::bytes::{Malformed, Reader};
use super::{
    BlockWon, CloseTerms, Code, KeyRevealed, MAX_HELD, MAX_SCRIPT, Message, NextHeight, Price, Request,
    ShareCredited, Standing,
};
use crate::claim::SignedState;
use crate::params::MAX_PENDINGS;
use crate::state::{Pending, State};
use crate::terms::{PayoutChannelId, Scheme, Terms};

pub(super) fn message(kind: u8, payload: &[u8]) -> Result<Message, Malformed> {
    let mut from = Reader(payload);
    let message = body(kind, &mut from)?;
    from.end()?;
    Ok(message)
}

fn body(kind: u8, from: &mut Reader<'_>) -> Result<Message, Malformed> {
    Ok(match kind {
        0x00 => Message::Request(Box::new(request(from)?)),
        0x01 => Message::Accept(Box::new(terms(from)?)),
        0x02 => Message::Funded(id(from)?, outpoint(from)?),
        0x03 => Message::Locked(id(from)?),
        0x04 => Message::NextHeight(id(from)?, Box::new(next_height(from)?)),
        0x05 => Message::ShareCredited(id(from)?, Box::new(credited(from)?)),
        0x06 => Message::BlockWon(id(from)?, Box::new(won(from)?)),
        0x07 => Message::KeyRevealed(id(from)?, Box::new(revealed(from)?)),
        0x08 => Message::Renewed(id(from)?, Box::new(signed(from)?)),
        0x09 => Message::Freeze(id(from)?),
        0x0a => Message::Frozen(id(from)?),
        0x0b => Message::RequestClose(id(from)?, close(from)?),
        0x0c => Message::CloseSigned(id(from)?, close(from)?, from.signature()?),
        0x0d => Message::Reestablish(id(from)?, held(from)?, from.signature()?),
        0x0e => Message::Held(id(from)?, Box::new(signed(from)?)),
        0x0f => Message::Reestablished(id(from)?, standing(from)?),
        0x11 => Message::Recall(Box::new(terms(from)?), outpoint(from)?),
        0x10 => Message::Error(id(from)?, code(from)?, text(from)?),
        _ => return Err(Malformed::Kind(kind)),
    })
}

fn request(from: &mut Reader<'_>) -> Result<Request, Malformed> {
    Ok(Request {
        hasher_id: from.key()?,
        funding: from.key()?,
        pending: from.key()?,
        settled: from.key()?,
        capacity: from.amount()?,
        scheme: scheme(from)?,
        signature: from.signature()?,
        identity: from.signature()?,
    })
}

/// Terms as [`Terms::encode`] writes them; not checked yet.
pub(crate) fn terms(from: &mut Reader<'_>) -> Result<Terms, Malformed> {
    Ok(Terms {
        magic: from.array()?,
        hub_id: from.key()?,
        hasher_id: from.key()?,
        hub_funding: from.key()?,
        hub_refund: from.key()?,
        hasher_funding: from.key()?,
        hasher_pending: from.key()?,
        hasher_settled: from.key()?,
        capacity: from.amount()?,
        expiry: from.u32()?,
        refund: from.u32()?,
        max_pendings: from.u16()?,
        fee_ppm: from.u32()?,
        scheme: scheme(from)?,
    })
}

fn next_height(from: &mut Reader<'_>) -> Result<NextHeight, Malformed> {
    let (base, pays, per) = (from.amount()?, from.amount()?, from.u128()?);
    Ok(NextHeight { base, price: Price { pays, per }, signed: signed(from)? })
}

fn credited(from: &mut Reader<'_>) -> Result<ShareCredited, Malformed> {
    Ok(ShareCredited {
        sequence: from.u32()?,
        shares: from.u32()?,
        work: from.u128()?,
        signed: signed(from)?,
    })
}

fn won(from: &mut Reader<'_>) -> Result<BlockWon, Malformed> {
    let (height, block) = (from.u32()?, BlockHash::from_byte_array(from.array()?));
    Ok(BlockWon { height, block, signed: signed(from)? })
}

fn revealed(from: &mut Reader<'_>) -> Result<KeyRevealed, Malformed> {
    let (height, key) = (from.u32()?, Key::from_bytes(from.array()?));
    Ok(KeyRevealed { height, key, signed: signed(from)? })
}

pub(crate) fn signed(from: &mut Reader<'_>) -> Result<SignedState, Malformed> {
    Ok(SignedState { state: state(from)?, signature: from.signature()? })
}

pub(crate) fn state(from: &mut Reader<'_>) -> Result<State, Malformed> {
    let (number, height, settled_to, settled) = (from.u32()?, from.u32()?, from.u32()?, from.amount()?);
    let count = from.u16()?;
    if count > MAX_PENDINGS {
        return Err(Malformed::Bounds("pendings"));
    }
    let pendings = (0..count).map(|_| Ok(Pending { height: from.u32()?, amount: from.amount()? }));
    let pendings = pendings.collect::<Result<_, _>>()?;
    Ok(State { number, height, settled_to, settled, pendings })
}

fn close(from: &mut Reader<'_>) -> Result<CloseTerms, Malformed> {
    let (owed, fee, length) = (from.amount()?, from.amount()?, usize::from(from.u8()?));
    if length > MAX_SCRIPT {
        return Err(Malformed::Bounds("destination"));
    }
    Ok(CloseTerms { owed, fee, to: ScriptBuf::from_bytes(from.take(length)?.to_vec()) })
}

fn id(from: &mut Reader<'_>) -> Result<PayoutChannelId, Malformed> {
    Ok(PayoutChannelId(from.array()?))
}

pub(crate) fn outpoint(from: &mut Reader<'_>) -> Result<OutPoint, Malformed> {
    Ok(OutPoint::new(Txid::from_byte_array(from.array()?), from.u32()?))
}

fn held(from: &mut Reader<'_>) -> Result<u16, Malformed> {
    let held = from.u16()?;
    if held > MAX_HELD { Err(Malformed::Bounds("states")) } else { Ok(held) }
}

fn scheme(from: &mut Reader<'_>) -> Result<Scheme, Malformed> {
    choose(from, &[Scheme::Pplns, Scheme::Pps], "scheme")
}

fn standing(from: &mut Reader<'_>) -> Result<Standing, Malformed> {
    let all = [Standing::Accepted, Standing::Funded, Standing::Open, Standing::Frozen, Standing::Closed];
    choose(from, &all, "standing")
}

fn code(from: &mut Reader<'_>) -> Result<Code, Malformed> {
    let all = [
        Code::Unknown,
        Code::NotAuthentic,
        Code::NotNow,
        Code::Terms,
        Code::TooSmall,
        Code::Rule,
        Code::BadState,
        Code::Close,
        Code::Internal,
    ];
    choose(from, &all, "code")
}

fn text(from: &mut Reader<'_>) -> Result<String, Malformed> {
    let length = from.u8()?;
    String::from_utf8(from.take(length.into())?.to_vec()).map_err(|_| Malformed::Bounds("text"))
}

fn choose<T: Copy>(from: &mut Reader<'_>, all: &[T], what: &'static str) -> Result<T, Malformed> {
    all.get(usize::from(from.u8()?)).copied().ok_or(Malformed::Bounds(what))
}
