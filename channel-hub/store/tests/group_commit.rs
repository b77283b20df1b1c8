//! The writer commits at once when idle and groups what waits when busy.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rusqlite::Transaction;
use store::file::Layout;
use store::writer::{Pace, RESERVED, Refused, Schema, Writer};

const LAYOUT: Layout = Layout { application_id: 1, migrations: &["CREATE TABLE number (n BIGINT)"] };

/// Tells the test of each batch, and waits for its leave to go on.
struct Watched {
    begun: mpsc::Sender<usize>,
    go_on: mpsc::Receiver<bool>,
}

impl Schema for Watched {
    type Change = i64;

    fn write(&mut self, transaction: &Transaction<'_>, batch: &[i64]) -> rusqlite::Result<()> {
        self.begun.send(batch.len()).unwrap();
        for number in batch {
            transaction.execute("INSERT INTO number (n) VALUES ($1)", [number])?;
        }
        if self.go_on.recv().unwrap_or(true) { Ok(()) } else { Err(rusqlite::Error::InvalidQuery) }
    }

    fn forget(&mut self) {}
}

struct World {
    writer: Writer<Watched>,
    begun: mpsc::Receiver<usize>,
    go_on: mpsc::Sender<bool>,
}

fn world(dir: &Path, pace: Pace) -> World {
    let (begun_sender, begun) = mpsc::channel();
    let (go_on, go_on_receiver) = mpsc::channel();
    let watched = Watched { begun: begun_sender, go_on: go_on_receiver };
    let writer = Writer::open(&dir.join("numbers.sqlite"), LAYOUT, pace, None, |_| Ok(watched)).unwrap();
    World { writer, begun, go_on }
}

fn numbers(writer: &Writer<Watched>) -> i64 {
    writer.read(|c| c.query_row("SELECT count(*) FROM number", [], |row| row.get(0))).unwrap()
}

const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_change_that_finds_the_writer_idle_is_committed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path(), Pace { between: Duration::from_secs(3600), ..Pace::default() });
    world.go_on.send(true).unwrap();
    let begun = Instant::now();
    let sequence = world.writer.push(1).unwrap();
    let reached = tokio::time::timeout(DEADLINE, world.writer.committed().reached(sequence)).await.unwrap();
    assert_eq!(reached, Ok(1));
    assert!(begun.elapsed() < Duration::from_secs(3600));
    assert_eq!(numbers(&world.writer), 1);
}

#[tokio::test]
async fn everything_that_waits_during_a_commit_goes_into_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path(), Pace::default());
    world.writer.push(0).unwrap();
    assert_eq!(world.begun.recv_timeout(DEADLINE), Ok(1));
    let last = (1..=1000).map(|n| world.writer.push(n).unwrap()).last().unwrap();
    assert_eq!(world.writer.committed().now(), 0, "nothing is acknowledged before its commit");
    world.go_on.send(true).unwrap();
    assert_eq!(world.begun.recv_timeout(DEADLINE), Ok(1000));
    assert_eq!(world.writer.committed().now(), 1);
    world.go_on.send(true).unwrap();
    assert_eq!(world.writer.committed().reached(last).await, Ok(1001));
    assert_eq!(numbers(&world.writer), 1001);
}

#[tokio::test]
async fn a_failed_commit_is_tried_again_with_the_same_changes_and_counts_them_once() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path(), Pace::default());
    world.go_on.send(false).unwrap();
    let sequence = world.writer.push(7).unwrap();
    assert_eq!(world.begun.recv_timeout(DEADLINE), Ok(1));
    assert_eq!(world.begun.recv_timeout(DEADLINE), Ok(1), "the same batch again");
    assert!(world.writer.committed().failing().is_some());
    assert_eq!(world.writer.committed().now(), 0);
    world.go_on.send(true).unwrap();
    assert_eq!(world.writer.committed().reached(sequence).await, Ok(1));
    assert_eq!(world.writer.committed().failing(), None);
    assert_eq!(numbers(&world.writer), 1);
}

#[test]
fn the_queue_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path(), Pace { max_queued: 3, ..Pace::default() });
    world.writer.push(0).unwrap();
    world.begun.recv_timeout(DEADLINE).unwrap();
    for n in 1..=3 {
        world.writer.push(n).unwrap();
    }
    assert_eq!(world.writer.push(4), Err(Refused::Full));
    drop(world.go_on);
}

#[tokio::test]
async fn a_full_queue_takes_a_few_more_of_what_is_worth_more() {
    let dir = tempfile::tempdir().unwrap();
    let world = world(dir.path(), Pace { max_queued: 1, ..Pace::default() });
    world.writer.push(0).unwrap();
    world.begun.recv_timeout(DEADLINE).unwrap();
    world.writer.push(1).unwrap();
    let last = (0..RESERVED).map(|_| world.writer.push_beyond(2).unwrap()).last().unwrap();
    assert_eq!(world.writer.push_beyond(3), Err(Refused::Full));
    drop(world.go_on);
    assert!(world.writer.committed().reached(last).await.is_ok());
    assert_eq!(numbers(&world.writer), 2 + i64::try_from(RESERVED).unwrap());
}

#[test]
fn closing_commits_what_is_queued() {
    let dir = tempfile::tempdir().unwrap();
    let World { writer, begun: _begun, go_on } = world(dir.path(), Pace::default());
    for n in 0..500 {
        writer.push(n).unwrap();
    }
    drop(go_on);
    drop(writer);
    let again = world(dir.path(), Pace::default());
    assert_eq!(numbers(&again.writer), 500);
}
