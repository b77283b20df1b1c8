//! Disks that are full or read-only.

use integration::faults::{Disk, Line, apart};
use integration::world::sri::POOL_KEY;
use integration::world::{Chain, Part, Plan, Upstream, World, bounded, holds, parts, until};

use crate::{BOUND, SOON, a_block_arrives, miner, more_shares};

const SIZE: u64 = 2 << 20;

#[test]
fn a_full_disk_holds_up_no_block_loses_no_acknowledged_share_and_is_named() {
    let test = async {
        let directory = tempfile::Builder::new().prefix("sluice-disks-").tempdir()?;
        let disk = |name: &str| Disk::mount(&directory.path().join(name), SIZE);
        let disks = [disk("of-tp")?, disk("of-hub")?, disk("of-proxy")?];
        let [tp, hub, proxy] = [0, 1, 2].map(|place: usize| {
            let data = disks[place].path().join("data").display().to_string();
            vec![("data_dir", toml::Value::from(data))]
        });
        let mut line = Line::start_in(directory, Plan { hub, proxy, template_provider: tp }).await?;
        let miner = miner(&line);
        more_shares(&miner, 5).await?;

        for disk in &disks {
            disk.fill()?;
        }
        a_block_arrives(&mut line, &miner).await?;
        let pool = &line.world.pool;
        for (part, fault) in [
            (&pool.template_provider, "cannot write the block down, submitting it only: No space left"),
            (&pool.hub, "cannot write the store; trying again error=database or disk is full"),
        ] {
            until("it names the full disk", SOON, async || {
                let log = part.process.log();
                holds(log.contains(fault), log)
            })
            .await?;
        }
        until("the hub says so on its page", SOON, async || {
            let health = health(&pool.hub).await?;
            holds(health.contains("disk is full") || health.contains("No space left on device"), health)
        })
        .await?;
        // The proxy writes only totals. What it cannot write it does not show.
        let (shown, log) = (line.world.proxy.metrics().await, line.world.proxy.process.log());
        assert!(shown.is_ok() || log.contains("No space left on device"), "{shown:?}\n{log}");

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
