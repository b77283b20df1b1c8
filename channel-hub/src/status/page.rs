//! The snapshot for people.

use link::unix_now;
use service::{Cell, Page, Section};
use store::{BlockState, StoredBlock};

use super::disk::bytes;
use super::lists::{Lists, MAX_LISTED, RATE_MINUTES};
use super::snapshot::{Snapshot, difficulty};
use crate::miners::channel::Channel;
use crate::miners::connections::Connection;
use crate::supply::choice::Standing;
use crate::supply::task::FOREIGN;

/// Rows of each table; the API has more.
const MAX_ROWS: usize = 200;

pub(super) fn page(snapshot: &Snapshot, lists: &Lists) -> Page {
    Page::new("Sluice hub")
        .with(now(snapshot, lists.hash_rate))
        .with(job(snapshot))
        .with(providers(snapshot))
        .with(workers(snapshot, lists))
        .with(connections(snapshot, lists))
        .with(blocks(lists))
        .with(rejections(snapshot))
        .with(drops(snapshot))
}

pub(super) fn broken(error: &str) -> Page {
    Page::new("Sluice hub").with(Section::pairs("Now").pair("store", Cell::bad(error)))
}

fn now(snapshot: &Snapshot, rate: f64) -> Section {
    let node = match &snapshot.node {
        Ok(info) => Cell::good(format!("{} on {}, height {}", info.subversion, info.network, info.height)),
        Err(error) => Cell::bad(error.as_str()),
    };
    let mut section = Section::pairs("Now")
        .note(format!(
            "Hash rates are means of the last {RATE_MINUTES} minutes; totals are what the ledger holds."
        ))
        .pair("hash rate", hash_rate(rate))
        .pair("shares accepted", snapshot.total.shares)
        .pair("work, in hashes", snapshot.total.work.to_string())
        .pair("best share, difficulty", number(difficulty(snapshot.total.best)))
        .pair("blocks found", snapshot.block_count)
        .pair("connections", snapshot.connection_count)
        .pair("mining channels", snapshot.channel_count)
        .pair("running for", duration(snapshot.uptime_seconds))
        .pair("authority public key", snapshot.authority.as_str())
        .pair("blocks pay", snapshot.reward.as_str())
        .pair("node", node);
    if let Some(disk) = &snapshot.disk {
        let text = format!("{}, {} left on its disk", bytes(disk.ledger), bytes(disk.free));
        let is_little = disk.trouble().is_some();
        section = section.pair("ledger", if is_little { Cell::warn(text) } else { text.into() });
    }
    if let Some(error) = &snapshot.store_failing {
        section = section.pair("store", Cell::bad(error.as_str()));
    }
    section
}

fn job(snapshot: &Snapshot) -> Section {
    let Some(job) = &snapshot.job else {
        return Section::pairs("Current job")
            .pair("job", Cell::bad("none: no template provider has sent work yet"));
    };
    let transactions = job.transactions.map_or_else(|| "not known yet".into(), |count| count.to_string());
    Section::pairs("Current job")
        .pair("height", job.height)
        .pair("transactions", transactions)
        .pair("coinbase value, satoshi", job.coinbase_value_sat)
        .pair("template", job.template_id)
        .pair("builds on", job.prev_hash.as_str())
        .pair("tip came", format!("{} ago", duration(job.age_seconds)))
}

fn providers(snapshot: &Snapshot) -> Section {
    let rows = snapshot.providers.iter().map(|(address, health)| {
        let state = match (health.is_connected(), health.in_use) {
            (false, _) => Cell::bad(format!("away: {}", health.last_error)),
            (true, true) if health.standing == Standing::Foreign => {
                Cell::bad(format!("in use, but {FOREIGN}"))
            }
            (true, false) if health.standing == Standing::Foreign => Cell::bad(FOREIGN),
            (true, _) if !health.trouble().is_empty() => Cell::bad(health.trouble()),
            (true, true) => Cell::good("in use"),
            (true, false) => Cell::from("connected"),
        };
        let last = health
            .last_template
            .map_or_else(String::new, |at| format!("{} ago", duration(at.elapsed().as_secs())));
        [
            Cell::from(address.as_str()),
            state,
            Cell::from(health.height.map_or_else(String::new, |height| height.to_string())),
            Cell::from(last),
            Cell::from(health.templates.to_string()),
        ]
    });
    Section::table("Template providers", ["address", "state", "height", "last template", "templates"])
        .rows(rows)
}

