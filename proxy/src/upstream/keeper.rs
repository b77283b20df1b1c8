//! The task that keeps one upstream connected while it is wanted.

use super::connection::{Connection, Hangs};
use super::health::{Health, State};
use super::moved::Moved;
use super::selector::Report;
use super::wire::{self, Wire};
use crate::config::{Mode, Upstream};
use crate::farm::Farm;
use crate::work::JobIds;
use link::LinkError;
use service::{Backoff, Finding};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use stratum_core::extensions_sv2::EXTENSION_TYPE_WORKER_HASHRATE_TRACKING;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Shortest pause between two attempts.
const SHORTEST: Duration = Duration::from_millis(500);

/// Longest pause between two attempts while miners have no upstream: their work is lost meanwhile.
const URGENT: Duration = Duration::from_secs(4);

/// A connection that lasted so long was a good one.
const LASTED: Duration = Duration::from_secs(60);

/// What an upstream is asked for.
const EXTENSIONS: &[u16] = &[EXTENSION_TYPE_WORKER_HASHRATE_TRACKING];

/// An upstream that closes the connection so often in a row when it is asked for extensions seems to know none. Once may be chance:
/// it restarts, or makes room for others.
const REFUSALS: u32 = 2;

/// What all upstreams' tasks share.
#[derive(Clone, Debug)]
pub struct Common {
    /// Miners and totals.
    pub farm: Arc<Farm>,
    /// How miners are put on channels.
    pub mode: Mode,
    /// Bytes of extranonce2 that miners get.
    pub extranonce2: usize,
    /// Hashes a second that a miner is taken to have before anything is known.
    pub hash_rate: f64,
    /// A job is sent again after so long.
    pub repeat_jobs: Duration,
    /// Longest pause between attempts while another upstream serves.
    pub retry: Duration,
    /// Numbers of connections.
    pub connections: Arc<AtomicU64>,
    /// Ids of jobs.
    pub job_ids: Arc<JobIds>,
    /// To the selector.
    pub reports: mpsc::Sender<Report>,
    /// The program ends.
    pub shutdown: CancellationToken,
}

/// Keeps upstream number `index` connected while `wanted` says so, until the program ends. Where it asks for that, the next
/// connection is to another place, which has to prove the same key; the one after is to the configured place again.
pub async fn keep(
    index: usize,
    upstream: Upstream,
    common: Common,
    health: Arc<Health>,
    mut wanted: watch::Receiver<bool>,
) {
    let mut pauses = Pauses::new(common.retry);
    let mut asking = Asking::default();
    let mut elsewhere = None;
    loop {
        if !*wanted.borrow() {
            health.set(State::Unused);
            elsewhere = None;
        }
        tokio::select! {
            wanted = wanted.wait_for(|wanted| *wanted) => if wanted.is_err() { return },
            () = common.shutdown.cancelled() => return,
        }
        health.set(State::Away);
        let begun = Instant::now();
        let place = elsewhere.take().unwrap_or_else(|| upstream.address.clone());
        let extensions = asking.extensions();
        let end = attempt(index, &upstream, &place, &common, &health, &mut wanted, extensions).await;
        if common.shutdown.is_cancelled() {
            return;
        }
        let is_refused = end
            .as_ref()
            .is_err_and(|error| matches!(error.downcast_ref(), Some(LinkError::ExtensionsRefused)));
        let is_expected = is_refused && asking.is_expected();
        asking.ended(is_refused);
        let Err(error) = end else { continue };
        if is_expected {
            elsewhere = (place != upstream.address).then_some(place);
            continue;
        }
        let moved = error.downcast_ref::<Moved>();
        elsewhere = moved.map(|moved| moved.place(&place));
        let length = begun.elapsed();
        let is_asked = is_asked(moved.is_some(), length);
        if is_asked {
            health.set(State::Away);
            tracing::info!(upstream = %upstream.address, to = elsewhere, "{error}");
        } else {
            // Once for each failure, not once for each try.
            if health.failed(&error) {
                tracing::warn!(upstream = %upstream.address, "{error}; trying again");
            }
            common.farm.totals.upstream_down(&upstream.address);
        }
        let report = match () {
            () if is_asked => Report::Moved(index),
            () if error.is::<Hangs>() => Report::Hung(index),
            () => Report::Lost(index),
        };
        if common.reports.send(report).await.is_err() {
            return;
        }
        if is_refused {
            elsewhere = (place != upstream.address).then_some(place);
            continue;
        }
        let pause = pauses.after(length, moved.is_some());
        tokio::select! {
            () = pause.over(&common.farm) => {}
            () = common.shutdown.cancelled() => return,
        }
    }
}

