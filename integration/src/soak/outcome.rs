//! What came out, and what of it was not as it must be.

use std::ops::Range;
use std::time::Instant;

use anyhow::ensure;
use serde::Serialize;
use serde_json::{Value, json};

use super::follow::SOON;
use super::lives::{Lives, Verdict};
use super::refused::Quiet;
use crate::load::Report;
use crate::world::{World, until};

/// What came out, as one JSON object.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// Measured, minutes.
    pub minutes: u64,
    /// Restarts and hand-overs, those that failed included.
    pub restarts: usize,
    /// Shares a second that were sent to the hub, to the proxy in SV1 and to the proxy in SV2: half of what each took alone, shared
    /// between the three.
    pub pace: [f64; 3],
    /// Shares that the hub acknowledged to its SV2 miners and to the proxy.
    pub acknowledged: u64,
    /// Shares in the ledger.
    pub ledger: u64,
    /// Shares that miners sent, answered or not.
    pub sent: u64,
    /// Of them, those that never were answered, since a connection or a program ended.
    pub unanswered: u64,
    /// Shares that were refused.
    pub rejected: u64,
    /// Of them, those that were refused while nothing was restarted.
    pub rejected_in_quiet: u64,
    /// Connections that were made again.
    pub reconnected: u64,
    /// Visits of miners over TLS that had work, and no load.
    pub visits_over_tls: u64,
    /// Blocks of others that were mined meanwhile.
    pub blocks: u32,
    /// Height of the chain at the end; it began at 250. A node that is killed may lose its last blocks.
    pub height: u32,
    /// Memory and open files of every long life.
    pub lives: Vec<Verdict>,
    /// What was not as it must be; empty if all is well.
    pub faults: Vec<String>,
}

/// What hub and proxy had in their books before the load.
pub(super) struct Books {
    /// Shares in the ledger.
    ledger: u64,
    /// Shares that the hub acknowledged to the proxy.
    credited: u64,
}

impl Books {
    pub(super) async fn of(world: &World) -> anyhow::Result<Self> {
        let ledger = world.pool.hub.credits().await?.shares;
        Ok(Self { ledger, credited: world.proxy.forwarded().await?.credited })
    }
}

impl Outcome {
    /// One line, named for a file of results.
    pub fn line(&self) -> Value {
        json!({ "name": "soak", "value": self })
    }

    /// Counts what the miners saw.
    pub(super) fn count(&mut self, reports: &[Report]) {
        let of = |count: fn(&Report) -> u64| reports.iter().map(count).sum::<u64>();
        self.unanswered = of(|r| r.lost);
        self.rejected = of(|r| r.rejected_in_all);
        self.sent = of(|r| r.accepted_in_all) + self.rejected + self.unanswered;
        self.reconnected = of(|r| r.reconnected);
    }

    /// Waits until the books agree with what the miners were told; the hub itself acknowledged `by_hub` shares of its own.
    pub(super) async fn close_books(&mut self, world: &World, before: &Books, by_hub: u64) {
        let sent = self.sent;
        let books = until("the books agree", SOON, async || {
            let forwarded = world.proxy.forwarded().await?;
            let ledger = world.pool.hub.credits().await?.shares - before.ledger;
            // A proxy that is killed forgets what it counted in its last second, so this may be less than it was told.
            let acknowledged = by_hub + forwarded.credited - before.credited;
            let now = format!("ledger {ledger}, acknowledged {acknowledged}, sent {sent}");
            ensure!(forwarded.waiting() == 0, "shares wait at the proxy: {forwarded:?}");
            ensure!(acknowledged <= ledger, "acknowledged shares are missing: {now}");
            ensure!(ledger <= sent, "shares count twice or come from nowhere: {now}");
            Ok((ledger, acknowledged))
        })
        .await;
        match books {
            Ok((ledger, acknowledged)) => (self.ledger, self.acknowledged) = (ledger, acknowledged),
            Err(error) => self.faults.push(format!("{error:#}")),
        }
    }

    /// Every one of `programs` has had a life that says something, and none has grown.
    pub(super) fn judge_lives(&mut self, lives: &Lives, programs: &[String]) {
        let unjudged = lives.unjudged(programs);
        self.faults.extend(
            unjudged
                .iter()
                .map(|name| format!("{name}: no life was long enough to judge its memory and files")),
        );
        self.lives = lives.verdicts();
        let grown = self.lives.iter().filter(|life| !life.flat);
        self.faults.extend(grown.map(|life| format!("not flat: {life:?}")));
    }

    /// All miners were served, as fast as can be asked, and hardly any was refused a share while nothing was restarted.
    pub(super) fn judge_load(&mut self, reports: &[Report], restarts: &[Range<Instant>]) {
        let paced = reports.iter().zip(self.pace);
        self.faults.extend(paced.filter_map(|(report, pace)| too_slow(report, pace)));
        let quiet: Vec<Quiet> = reports.iter().map(|report| Quiet::of(report, restarts)).collect();
        self.rejected_in_quiet = quiet.iter().map(|quiet| quiet.rejected).sum();
        for (quiet, report) in quiet.iter().zip(reports) {
            self.faults.extend(quiet.fault().map(|fault| format!("{fault}: {report}")));
        }
        if self.visits_over_tls == 0 {
            self.faults.push("no miner had work over TLS".to_owned());
        }
    }

    /// The chain has grown, and is as high as was seen already.
    pub(super) fn judge_chain(&mut self, height: u32, least: u32) {
        self.height = height;
        let blocks = self.blocks;
        if blocks == 0 || height < least {
            self.faults
                .push(format!("{blocks} blocks were mined, and the chain is at {height}, not at {least}"));
        }
    }
}

/// Restarts cost some of the time, and no more.
fn too_slow(report: &Report, pace: f64) -> Option<String> {
    (report.accepted_per_second < pace / 2.0)
        .then(|| format!("less than half of {pace:.0} shares/s: {report}"))
}
