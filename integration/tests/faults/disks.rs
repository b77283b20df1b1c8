//! Disks that are full or read-only.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use integration::faults::line::{Line, RATE};
use integration::faults::{Disk, apart, not_run};
use integration::world::sri::POOL_KEY;
use integration::world::{Chain, Part, Plan, Settings, Upstream, World, bounded, holds, parts, until};

use crate::{BOUND, SOON, a_block_arrives, miner, more_shares};

const SIZE: u64 = 2 << 20;
/// ext4 needs room of its own.
const FILE_SIZE: u64 = 64 << 20;

/// One each for template provider, hub and proxy.
fn three(directory: &Path, mount: impl Fn(&Path) -> anyhow::Result<Disk>) -> anyhow::Result<[Disk; 3]> {
    let disk = |name: &str| mount(&directory.join(name));
    Ok([disk("of-tp")?, disk("of-hub")?, disk("of-proxy")?])
}

/// Each program with its data on its own disk.
fn on(disks: &[Disk; 3]) -> Plan {
    let [template_provider, hub, proxy] = disks.each_ref().map(|disk| -> Settings {
        vec![("data_dir", disk.path().join("data").display().to_string().into())]
    });
    Plan { hub, proxy, template_provider }
}

/// Waits until the program has said so.
async fn says(part: &Part, fault: &str) -> anyhow::Result<()> {
    let said = async || {
        let log = part.process.log();
        holds(log.contains(fault), log)
    };
    until("it names the disk's fault", SOON, said).await
}

/// Waits until its health is bad for this reason.
async fn is_unwell(part: &Part, fault: &str) -> anyhow::Result<()> {
    let said = async || {
        let health = health(part).await?;
        holds(health.contains("false") && health.contains(fault), health)
    };
    until("its health says so", SOON, said).await
}

#[test]
fn a_full_disk_holds_up_no_block_loses_no_acknowledged_share_and_is_named() {
    let test = async {
        let directory = tempfile::Builder::new().prefix("sluice-disks-").tempdir()?;
        let disks = three(directory.path(), |path| Disk::mount(path, SIZE))?;
        let mut line = Line::start_in(directory, on(&disks)).await?;
        let miner = miner(&line);
        more_shares(&miner, 5).await?;

        for disk in &disks {
            disk.fill()?;
        }
        a_block_arrives(&mut line, &miner).await?;
        let pool = &line.world.pool;
        says(&pool.template_provider, "cannot write the block down, submitting it only: No space left")
            .await?;
        says(&pool.hub, "cannot write the store; trying again error=database or disk is full").await?;
        is_unwell(&pool.hub, "disk is full").await?;
        // The proxy writes only totals: it is asked for the fault's name where the disk turns read-only, since the last page of its
        // file may have room for minutes. Its page stays readable.
        line.world.proxy.metrics().await?;
        let waiting = async || {
            let forwarded = line.world.proxy.forwarded().await?;
            holds(forwarded.waiting() > 0, format!("{forwarded:?}"))
        };
        until("shares wait for their commit", SOON, waiting).await?;
        // What was committed before the disk was full is acknowledged by now.
        let acknowledged = line.world.proxy.forwarded().await?.credited;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let forwarded = line.world.proxy.forwarded().await?;
        assert_eq!(forwarded.credited, acknowledged, "acknowledged without a commit: {forwarded:?}");

        for disk in &disks {
            disk.free()?;
        }
        let World { proxy, pool } = &mut line.world;
        for part in [&mut pool.template_provider, &mut pool.hub, proxy] {
            part.wait_healthy(SOON).await?;
        }
        more_shares(&miner, 5).await?;
        line.nothing_is_lost(&miner).await?;
        assert_eq!(miner.tally().connections, 1, "{:?}", miner.tally());
        drop(disks);
        Ok(())
    };
    apart(
        "disks::a_full_disk_holds_up_no_block_loses_no_acknowledged_share_and_is_named",
        &["mount"],
        bounded(BOUND, test),
    );
}

#[test]
fn a_disk_that_turns_read_only_holds_up_no_block_loses_no_acknowledged_share_and_is_named() {
    const NAME: &str =
        "disks::a_disk_that_turns_read_only_holds_up_no_block_loses_no_acknowledged_share_and_is_named";
    let test = async {
        let directory = tempfile::Builder::new().prefix("sluice-disks-").tempdir()?;
        let disks = match three(directory.path(), |path| Disk::mount_file(path, FILE_SIZE)) {
            Ok(disks) => disks,
            Err(error) => {
                not_run(NAME, &format!("{error:#}"));
                return Ok(());
            }
        };
        let mut line = Line::start_in(directory, on(&disks)).await?;
        let miner = miner(&line);
        more_shares(&miner, 5).await?;
        line.nothing_is_lost(&miner).await?;
        let acknowledged = line.world.proxy.forwarded().await?.credited;

        let [of_tp, of_hub, of_proxy] = &disks;
        of_tp.fail()?;
        of_hub.fail()?;
        a_block_arrives(&mut line, &miner).await?;
        let pool = &line.world.pool;
        says(
            &pool.template_provider,
            "cannot write the block down, submitting it only: Read-only file system",
        )
        .await?;
        says(&pool.hub, "cannot write the store; trying again").await?;
        for part in [&pool.template_provider, &pool.hub] {
            is_unwell(part, "Read-only file system").await?;
        }
        until("shares wait for their commit", SOON, async || {
            let forwarded = line.world.proxy.forwarded().await?;
            assert_eq!(forwarded.credited, acknowledged, "acknowledged without a commit");
            holds(forwarded.waiting() > 0, format!("{forwarded:?}"))
        })
        .await?;
        of_proxy.fail()?;
        says(&line.world.proxy, "Read-only file system").await?;
        is_unwell(&line.world.proxy, "Read-only file system").await?;

        let World { proxy, pool } = &mut line.world;
        let parts = [&mut pool.template_provider, &mut pool.hub, proxy];
        for (part, disk) in parts.into_iter().zip(&disks) {
            part.kill();
            disk.repair()?;
            part.start().await?;
        }
        more_shares(&miner, 5).await?;
        line.nothing_is_lost(&miner).await?;
        drop(disks);
        Ok(())
    };
    apart(NAME, &["mount", "mkfs.ext4"], bounded(BOUND, test));
}

