//! Events as rows of a store: a version, a kind, the fields in the order of their declaration, all as in messages. What is read
//! back is not believed: `restore` of either end checks every rule again.

use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, ScriptBuf};
use lock::{Key, Lock};

use crate::message::bytes::{Malformed, Reader};
use crate::message::{decode, encode};
use crate::signer::Cap;
use crate::state::State;
use crate::terms::{FundedTerms, PayoutChannelId};
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
        let mut row = vec![VERSION];
        match self {
            Self::Accepted { index, terms } => {
                row.push(0);
                row.extend(index.to_le_bytes());
                row.extend(terms.encode());
            }
            Self::Funded(outpoint) => {
                row.push(1);
                encode::place(*outpoint, &mut row);
            }
            Self::Opened => row.push(2),
            Self::Learned(height, lock) => {
                row.push(3);
                row.extend(height.to_le_bytes());
                row.extend(lock.to_bytes());
            }
            Self::State(signed) => {
                row.push(4);
                encode::signed(signed, &mut row);
            }
            Self::Key(height, key, seen) => {
                row.push(5);
                row.extend(height.to_le_bytes());
                row.extend(key.to_bytes());
                row.extend(seen.to_le_bytes());
            }
            Self::Frozen => row.push(6),
            Self::Closing => row.push(7),
            Self::Spent => row.push(8),
            Self::CloseSigned(close, signature) => {
                row.push(9);
                write_close(close, &mut row);
                row.extend(signature.as_ref());
            }
        }
        row
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
        let mut row = vec![VERSION];
        match self {
            Self::Accepted { index, terms } => {
                row.push(0);
                row.extend(index.to_le_bytes());
                row.extend(terms.encode());
            }
            Self::Funded(outpoint) => {
                row.push(1);
                encode::place(*outpoint, &mut row);
            }
            Self::Opened => row.push(2),
            Self::Signed(state) => {
                row.push(3);
                encode::state(state, &mut row);
            }
            Self::Adopted(state) => {
                row.push(4);
                encode::state(state, &mut row);
            }
            Self::Restored(height) => {
                row.push(5);
                row.extend(height.to_le_bytes());
            }
            Self::Frozen => row.push(6),
            Self::Closed(close) => {
                row.push(7);
                write_close(close, &mut row);
            }
            Self::Spent => row.push(8),
        }
        row
    }

    fn from_row(row: &[u8]) -> Result<Self, Malformed> {
        read(row, |kind, from| {
            Ok(match kind {
                0 => Self::Accepted { index: from.u32()?, terms: Box::new(decode::terms(from)?) },
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
        let mut row = vec![VERSION];
        match self {
            Self::Opened { index, funded } => {
                row.push(0);
                row.extend(index.to_le_bytes());
                row.extend(funded.terms.encode());
                encode::place(funded.outpoint, &mut row);
            }
            Self::Capped(height, cap) => {
                row.push(1);
                row.extend(height.to_le_bytes());
                row.extend(cap.pendings.to_sat().to_le_bytes());
                row.extend(cap.at_once.to_sat().to_le_bytes());
            }
            Self::Signed(id, state) => {
                row.push(2);
                row.extend(id.0);
                encode::state(state, &mut row);
            }
            Self::Closed(id) => {
                row.push(3);
                row.extend(id.0);
            }
            Self::Revealing(height, win) => {
                row.push(4);
                row.extend(height.to_le_bytes());
                row.extend(win.block.as_byte_array());
                encode::place(win.outpoint, &mut row);
                row.extend(win.value.to_sat().to_le_bytes());
            }
            Self::Lost(height) => {
                row.push(5);
                row.extend(height.to_le_bytes());
            }
        }
        row
    }

    fn from_row(row: &[u8]) -> Result<Self, Malformed> {
        read(row, |kind, from| {
            Ok(match kind {
                0 => {
                    let (index, terms) = (from.u32()?, decode::terms(from)?);
                    let funded = FundedTerms { terms, outpoint: decode::outpoint(from)? };
                    Self::Opened { index, funded: Box::new(funded) }
                }
                1 => {
                    let (height, pendings) = (from.u32()?, from.amount()?);
                    Self::Capped(height, Cap { pendings, at_once: from.amount()? })
                }
                2 => Self::Signed(id(from)?, state(from)?),
                3 => Self::Closed(id(from)?),
                4 => Self::Revealing(from.u32()?, win(from)?),
                5 => Self::Lost(from.u32()?),
                _ => return Err(Malformed::Kind(kind)),
            })
        })
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

fn state(from: &mut Reader<'_>) -> Result<State, Malformed> {
    decode::state(from)
}

fn win(from: &mut Reader<'_>) -> Result<Win, Malformed> {
    let block = BlockHash::from_byte_array(from.array()?);
    Ok(Win { block, outpoint: decode::outpoint(from)?, value: from.amount()? })
}

fn write_close(close: &Close, row: &mut Vec<u8>) {
    row.extend(close.owed.to_sat().to_le_bytes());
    row.extend(close.fee.to_sat().to_le_bytes());
    row.push(u8::try_from(close.to.len()).unwrap_or(u8::MAX));
    row.extend(close.to.as_bytes());
}

fn close(from: &mut Reader<'_>) -> Result<Close, Malformed> {
    let (owed, fee, length) = (from.amount()?, from.amount()?, from.u8()?);
    Ok(Close { owed, fee, to: ScriptBuf::from_bytes(from.take(length.into())?.to_vec()) })
}
