//! Parameters for the tests beside the code.

use bitcoin::secp256k1::Secp256k1;
use bitcoin::{CompactTarget, Network};
use lock::{Council, Pool, Seed};

use crate::params::Params;

/// Mainnet's numbers, except that hashes are cheap.
pub(crate) fn params() -> Params {
    Params { anchor: CompactTarget::from_consensus(0x2007_ffff), ..Params::regtest(council()) }
}

pub(crate) fn council() -> Council {
    let secp = Secp256k1::new();
    let any =
        Council::new(1, vec![bitcoin::XOnlyPublicKey::from_slice(&lock::output::NUMS).unwrap()], 10).unwrap();
    let key = Seed::from_bytes([9; 32]).identity(&Pool::new(Network::Regtest, any), &secp).unwrap();
    Council::new(1, vec![key.x_only_public_key().0], Pool::RECOVERY).unwrap()
}