#[test]
fn a_disk_too_full_for_logs_costs_their_lines_and_nothing_else() {
    let test = async {
        let directory = tempfile::Builder::new().prefix("sluice-disks-").tempdir()?;
        let disk = Disk::mount(&directory.path().join("of-logs"), SIZE)?;
        let logs = ["tp", "hub", "proxy"].map(|name| format!("{name}.log"));
        for log in &logs {
            std::os::unix::fs::symlink(disk.path().join(log), directory.path().join(log))?;
        }
        let mut line = Line::start_in(directory, Plan::default()).await?;
        let miner = miner(&line);
        more_shares(&miner, 5).await?;

        disk.fill()?;
        for log in &logs {
            fill_last_page(&disk.path().join(log))?;
        }
        let full = lengths(&line);
        a_block_arrives(&mut line, &miner).await?;
        more_shares(&miner, 5).await?;
        let World { proxy, pool } = &mut line.world;
        for part in [&mut pool.template_provider, &mut pool.hub, proxy] {
            part.wait_healthy(SOON).await?; // they do their work, and say so
        }
        line.every_share_is_answered(&miner).await?;
        assert_eq!(lengths(&line), full, "there was room for lines");

        disk.free()?;
        miner.limit(Some(RATE));
        a_block_arrives(&mut line, &miner).await?;
        let goes_on = async || {
            let now = lengths(&line);
            holds(full.iter().zip(&now).all(|(full, now)| full < now), format!("{full:?}, {now:?}"))
        };
        until("the logs go on", SOON, goes_on).await?;
        more_shares(&miner, 5).await?;
        line.every_share_is_answered(&miner).await?;
        drop(disk);
        Ok(())
    };
    apart(
        "disks::a_disk_too_full_for_logs_costs_their_lines_and_nothing_else",
        &["mount"],
        bounded(BOUND, test),
    );
}

/// Of a file on a disk that is full: its last page may have room.
fn fill_last_page(path: &Path) -> anyhow::Result<()> {
    let mut file = File::options().append(true).open(path)?;
    loop {
        match file.write_all(b"\n") {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// What each program has said, in bytes.
fn lengths(line: &Line) -> [usize; 3] {
    let pool = &line.world.pool;
    [&pool.template_provider, &pool.hub, &line.world.proxy].map(|part| part.process.log().len())
}

#[test]
fn a_program_does_not_start_on_a_read_only_disk_and_says_why() {
    let test = async {
        let directory = tempfile::Builder::new().prefix("sluice-disks-").tempdir()?;
        let disk = Disk::mount(&directory.path().join("disk"), SIZE)?;
        let chain = Chain::start(directory.path()).await?;
        let settings = || vec![("data_dir", disk.path().join("data").display().to_string().into())];
        let nowhere = Upstream { host: "127.0.0.1".into(), port: 1, authority_key: POOL_KEY.into() };
        let tp = parts::template_provider(directory.path(), "tp", &chain, settings())?;
        let hub = parts::hub(directory.path(), "hub", &chain, std::slice::from_ref(&nowhere), settings())?;
        let proxy = parts::proxy(directory.path(), "proxy", &[nowhere], settings())?;
        for mut part in [tp, hub, proxy] {
            std::fs::create_dir_all(disk.path().join("data"))?;
            disk.read_only(true)?;
            part.process.start()?;
            until("it ends", SOON, async || holds(!part.process.is_running(), "it runs")).await?;
            let log = part.process.log();
            let named = format!("the data directory {} cannot be used", disk.path().join("data").display());
            assert!(log.contains(&named) && log.contains("Make it writable"), "{log}");
            disk.read_only(false)?;
            part.process.start()?;
            until("it runs", SOON, async || {
                holds(part.process.log().contains("started"), part.process.log())
            })
            .await?;
            part.kill();
        }
        drop(disk);
        Ok(())
    };
    apart(
        "disks::a_program_does_not_start_on_a_read_only_disk_and_says_why",
        &["mount"],
        bounded(BOUND, test),
    );
}

/// What a program says of itself, well or not.
async fn health(part: &Part) -> anyhow::Result<String> {
    Ok(reqwest::get(part.url("api/v1/health")).await?.text().await?)
}
