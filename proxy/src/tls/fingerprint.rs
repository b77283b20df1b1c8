//! A certificate's SHA-256, as people compare it.

use bitcoin::hashes::{Hash as _, sha256};
use std::fmt;

/// SHA-256 of a certificate's DER form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of this certificate.
    pub fn of(der: &[u8]) -> Self {
        Self(sha256::Hash::hash(der).to_byte_array())
    }
}

/// Hex, as `openssl x509 -fingerprint -sha256` shows it without its colons.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