/// Whether a server's wish to be connected to anew is followed at once, and no failure. One whose connection was short is as any that
/// fails: if it asks each time it serves nobody, and must not keep us busy.
fn is_asked(moved: bool, length: Duration) -> bool {
    moved && length > LASTED
}

/// Whether an upstream is asked for extensions. Some servers close the connection then, and so does one that ends in that moment; which
/// of the two it was cannot be seen. So it is asked again soon: with the former that costs a handshake for each connection, and to
/// be wrong about the latter would cost the workers' names for as long as this program runs.
#[derive(Debug, Default)]
struct Asking {
    /// Times in a row that it closed the connection then.
    refusals: u32,
}

impl Asking {
    /// What the next attempt asks for.
    fn extensions(&self) -> &'static [u16] {
        if self.refusals < REFUSALS { EXTENSIONS } else { &[] }
    }

    /// Whether one more refusal says no more than that it knows none, which is no failure: the next attempt asks for none.
    fn is_expected(&self) -> bool {
        self.refusals + 1 == REFUSALS
    }

    /// An attempt has ended, or the connection that it made. After one that did not ask a single refusal is enough for the next.
    fn ended(&mut self, refused: bool) {
        self.refusals = match () {
            () if self.extensions().is_empty() => REFUSALS - 1,
            () if refused => self.refusals + 1,
            () => 0,
        };
    }
}

/// A pause between two attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    /// How long it is while miners have no upstream; never longer than `calm`.
    urgent: Duration,
    /// And while another one serves.
    calm: Duration,
}

impl Pause {
    const NONE: Self = Self { urgent: Duration::ZERO, calm: Duration::ZERO };

    /// Whether miners have another upstream is looked at while it lasts: at its beginning the selector may not have heard that they
    /// have lost this one, and later they may lose the other.
    async fn over(self, farm: &Farm) {
        let calm = tokio::time::Instant::now() + self.calm;
        tokio::time::sleep(self.urgent).await;
        tokio::select! {
            () = tokio::time::sleep_until(calm) => {}
            () = farm.unserved() => {}
        }
    }
}

/// Pauses between attempts, growing.
#[derive(Debug)]
struct Pauses {
    calm: Backoff,
    urgent: Backoff,
}

impl Pauses {
    fn new(longest: Duration) -> Self {
        Self { calm: Backoff::new(SHORTEST, longest), urgent: Backoff::new(SHORTEST, longest.min(URGENT)) }
    }

    /// The one after a connection or attempt of so long. There is none where the server asked to be `moved`, see [`is_asked`].
    fn after(&mut self, length: Duration, moved: bool) -> Pause {
        if length > LASTED {
            self.reset();
        }
        if is_asked(moved, length) { Pause::NONE } else { self.next() }
    }

    fn next(&mut self) -> Pause {
        let (calm, urgent) = (self.calm.wait(), self.urgent.wait());
        Pause { urgent: urgent.min(calm), calm }
    }

    fn reset(&mut self) {
        self.calm.reset();
        self.urgent.reset();
    }
}

