//! TLS around SV1: miners that connect over it, and pools that are reached over it.
//!
//! | module | what for |
//! |---|---|
//! | [`certificate`] | the certificate that miners are shown |
//! | [`server`] | lets miners in |
//! | [`wire`] | a miner's bytes |
//! | `paced` | the socket under it, read no faster than a miner may send |
//! | [`client`] | which certificate of a pool is believed |
//! | [`fingerprint`] | a certificate's SHA-256, as people compare it |

pub mod certificate;
pub mod client;
pub mod fingerprint;
mod paced;
pub mod server;
pub mod wire;

pub use server::{Port, probe};
use std::sync::Arc;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};

/// What all of it computes with. Named here, so that no other crate in the program can choose another.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
