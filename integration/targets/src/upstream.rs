//! The proxy's upstream, all of it: a hub's session at one end, the proxy's trunk at the other.

use crate::blocks;
use crate::input::Input;
use bitcoin::Target;
use mining::server::{self, CurrentWork, Event};
use mining::{ExtranoncePrefixes, Now, WorkUpdate};
use proxy::session::{Outcome, UpstreamShare};
use proxy::upstream::trunk::{self, Trunk};
use proxy::work::{JobIds, Rolled, Work};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A share of this work, right or not, as a miner hands it on.
pub fn any_share(input: &mut Input<'_>, work: Arc<Work>) -> UpstreamShare {
    let extranonce =
        work.extranonce(&[input.byte(); 4][..work.layout.slice], &vec![7; work.layout.extranonce2]);
    let rolled = Rolled { extranonce, version: work.job.version(), ntime: work.ntime, nonce: input.number() };
    let hash = work.job.header(&rolled.choice()).hash();
    UpstreamShare { tag: 0, worker: Arc::from("w"), work, rolled, hash, is_block: false }
}

/// One connection with one channel on it.
pub struct Upstream {
    hub: server::Session,
    trunk: Trunk,
    current: CurrentWork,
    next_job: u32,
    next_tip: u8,
    credited: BTreeSet<bitcoin::BlockHash>,
    /// Whether it answers shares.
    pub answers: bool,
}

/// What came of the upstream.
#[derive(Debug, Default)]
pub struct News {
    /// Other work, or none.
    pub work: Option<Option<Arc<Work>>>,
    /// Answers to shares, by ticket.
    pub answers: Vec<(u64, Outcome)>,
}

impl Upstream {
    /// One whose shares take `hashes` hashes, and which has a job.
    pub fn new(now: Now, connection: u64, hashes: u128, job_ids: Arc<JobIds>) -> Self {
        let config = server::Config::new(60.0, 1e-9, Arc::new(|_| Ok(()))).unwrap();
        let easiest_target: Target = mining::Work::new(hashes).to_target();
        let config = Arc::new(server::Config { easiest_target, ..config });
        let prefixes = Arc::new(ExtranoncePrefixes::new(9, connection * 100..connection * 100 + 100));
        let current = CurrentWork::default();
        let settings =
            trunk::Settings { connection, extranonce2: 8, repeat: Duration::from_secs(55), job_ids };
        let mut upstream = Self {
            hub: server::Session::new(config, 0, prefixes, current.clone()),
            trunk: Trunk::new(now, settings, &[2]),
            current,
            next_job: 1,
            next_tip: 1,
            credited: BTreeSet::new(),
            answers: true,
        };
        upstream.trunk.open(0, "account", 1.0);
        upstream.publish(now, true, true);
        upstream
    }

    /// A job, on a new tip or on the one at hand.
    pub fn publish(&mut self, now: Now, new_tip: bool, version_rolling: bool) {
        let job_id = self.next_job;
        self.next_job += 1;
        let tip = self.current.active().map(|(_, tip)| Arc::clone(tip)).filter(|_| !new_tip);
        let mut updates = vec![WorkUpdate::Job(blocks::job(job_id, version_rolling, tip.as_ref()))];
        if tip.is_none() {
            self.next_tip = self.next_tip.wrapping_add(1);
            updates.push(WorkUpdate::Tip { tip: blocks::tip(self.next_tip, false, now), job_id });
        }
        for update in updates {
            self.current.apply(&update);
            self.hub.apply(now, &update);
        }
    }

    /// Hands a share on.
    pub fn submit(&mut self, now: Now, share: &UpstreamShare, ticket: u64) {
        self.trunk.submit(now, share, ticket);
    }

    /// Lets both ends talk until they are silent; what came of it.
    pub fn talk(&mut self, now: Now) -> News {
        self.hub.handle_timeout(now);
        self.trunk.handle_timeout(now);
        loop {
            let mut moved = false;
            while let Some(frame) = self.trunk.poll_send() {
                self.hub.handle(now, &mut frame.received(), &[2]).expect("a hub understands the proxy");
                moved = true;
            }
            self.credit();
            while let Some(frame) = self.hub.poll_send() {
                self.trunk.handle(now, &mut frame.received()).expect("the proxy understands a hub");
                moved = true;
            }
            if !moved {
                return self.news();
            }
        }
    }

    fn credit(&mut self) {
        while let Some(event) = self.hub.poll_event() {
            if let Event::Share(share) = event {
                assert!(self.credited.insert(share.hash), "a share is handed on twice");
                if self.answers {
                    self.hub.acknowledge(share.ticket);
                }
            }
        }
    }

    fn news(&mut self) -> News {
        let mut news = News::default();
        while let Some(event) = self.trunk.poll_event() {
            match event {
                trunk::Event::Work { work, .. } => news.work = Some(work),
                trunk::Event::Closed { .. } => news.work = Some(None),
                trunk::Event::Answered { ticket, outcome } => news.answers.push((ticket, outcome)),
                trunk::Event::Reconnect(_)
                | trunk::Event::Notice(_)
                | trunk::Event::Full
                | trunk::Event::Hangs => {}
            }
        }
        news
    }

    /// The connection ends: what is under way is lost.
    pub fn end(&mut self) -> News {
        self.trunk.end();
        let mut news = self.news();
        news.work = Some(None);
        news
    }
}
