//! A reader of bytes that never reads beyond them, and what can be wrong with them.

use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::{Amount, XOnlyPublicKey};

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No such message in this extension.
    #[error("no message 0x{0:02x}")]
    Kind(u8),
    /// It ends early.
    #[error("ends early")]
    Short,
    /// Bytes follow its end.
    #[error("{0} bytes too many")]
    Long(usize),
    /// No point of the curve, or no signature.
    #[error("no key, or no signature")]
    Key,
    /// More than all money.
    #[error("{0} sat are more than there can be")]
    Amount(u64),
    /// A length, number or choice out of bounds.
    #[error("{0} out of bounds")]
    Bounds(&'static str),
}

/// What is left to read.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed::Short)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Malformed> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    pub(crate) fn amount(&mut self) -> Result<Amount, Malformed> {
        let satoshi = u64::from_le_bytes(self.array()?);
        let amount = Amount::from_sat(satoshi);
        if amount > Amount::MAX_MONEY { Err(Malformed::Amount(satoshi)) } else { Ok(amount) }
    }

    pub(crate) fn key(&mut self) -> Result<XOnlyPublicKey, Malformed> {
        XOnlyPublicKey::from_slice(self.take(32)?).map_err(|_| Malformed::Key)
    }

    pub(crate) fn signature(&mut self) -> Result<Signature, Malformed> {
        Signature::from_slice(self.take(64)?).map_err(|_| Malformed::Key)
    }

    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Long(self.0.len())) }
    }
}
