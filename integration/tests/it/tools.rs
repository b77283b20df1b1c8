//! The programs that come with this crate: the demo and the CPU miner.

use std::process::Output;
use std::time::Duration;

use bitcoin::BlockHash;
use integration::world::chain::{ADDRESS, CHECKED_IN};
use integration::world::{Plan, World, bounded};
use serde_json::Value;
use tokio::process::Command;

const BOUND: Duration = Duration::from_secs(300);

async fn run(program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    Ok(Command::new(program).args(arguments).kill_on_drop(true).output().await?)
}

#[tokio::test]
async fn the_demo_ends_after_a_credited_block_with_a_transaction_and_says_which() {
    let test = async {
        let output = run(env!("CARGO_BIN_EXE_demo"), &["--once"]).await?;
        let said = String::from_utf8(output.stdout)?;
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let last: Value = serde_json::from_str(said.lines().last().unwrap())?;
        let mut fields: Vec<&String> = last.as_object().unwrap().keys().collect();
        fields.sort();
        let wanted = [
            "coinbase_value_sat",
            "hash",
            "height",
            "miners",
            "shares_credited",
            "transactions",
            "work_credited",
        ];
        assert_eq!(fields, wanted);
        let number = |name: &str| last[name].as_u64().unwrap();
        last["hash"].as_str().unwrap().parse::<BlockHash>()?;
        assert!(number("height") > u64::from(CHECKED_IN));
        assert!(number("transactions") > 1 && number("coinbase_value_sat") > 5_000_000_000, "{last}");
        assert!(
            number("work_credited") > number("shares_credited") && number("shares_credited") > 0,
            "{last}"
        );
        assert_eq!(number("miners"), 3);
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn the_cpu_miner_mines_at_a_proxy_and_at_a_hub() {
    let test = async {
        let world = World::start(Plan::default()).await?;
        let (sv1, user) = (format!("stratum+tcp://{}", world.proxy.address()), format!("{ADDRESS}.cpu"));
        let hub = world.pool.hub.upstream()?;
        let sv2 = format!("stratum2+tcp://{}/{}", hub.address(), hub.authority_key);
        for arguments in
            [&["sv1", &sv1, &user][..], &["sv2", &sv2, &user], &["sv2", &sv2, &user, "--standard"]]
        {
            let arguments = [arguments, &["--rate", "400000", "--shares", "3"]].concat();
            let output = run(env!("CARGO_BIN_EXE_cpu-miner"), &arguments).await?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
            assert!(said.contains("mining | "), "{said}");
        }
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}
