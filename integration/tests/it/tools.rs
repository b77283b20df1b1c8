//! The programs that come with this crate: the demo, the CPU miner, the load generator and the bench; scripts of set-up.

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use bitcoin::BlockHash;
use integration::world::chain::{ADDRESS, CHECKED_IN};
use integration::world::programs::repository;
use integration::world::{Part, Plan, Pool, World, bounded, holds, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;

const BOUND: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(60);

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

#[tokio::test]
async fn the_load_generator_prints_one_json_line_with_a_histogram() {
    let test = async {
        // Shares of some hundred hashes: the generator finds them by hashing.
        let plan = Plan {
            hub: vec![("minimum_difficulty", 1e-7.into())],
            proxy: vec![("miners.minimum_difficulty", 1e-7.into())],
            ..Plan::default()
        };
        let world = World::start(plan).await?;
        let url = format!("stratum+tcp://{}", world.proxy.address());
        let password = "d=0.0000001";
        let arguments = ["sv1", &url, ADDRESS, "--password", password, "-n", "5", "-r", "20", "-d", "3"];
        let output = run(env!("CARGO_BIN_EXE_load"), &arguments).await?;
        let (said, text) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.lines().count() == 1, "{said}{text}");
        let report: Value = serde_json::from_str(&said)?;
        let histogram = &report["latency_histogram"];
        let of = |name: &str| histogram[name].as_array().unwrap().clone();
        let (bounds, counts) = (of("upto_ms"), of("counts"));
        let sum: u64 = counts.iter().filter_map(Value::as_u64).sum();
        assert!(sum > 0 && sum == report["submitted"].as_u64().unwrap(), "{report}");
        assert!(
            bounds.len() == counts.len() && bounds.is_sorted_by(|a, b| a.as_f64() < b.as_f64()),
            "{report}"
        );
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn the_load_generator_says_what_a_hub_took_what_it_used_for_that_and_when_its_miners_heard_of_a_tip() {
    let test = async {
        // About five hashes a share.
        let difficulty: f64 = 1.2e-9;
        let hub = vec![("minimum_difficulty", difficulty.into()), ("maximum_difficulty", difficulty.into())];
        let pool = Pool::start(Plan { hub, ..Plan::default() }).await?;
        let server = pool.hub.process.id().context("the hub does not run")?;
        let (upstream, pid) = (pool.hub.upstream()?, server.to_string());
        let url = format!("stratum2+tcp://{}/{}", upstream.address(), upstream.authority_key);
        let amount =
            ["-n", "5", "--channels", "2", "-r", "300", "--warm-up", "0", "-d", "240", "--pid", &pid];
        let load = Command::new(env!("CARGO_BIN_EXE_load"))
            .args([&["sv2", &url, ADDRESS][..], &amount].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        credited(&pool.hub, 300).await?;
        let tip = pool.chain.generate().await?.to_string();
        until("the hub's job builds on it", SOON, async || {
            let job = pool.hub.api("job").await?;
            holds(job["prev_hash"] == tip, job)
        })
        .await?;
        credited(&pool.hub, pool.hub.credits().await?.shares + 300).await?;
        kill_process(pid_of(&load)?, Signal::INT)?;
        let output = load.wait_with_output().await?;
        let (said, text) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.lines().count() == 1, "{said}{text}");
        let report: Value = serde_json::from_str(&said)?;
        let count = |name: &str| report[name].as_u64().with_context(|| format!("{name} in {report}"));
        assert_eq!((count("connections")?, count("connected")?, count("lost")?), (5, 5, 0), "{report}");
        // The last answers come when it has been told to end.
        let accepted = count("accepted_in_all")?;
        assert!(accepted >= 600 && count("accepted")? > 0, "{report}");
        // Who sends before the measured time begins may be answered within it.
        assert!(count("submitted")? + 10 >= count("accepted")?, "{report}");
        heard_by_all(&report, &tip, 5);
        used(&report, server);
        until("the ledger has as many", SOON, async || {
            let now = pool.hub.credits().await?.shares;
            holds(now == accepted, now)
        })
        .await
    };
    bounded(BOUND, test).await.unwrap();
}

fn pid_of(child: &tokio::process::Child) -> anyhow::Result<Pid> {
    let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    id.context("it has ended")
}

async fn credited(hub: &Part, shares: u64) -> anyhow::Result<()> {
    until("shares are credited", SOON, async || {
        let now = hub.credits().await?.shares;
        holds(now >= shares, now)
    })
    .await
}

/// Each connection counts once, however many channels it has.
fn heard_by_all(report: &Value, tip: &str, connections: u64) {
    let tips = report["tips"].as_array().unwrap();
    let heard = tips.iter().find(|heard| heard["prev_hash"] == tip);
    let heard = heard.unwrap_or_else(|| panic!("no tip {tip}: {report}"));
    assert_eq!(heard["heard"], connections, "{report}");
    let [p50, p99, last] = ["p50", "p99", "last"].map(|name| heard[name].as_f64().unwrap());
    assert!(0.0 <= p50 && p50 <= p99 && p99 <= last, "{report}");
    assert!(heard["first_unix_us"].as_u64() > Some(1_600_000_000_000_000), "{report}");
}

fn used(report: &Value, pid: u32) {
    let [server] = &report["servers"].as_array().unwrap()[..] else { panic!("not one server: {report}") };
    assert_eq!(server["pid"], pid, "{report}");
    assert_eq!(server["name"], "sluice-hub", "{report}");
    assert_eq!(server["ended"], false, "{report}");
    for name in ["cpu_seconds", "rss_before_kib", "rss_connected_kib", "rss_end_kib"] {
        assert!(server[name].as_f64() > Some(0.0), "{name}: {report}");
    }
    for name in ["set_up_cpu_seconds", "kib_per_connection"] {
        assert!(server[name].as_f64() >= Some(0.0), "{name}: {report}");
    }
    assert!(report["cpu_us_per_share"].as_f64() > Some(0.0), "{report}");
}

#[tokio::test]
async fn the_load_generator_refuses_what_makes_no_sense_by_flag_value_and_mend() {
    for (flag, argument, value, mend) in [
        ("--connections", "--connections", "0", "whole number from 1 on"),
        ("--outstanding", "-w", "0", "whole number from 1 on"),
        ("--channels", "--channels", "-1", "whole number from 1 on"),
        ("--rate", "--rate", "0", "number above 0"),
        ("--rate", "--rate", "NaN", "number above 0"),
        ("--rate", "--rate", "-5", "number above 0"),
        ("--hash-rate", "--hash-rate", "inf", "number above 0"),
        ("--duration", "--duration", "0", "seconds, above 0"),
        ("--warm-up", "--warm-up", "-1", "seconds, from 0"),
        ("--set-up", "--set-up", "1e300", "seconds, above 0"),
        ("--pid", "--pid", "4294967295", "`pidof sluice-hub`"),
        ("--kind", "--kind", "wide", "extended, standard or header-only"),
    ] {
        is_refused(&["sv2", "127.0.0.1:1", "x", argument, value], &[flag, value, mend]).await;
    }
    for (protocol, url, mend) in [
        ("sv1", "http://127.0.0.1:1", "stratum+tcp://127.0.0.1:3333"),
        ("sv1", "stratum2+tcp://127.0.0.1:1", "load sv2"),
        ("sv2", "stratum+tcp://127.0.0.1:1", "load sv1"),
        ("sv2", "127.0.0.1", "no port"),
        ("sv2", "127.0.0.1:1/key", "authority public key"),
    ] {
        is_refused(&[protocol, url, "x"], &["<URL>", url, mend]).await;
    }
    let far = ["sv1", "192.0.2.1:1", "x", "--sources", "5"];
    is_refused(&far, &["--sources", "5", "leave it away"]).await;
}

#[tokio::test]
async fn the_load_generator_fails_where_it_measured_nothing_and_says_why() {
    // A job of difficulty 1, before it is asked for: more hashes than this generator makes.
    let hard = format!(
        "{{\"id\":2,\"result\":[[],\"01020304\",8]}}\n{{\"id\":3,\"result\":true}}\n\
         {{\"method\":\"mining.notify\",\"params\":[\"1\",\"{}\",\"00\",\"00\",[],\"20000000\",\"1d00ffff\",\"65000000\",true]}}\n",
        "04".repeat(32)
    );
    for (says, words) in [
        ("", ["1 × no answer to mining.subscribe within 1 s", "no connection had work"]),
        (&hard, ["set the server to an easier difficulty", "no share was accepted"]),
    ] {
        let server = says_only(says.to_owned()).await.unwrap();
        let arguments = ["sv1", &server, "x", "-w", "1", "-d", "1", "--warm-up", "0", "--set-up", "1"];
        let output = run(env!("CARGO_BIN_EXE_load"), &arguments).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

/// A server that says the same to everybody and reads nothing; its address.
async fn says_only(text: String) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        let mut connected = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if stream.write_all(text.as_bytes()).await.is_ok() {
                connected.push(stream);
            }
        }
    });
    Ok(address)
}

