//! What fails is in the store's health before the log hears of it: whoever writes the log may hang or fail.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rusqlite::Transaction;
use store::Committed;
use store::file::Layout;
use store::writer::{Pace, Schema, Writer};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata};

const LAYOUT: Layout = Layout { application_id: 1, migrations: &["CREATE TABLE number (n BIGINT)"] };

struct TakesNothing;

impl Schema for TakesNothing {
    type Change = ();

    fn write(&mut self, _: &Transaction<'_>, _: &[()]) -> rusqlite::Result<()> {
        Err(rusqlite::Error::InvalidQuery)
    }

    fn forget(&mut self) {}
}

/// A log that looks at the store's health with every error.
#[derive(Clone, Default)]
struct Log(Arc<Seen>);

#[derive(Default)]
struct Seen {
    committed: OnceLock<Committed>,
    was_failing: Mutex<Vec<bool>>,
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if *event.metadata().level() == Level::ERROR {
            let failing = self.0.committed.get().unwrap().failing();
            self.0.was_failing.lock().unwrap().push(failing.is_some());
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn health_tells_of_a_failed_commit_before_the_log_does() {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("numbers.sqlite");
    let writer = Writer::open(&path, LAYOUT, Pace::default(), None, |_| Ok(TakesNothing)).unwrap();
    log.0.committed.set(writer.committed()).unwrap();
    writer.push(()).unwrap();
    let begun = Instant::now();
    while log.0.was_failing.lock().unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "nothing was logged");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(log.0.was_failing.lock().unwrap()[0]);
}