/// Connects and serves; `Ok` when the connection is not wanted any more.
async fn attempt(
    index: usize,
    upstream: &Upstream,
    place: &str,
    common: &Common,
    health: &Arc<Health>,
    wanted: &mut watch::Receiver<bool>,
    extensions: &[u16],
) -> anyhow::Result<()> {
    let number = common.connections.fetch_add(1, Ordering::Relaxed) + 1;
    let wire = tokio::select! {
        wire = Wire::connect(upstream, place, common, number, extensions) => wire?,
        _ = wanted.wait_for(|wanted| !*wanted) => return Ok(()),
        () = common.shutdown.cancelled() => return Ok(()),
    };
    health.connected(wire.extensions());
    common.farm.totals.upstream_up(&upstream.address);
    tracing::info!(upstream = %upstream.address, extensions = ?wire.extensions(), "connected");
    let mut connection = Connection::new(index, upstream, common, health, number, wire);
    connection.begin()?;
    let end = connection.run(wanted).await;
    connection.end().await;
    end
}

/// Tries once whether an upstream can be reached, for `--check`.
pub async fn probe(upstream: &Upstream) -> Finding {
    let what = format!("upstream {}", upstream.address);
    match wire::probe(upstream).await {
        Ok(what_is_up) => Finding::good(what, what_is_up),
        Err(error) => Finding::bad(what, error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Admission;
    use service::Counters;
    use std::pin::pin;
    use tokio::time::timeout;

    #[test]
    fn one_refusal_may_be_chance_and_after_two_every_other_attempt_asks_again() {
        let mut asking = Asking::default();
        let mut asked = |refused: bool| {
            let is_asked = !asking.extensions().is_empty();
            asking.ended(refused && is_asked);
            is_asked
        };
        assert!(asked(true) && asked(false), "it was restarted");
        assert!(asked(true) && asked(true) && !asked(true), "it knows none");
        for _ in 0..3 {
            assert!(asked(true) && !asked(true), "one handshake more than it needs");
        }
        assert!(asked(false), "it has learned some");
        assert!(asked(true) && asked(true));
    }

    #[test]
    fn an_upstream_is_tried_every_few_seconds_while_miners_have_none() {
        let longest = Duration::from_secs(30);
        let mut pauses = Pauses::new(longest);
        assert!(pauses.next().urgent <= SHORTEST);
        for _ in 0..20 {
            assert!(pauses.next().urgent <= URGENT);
        }
        assert!(pauses.next().calm >= longest / 2, "another one serves: no hurry");
        pauses.reset();
        assert!(pauses.next().calm <= SHORTEST);
    }

    #[tokio::test]
    async fn a_calm_pause_ends_when_miners_turn_out_to_have_no_upstream_or_lose_it() {
        let dir = tempfile::tempdir().unwrap();
        let admission = Admission { max_connections: 1, max_connections_per_address: 1 };
        let counters = Counters::open("test", dir.path()).unwrap();
        let farm = Farm::new(admission, Duration::from_secs(3), &counters);
        let pause = Pause { urgent: Duration::from_millis(1), calm: Duration::from_secs(3600) };
        farm.activate(1);
        let mut over = pin!(pause.over(&farm));
        assert!(timeout(Duration::from_millis(20), over.as_mut()).await.is_err(), "another one serves");
        farm.activate(0);
        timeout(Duration::from_secs(20), over).await.unwrap();
        timeout(Duration::from_secs(20), pause.over(&farm)).await.unwrap();
    }

    #[test]
    fn who_asks_to_be_connected_to_anew_is_at_once_unless_it_asks_each_time() {
        let mut pauses = Pauses::new(Duration::from_secs(30));
        let (long, short) = (LASTED * 2, Duration::from_secs(1));
        assert_eq!(pauses.after(long, true), Pause::NONE);
        assert!(pauses.after(long, false).urgent > Duration::ZERO);
        let asked: Duration = (0..20).map(|_| pauses.after(short, true).urgent).sum();
        assert!(asked > URGENT, "{asked:?}");
    }
}
