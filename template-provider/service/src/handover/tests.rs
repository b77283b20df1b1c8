//! Both sides in one process: two contexts on one data directory, as two programs have them.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::line::{Exchange, Line};
use super::message::{Ask, Reply};
use super::{Call, Departure, PROTOCOL, Parcel, SOCKET};
use crate::context::Context;
use crate::listener::Listener;
use crate::operation::{Log, LogFormat, Operation};

fn operation(dir: &Path) -> Operation {
    Operation {
        data_dir: dir.to_owned(),
        drain: Duration::from_secs(1),
        log: Log { level: "info".into(), format: LogFormat::Text },
        page: "127.0.0.1:0".parse().unwrap(),
    }
}

async fn open(dir: &Path) -> (Context, Listener) {
    let context = Context::open("sluice-test", "1", &operation(dir)).await.unwrap();
    let listener = context.listen("miners", "127.0.0.1:0".parse().unwrap()).unwrap();
    (context, listener)
}

async fn successor(dir: &Path) -> anyhow::Result<(Context, Listener)> {
    let context = Context::take_over("sluice-test", "2", &operation(dir)).await?;
    let listener = context.listen("miners", "127.0.0.1:0".parse().unwrap())?;
    Ok((context, listener))
}

/// A peer's socket and ours.
async fn connect(listener: &Listener) -> (TcpStream, TcpStream) {
    let (peer, accepted) = tokio::join!(TcpStream::connect(listener.local_addr()), listener.accept());
    (peer.unwrap(), accepted.0)
}

/// The departure that the program is told of.
async fn departing(context: &Context) -> Departure {
    match context.succession().call().await {
        Call::Depart(departure) => departure,
        Call::Leave => panic!("told to leave"),
    }
}

async fn say_hello(dir: &Path, protocol: u32) -> (Line, Reply) {
    let mut line = Line::connect(&dir.join(SOCKET)).unwrap();
    let hello = Ask::Hello { protocol, program: "sluice-test".into(), version: "3".into(), pid: 7 };
    line.send(&hello, &[]).await.unwrap();
    let (reply, _) = line.recv().await.unwrap();
    (line, reply)
}

