//! The program itself under ten thousand strangers: its memory, and the honest miner beside them.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use store::{Options, SqliteStore, Store};
use support::miner::{Miner, Place, Tally};
use support::provider::Provider;
use support::{DEADLINE, until};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// As many as the hub lets in by default.
const STRANGERS: u32 = 10_000;
/// Files that may be open in this process and in the hub's, so that the strangers have a socket each.
const FILES: u64 = 11_000;
/// What one of them may cost the hub, in KiB. It is a task and a socket; about 3 in the release build.
const KIB_EACH: u64 = 8;

/// What a mining channel may take of the hub's memory, in KiB. It is about 3.
const KIB_PER_CHANNEL: u64 = 5;

/// So many shares that wait for their commit take a KiB at most, in all queues that they stand in together.
const SHARES_PER_KIB: u32 = 2;
/// So many of a connection's may wait: 4,096, and those of one look at what it sent.
const WAITING: u32 = 4096 + 512;
/// What buffers, which there are some of for each connection and thread, may come to, in KiB.
const KIB_OF_BUFFERS: u64 = 4 * 1024;

/// A hub in a process of its own; it ends with this.
struct Program {
    child: Child,
    miners: SocketAddr,
    page: SocketAddr,
    authority: link::AuthorityPublicKey,
    dir: tempfile::TempDir,
}

impl Program {
    async fn start(provider: &str, settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = link::AuthorityKey::generate(&mut rand::thread_rng());
        let (miners, page) = (free_address().await, free_address().await);
        let data = dir.path().join("data");
        let config = dir.path().join("hub.toml");
        let text = format!(
            "listen = \"{miners}\"\npage.listen = \"{page}\"\ndata_dir = \"{}\"\nlog.level = \"warn\"\n\
             authority_secret_key = \"{key}\"\nminimum_difficulty = 1e-9\n\
             coinbase.descriptor = \"mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn\"\n\
             node.network = \"regtest\"\nnode.url = \"http://127.0.0.1:1\"\nnode.user = \"u\"\nnode.password = \"p\"\n{settings}\n\
             [[template_provider]]\naddress = \"{provider}\"\n",
            data.display()
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sluice-hub"))
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let program = Self { child, miners, page, authority: key.public(), dir };
        // More than a connection: for a moment another test may listen there, that looks for a free address.
        until("the hub serves", async || Miner::connect_to(&program.place()).await.ok()).await;
        program
    }

    fn place(&self) -> Place {
        Place { address: self.miners.to_string(), authority: self.authority }
    }

    /// Memory in use, in KiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Its ledger's file.
    fn ledger(&self) -> PathBuf {
        self.dir.path().join("data/hub.sqlite")
    }

    /// SIGKILL.
    fn kill(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
    }

    async fn metric(&self, name: &str) -> u64 {
        let metrics =
            reqwest::get(format!("http://{}/metrics", self.page)).await.unwrap().text().await.unwrap();
        let value = metrics.lines().find_map(|line| line.split_once(name)?.1.trim().parse().ok());
        value.unwrap_or(0)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What one test opens is enough for this process.
static CROWDED: Mutex<()> = Mutex::const_new(());

/// The turn of a test that opens so many sockets; `None`, and a line past libtest's capture, where they cannot be opened.
/// With `SLUICE_ALL_FAULTS=1` in the environment every test has to run.
async fn turn(name: &str) -> Option<MutexGuard<'static, ()>> {
    let turn = CROWDED.lock().await;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let raised = setrlimit(Resource::Nofile, limit);
    let open = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if open < FILES {
        let line = format!("\n==== NOT RUN: {name}: {open} files may be open, not {FILES} ({raised:?})\n");
        assert!(std::env::var_os("SLUICE_ALL_FAULTS").is_none_or(|value| value != "1"), "{line}");
        drop(std::io::stderr().write_all(line.as_bytes())); // without stderr there is nobody to tell
        return None;
    }
    Some(turn)
}

async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A connection from an address of its own in 127.0.0.0/8.
async fn stranger(number: u32, to: SocketAddr) -> std::io::Result<TcpStream> {
    let [_, high, middle, low] = (number + 2).to_be_bytes();
    connect_from(Ipv4Addr::new(127, 1 + high, middle, low), to).await
}

async fn connect_from(address: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((address, 0).into())?;
    socket.connect(to).await
}

#[tokio::test]
async fn ten_thousand_that_are_silent_or_half_shaken_cost_little_and_the_honest_miner_nothing() {
    let Some(_turn) =
        turn("ten_thousand_that_are_silent_or_half_shaken_cost_little_and_the_honest_miner_nothing").await
    else {
        return;
    };
    let mut provider = Provider::start().await;
    provider.publish(100);
    let program = Program::start(&provider.address, "").await;
    let mut honest = Miner::connect_to(&program.place()).await.unwrap();
    honest.open("honest").await.unwrap();
    let job = honest.job().await;
    let before = program.memory();
    let mut strangers = Vec::new();
    for number in 0..STRANGERS {
        let mut socket = stranger(number, program.miners).await.unwrap();
        if number % 2 == 0 {
            socket.write_all(&[7; 40]).await.unwrap();
        }
        strangers.push(socket);
    }
    let (sequence, _) = honest.submit(&job, None, |_| true).await;
    assert_eq!(honest.answer(sequence).await, Ok(()));
    let after = program.memory();
    assert!(after < before + u64::from(STRANGERS) * KIB_EACH, "{before} KiB became {after}");
    // Whoever comes now finds a place, and those who said nothing lose theirs.
    let mut newcomer = until("a place", async || Miner::connect_to(&program.place()).await.ok()).await;
    newcomer.open("newcomer").await.unwrap();
    until("all strangers are gone", async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        (program.metric("sluice_hub_connections ").await == 2).then_some(())
    })
    .await;
    let (sequence, _) = honest.submit(&job, None, |_| true).await;
    assert_eq!(honest.answer(sequence).await, Ok(()));
}

#[tokio::test]
async fn ten_thousand_of_one_address_that_wait_for_their_handshakes_keep_nobody_out_and_are_sent_away() {
    let Some(_turn) =
        turn("ten_thousand_of_one_address_that_wait_for_their_handshakes_keep_nobody_out_and_are_sent_away")
            .await
    else {
        return;
    };
    let mut provider = Provider::start().await;
    provider.publish(100);
    let program = Program::start(&provider.address, "").await;
    let mut crowd = Vec::new();
    for _ in 0..STRANGERS {
        let mut socket = connect_from(Ipv4Addr::new(127, 1, 0, 1), program.miners).await.unwrap();
        socket.write_all(&[7; 64]).await.unwrap(); // a key like any other
        crowd.push(socket);
    }
    let mut newcomer = until("a place", async || Miner::connect_to(&program.place()).await.ok()).await;
    newcomer.open("newcomer").await.unwrap();
    until("the crowd is gone", async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        (program.metric("sluice_hub_connections ").await == 1).then_some(())
    })
    .await;
    assert!(program.metric("sluice_hub_peers_dropped_total{reason=\"no-turn\"} ").await > 0);
    let job = newcomer.job().await;
    let (sequence, _) = newcomer.submit(&job, None, |_| true).await;
    assert_eq!(newcomer.answer(sequence).await, Ok(()));
}

