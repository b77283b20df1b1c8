//! The keys of either side of a payout channel: BIP32 from one seed, hardened, fresh for each payout channel.
//!
//! ```text
//! m/5043'/coin'/0'              the hasher's identity, the same for all its payout channels
//! m/5043'/coin'/1'/index'/role' keys of one payout channel; coin is 0 on mainnet and 1 elsewhere (SLIP-44)
//! ```

use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::secp256k1::{Keypair, Secp256k1, Signing};
use bitcoin::{NetworkKind, XOnlyPublicKey};
use std::fmt;

/// BIP43's purpose: the number of the extension.
const PURPOSE: u32 = 5_043;

/// Why a seed gives no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKeys {
    /// BIP32 refuses it; one seed in 2^127.
    #[error("this seed gives an impossible key; make another seed")]
    Impossible,
    /// 2^31 payout channels from one seed.
    #[error("no payout channel {0}: a seed has 2,147,483,648")]
    Index(u32),
}

/// One side's seed for payout channels. Not shown by `Debug`.
#[derive(Clone)]
pub struct ChannelSeed {
    account: Xpriv,
}

/// The hub's keys of one payout channel.
#[derive(Clone)]
pub struct HubKeys {
    /// Hf: signs states and closes.
    pub funding: Keypair,
    /// Hr: takes back what is left.
    pub refund: Keypair,
}

/// The hasher's keys of one payout channel.
#[derive(Clone)]
pub struct HasherKeys {
    /// Mf: signs claims, closes and requests.
    pub funding: Keypair,
    /// Mp: takes pendings.
    pub pending: Keypair,
    /// Ms: owns what is settled.
    pub settled: Keypair,
}

impl ChannelSeed {
    /// From 16 to 64 bytes of a good random generator.
    ///
    /// # Errors
    /// See [`NoKeys`].
    pub fn new<C: Signing>(
        seed: &[u8],
        network: impl Into<NetworkKind>,
        secp: &Secp256k1<C>,
    ) -> Result<Self, NoKeys> {
        let network = network.into();
        let coin = u32::from(network != NetworkKind::Main);
        let master = Xpriv::new_master(network, seed).map_err(|_| NoKeys::Impossible)?;
        Ok(Self { account: derive(&master, &[PURPOSE, coin], secp)? })
    }

    /// A hasher's lasting identity: one key over all its payout channels with a hub (R7).
    ///
    /// # Errors
    /// See [`NoKeys`].
    pub fn identity<C: Signing>(&self, secp: &Secp256k1<C>) -> Result<Keypair, NoKeys> {
        Ok(derive(&self.account, &[0], secp)?.to_keypair(secp))
    }

    /// The hub's keys of its payout channel number `index`.
    ///
    /// # Errors
    /// See [`NoKeys`].
    pub fn hub<C: Signing>(&self, index: u32, secp: &Secp256k1<C>) -> Result<HubKeys, NoKeys> {
        let [funding, refund] = self.channel(index, secp)?;
        Ok(HubKeys { funding, refund })
    }

    /// The hasher's keys of its payout channel number `index`.
    ///
    /// # Errors
    /// See [`NoKeys`].
    pub fn hasher<C: Signing>(&self, index: u32, secp: &Secp256k1<C>) -> Result<HasherKeys, NoKeys> {
        let [funding, pending, settled] = self.channel(index, secp)?;
        Ok(HasherKeys { funding, pending, settled })
    }

    /// Roles 0 to N − 1 of a payout channel.
    fn channel<const N: usize, C: Signing>(
        &self,
        index: u32,
        secp: &Secp256k1<C>,
    ) -> Result<[Keypair; N], NoKeys> {
        crate::curve::children((self.account.private_key.secret_bytes(), index), || {
            let channel = derive(&self.account, &[1, index], secp)?;
            let mut keys = [self.account.to_keypair(secp); N];
            for (role, key) in (0..).zip(&mut keys) {
                *key = derive(&channel, &[role], secp)?.to_keypair(secp);
            }
            Ok(keys)
        })
    }
}

fn derive<C: Signing>(from: &Xpriv, path: &[u32], secp: &Secp256k1<C>) -> Result<Xpriv, NoKeys> {
    let hardened = |index: &u32| ChildNumber::from_hardened_idx(*index).map_err(|_| NoKeys::Index(*index));
    let path = path.iter().map(hardened).collect::<Result<Vec<_>, _>>()?;
    from.derive_priv(secp, &path).map_err(|_| NoKeys::Impossible)
}

/// The public half.
pub fn public(key: &Keypair) -> XOnlyPublicKey {
    key.x_only_public_key().0
}

impl fmt::Debug for ChannelSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelSeed(secret)")
    }
}

impl fmt::Debug for HubKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubKeys(secret)")
    }
}

impl fmt::Debug for HasherKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HasherKeys(secret)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bitcoin::Network;

    #[test]
    fn every_role_index_side_and_network_has_a_key_of_its_own() {
        let secp = Secp256k1::new();
        let mut all = Vec::new();
        for network in [Network::Bitcoin, Network::Regtest] {
            let seed = ChannelSeed::new(&[7; 32], network, &secp).unwrap();
            all.push(public(&seed.identity(&secp).unwrap()));
            for index in 0..3 {
                let keys = seed.hasher(index, &secp).unwrap();
                all.extend([keys.funding, keys.pending, keys.settled].map(|key| public(&key)));
            }
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn a_seed_gives_the_same_keys_again_and_shows_none() {
        let secp = Secp256k1::new();
        let seed = ChannelSeed::new(&[7; 32], Network::Bitcoin, &secp).unwrap();
        let again = ChannelSeed::new(&[7; 32], Network::Bitcoin, &secp).unwrap();
        let (one, other) = (seed.hub(5, &secp).unwrap(), again.hub(5, &secp).unwrap());
        assert_eq!((one.funding, one.refund), (other.funding, other.refund));
        assert_eq!(format!("{seed:?} {one:?}"), "ChannelSeed(secret) HubKeys(secret)");
        assert_eq!(seed.hub(1 << 31, &secp).unwrap_err(), NoKeys::Index(1 << 31));
    }
}
