//! Who a share's weight belongs to.

use bitcoin::consensus::encode::{self, Decodable, Encodable};
use bitcoin::io::{Read, Write};
use bitcoin::{ScriptBuf, XOnlyPublicKey};
use std::cmp::Ordering;

/// Longest script of a recipient, in bytes: P2WSH and P2TR. Ten such outputs keep a coinbase below 700 bytes.
pub const MAX_SCRIPT: usize = 34;

/// Recipient of a share's weight. Ordered as its encoding is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Recipient {
    /// A hub, by hub_id; paid to its script_B.
    Hub(XOnlyPublicKey),
    /// A miner without a hub, paid to this script: P2PKH, P2SH, P2WPKH, P2WSH or P2TR.
    Script(ScriptBuf),
}

impl Recipient {
    /// The hub, if it is one.
    pub fn hub(&self) -> Option<&XOnlyPublicKey> {
        match self {
            Self::Hub(hub_id) => Some(hub_id),
            Self::Script(_) => None,
        }
    }

    /// Whether it can be paid: any hub, and scripts that wallets can spend from.
    pub fn is_standard(&self) -> bool {
        match self {
            Self::Hub(_) => true,
            Self::Script(script) => {
                let is_witness = script.is_p2wpkh() || script.is_p2wsh() || script.is_p2tr();
                script.is_p2pkh() || script.is_p2sh() || is_witness
            }
        }
    }
}

impl Ord for Recipient {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            // Keys by their bytes: the library's own order is not specified.
            (Self::Hub(one), Self::Hub(other)) => one.serialize().cmp(&other.serialize()),
            (Self::Hub(_), Self::Script(_)) => Ordering::Less,
            (Self::Script(_), Self::Hub(_)) => Ordering::Greater,
            (Self::Script(one), Self::Script(other)) => {
                one.len().cmp(&other.len()).then_with(|| one.as_bytes().cmp(other.as_bytes()))
            }
        }
    }
}

impl PartialOrd for Recipient {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Encodable for Recipient {
    fn consensus_encode<W: Write + ?Sized>(&self, writer: &mut W) -> Result<usize, bitcoin::io::Error> {
        match self {
            Self::Hub(hub_id) => {
                Ok(0_u8.consensus_encode(writer)? + hub_id.serialize().consensus_encode(writer)?)
            }
            Self::Script(script) => {
                let length =
                    u8::try_from(script.len()).unwrap_or_else(|_| unreachable!("a standard script is short"));
                let written = 1_u8.consensus_encode(writer)? + length.consensus_encode(writer)?;
                writer.write_all(script.as_bytes())?;
                Ok(written + script.len())
            }
        }
    }
}

impl Decodable for Recipient {
    fn consensus_decode<R: Read + ?Sized>(reader: &mut R) -> Result<Self, encode::Error> {
        match u8::consensus_decode(reader)? {
            0 => {
                let bytes = <[u8; 32]>::consensus_decode(reader)?;
                let hub_id = XOnlyPublicKey::from_slice(&bytes);
                Ok(Self::Hub(
                    hub_id.map_err(|_| encode::Error::ParseFailed("hub_id is not an x-only public key"))?,
                ))
            }
            1 => {
                let length = usize::from(u8::consensus_decode(reader)?);
                if length > MAX_SCRIPT {
                    return Err(encode::Error::ParseFailed("the recipient's script is longer than 34 bytes"));
                }
                let mut bytes = vec![0; length];
                reader.read_exact(&mut bytes)?;
                Ok(Self::Script(ScriptBuf::from_bytes(bytes)))
            }
            _ => Err(encode::Error::ParseFailed("a recipient is 0, a hub, or 1, a script")),
        }
    }
}
