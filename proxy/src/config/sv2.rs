//! What native SV2 miners need besides what all miners do.

use super::raw::RawSv2;
use crate::session::PaceSettings;
use bitcoin::Target;
use link::AuthorityKey;
use mining::server;
use service::{Problems, Secret};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One year, in seconds.
const YEAR: u64 = 31_536_000;
/// Shares of one connection that may wait for the upstream's word before it is read no further.
const MAX_WAITING: usize = 1024;
/// Shares of one channel under one tip that are remembered, before it gets another part of the extranonce.
const MAX_SEEN: usize = 1 << 18;
/// Jobs of the current tip that a channel's shares may belong to.
const MAX_JOBS: usize = 16;

/// Where and how SV2 miners are served.
#[derive(Clone, Debug)]
pub struct Sv2 {
    /// Where they connect.
    pub listen: SocketAddr,
    /// Signs certificates; its `Debug` shows the public half only.
    pub authority: AuthorityKey,
    /// Most channels of all connections, one of each not counted.
    pub max_channels: usize,
    /// How long a certificate is valid.
    pub certificate_validity: Duration,
    /// Settings of all sessions.
    pub mining: Arc<server::Config>,
}

/// `None` if something is wrong; `Some(None)` without a key: then SV2 miners are not served.
pub(super) fn check(
    raw: &RawSv2,
    authority: Option<&Secret>,
    pace: Option<PaceSettings>,
    problems: &mut Problems,
) -> Option<Option<Sv2>> {
    let listen = problems.parse("sv2.listen", &raw.listen, "write address:port, as 0.0.0.0:3336");
    let validity =
        problems.seconds("sv2.certificate_validity_seconds", raw.certificate_validity_seconds, 60..=YEAR);
    let channels =
        problems.number("sv2.max_channels_per_connection", raw.max_channels_per_connection, 1..=65_536);
    let max_channels = problems.number("sv2.max_channels", raw.max_channels, 1..=8_000_000);
    let authority = match authority {
        Some(text) => {
            let mend =
                "run `sluice-proxy init` elsewhere for a fresh one, or leave it out to serve SV1 miners only";
            Some(problems.parse("authority_secret_key", text.reveal(), mend)?)
        }
        None => None,
    };
    let pace = pace?;
    let mining = Arc::new(server::Config {
        share_interval: pace.interval,
        easiest_target: pace.minimum.target(),
        hardest_target: Target::ZERO,
        max_channels: channels?,
        max_seen: MAX_SEEN,
        max_unacknowledged: MAX_WAITING,
        max_jobs: MAX_JOBS,
        identity: Arc::new(|_| Ok(())),
    });
    let (listen, certificate_validity, max_channels) = (listen?, validity?, max_channels?);
    Some(authority.map(|authority| Sv2 { listen, authority, max_channels, certificate_validity, mining }))
}