fn refused(reply: Reply) -> String {
    match reply {
        Reply::Refused { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_successor_has_the_sockets_the_sessions_and_the_totals_and_no_peer_notices() {
    let dir = tempfile::tempdir().unwrap();
    let (old, miners) = open(dir.path()).await;
    old.counters.counter("shares", &[]).add(41);
    let (mut peer, ours) = connect(&miners).await;
    let succession = old.succession();

    let (new, inherited) = successor(dir.path()).await.unwrap();
    assert_eq!(inherited.local_addr(), miners.local_addr(), "the same socket, though the port was any");
    assert_eq!(new.page.address(), old.page.address());
    let gives = async {
        let mut departure = departing(&old).await;
        let given = departure.carry(Parcel::new(json!({"worker": "ann"}), ours).unwrap()).await;
        // A connection that comes in between waits in the kernel.
        let waiting = TcpStream::connect(miners.local_addr()).await.unwrap();
        departure.finish(3);
        assert!(departure.settled().await);
        old.counters.counter("shares", &[]).add(1);
        departure.released();
        given.taken().await.unwrap();
        waiting
    };
    let (parcels, waiting) = tokio::join!(new.ready(), gives);
    let mut parcels = parcels.unwrap();
    assert_eq!(inherited.accept().await.1, waiting.local_addr().unwrap());
    let (state, mut carried) = parcels.pop().unwrap().open().unwrap();
    assert_eq!((state["worker"].as_str(), parcels.len()), (Some("ann"), 0));
    carried.write_all(b"x").await.unwrap();
    assert_eq!(peer.read_u8().await.unwrap(), b'x');
    assert_eq!(carried.peer_addr().unwrap(), peer.local_addr().unwrap());

    assert!(matches!(succession.clone().call().await, Call::Leave));
    old.counters.counter("shares", &[]).add(5);
    old.farewell().await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while new.counters.total("shares") < 47 {
        assert!(tokio::time::Instant::now() < deadline, "{}", new.counters.total("shares"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(new.counters.total("shares"), 47);

    // And the successor can be replaced itself.
    drop((old, succession));
    drop(new.succession());
    let (third, _) = successor(dir.path()).await.unwrap();
    assert_eq!(third.page.address(), new.page.address());
}

#[tokio::test]
async fn a_successor_that_dies_before_it_has_taken_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (old, miners) = open(dir.path()).await;
    let (mut peer, ours) = connect(&miners).await;
    drop(old.succession());

    // Before it was ready.
    drop(successor(dir.path()).await.unwrap());
    let (_client, _ours) = connect(&miners).await;

    // While it takes over: it has everything but did not say that it took it.
    let (line, reply) = say_hello_when_free(dir.path()).await;
    assert!(matches!(reply, Reply::Welcome { .. }));
    line.send(&Ask::Ready, &[]).await.unwrap();
    let mut departure = departing(&old).await;
    let given = departure.carry(Parcel::new(json!({}), ours).unwrap()).await;
    departure.finish(0);
    drop(line);
    assert!(!departure.settled().await);
    let (_, mut ours) = given.taken().await.unwrap_err().open().unwrap();
    ours.write_all(b"y").await.unwrap();
    assert_eq!(peer.read_u8().await.unwrap(), b'y');
    let (_client, _ours) = connect(&miners).await;
    old.counters.counter("shares", &[]).add(1);
    old.counters.save().unwrap();
    assert!(std::fs::read_to_string(dir.path().join("counters.jsonl")).unwrap().contains("shares"));
}

#[tokio::test]
async fn a_program_that_has_nothing_left_to_do_does_not_end_before_its_successor_has_heard_all() {
    let dir = tempfile::tempdir().unwrap();
    let (old, _miners) = open(dir.path()).await;
    let succession = old.succession();
    let (new, _inherited) = successor(dir.path()).await.unwrap();
    let gives = async {
        let mut departure = departing(&old).await;
        departure.finish(0);
        assert!(departure.settled().await);
        departure.released();
        old.farewell().await;
        let mut succession = succession.clone();
        let call = tokio::time::timeout(Duration::ZERO, succession.call()).await;
        assert!(matches!(call, Ok(Call::Leave)), "it has left");
    };
    let gives = async { tokio::time::timeout(Duration::from_secs(4), gives).await.unwrap() };
    let (parcels, ()) = tokio::join!(new.ready(), gives);
    assert!(parcels.unwrap().is_empty());
}

#[tokio::test]
async fn a_program_that_ends_once_it_was_taken_over_need_not_say_that_it_has_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let (old, _miners) = open(dir.path()).await;
    drop(old.succession());
    let (new, _inherited) = successor(dir.path()).await.unwrap();
    let gives = async {
        let mut departure = departing(&old).await;
        departure.finish(0);
        assert!(departure.settled().await);
        drop(departure); // as on SIGTERM: whoever followed the hand-over is gone
        tokio::time::timeout(Duration::from_secs(4), old.farewell()).await.unwrap();
        assert!(old.has_successor());
    };
    let (parcels, ()) = tokio::join!(new.ready(), gives);
    assert!(parcels.unwrap().is_empty());
}

#[tokio::test]
async fn a_program_that_is_told_to_end_while_it_is_given_away_calls_it_off_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (old, miners) = open(dir.path()).await;
    drop(old.succession());
    let (_peer, ours) = connect(&miners).await;
    let (new, _inherited) = successor(dir.path()).await.unwrap();
    let ends = async {
        let mut departure = departing(&old).await;
        let given = departure.carry(Parcel::new(json!({}), ours).unwrap()).await;
        old.shutdown.cancel(); // before it has finished
        assert!(!departure.settled().await);
        assert!(given.taken().await.is_err(), "the session is its own again");
        old.farewell().await;
    };
    let ends = async { tokio::time::timeout(Duration::from_secs(4), ends).await.unwrap() };
    let (parcels, ()) = tokio::join!(new.ready(), ends);
    let error = parcels.unwrap_err().to_string();
    assert!(error.contains("this one is ending"), "{error}");
    assert!(!old.has_successor());
}

#[tokio::test]
async fn a_successor_that_cannot_write_the_totals_does_not_say_that_its_predecessor_serves_on() {
    let dir = tempfile::tempdir().unwrap();
    let (old, _miners) = open(dir.path()).await;
    drop(old.succession());
    let (new, _inherited) = successor(dir.path()).await.unwrap();
    std::fs::create_dir(dir.path().join("counters.jsonl.new")).unwrap();
    let gives = async {
        let mut departure = departing(&old).await;
        departure.finish(0);
        assert!(departure.settled().await);
        departure.released();
    };
    let (parcels, ()) = tokio::join!(new.ready(), gives);
    let error = format!("{:#}", parcels.unwrap_err());
    assert!(error.contains("its totals cannot be taken over") && !error.contains("serves on"), "{error}");
}

/// A predecessor that has not heard that all was taken gives up, says so and closes the line.
#[tokio::test]
async fn a_successor_that_is_refused_when_it_has_all_knows_that_its_predecessor_lives() {
    for is_took_sent in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let exchange = Exchange::bind(&dir.path().join(SOCKET)).unwrap();
        let predecessor = async {
            let mut line = exchange.accept().await.unwrap();
            assert!(matches!(line.recv().await.unwrap().0, Ask::Hello { .. }));
            let welcome = Reply::Welcome { version: "1".into(), pid: 7, sockets: Vec::new() };
            line.send(&welcome, &[]).await.unwrap();
            assert!(matches!(line.recv().await.unwrap().0, Ask::Ready));
            line.send(&Reply::End { parcels: 0 }, &[]).await.unwrap();
            if is_took_sent {
                line.heard().await.unwrap(); // and does not read it
            }
            line.send(&Reply::Refused { reason: "too late".into() }, &[]).await.unwrap();
        };
        let takes = async { super::ask(dir.path(), "sluice-test", "2").await.unwrap().take().await };
        let (taken, ()) = tokio::join!(takes, predecessor);
        let error = taken.unwrap_err();
        assert_eq!(error.to_string(), "the predecessor gave up: too late", "took was sent: {is_took_sent}");
        assert!(!super::is_gone(&error));
    }
}

/// The predecessor may still be busy with one that has just died.
async fn say_hello_when_free(dir: &Path) -> (Line, Reply) {
    loop {
        let (line, reply) = say_hello(dir, PROTOCOL).await;
        match reply {
            Reply::Refused { reason } if reason.starts_with("another one") => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            reply => return (line, reply),
        }
    }
}

/// Each program has a runtime of its own, whose end is the program's.
#[test]
fn a_successor_whose_predecessor_dies_while_it_prepares_goes_on_with_its_sockets_and_totals() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (of_old, of_new) = (runtime(), runtime());
    let (old, miners) = of_old.block_on(open(dir.path()));
    old.counters.counter("shares", &[]).add(41);
    old.counters.save().unwrap();
    drop(old.succession());
    let address = miners.local_addr();
    let (new, inherited) = of_new.block_on(successor(dir.path())).unwrap();
    drop((old, miners));
    drop(of_old);
    of_new.block_on(async {
        assert!(new.ready().await.unwrap().is_empty());
        assert_eq!((inherited.local_addr(), new.counters.total("shares")), (address, 41));
        connect(&inherited).await;
        new.counters.counter("shares", &[]).add(1);
        new.counters.save().unwrap();
    });
    assert!(std::fs::read_to_string(dir.path().join("counters.jsonl")).unwrap().contains("42"));
}

#[tokio::test]
async fn a_successor_whose_predecessor_is_told_to_end_ends_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let (old, _miners) = open(dir.path()).await;
    drop(old.succession());
    let (new, _inherited) = successor(dir.path()).await.unwrap();
    old.shutdown.cancel();
    let error = new.ready().await.unwrap_err().to_string();
    assert!(error.contains("this one is ending"), "{error}");
}

