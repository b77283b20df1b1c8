//! Events as rows of a store: a version, a kind, the fields in the order of their declaration, all as in messages. What is read
//! back is not believed: `restore` of either end checks every rule again.

use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf};
use lock::{Key, Lock};

use crate::claim::SignedState;
use crate::message::bytes::{Malformed, Reader};
use crate::message::{decode, encode};
use crate::signer::Cap;
use crate::state::State;
use crate::terms::{FundedTerms, PayoutChannelId, Terms};
use crate::transactions::close::Close;
use crate::watcher::Win;
use crate::{hasher, hub, signer};

/// Of the rows that are written.
pub const VERSION: u8 = 1;

/// An event that is kept as bytes.
pub trait Record: Sized {
    /// As it is kept.
    fn to_row(&self) -> Vec<u8>;

    /// As it was kept.
    ///
    /// # Errors
    /// Another version, or no such event.
    fn from_row(row: &[u8]) -> Result<Self, Malformed>;
}

impl Record for hasher::Event {
    fn to_row(&self) -> Vec<u8> {
        let row = match self {
            Self::Accepted { index, terms } => Row::of(0).number(*index).terms(terms),
            Self::Funded(outpoint) => Row::of(1).outpoint(*outpoint),
            Self::Opened => Row::of(2),
            Self::Learned(height, lock) => Row::of(3).number(*height).bytes(&lock.to_bytes()),
            Self::State(signed) => Row::of(4).signed(signed),
            Self::Key(height, key, seen) => Row::of(5).number(*height).bytes(&key.to_bytes()).number(*seen),
            Self::Frozen => Row::of(6),
            Self::Closing => Row::of(7),
            Self::Spent => Row::of(8),
            Self::CloseSigned(close, signature) => Row::of(9).close(close).signature(signature),
        };
        row.0
    }

    fn from_row(row: &[u8]) -> Result<Self, Malformed> {
        read(row, |kind, from| {
            Ok(match kind {
                0 => Self::Accepted { index: from.u32()?, terms: Box::new(decode::terms(from)?) },
                1 => Self::Funded(decode::outpoint(from)?),
                2 => Self::Opened,
                3 => Self::Learned(from.u32()?, Lock::from_bytes(from.array()?)),
                4 => Self::State(decode::signed(from)?),
                5 => Self::Key(from.u32()?, Key::from_bytes(from.array()?), from.u32()?),
                6 => Self::Frozen,
                7 => Self::Closing,
                8 => Self::Spent,
                9 => Self::CloseSigned(close(from)?, from.signature()?),
                _ => return Err(Malformed::Kind(kind)),
            })
        })
    }
}

impl Record for hub::Event {
    fn to_row(&self) -> Vec<u8> {
        let row = match self {
            Self::Accepted(terms) => Row::of(0).terms(terms),
            Self::Funded(outpoint) => Row::of(1).outpoint(*outpoint),
            Self::Opened => Row::of(2),
            Self::Signed(state) => Row::of(3).state(state),
            Self::Adopted(state) => Row::of(4).state(state),
            Self::Restored(height) => Row::of(5).number(*height),
            Self::Frozen => Row::of(6),
            Self::Closed(close) => Row::of(7).close(close),
            Self::Spent => Row::of(8),
        };
        row.0
    }

    fn from_row(row: &[u8]) -> Result<Self, Malformed> {
        read(row, |kind, from| {
            Ok(match kind {
                0 => Self::Accepted(Box::new(decode::terms(from)?)),
                1 => Self::Funded(decode::outpoint(from)?),
                2 => Self::Opened,
                3 => Self::Signed(decode::state(from)?),
                4 => Self::Adopted(decode::state(from)?),
                5 => Self::Restored(from.u32()?),
                6 => Self::Frozen,
                7 => Self::Closed(close(from)?),
                8 => Self::Spent,
                _ => return Err(Malformed::Kind(kind)),
            })
        })
    }
}

impl Record for signer::Event {
    fn to_row(&self) -> Vec<u8> {
        let row = match self {
            Self::Opened(funded) => Row::of(0).terms(&funded.terms).outpoint(funded.outpoint),
            Self::Capped(height, cap) => Row::of(1).number(*height).amount(cap.pendings).amount(cap.at_once),
            Self::Signed(id, state) => Row::of(2).bytes(&id.0).state(state),
            Self::Closed(id) => Row::of(3).bytes(&id.0),
            Self::Revealing(height, win) => {
                let row = Row::of(4).number(*height).bytes(win.block.as_byte_array());
                row.outpoint(win.outpoint).amount(win.value)
            }
            Self::Lost(height) => Row::of(5).number(*height),
        };
        row.0
    }

    fn from_row(row: &[u8]) -> Result<Self, Malformed> {
        read(row, |kind, from| {
            Ok(match kind {
                0 => {
                    let terms = decode::terms(from)?;
                    Self::Opened(Box::new(FundedTerms { terms, outpoint: decode::outpoint(from)? }))
                }
                1 => {
                    let (height, pendings) = (from.u32()?, from.amount()?);
                    Self::Capped(height, Cap { pendings, at_once: from.amount()? })
                }
                2 => Self::Signed(id(from)?, decode::state(from)?),
                3 => Self::Closed(id(from)?),
                4 => Self::Revealing(from.u32()?, win(from)?),
                5 => Self::Lost(from.u32()?),
                _ => return Err(Malformed::Kind(kind)),
            })
        })
    }
}

/// A row while it is written.
struct Row(Vec<u8>);

impl Row {
    fn of(kind: u8) -> Self {
        Self(vec![VERSION, kind])
    }

    fn with(mut self, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        write(&mut self.0);
        self
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        self.with(|row| row.extend(bytes))
    }

    fn number(self, number: u32) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    fn amount(self, amount: Amount) -> Self {
        self.bytes(&amount.to_sat().to_le_bytes())
    }

    fn signature(self, signature: &Signature) -> Self {
        self.bytes(signature.as_ref())
    }

    fn terms(self, terms: &Terms) -> Self {
        self.bytes(&terms.encode())
    }

    fn outpoint(self, outpoint: OutPoint) -> Self {
        self.with(|row| encode::place(outpoint, row))
    }

    fn state(self, state: &State) -> Self {
        self.with(|row| encode::state(state, row))
    }

    fn signed(self, signed: &SignedState) -> Self {
        self.with(|row| encode::signed(signed, row))
    }

    fn close(self, close: &Close) -> Self {
        let length = u8::try_from(close.to.len()).unwrap_or(u8::MAX);
        self.amount(close.owed).amount(close.fee).bytes(&[length]).bytes(close.to.as_bytes())
    }
}

fn read<T>(
    row: &[u8],
    body: impl FnOnce(u8, &mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut from = Reader(row);
    if from.u8()? != VERSION {
        return Err(Malformed::Bounds("version"));
    }
    let kind = from.u8()?;
    let event = body(kind, &mut from)?;
    from.end()?;
    Ok(event)
}

fn id(from: &mut Reader<'_>) -> Result<PayoutChannelId, Malformed> {
    Ok(PayoutChannelId(from.array()?))
}

fn win(from: &mut Reader<'_>) -> Result<Win, Malformed> {
    let block = BlockHash::from_byte_array(from.array()?);
    Ok(Win { block, outpoint: decode::outpoint(from)?, value: from.amount()? })
}

fn close(from: &mut Reader<'_>) -> Result<Close, Malformed> {
    let (owed, fee, length) = (from.amount()?, from.amount()?, from.u8()?);
    Ok(Close { owed, fee, to: ScriptBuf::from_bytes(from.take(length.into())?.to_vec()) })
}
