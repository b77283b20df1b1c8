//! What two nodes say to each other. SYNC.md gives every byte; there is one encoding of each message, and a bound on it.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::consensus::encode::{self, Decodable, Encodable};
use bitcoin::io::{Read, Write};
use lock::equivocation::Accusation;
use std::sync::Arc;

use crate::id::ShareId;
use crate::share::{Body, MAX_SHARE, Share};
use crate::work::Work;

/// The version of these messages.
pub const VERSION: u16 = 1;
/// Most ids in a locator: enough to name a place in any chain whose heights fit 32 bits.
pub const MAX_LOCATOR: usize = 48;
/// Most shares in one [`Message::Shares`].
pub const MAX_BATCH: usize = 500;
/// So many bytes of shares end a batch, the last group of a share and its uncles apart.
pub const MAX_BATCH_BYTES: usize = 512 * 1024;
/// Longest message, in bytes: a batch with its last group.
pub const MAX_MESSAGE: usize = MAX_BATCH_BYTES + 128 * 1024;

/// Where somebody's best chain ends, as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its last share.
    pub id: ShareId,
    /// Shares from genesis to there.
    pub height: u32,
    /// Work from genesis to there.
    pub total_work: Work,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The first of each side.
    Hello {
        /// [`VERSION`].
        version: u16,
        /// Binds every parameter of the network.
        genesis: ShareId,
        /// Where the sender's best chain ends.
        tip: Tip,
    },
    /// Where the sender's best chain ends now.
    Tip(Tip),
    /// A share that the sender has just taken. Nobody asked for it.
    Fresh(Box<Share>),
    /// Asks for the shares after the first of these ids that stands in the best chain of whoever is asked.
    GetShares {
        /// Comes back with the answer.
        request: u32,
        /// From the highest to the lowest.
        locator: Vec<ShareId>,
    },
    /// The answer, each share after its parent and its uncles.
    Shares {
        /// As asked.
        request: u32,
        /// Where the sender's best chain ended when it made this.
        tip: Tip,
        /// Nothing comes after these.
        is_end: bool,
        /// Encoded [`Share`]s.
        shares: Vec<Encoded>,
    },
    /// None of the asked ids stands in the sender's best chain any more; it has pruned what stood there.
    Pruned {
        /// As asked.
        request: u32,
        /// Lowest height that it still has.
        lowest: u32,
    },
    /// Asks for the body of a share that announces a lock sheet.
    GetBody(ShareId),
    /// The answer; none if the sender has it not.
    Body(ShareId, Option<Body>),
    /// A hub has signed two sheets for one period.
    Accusation(Box<Accusation>),
    /// Asks for the header of a block that a share stands on.
    GetHeader(BlockHash),
    /// The answer; none if the sender has it not.
    Header(BlockHash, Option<Header>),
}

/// A share, encoded: so that what is stored is sent without being taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded(pub Arc<[u8]>);

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// Longer than any.
    #[error("{0} bytes are more than any message has")]
    TooLong(usize),
    /// Not the bytes of a message, or not the only ones.
    #[error("not a message: {0}")]
    Malformed(String),
}

impl Message {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        encode::serialize(self)
    }

    /// The bytes of [`Message::Fresh`], of a share's own bytes.
    pub(crate) fn encode_fresh(share: &[u8]) -> Vec<u8> {
        [&[2], share].concat()
    }

    /// Reads one, all of `bytes`.
    ///
    /// # Errors
    /// [`BadMessage`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadMessage> {
        if bytes.len() > MAX_MESSAGE {
            return Err(BadMessage::TooLong(bytes.len()));
        }
        encode::deserialize(bytes).map_err(|why| BadMessage::Malformed(why.to_string()))
    }
}

impl Encodable for Message {
    fn consensus_encode<W: Write + ?Sized>(&self, w: &mut W) -> Result<usize, bitcoin::io::Error> {
        Ok(match self {
            Self::Hello { version, genesis, tip } => {
                0_u8.consensus_encode(w)?
                    + version.consensus_encode(w)?
                    + genesis.consensus_encode(w)?
                    + tip.consensus_encode(w)?
            }
            Self::Tip(tip) => 1_u8.consensus_encode(w)? + tip.consensus_encode(w)?,
            Self::Fresh(share) => 2_u8.consensus_encode(w)? + share.consensus_encode(w)?,
            Self::GetShares { request, locator } => {
                let count =
                    u8::try_from(locator.len()).unwrap_or_else(|_| unreachable!("at most {MAX_LOCATOR}"));
                let head =
                    3_u8.consensus_encode(w)? + request.consensus_encode(w)? + count.consensus_encode(w)?;
                encode_all(locator, w)? + head
            }
            Self::Shares { request, tip, is_end, shares } => {
                let count =
                    u16::try_from(shares.len()).unwrap_or_else(|_| unreachable!("at most {MAX_BATCH}"));
                let head =
                    4_u8.consensus_encode(w)? + request.consensus_encode(w)? + tip.consensus_encode(w)?;
                let head = head + is_end.consensus_encode(w)? + count.consensus_encode(w)?;
                encode_all(shares, w)? + head
            }
            Self::Pruned { request, lowest } => {
                5_u8.consensus_encode(w)? + request.consensus_encode(w)? + lowest.consensus_encode(w)?
            }
            Self::GetBody(share) => 6_u8.consensus_encode(w)? + share.consensus_encode(w)?,
            Self::Body(share, body) => {
                let head = 7_u8.consensus_encode(w)? + share.consensus_encode(w)?;
                let head = head + body.is_some().consensus_encode(w)?;
                head + body.as_ref().map_or(Ok(0), |body| body.consensus_encode(w))?
            }
            Self::Accusation(accusation) => 8_u8.consensus_encode(w)? + accusation.consensus_encode(w)?,
            Self::GetHeader(block) => 9_u8.consensus_encode(w)? + block.consensus_encode(w)?,
            Self::Header(block, header) => {
                let head = 10_u8.consensus_encode(w)? + block.consensus_encode(w)?;
                let head = head + header.is_some().consensus_encode(w)?;
                head + header.as_ref().map_or(Ok(0), |header| header.consensus_encode(w))?
            }
        })
    }
}

