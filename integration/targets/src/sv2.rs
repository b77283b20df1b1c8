//! A native SV2 miner on the proxy, and the upstream behind it.
//!
//! What holds: what holds of [`mining`](crate::mining), and that a share for the upstream is handed on once and answered once.

use crate::blocks::{any_target, grind};
use crate::input::Input;
use crate::mining::received;
use crate::upstream::{News, Upstream};
use bitcoin::BlockHash;
use link::Frame;
use mining::client::{self, OpenRequest};
use mining::room::Room;
use mining::{Now, server};
use proxy::session::{Event, Outcome};
use proxy::sv2::session::Session;
use proxy::sv2::space::Spaces;
use proxy::work::JobIds;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes to actions.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(if input.rarely(4) { mining::REQUIRES_STANDARD_JOBS } else { 0 });
    while !input.is_empty() {
        let goes_on = world.act(&mut input);
        world.look();
        if !goes_on {
            return;
        }
    }
    world.come_to_rest();
}

struct World {
    now: Now,
    session: Session,
    miner: client::Session,
    to_session: VecDeque<Frame>,
    to_miner: VecDeque<Frame>,
    last: Option<Frame>,
    jobs: BTreeMap<u32, Arc<client::Job>>,
    upstream: Option<Upstream>,
    connections: u64,
    job_ids: Arc<JobIds>,
    under_way: BTreeMap<u64, u32>,
    next_ticket: u64,
    counted: BTreeSet<BlockHash>,
    submitted: usize,
    answered: usize,
    is_clean: bool,
}

impl World {
    fn new(flags: u32) -> Self {
        let now = Now { instant: Instant::now(), unix: crate::blocks::TIME };
        let settings = crate::sv1::settings();
        let config = server::Config::new(20.0, 1e-9, Arc::new(|_| Ok(()))).unwrap();
        let config = Arc::new(server::Config { max_channels: 4, max_seen: 12, max_jobs: 16, ..config });
        let spaces = Spaces::new(Arc::default(), Room::new(2).connection());
        let mut world = Self {
            now,
            session: Session::new(now, Arc::new(settings), config, flags, spaces, false),
            miner: client::Session::new(&[2]),
            to_session: VecDeque::new(),
            to_miner: VecDeque::new(),
            last: None,
            jobs: BTreeMap::new(),
            upstream: None,
            connections: 0,
            job_ids: Arc::default(),
            under_way: BTreeMap::new(),
            next_ticket: 0,
            counted: BTreeSet::new(),
            submitted: 0,
            answered: 0,
            is_clean: true,
        };
        assert!(world.connect());
        world
    }

    fn connect(&mut self) -> bool {
        self.connections += 1;
        let mut upstream = Upstream::new(self.now, self.connections, 4, Arc::clone(&self.job_ids));
        let news = upstream.talk(self.now);
        self.upstream = Some(upstream);
        self.hear(news)
    }

    /// One action; false when the session ends.
    fn act(&mut self, input: &mut Input<'_>) -> bool {
        match input.below(18) {
            0 | 1 => self.open(input),
            2..=5 => self.submit(input),
            6 => return self.publish(input),
            7..=9 => return self.deliver(input),
            10 => return self.pass(Duration::from_millis(u64::from(input.byte()).pow(2))),
            11 => {
                self.is_clean = false;
                return received(input)
                    .is_none_or(|mut frame| self.session.handle(self.now, &mut frame, &[2]).is_ok());
            }
            12 => {
                self.is_clean = false;
                let last = self.last.clone();
                return last
                    .is_none_or(|frame| self.session.handle(self.now, &mut frame.received(), &[2]).is_ok());
            }
            13 if self.upstream.is_some() => {
                self.is_clean = false; // channels may end with it
                let news = self.upstream.take().map(|mut upstream| upstream.end()).unwrap_or_default();
                return self.hear(news);
            }
            13 => return self.connect(),
            14 => self.upstream.iter_mut().for_each(|upstream| upstream.answers = input.rarely(2)),
            15 => {
                self.is_clean = false;
                let channel_id = u32::from(input.byte() % 8);
                self.miner.close(channel_id, "over");
                self.jobs.remove(&channel_id);
            }
            16 => {
                let (channel_id, rate) = (u32::from(input.byte() % 8), f32::from_bits(input.number()));
                self.miner.update(channel_id, rate, any_target());
            }
            _ => self.now.unix = self.now.unix.saturating_add_signed([3600, -3600][input.below(2)]),
        }
        true
    }

