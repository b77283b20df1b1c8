//! How to mine, and where.

use std::time::Duration;

use bitcoin::Target;
use link::settings::{Device, Limits};
use link::{AuthorityPublicKey, Client};
use mining::client::OpenRequest;
use stratum_core::common_messages_sv2::Protocol;
use stratum_core::extensions_sv2::EXTENSION_TYPE_WORKER_HASHRATE_TRACKING;

use crate::cpu::Rate;
use crate::world::Upstream;

/// What kind of mining channels to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Coinbase and extranonce at the miner; rolls versions, too.
    Extended,
    /// Header mining, on a connection that may carry group channels.
    Standard,
    /// Header mining, on a connection that takes no group and no extended jobs (REQUIRES_STANDARD_JOBS).
    HeaderOnly,
}

/// How to mine, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:port` of the mining server.
    pub address: String,
    /// Its authority key; without one any server at the address is believed.
    pub authority: Option<AuthorityPublicKey>,
    /// User identity, `account` or `account.worker`.
    pub user: String,
    /// Sent with each share, where extension 0x0002 is negotiated.
    pub worker: Option<String>,
    /// What to open.
    pub kind: Kind,
    /// How many mining channels to open, on one connection.
    pub channels: usize,
    /// Threads that search, for each mining channel.
    pub threads: usize,
    /// Bound on the hash rate of each mining channel.
    pub rate: Rate,
}

/// Hashes per second told to the server where there is no bound: about one core.
const UNBOUNDED: u64 = 8_000_000;
/// Bytes of extranonce that an extended channel must leave.
const ROLLABLE: u16 = 4;

impl Options {
    /// One extended channel, one thread, no bound.
    ///
    /// # Errors
    /// The upstream's key is none.
    pub fn new(upstream: &Upstream, user: impl Into<String>) -> anyhow::Result<Self> {
        Ok(Self {
            address: upstream.address(),
            authority: Some(upstream.authority_key.parse()?),
            user: user.into(),
            worker: None,
            kind: Kind::Extended,
            channels: 1,
            threads: 1,
            rate: None,
        })
    }

    /// The same with a bound, in hashes per second for each mining channel.
    #[must_use]
    pub fn rate(self, hashes_per_second: u64) -> Self {
        Self { rate: Some(hashes_per_second), ..self }
    }

    pub(super) fn client(&self) -> Client {
        let flags = match self.kind {
            Kind::Extended => mining::REQUIRES_VERSION_ROLLING,
            Kind::Standard => 0,
            Kind::HeaderOnly => mining::REQUIRES_STANDARD_JOBS,
        };
        let device = Device {
            vendor: "sluice-cpu".to_owned(),
            firmware: env!("CARGO_PKG_VERSION").to_owned(),
            ..Device::default()
        };
        let extensions =
            self.worker.as_ref().map(|_| EXTENSION_TYPE_WORKER_HASHRATE_TRACKING).into_iter().collect();
        let limits = Limits { write: Duration::from_secs(5), ..Limits::default() };
        Client {
            authority: self.authority,
            protocol: Protocol::MiningProtocol,
            flags,
            device,
            extensions,
            limits,
        }
    }

    pub(super) fn request(&self) -> OpenRequest<'_> {
        OpenRequest {
            user_identity: &self.user,
            nominal_hash_rate: self.rate.unwrap_or(UNBOUNDED) as f32,
            max_target: Target::from_be_bytes([0xff; 32]),
            min_extranonce_size: ROLLABLE,
        }
    }
}