fn workers(snapshot: &Snapshot, lists: &Lists) -> Section {
    let now = unix_now();
    let rows = lists.workers.iter().take(MAX_ROWS).map(|w| {
        [
            w.hasher.clone(),
            w.worker.clone(),
            hash_rate(w.hash_rate),
            w.sum.shares.to_string(),
            w.sum.work.to_string(),
            w.rejected.map_or_else(|| "not known".to_owned(), |rejected| rejected.to_string()),
            number(difficulty(w.sum.best)),
            format!("{} ago", duration(u64::from(now.saturating_sub(w.sum.last_share)))),
        ]
    });
    let header = ["hasher", "worker", "hash rate", "shares", "work", "rejected", "best share", "last share"];
    Section::table("Workers", header).note(part_of(snapshot.worker_count, "workers")).rows(rows)
}

fn connections(snapshot: &Snapshot, lists: &Lists) -> Section {
    let header = [
        "address",
        "client",
        "user",
        "channel",
        "hash rate",
        "difficulty",
        "accepted",
        "rejected",
        "connected",
    ];
    let rows = lists.connections.iter().flat_map(|(connection, details)| {
        let client = details
            .peer
            .as_ref()
            .map_or_else(String::new, |peer| format!("{} {}", peer.device.vendor, peer.device.firmware));
        let channels = details.channels.iter().map(|(id, channel)| (*id, channel));
        channels.map(|(id, channel)| row(connection, &client, id, channel)).collect::<Vec<_>>()
    });
    let note = part_of(snapshot.channel_count as u64, "connections");
    Section::table("Mining channels", header).note(note).rows(rows.take(MAX_ROWS))
}

fn row(connection: &Connection, client: &str, id: u32, channel: &Channel) -> [String; 9] {
    let tally = channel.tally();
    [
        connection.address.to_string(),
        client.to_owned(),
        channel.user_identity.to_string(),
        format!("{id} ({})", channel.kind_name()),
        hash_rate(channel.hash_rate()),
        number(mining::target::difficulty(channel.target)),
        tally.accepted.to_string(),
        tally.rejected.to_string(),
        duration(connection.since.elapsed().as_secs()),
    ]
}

fn blocks(lists: &Lists) -> Section {
    let rows = lists.blocks.iter().take(MAX_ROWS).map(|block| {
        [
            Cell::from(block.height.to_string()),
            Cell::from(block.hash.as_str()),
            state(block),
            Cell::from(block.transactions.map_or_else(String::new, |count| count.to_string())),
            Cell::from(block.value_sat.to_string()),
            Cell::from(format!("{}.{}", block.hasher, block.worker)),
        ]
    });
    let header = ["height", "hash", "state", "transactions", "value, satoshi", "found by"];
    Section::table("Found blocks", header).rows(rows)
}

fn state(block: &StoredBlock) -> Cell {
    match &block.state {
        BlockState::Rejected(reason) => Cell::bad(format!("rejected: {reason}")),
        BlockState::Stale => Cell::warn("stale"),
        BlockState::Pending => Cell::warn("pending"),
        state => Cell::good(state.name()),
    }
}

fn rejections(snapshot: &Snapshot) -> Section {
    let rows = snapshot.rejected.iter().map(|(reason, count)| [(*reason).to_owned(), count.to_string()]);
    Section::table("Rejected shares", ["reason", "shares"]).rows(rows)
}

fn drops(snapshot: &Snapshot) -> Section {
    let rows = snapshot.dropped.iter().map(|(reason, count)| [reason.clone(), count.to_string()]);
    Section::table("Connections dropped", ["reason", "connections"]).rows(rows)
}

/// Where not all `count` rows are shown, and where all are.
fn part_of(count: u64, path: &str) -> String {
    if count <= MAX_ROWS as u64 {
        return String::new();
    }
    format!(
        "{MAX_ROWS} of {count}; /api/v1/{path} has all, {MAX_LISTED} at a time: /api/v1/{path}/2 and so on."
    )
}

/// As `12.3 TH/s`.
fn hash_rate(rate: f64) -> String {
    format!("{}H/s", number(rate))
}

/// Three digits and a prefix, as `12.3 T`.
fn number(value: f64) -> String {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let mut value = value;
    let mut prefix = 0;
    while value >= 1000.0 && prefix < PREFIXES.len() - 1 {
        value /= 1000.0;
        prefix += 1;
    }
    let digits = if value == 0.0 || value >= 100.0 {
        0
    } else if value >= 1.0 {
        2
    } else {
        6
    };
    format!("{value:.digits$} {}", PREFIXES[prefix])
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(hash_rate(12_345_678.0), "12.35 MH/s");
        assert_eq!(number(0.000_116), "0.000116 ");
        assert_eq!(number(0.0), "0 ");
        assert_eq!(number(5e20), "500 E");
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(3_700), "1 h 1 min");
        assert_eq!(duration(90_000), "1 d 1 h");
    }
}