#[tokio::test]
async fn mining_channels_are_bounded_in_all_and_each_takes_little() {
    let mut provider = Provider::start().await;
    provider.publish(100);
    let program = Program::start(&provider.address, "max_channels = 10000").await;
    let before = program.memory();
    let mut greedy = Vec::new();
    let mut opened: u64 = 0;
    let refused = 'refused: loop {
        let mut miner = Miner::connect_to(&program.place()).await.unwrap();
        for _ in 0..4096 {
            match miner.open("greedy").await {
                Ok(_) => opened += 1,
                Err(code) => {
                    greedy.push(miner);
                    break 'refused code;
                }
            }
        }
        greedy.push(miner);
    };
    // Each connection's first is not counted, and is there for whoever comes.
    assert_eq!((opened, refused.as_str()), (10_003, "channel-capacity-exhausted"));
    let mut newcomer = Miner::connect_to(&program.place()).await.unwrap();
    newcomer.open("newcomer").await.unwrap();
    assert_eq!(newcomer.open("newcomer").await.map(|_| ()), Err("channel-capacity-exhausted".into()));
    let after = program.memory();
    assert!(after < before + opened * KIB_PER_CHANNEL, "{before} KiB became {after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_while_the_ledger_takes_nothing_and_no_acknowledged_share_is_lost() {
    const MINERS: u32 = 4;
    let mut provider = Provider::start().await;
    provider.publish(100);
    // The difficulty stays, so that shares are as many all the time.
    let mut program = Program::start(&provider.address, "maximum_difficulty = 1e-9").await;
    let mut miners = Vec::new();
    for _ in 0..MINERS {
        let mut miner = Miner::connect_to(&program.place()).await.unwrap();
        miner.open("busy").await.unwrap();
        let job = miner.job().await;
        let (sequence, _) = miner.submit(&job, None, |share| !share.is_block).await;
        assert_eq!(miner.answer(sequence).await, Ok(()));
        miners.push((miner, job));
    }
    let other = rusqlite::Connection::open(program.ledger()).unwrap();
    other.busy_timeout(DEADLINE).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (before, begin) = (program.memory(), Instant::now());
    let (tally, stop) = (Arc::new(Tally::default()), CancellationToken::new());
    let floods: Vec<_> = miners
        .into_iter()
        .map(|(mut miner, job)| {
            let (tally, stop) = (Arc::clone(&tally), stop.clone());
            tokio::spawn(async move { miner.flood(&job, &stop, &tally).await })
        })
        .collect();

    let bound = u64::from(MINERS * WAITING / SHARES_PER_KIB) + KIB_OF_BUFFERS;
    for seconds in [10, 25] {
        tokio::time::sleep_until((begin + Duration::from_secs(seconds)).into()).await;
        let now = program.memory();
        assert!(now < before + bound, "{before} KiB became {now} in {seconds} s: {tally:?}");
    }
    assert_eq!(tally.accepted.load(Ordering::Relaxed), 0, "acknowledged without a commit");
    // More than may wait has come, and goes on coming.
    assert!(tally.refused.load(Ordering::Relaxed) > 0, "{tally:?}");

    other.execute_batch("ROLLBACK").unwrap();
    let taken = async {
        while tally.accepted.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, taken).await.expect("the ledger takes shares again");
    stop.cancel();
    for flood in floods {
        timeout(DEADLINE, flood).await.expect("every share is answered").unwrap();
    }
    program.kill();
    drop(other);
    let ledger = SqliteStore::open(&program.ledger(), Options::default()).unwrap();
    let acknowledged = tally.accepted.load(Ordering::Relaxed) + u64::from(MINERS);
    assert_eq!(ledger.whole().unwrap().shares, acknowledged, "{tally:?}");
}