#[tokio::test]
async fn the_bench_refuses_what_makes_no_sense_before_it_starts_anything() {
    for (argument, value, mend) in [
        ("--side", "wide", "ours or theirs"),
        ("--only", "no_such_name", "hub_shares_per_s_50, "),
        ("--runs", "0", "whole number from 1 on"),
        ("--seconds", "0", "seconds, above 0"),
        ("--seconds", "NaN", "seconds, above 0"),
    ] {
        refuses(env!("CARGO_BIN_EXE_bench"), &[argument, value], &[argument, value, mend]).await;
    }
}

async fn is_refused(arguments: &[&str], words: &[&str]) {
    refuses(env!("CARGO_BIN_EXE_load"), arguments, words).await;
}

async fn refuses(program: &str, arguments: &[&str], words: &[&str]) {
    let output = run(program, arguments).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?} is taken: {said}");
    assert!(words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
}

#[tokio::test]
async fn a_package_that_tests_want_and_cannot_have_is_named_and_is_an_error_where_every_test_has_to_run() {
    let directory = tempfile::tempdir().unwrap();
    // Nothing is installed, and nothing can be.
    for program in ["dpkg-query", "apt-get"] {
        std::os::unix::fs::symlink("/bin/false", directory.path().join(program)).unwrap();
    }
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    for (all, status) in [("0", 0), ("1", 1)] {
        let mut script = Command::new(repository().join("integration/setup/test-packages.sh"));
        script.env("PATH", &path).env("SLUICE_ALL_FAULTS", all).kill_on_drop(true);
        let output = script.output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("nftables") && said.contains("tests"), "{said}");
        assert_eq!(output.status.code(), Some(status), "{said}");
    }
}
