//! What one miner may take of the proxy.

use super::raw::RawMiners;
use service::Problems;
use std::time::Duration;

/// Bounds on one miner's connection.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Lines, shares that go upstream left out; a few seconds' worth may come at once. A lighter share is worth nothing to
    /// anybody, and how light it is a miner says itself (`d=` in its password).
    pub lines_per_second: f64,
    /// Bytes, on the line and shares included; a few seconds' worth may come at once.
    pub bytes_per_second: f64,
    /// From the first byte of a line to its end.
    pub line_timeout: Duration,
    /// A miner that acknowledges nothing for so long is gone (TCP_USER_TIMEOUT, and keepalive in half of it).
    pub dead_peer: Duration,
}

/// One problem for each key that is wrong.
pub(super) fn check(raw: &RawMiners, problems: &mut Problems) -> Option<Bounds> {
    let lines = problems.number("miners.max_lines_per_second", raw.max_lines_per_second, 1.0..=1e6);
    let bytes = problems.number("miners.max_bytes_per_second", raw.max_bytes_per_second, 1e3..=1e9);
    let line_timeout = problems.seconds("miners.line_seconds", raw.line_seconds, 1..=3600);
    let dead_peer = problems.seconds("miners.dead_peer_seconds", raw.dead_peer_seconds, 4..=3600);
    Some(Bounds {
        lines_per_second: lines?,
        bytes_per_second: bytes?,
        line_timeout: line_timeout?,
        dead_peer: dead_peer?,
    })
}