#[tokio::test]
async fn a_successor_whose_predecessor_lives_on_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (old, _miners) = open(dir.path()).await;
    drop(old.succession());
    let (new, _inherited) = successor(dir.path()).await.unwrap();
    // It gives up: its disk is full.
    old.counters.counter("shares", &[]).add(1);
    old.counters.break_for_test(true);
    let gives_up = async { departing(&old).await.finish(0) };
    let (parcels, ()) = tokio::join!(new.ready(), gives_up);
    let error = parcels.unwrap_err().to_string();
    assert!(error.contains("the predecessor gave up"), "{error}");
    old.counters.break_for_test(false);
    old.counters.save().unwrap();
    assert!(std::fs::read_to_string(dir.path().join("counters.jsonl")).unwrap().contains("shares"));
}

#[tokio::test]
async fn who_may_not_take_over_is_told_why() {
    let dir = tempfile::tempdir().unwrap();
    let (old, _miners) = open(dir.path()).await;
    let (_, reply) = say_hello(dir.path(), PROTOCOL).await;
    assert!(refused(reply).starts_with("sluice-test cannot be replaced while it runs: restart it"));
    drop(old.succession());

    let (_, reply) = say_hello(dir.path(), 99).await;
    let said = refused(reply);
    assert!(said.contains("version 99 of the hand-over, this program version 1: stop this one"), "{said}");

    let (_first, reply) = say_hello_when_free(dir.path()).await;
    assert!(matches!(reply, Reply::Welcome { .. }));
    let (_, reply) = say_hello(dir.path(), PROTOCOL).await;
    assert!(refused(reply).starts_with("another one is taking over"));
    let refused_context = Context::take_over("sluice-test", "2", &operation(dir.path())).await.unwrap_err();
    assert!(format!("{refused_context:#}").contains("does not hand over: another one is taking over"));
}

#[tokio::test]
async fn another_user_may_not_take_over_and_the_socket_is_its_users_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (old, _miners) = open(dir.path()).await;
    drop(old.succession());
    let mode = std::fs::metadata(dir.path().join(SOCKET)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The other end of every line here is this process: a house of another user sees a stranger.
    let other = Arc::new(old.house().of_user(rustix::process::geteuid().as_raw() + 1));
    let elsewhere = tempfile::tempdir().unwrap();
    let _gate = super::Gate::open(elsewhere.path(), &other).unwrap();
    let (_, reply) = say_hello(elsewhere.path(), PROTOCOL).await;
    let said = refused(reply);
    assert!(said.contains(&format!("only user {} may take over", other.user)), "{said}");
}

#[tokio::test]
async fn without_a_running_program_taking_over_is_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let context = Context::take_over("sluice-test", "2", &operation(dir.path())).await.unwrap();
    assert!(!context.is_taking_over());
    assert!(context.ready().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_program_without_a_gate_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (_old, _miners) = open(dir.path()).await;
    std::fs::remove_file(dir.path().join(SOCKET)).unwrap();
    let error = Context::take_over("sluice-test", "2", &operation(dir.path())).await.unwrap_err();
    assert!(format!("{error:#}").contains("cannot be asked to hand over: stop it, then start this one"));
}
