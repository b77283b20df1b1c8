//! Authority keys (SV2 spec §4.6): the key that signs a server's Noise certificate, and its public half
//! that clients put into their configuration.
//!
//! Text forms are those of SRI's configurations: base58check of the 32-byte secret key, and base58check of
//! the version `1` as U16 little-endian followed by the 32-byte x-only public key.

use std::fmt;
use std::str::FromStr;

use bitcoin::base58;
use rand::{CryptoRng, RngCore};
use secp256k1_noise::{Keypair, Secp256k1, SecretKey, XOnlyPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const PUBLIC_KEY_VERSION: [u8; 2] = 1u16.to_le_bytes();

/// Why a text is not an authority key. Never repeats the text: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not base58, or its checksum is wrong.
    #[error("not base58check; copy the whole key, without spaces")]
    Base58,
    /// Decoded to another length than the 32 (secret) or 34 (public) bytes of such a key.
    #[error("{0} bytes long, but a secret key has 32 and a public key 34")]
    Length(usize),
    /// A public key with another version than 1.
    #[error("public key version {0}, but only version 1 is known")]
    Version(u16),
    /// No point of the curve, or a secret out of range.
    #[error("not a key of secp256k1")]
    Curve,
}

/// A server's secret authority key. `Debug` does not show it; `Display` does, for key files.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorityKey(Keypair);

impl AuthorityKey {
    /// A new key from the given source of randomness.
    pub fn generate<R: RngCore + CryptoRng>(random: &mut R) -> Self {
        loop {
            let mut bytes = [0; 32];
            random.fill_bytes(&mut bytes);
            if let Ok(secret) = SecretKey::from_slice(&bytes) {
                return Self(Keypair::from_secret_key(&Secp256k1::new(), &secret));
            }
        }
    }

    /// The public half, for the clients.
    pub fn public(&self) -> AuthorityPublicKey {
        AuthorityPublicKey(self.0.x_only_public_key().0)
    }

    pub(crate) fn keypair(&self) -> Keypair {
        self.0
    }
}

impl FromStr for AuthorityKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = base58::decode_check(text.trim()).map_err(|_| KeyError::Base58)?;
        if bytes.len() != 32 {
            return Err(KeyError::Length(bytes.len()));
        }
        let secret = SecretKey::from_slice(&bytes).map_err(|_| KeyError::Curve)?;
        Ok(Self(Keypair::from_secret_key(&Secp256k1::new(), &secret)))
    }
}

impl fmt::Display for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base58::encode_check(&self.0.secret_bytes()))
    }
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityKey(secret of {})", self.public())
    }
}

impl<'de> Deserialize<'de> for AuthorityKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A server's public authority key: a client that knows it accepts no other server.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthorityPublicKey(XOnlyPublicKey);

impl AuthorityPublicKey {
    pub(crate) fn x_only(self) -> XOnlyPublicKey {
        self.0
    }
}

impl FromStr for AuthorityPublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = base58::decode_check(text.trim()).map_err(|_| KeyError::Base58)?;
        let Some((version, key)) = bytes.split_first_chunk::<2>().filter(|(_, key)| key.len() == 32) else {
            return Err(KeyError::Length(bytes.len()));
        };
        if *version != PUBLIC_KEY_VERSION {
            return Err(KeyError::Version(u16::from_le_bytes(*version)));
        }
        XOnlyPublicKey::from_slice(key).map(Self).map_err(|_| KeyError::Curve)
    }
}

impl fmt::Display for AuthorityPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = PUBLIC_KEY_VERSION.to_vec();
        bytes.extend_from_slice(&self.0.serialize());
        f.write_str(&base58::encode_check(&bytes))
    }
}

impl fmt::Debug for AuthorityPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityPublicKey({self})")
    }
}

impl Serialize for AuthorityPublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AuthorityPublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn key() -> AuthorityKey {
        AuthorityKey::generate(&mut rand::rngs::StdRng::seed_from_u64(1))
    }

    #[test]
    fn both_keys_survive_their_text_form() {
        assert_eq!(key().to_string().parse::<AuthorityKey>().unwrap(), key());
        assert_eq!(key().public().to_string().parse::<AuthorityPublicKey>().unwrap(), key().public());
    }

    #[test]
    fn the_keys_of_sris_example_configurations_are_read() {
        let public: AuthorityPublicKey =
            "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72".parse().unwrap();
        let secret: AuthorityKey = "mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n".parse().unwrap();
        assert_eq!(secret.public(), public);
    }

    #[test]
    fn a_debug_print_does_not_show_the_secret() {
        assert!(!format!("{:?}", key()).contains(&key().to_string()));
    }

    #[test]
    fn a_wrong_key_is_named_by_its_fault() {
        assert_eq!("abc".parse::<AuthorityKey>(), Err(KeyError::Base58));
        assert_eq!(key().to_string().parse::<AuthorityPublicKey>(), Err(KeyError::Length(32)));
        assert_eq!(key().public().to_string().parse::<AuthorityKey>(), Err(KeyError::Length(34)));
        let mut other_version = vec![2, 0];
        other_version.extend_from_slice(&key().public().0.serialize());
        assert_eq!(
            base58::encode_check(&other_version).parse::<AuthorityPublicKey>(),
            Err(KeyError::Version(2))
        );
    }
}
