//! An SV1 pool's lines to the proxy that mines there.
//!
//! The input is lines, as in [`sv1`](crate::sv1). What holds: nothing a pool says stops us; every share that was handed to
//! the trunk is answered at most once, and exactly once when the connection has ended; what we say is JSON.

use crate::input::Input;
use crate::upstream::any_share;
use mining::Now;
use proxy::upstream::sv1::trunk::{Login, PoolTrunk, Settings};
use proxy::upstream::trunk::Event;
use proxy::work::Work;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Lines to a trunk.
pub fn run(data: &[u8]) {
    let mut world = World::new();
    for line in data.split(|byte| *byte == b'\n') {
        match line.split_first() {
            Some((event, rest)) if *event < 0x20 && *event != b'\r' && *event != b'\t' => {
                world.happen(*event, &mut Input::new(rest));
            }
            _ if world.trunk.handle_line(world.now, line).is_err() => break,
            _ => {}
        }
        world.look();
    }
    world.trunk.end();
    world.look();
    assert!(world.under_way.is_empty(), "shares without an answer: {:?}", world.under_way);
}

struct World {
    now: Now,
    trunk: PoolTrunk,
    work: Option<Arc<Work>>,
    under_way: BTreeSet<u64>,
    next_ticket: u64,
}

impl World {
    fn new() -> Self {
        let now = Now { instant: Instant::now(), unix: crate::blocks::TIME };
        let repeat = Duration::from_secs(55);
        let job_ids = Arc::default();
        let (host, port) = ("pool.example".to_owned(), 3333);
        let settings = Settings { connection: 1, extranonce2: 8, repeat, job_ids, host, port };
        let mut trunk = PoolTrunk::new(now, settings);
        trunk.open(0, &Login { user: "farm", password: "x", hash_rate: 1e12 });
        Self { now, trunk, work: None, under_way: BTreeSet::new(), next_ticket: 0 }
    }

    fn happen(&mut self, event: u8, input: &mut Input<'_>) {
        match event % 3 {
            0 => {
                self.now = self.now.after(Duration::from_millis(u64::from(input.byte()).pow(2)));
                self.trunk.handle_timeout(self.now);
                assert!(self.trunk.poll_timeout() > self.now.instant, "a timer that does not move on");
            }
            _ => self.submit(input),
        }
    }

    fn submit(&mut self, input: &mut Input<'_>) {
        let Some(work) = self.work.clone() else { return };
        let share = any_share(input, work);
        self.under_way.insert(self.next_ticket);
        self.trunk.submit(self.now, &share, self.next_ticket);
        self.next_ticket += 1;
    }

    fn look(&mut self) {
        while let Some(event) = self.trunk.poll_event() {
            match event {
                Event::Work { work, .. } => self.work = work,
                Event::Answered { ticket, .. } => assert!(self.under_way.remove(&ticket), "a second answer"),
                _ => {}
            }
        }
        let said = String::from_utf8(self.trunk.poll_send()).expect("text");
        said.lines().for_each(|line| drop(serde_json::from_str::<Value>(line).expect("a line of JSON")));
        assert!(self.trunk.in_flight() <= 4096);
    }
}
