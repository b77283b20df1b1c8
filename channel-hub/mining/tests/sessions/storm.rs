//! Everything at once, many times over: several connections, delay, connections lost with answers on their
//! way, commits that lag and overtake each other, tips and jobs at any moment. Whatever happens, the books agree.

use crate::world::*;
use mining::client;
use mining::server::{CurrentWork, Event, Ticket};
use mining::{ExtranoncePrefixes, Now, WorkUpdate};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

struct Storm {
    numbers: Numbers,
    now: Now,
    current: CurrentWork,
    prefixes: Arc<ExtranoncePrefixes>,
    pairs: Vec<Pair>,
    next_job: u32,
    next_tip: u8,
    seed: u32,
    /// Hashes of all shares that were credited, over all connections.
    credited: BTreeSet<bitcoin::BlockHash>,
    used_prefixes: BTreeSet<Vec<u8>>,
    accepted: usize,
    committed: usize,
    rejected: usize,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let now = start();
        let mut storm = Self {
            numbers: Numbers::new(seed),
            now,
            current: work_on(1, 1, HARD, now),
            prefixes: prefixes(),
            pairs: Vec::new(),
            next_job: 2,
            next_tip: 2,
            seed: 0,
            credited: BTreeSet::new(),
            used_prefixes: BTreeSet::new(),
            accepted: 0,
            committed: 0,
            rejected: 0,
        };
        (0..3).for_each(|_| storm.connect());
        storm
    }

    fn connect(&mut self) {
        let share_interval = Duration::from_millis(500);
        let few = mining::server::Config { share_interval, max_seen: 20, max_jobs: 3, ..config() };
        let current = self.current.clone();
        let mut pair = Pair::with_prefixes(self.now, few, 0, current, Arc::clone(&self.prefixes));
        pair.commits = false;
        pair.latency = Duration::from_millis(1 + self.numbers.below(300));
        for _ in 0..=self.numbers.below(3) {
            pair.client.open_extended(&request("farm")).unwrap();
        }
        self.pairs.push(pair);
    }

    fn step(&mut self) {
        self.now = self.now.after(Duration::from_millis(self.numbers.below(200)));
        let n = usize::try_from(self.numbers.below(3)).unwrap();
        match self.numbers.below(20) {
            0 => self.update(),
            1 => self.reconnect(n),
            2..4 => self.pairs[n].server.handle_timeout(self.now),
            4..9 => self.commit(n),
            _ => self.mine(n),
        }
        (0..3).for_each(|n| self.travel(n));
    }

    /// A new job for the tip, or a future job, or one and its tip.
    fn update(&mut self) {
        let id = self.next_job;
        self.next_job += 1;
        let tip_now = self.current.active().map(|(_, tip)| Arc::clone(tip));
        let updates = match self.numbers.below(3) {
            0 => vec![WorkUpdate::Job(job(id, tip_now.as_ref()))],
            1 => vec![WorkUpdate::Job(job(id, None))],
            _ => {
                self.next_tip += 1;
                let tip = tip(self.next_tip, HARD, self.now);
                vec![WorkUpdate::Job(job(id, None)), WorkUpdate::Tip { tip, job_id: id }]
            }
        };
        for update in updates {
            self.current.apply(&update);
            let now = self.now;
            self.pairs.iter_mut().for_each(|pair| pair.server.apply(now, &update));
        }
    }

    /// The connection is gone with all that is on its way. Its tickets are committed or not: nobody asks.
    fn reconnect(&mut self, n: usize) {
        self.travel(n);
        self.pairs.swap_remove(n);
        self.connect();
    }

    fn commit(&mut self, n: usize) {
        let pair = &mut self.pairs[n];
        let mut tickets: Vec<Ticket> = pair.tickets.drain(..).collect();
        if self.numbers.below(2) == 0 {
            tickets.reverse();
        }
        self.committed += tickets.len();
        tickets.into_iter().for_each(|ticket| pair.server.acknowledge(ticket));
    }

    fn mine(&mut self, n: usize) {
        let pair = &mut self.pairs[n];
        let jobs: Vec<_> = pair.jobs.values().cloned().collect();
        if jobs.is_empty() {
            return;
        }
        let job = &jobs[usize::try_from(self.numbers.below(jobs.len() as u64)).unwrap()];
        // Some seeds come twice: those shares are duplicates, if the job has not changed.
        self.seed += u32::try_from(self.numbers.below(2)).unwrap();
        let found = grind(job, self.seed);
        pair.client.submit(job.channel_id(), found.job_id, &found.choice(), None).unwrap();
    }

    fn travel(&mut self, n: usize) {
        let pair = &mut self.pairs[n];
        pair.now = self.now;
        pair.pump();
        pair.deliver();
        pair.pump();
        let (server_events, client_events) =
            (std::mem::take(&mut pair.server_events), std::mem::take(&mut pair.client_events));
        server_events.into_iter().for_each(|event| self.on_server(event));
        client_events.into_iter().for_each(|event| self.on_client(event));
    }

    fn on_server(&mut self, event: Event) {
        if let Event::Share(share) = event {
            assert!(self.credited.insert(share.hash), "the same share is credited twice");
        }
    }

    fn on_client(&mut self, event: client::Event) {
        match event {
            client::Event::ShareAccepted { .. } => self.accepted += 1,
            client::Event::ShareRejected { .. } => self.rejected += 1,
            client::Event::Opened(opened) => self.fresh(opened.extranonce_prefix),
            client::Event::ExtranoncePrefix { prefix, .. } => self.fresh(prefix),
            _ => {}
        }
        assert!(self.accepted <= self.committed, "an answer for a share that is not committed");
    }

    fn fresh(&mut self, prefix: Vec<u8>) {
        assert!(self.used_prefixes.insert(prefix), "the same extranonce prefix twice");
    }
}

#[test]
fn whatever_happens_no_share_counts_twice_and_no_answer_comes_before_its_commit() {
    let mut totals = (0, 0, 0);
    for seed in 1..=10 {
        let mut storm = Storm::new(seed);
        (0..2_000).for_each(|_| storm.step());
        totals.0 += storm.accepted;
        totals.1 += storm.rejected;
        totals.2 += storm.used_prefixes.len();
    }
    let (accepted, rejected, prefixes) = totals;
    assert!(accepted > 3_000 && rejected > 300 && prefixes > 300, "{totals:?}: the storm was a breeze");
}

#[test]
fn when_the_storm_is_over_everything_committed_is_answered() {
    let mut storm = Storm::new(99);
    (0..500).for_each(|_| storm.step());
    for pair in &mut storm.pairs {
        pair.now = storm.now;
        pair.commits = true;
        pair.settle();
        assert!(pair.server.has_room());
        pair.tickets.clear();
        let jobs: Vec<_> = pair.jobs.values().cloned().collect();
        for job in jobs {
            assert_eq!(accepted(&pair.submit(job.channel_id(), &grind(&job, 1_000_000))), 1);
        }
    }
}
