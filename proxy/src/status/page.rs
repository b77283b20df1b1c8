//! The page, for people.

use super::{Shown, difficulty, distrusted, state, unix};
use service::{Cell, Section};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Rows of a table; the API has all.
const MAX_ROWS: usize = 200;

impl Shown {
    pub(super) fn now_section(&self) -> Section {
        let totals = &self.farm.totals;
        let upstream = match self.active_address() {
            Some(address) => Cell::good(address.to_string()),
            None => Cell::bad("none"),
        };
        let rejected: Vec<_> =
            totals.rejected().iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
        let section = Section::pairs("Now")
            .note("Credited is what the upstream acknowledged; accepted shares below its difficulty earn nothing.")
            .pair("Upstream", upstream)
            .pair("Miners", self.farm.miners().len())
            .pair("Hash rate (estimated)", rate(self.farm.hash_rate()))
            .pair("Shares credited", totals.sum("shares_credited"))
            .pair("Work credited (hashes)", totals.credited_work().to_string())
            .pair("Shares accepted", totals.sum("shares_accepted"))
            .pair("Shares rejected", if rejected.is_empty() { "none".to_owned() } else { rejected.join(", ") })
            .pair("Shares refused by upstreams", totals.sum("shares_refused"))
            .pair("Shares without an answer", totals.sum("shares_unanswered"))
            .pair("Best share (difficulty)", number(difficulty(totals.best())))
            .pair("Blocks found", totals.blocks.value());
        let keys = [
            ("TLS certificate (SHA-256)", self.fingerprint()),
            ("Authority public key, for SV2 miners", self.authority()),
        ];
        keys.into_iter().fold(section, |section, (name, key)| match key {
            Some(key) => section.pair(name, key),
            None => section,
        })
    }

    pub(super) fn upstreams_section(&self) -> Section {
        let rows = self.health.iter().map(|health| {
            let seen = health.seen();
            let state = match state(&seen) {
                state @ "active" => Cell::good(state),
                state @ "away" => Cell::bad(state),
                state => state.into(),
            };
            let back = distrusted(&seen);
            let back = back.map(|left| format!("miners return in {} at the earliest", span(left)));
            let difficulty = seen.job.map(|job| number(job.difficulty)).unwrap_or_default();
            let failure = seen.failure.map(|(why, at)| format!("{why} ({} ago)", ago(at)));
            let failure = failure.into_iter().chain(back).collect::<Vec<_>>().join("; ");
            [health.address.as_str().into(), state, ago(seen.since).into(), difficulty.into(), failure.into()]
        });
        Section::table("Upstreams", ["address", "state", "for", "difficulty", "last failure"]).rows(rows)
    }

    pub(super) fn job_section(&self) -> Section {
        let section = Section::pairs("Current job");
        match self.active_seen().and_then(|seen| seen.job) {
            None => section.pair("Job", Cell::warn("none")),
            Some(job) => section
                .pair("Id (at the upstream)", format!("{:x} ({})", job.id, job.upstream_id))
                .pair("Builds on", job.prev_hash)
                .pair("Difficulty of a credited share", number(job.difficulty))
                .pair("Difficulty of a block", number(job.network_difficulty))
                .pair("Age", ago(job.at)),
        }
    }

    pub(super) fn miners_section(&self) -> Section {
        let miners = self.farm.miners();
        let rows = miners.iter().take(MAX_ROWS).map(|miner| {
            let view = miner.view();
            [
                view.worker.as_ref().map_or("(not authorised)", |worker| &*worker.user).to_owned(),
                view.protocol.name().to_owned(),
                view.firmware.as_deref().unwrap_or("unknown").to_owned(),
                miner.address.to_string(),
                ago(miner.connected),
                number(view.difficulty),
                rate(view.hash_rate),
                miner.credited.load(Ordering::Relaxed).to_string(),
                view.accepted.to_string(),
                view.rejected.to_string(),
                view.last_share.map(ago).unwrap_or_default(),
            ]
        });
        let head = [
            "user",
            "protocol",
            "firmware",
            "address",
            "connected",
            "difficulty",
            "hash rate",
            "credited",
            "accepted",
            "rejected",
            "last share",
        ];
        let shown = Section::table("Connected miners", head).rows(rows);
        if miners.len() > MAX_ROWS {
            shown.note(format!("The first {MAX_ROWS} of {}", miners.len()))
        } else {
            shown
        }
    }

    pub(super) fn workers_section(&self) -> Section {
        let rows = self.workers().into_iter().take(MAX_ROWS).map(|(worker, (miners, hash_rate))| {
            [
                worker.name().to_owned(),
                miners.to_string(),
                rate(hash_rate),
                worker.credited.value().to_string(),
                worker.work().to_string(),
                worker.accepted().to_string(),
                worker.rejected().iter().map(|(_, count)| count).sum::<u64>().to_string(),
                worker.refused.value().to_string(),
                worker.unanswered.value().to_string(),
                number(difficulty(worker.best())),
            ]
        });
        let head = [
            "worker",
            "connected",
            "hash rate",
            "credited",
            "work (hashes)",
            "accepted",
            "rejected",
            "refused",
            "unanswered",
            "best share",
        ];
        Section::table("Workers, all time", head).rows(rows)
    }

    pub(super) fn blocks_section(&self) -> Section {
        let blocks = self.farm.blocks();
        let listed = u64::try_from(blocks.len()).unwrap_or(u64::MAX);
        let rows = blocks.into_iter().map(|block| {
            [
                block.hash.to_string(),
                block.worker.to_string(),
                block.upstream.to_string(),
                unix(block.time).to_string(),
            ]
        });
        let shown = Section::table("Blocks found", ["hash", "worker", "handed to", "time (unix)"]).rows(rows);
        match self.farm.totals.blocks.value().saturating_sub(listed) {
            0 => shown,
            earlier => {
                shown.note(format!("{earlier} before these, in earlier runs or long ago: the log has them"))
            }
        }
    }
}

/// Three or four digits and a prefix, as `1.23 TH/s`.
fn rate(hashes_per_second: f64) -> String {
    let (mut value, mut prefixes) = (hashes_per_second, ["", "k", "M", "G", "T", "P", "E", "Z"].into_iter());
    let mut prefix = prefixes.next().unwrap_or_default();
    while value >= 1000.0 {
        let Some(next) = prefixes.next() else { break };
        (value, prefix) = (value / 1000.0, next);
    }
    format!("{value:.2} {prefix}H/s")
}

fn number(value: f64) -> String {
    if value >= 1000.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.6}").trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

fn ago(at: Instant) -> String {
    span(at.elapsed())
}

fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Admission, Mode};
    use crate::farm::Farm;
    use service::Counters;
    use std::sync::Arc;
    use tokio::sync::watch;

    #[test]
    fn blocks_of_earlier_runs_are_not_listed_but_not_forgotten_either() {
        let dir = tempfile::tempdir().unwrap();
        let admission = Admission { max_connections: 1, max_connections_per_address: 1 };
        let counters = Counters::open("test", dir.path()).unwrap();
        let farm = Arc::new(Farm::new(admission, Duration::from_secs(3), &counters));
        let shown = Shown::new(farm.clone(), Vec::new(), watch::channel(None).1, Mode::Aggregated);
        assert_eq!(shown.blocks_section().note, "");
        farm.totals.blocks.add(2);
        assert!(shown.blocks_section().note.starts_with("2 before these"));
    }
}