impl Decodable for Message {
    fn consensus_decode<R: Read + ?Sized>(r: &mut R) -> Result<Self, encode::Error> {
        Ok(match u8::consensus_decode(r)? {
            0 => Self::Hello {
                version: Decodable::consensus_decode(r)?,
                genesis: Decodable::consensus_decode(r)?,
                tip: Decodable::consensus_decode(r)?,
            },
            1 => Self::Tip(Decodable::consensus_decode(r)?),
            2 => Self::Fresh(Box::new(Decodable::consensus_decode(r)?)),
            3 => {
                let request = Decodable::consensus_decode(r)?;
                let count = usize::from(u8::consensus_decode(r)?);
                if count == 0 || count > MAX_LOCATOR {
                    return Err(encode::Error::ParseFailed("a locator has 1 to 48 ids"));
                }
                Self::GetShares { request, locator: decode_all(count, r)? }
            }
            4 => {
                let request = Decodable::consensus_decode(r)?;
                let tip = Decodable::consensus_decode(r)?;
                let is_end = decode_flag(r)?;
                let count = usize::from(u16::consensus_decode(r)?);
                if count > MAX_BATCH {
                    return Err(encode::Error::ParseFailed("more than 500 shares in a batch"));
                }
                Self::Shares { request, tip, is_end, shares: decode_all(count, r)? }
            }
            5 => Self::Pruned {
                request: Decodable::consensus_decode(r)?,
                lowest: Decodable::consensus_decode(r)?,
            },
            6 => Self::GetBody(Decodable::consensus_decode(r)?),
            7 => {
                let share = Decodable::consensus_decode(r)?;
                let has_body = decode_flag(r)?;
                Self::Body(share, has_body.then(|| Decodable::consensus_decode(r)).transpose()?)
            }
            8 => Self::Accusation(Box::new(Decodable::consensus_decode(r)?)),
            9 => Self::GetHeader(Decodable::consensus_decode(r)?),
            10 => {
                let block = Decodable::consensus_decode(r)?;
                let has_header = decode_flag(r)?;
                Self::Header(block, has_header.then(|| Decodable::consensus_decode(r)).transpose()?)
            }
            _ => return Err(encode::Error::ParseFailed("no message has this number")),
        })
    }
}

impl Encodable for Tip {
    fn consensus_encode<W: Write + ?Sized>(&self, w: &mut W) -> Result<usize, bitcoin::io::Error> {
        let work = self.total_work.hashes().to_le_bytes();
        Ok(self.id.consensus_encode(w)? + self.height.consensus_encode(w)? + work.consensus_encode(w)?)
    }
}

impl Decodable for Tip {
    fn consensus_decode<R: Read + ?Sized>(r: &mut R) -> Result<Self, encode::Error> {
        let id = Decodable::consensus_decode(r)?;
        let height = Decodable::consensus_decode(r)?;
        let total_work = Work::new(u128::from_le_bytes(Decodable::consensus_decode(r)?));
        Ok(Self { id, height, total_work })
    }
}

/// A length of two bytes goes before it: a reader need not know what it reads.
impl Encodable for Encoded {
    fn consensus_encode<W: Write + ?Sized>(&self, w: &mut W) -> Result<usize, bitcoin::io::Error> {
        let length = u16::try_from(self.0.len()).unwrap_or_else(|_| unreachable!("at most {MAX_SHARE}"));
        let written = length.consensus_encode(w)?;
        w.write_all(&self.0)?;
        Ok(written + self.0.len())
    }
}

impl Decodable for Encoded {
    fn consensus_decode<R: Read + ?Sized>(r: &mut R) -> Result<Self, encode::Error> {
        let length = usize::from(u16::consensus_decode(r)?);
        if length > MAX_SHARE {
            return Err(encode::Error::ParseFailed("longer than any share"));
        }
        let mut bytes = vec![0; length];
        r.read_exact(&mut bytes)?;
        Ok(Self(bytes.into()))
    }
}

fn encode_all<T: Encodable, W: Write + ?Sized>(all: &[T], w: &mut W) -> Result<usize, bitcoin::io::Error> {
    all.iter().try_fold(0, |written, one| Ok(written + one.consensus_encode(w)?))
}

/// Grows with what comes, so that a number alone takes no memory.
fn decode_all<T: Decodable, R: Read + ?Sized>(count: usize, r: &mut R) -> Result<Vec<T>, encode::Error> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(T::consensus_decode(r)?);
    }
    Ok(all)
}

/// 0 or 1, so that there is one encoding.
fn decode_flag<R: Read + ?Sized>(r: &mut R) -> Result<bool, encode::Error> {
    match u8::consensus_decode(r)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(encode::Error::ParseFailed("a flag is 0 or 1")),
    }
}