    fn open(&mut self, input: &mut Input<'_>) {
        let request = OpenRequest {
            user_identity: ["farm.rig", "", "x"][input.below(3)],
            nominal_hash_rate: [0.0, 1.0, 1e9][input.below(3)],
            max_target: any_target(),
            min_extranonce_size: u16::try_from(input.below(12)).unwrap(),
        };
        let _ = if input.rarely(2) {
            self.miner.open_standard(&request)
        } else {
            self.miner.open_extended(&request)
        };
    }

    fn submit(&mut self, input: &mut Input<'_>) {
        let jobs: Vec<_> = self.jobs.values().cloned().collect();
        let seed = input.byte();
        let Some(job) = input.pick(&jobs) else { return };
        let Some(found) = grind(job, seed) else { return };
        let sent = self.miner.submit(job.channel_id(), found.job_id, &found.choice(), None);
        self.submitted += usize::from(sent.is_ok());
    }

    fn publish(&mut self, input: &mut Input<'_>) -> bool {
        let Some(upstream) = &mut self.upstream else { return true };
        upstream.publish(self.now, input.rarely(2), !input.rarely(3));
        let news = upstream.talk(self.now);
        self.hear(news)
    }

    /// False when the session ends.
    fn hear(&mut self, news: News) -> bool {
        for (ticket, outcome) in news.answers {
            if let Some(tag) = self.under_way.remove(&ticket) {
                self.session.answer(tag, &outcome);
            }
        }
        news.work.is_none_or(|work| self.session.apply(self.now, work).is_ok())
    }

    fn pass(&mut self, time: Duration) -> bool {
        self.now = self.now.after(time);
        let mut goes_on = self.session.handle_timeout(self.now).is_ok();
        if let Some(upstream) = &mut self.upstream {
            let news = upstream.talk(self.now);
            goes_on = self.hear(news) && goes_on;
        }
        let due = self.session.poll_timeout();
        assert!(!goes_on || due.is_none_or(|due| due > self.now.instant), "a timer that does not move on");
        goes_on
    }

    fn deliver(&mut self, input: &mut Input<'_>) -> bool {
        for _ in 0..=input.below(6) {
            if let Some(frame) = self.to_session.pop_front()
                && self.session.handle(self.now, &mut frame.received(), &[2]).is_err()
            {
                return false;
            }
            if let Some(frame) = self.to_miner.pop_front() {
                let handled = self.miner.handle(self.now, &mut frame.received());
                assert!(
                    handled.is_ok() || !self.is_clean,
                    "a miner does not understand the proxy: {handled:?}"
                );
                if handled.is_err() {
                    return false;
                }
            }
        }
        true
    }

    fn look(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Found { hash, .. } => assert!(self.counted.insert(hash), "a share counts twice"),
                Event::Upstream(share) => match &mut self.upstream {
                    Some(upstream) => {
                        self.under_way.insert(self.next_ticket, share.tag);
                        upstream.submit(self.now, &share, self.next_ticket);
                        self.next_ticket += 1;
                    }
                    None => self.session.answer(share.tag, &Outcome::Lost),
                },
                _ => {}
            }
        }
        self.to_miner.extend(std::iter::from_fn(|| self.session.poll_send()));
        for frame in std::iter::from_fn(|| self.miner.poll_send()) {
            if matches!(frame.message_type(), 0x1a | 0x1b) {
                self.last = Some(frame.clone());
            }
            self.to_session.push_back(frame);
        }
        while let Some(event) = self.miner.poll_event() {
            match event {
                client::Event::Job(job) => drop(self.jobs.insert(job.channel_id(), job)),
                client::Event::ShareAccepted { .. } | client::Event::ShareRejected { .. } => {
                    self.answered += 1
                }
                client::Event::Closed { channel_id, .. } => {
                    self.is_clean = false;
                    self.jobs.remove(&channel_id);
                }
                _ => {}
            }
        }
        assert!(self.session.channels() <= 4);
    }

    /// Everything arrives and every answer is due: each share has one.
    fn come_to_rest(mut self) {
        for _ in 0..600 {
            if !self.deliver(&mut Input::new(&[5])) {
                return;
            }
            self.look();
            if self.to_session.is_empty() && self.to_miner.is_empty() {
                break;
            }
        }
        for _ in 0..3 {
            let goes_on = self.pass(Duration::from_secs(2));
            self.look();
            if !goes_on {
                return;
            }
            while !self.to_miner.is_empty() || !self.to_session.is_empty() {
                if !self.deliver(&mut Input::new(&[5])) {
                    return;
                }
                self.look();
            }
        }
        assert!(
            !self.is_clean || self.submitted == self.answered,
            "{} shares, {} answers",
            self.submitted,
            self.answered
        );
    }
}
