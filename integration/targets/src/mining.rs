//! A hub's session and a client's, with everything between them that can happen.
//!
//! What holds: no share is credited twice, none above the target it is credited for; no block is reported twice, and each is
//! one; no share is answered before it is committed; none is credited while the ledger takes none; what waits has its bounds;
//! and as long as both ends keep the rules, every share gets exactly one answer.

use crate::blocks::{self, Found, any_target, grind};
use crate::connection::frame;
use crate::input::Input;
use bitcoin::BlockHash;
use link::{Frame, Received};
use mining::client::{self, OpenRequest};
use mining::header::as_number;
use mining::server::{self, CurrentWork, Event, Ticket};
use mining::{ExtranoncePrefixes, Now, Target, Work, WorkUpdate};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

const MAX_CHANNELS: usize = 4;
const MAX_UNACKNOWLEDGED: usize = 6;

/// Bytes to actions.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = if input.rarely(4) { mining::REQUIRES_STANDARD_JOBS } else { 0 };
    let mut world = World::new(flags, input.rarely(3));
    while !input.is_empty() {
        if !world.act(&mut input) {
            let (credited, found) = (std::mem::take(&mut world.credited), std::mem::take(&mut world.found));
            world = World { credited, found, ..world.again(flags) };
        }
        world.look();
    }
    world.come_to_rest();
}

struct World {
    now: Now,
    easy: bool,
    current: CurrentWork,
    prefixes: Arc<ExtranoncePrefixes>,
    server: server::Session,
    client: client::Session,
    to_server: VecDeque<Frame>,
    to_client: VecDeque<Frame>,
    /// The last share sent, to be sent again.
    last: Option<Frame>,
    jobs: BTreeMap<u32, Arc<client::Job>>,
    tickets: VecDeque<Ticket>,
    credited: BTreeSet<BlockHash>,
    found: BTreeSet<BlockHash>,
    next_job: u32,
    next_tip: u8,
    /// The ledger takes nothing.
    is_full: bool,
    counts: Counts,
    /// Neither end was sent anything that the other did not say, and no channel ended.
    is_clean: bool,
}

#[derive(Default)]
struct Counts {
    submitted: usize,
    committed: usize,
    accepted: usize,
    rejected: usize,
}

fn config() -> Arc<server::Config> {
    let config = server::Config::new(60.0, 1e-9, Arc::new(|_| Ok(()))).unwrap();
    Arc::new(server::Config {
        max_channels: MAX_CHANNELS,
        max_seen: 12,
        max_unacknowledged: MAX_UNACKNOWLEDGED,
        max_jobs: 3,
        ..config
    })
}

impl World {
    fn new(flags: u32, easy: bool) -> Self {
        let now = Now { instant: Instant::now(), unix: blocks::TIME };
        let mut current = CurrentWork::default();
        current.apply(&WorkUpdate::Job(blocks::job(1, true, None)));
        current.apply(&WorkUpdate::Tip { tip: blocks::tip(1, easy, now), job_id: 1 });
        let prefixes = Arc::new(ExtranoncePrefixes::new(7, 0..40));
        Self {
            now,
            easy,
            server: server::Session::new(config(), flags, Arc::clone(&prefixes), current.clone()),
            client: client::Session::new(&[2]),
            current,
            prefixes,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            last: None,
            jobs: BTreeMap::new(),
            tickets: VecDeque::new(),
            credited: BTreeSet::new(),
            found: BTreeSet::new(),
            next_job: 2,
            next_tip: 2,
            is_full: false,
            counts: Counts::default(),
            is_clean: true,
        }
    }

    /// The connection is gone; another begins where the centre is now.
    fn again(&self, flags: u32) -> Self {
        let (current, prefixes) = (self.current.clone(), Arc::clone(&self.prefixes));
        Self {
            now: self.now,
            server: server::Session::new(config(), flags, Arc::clone(&prefixes), current.clone()),
            current,
            prefixes,
            next_job: self.next_job,
            next_tip: self.next_tip,
            ..Self::new(flags, self.easy)
        }
    }

    /// One action; false when the connection is over.
    fn act(&mut self, input: &mut Input<'_>) -> bool {
        match input.below(24) {
            0 => self.open(input),
            1..=4 => self.submit(input),
            5 => self.submit_nonsense(input),
            6 => self.update(input),
            7 => self.close(input),
            8 | 9 => self.commit(input),
            10 => self.pass(input),
            11..=13 => self.publish(input),
            14..=16 => return self.deliver(input),
            17 => return self.raw_to_server(input),
            18 => return self.raw_to_client(input),
            19 => return self.replay(),
            20 => {
                let channel_id = self.channel(input);
                self.server.renew_extranonce_prefix(self.now, channel_id);
            }
            21 => {
                self.server.limit(target(input));
                self.server.ease(self.now);
            }
            22 => self.server.reconnect("elsewhere", 1),
            _ => match input.below(4) {
                1 => return false,
                2 => {
                    self.is_full = !self.is_full;
                    self.server.refuse_shares(self.is_full);
                }
                _ => {}
            },
        }
        true
    }

    fn open(&mut self, input: &mut Input<'_>) {
        let request = OpenRequest {
            user_identity: "farm",
            nominal_hash_rate: [0.0, 1e3, 1e9, -1.0, f32::NAN][input.below(5)],
            max_target: if input.rarely(3) { target(input) } else { any_target() },
            min_extranonce_size: u16::try_from(input.below(20)).unwrap(),
        };
        let _ = if input.rarely(3) {
            self.client.open_standard(&request)
        } else {
            self.client.open_extended(&request)
        };
    }

    fn channel(&self, input: &mut Input<'_>) -> u32 {
        let known: Vec<u32> = self.jobs.keys().copied().collect();
        let any = u32::from(input.byte() % 8);
        if any == 7 { any } else { input.pick(&known).copied().unwrap_or(any) }
    }

    fn submit(&mut self, input: &mut Input<'_>) {
        let jobs: Vec<_> = self.jobs.values().cloned().collect();
        let seed = input.byte();
        let Some(job) = input.pick(&jobs) else { return };
        let Some(found) = grind(job, seed) else { return };
        self.hand_in(job.channel_id(), &found, input);
    }

    fn submit_nonsense(&mut self, input: &mut Input<'_>) {
        let channel_id = self.channel(input);
        let extranonce = input.bytes().iter().copied().take(32).collect();
        let job_id = input.number() % 8;
        let (nonce, ntime, version) = (input.number(), input.number(), input.number());
        self.hand_in(channel_id, &Found { job_id, nonce, ntime, version, extranonce }, input);
    }

    fn hand_in(&mut self, channel_id: u32, found: &Found, input: &mut Input<'_>) {
        let worker = ["rig", "\u{1F3B2}", ""][input.below(3)];
        let worker = Some(worker).filter(|_| input.rarely(2));
        if self.client.submit(channel_id, found.job_id, &found.choice(), worker).is_ok() {
            self.counts.submitted += 1;
        }
    }

    fn update(&mut self, input: &mut Input<'_>) {
        let (channel_id, rate) = (self.channel(input), f32::from_bits(input.number()));
        self.client.update(channel_id, rate, target(input));
    }

    fn close(&mut self, input: &mut Input<'_>) {
        self.is_clean = false;
        let channel_id = self.channel(input);
        if input.rarely(2) {
            self.server.close(channel_id, "over");
        } else {
            self.client.close(channel_id, "over");
            self.jobs.remove(&channel_id);
        }
    }

    /// The ledger commits some, in an order of its own.
    fn commit(&mut self, input: &mut Input<'_>) {
        let mut some: Vec<Ticket> = self.tickets.drain(..input.below(8).min(self.tickets.len())).collect();
        if input.rarely(2) {
            some.reverse();
        }
        self.counts.committed += some.len();
        some.into_iter().for_each(|ticket| self.server.acknowledge(ticket));
    }

    /// Both clocks go on; the wall clock may jump by an hour.
    fn pass(&mut self, input: &mut Input<'_>) {
        self.now = self.now.after(Duration::from_millis(u64::from(input.byte()).pow(2)));
        match input.below(16) {
            1 => self.now.unix = self.now.unix.saturating_add(3600),
            2 => self.now.unix = self.now.unix.saturating_sub(3600),
            _ => {}
        }
        self.server.handle_timeout(self.now);
        let due = self.server.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now.instant), "a timer that does not move on");
    }

    fn publish(&mut self, input: &mut Input<'_>) {
        let job_id = self.next_job;
        self.next_job += 1;
        let tip_now = self.current.active().map(|(_, tip)| Arc::clone(tip));
        let tip_now = tip_now.filter(|_| !input.rarely(2));
        let is_future = tip_now.is_none();
        let mut updates = vec![WorkUpdate::Job(blocks::job(job_id, !input.rarely(5), tip_now.as_ref()))];
        if is_future && !input.rarely(3) {
            // Some come back to an earlier block.
            self.next_tip = if input.rarely(4) { 1 } else { self.next_tip.wrapping_add(1) };
            updates.push(WorkUpdate::Tip { tip: blocks::tip(self.next_tip, self.easy, self.now), job_id });
        }
        for update in updates {
            self.current.apply(&update);
            self.server.apply(self.now, &update);
        }
    }

    fn deliver(&mut self, input: &mut Input<'_>) -> bool {
        for _ in 0..=input.below(6) {
            if let Some(frame) = self.to_server.pop_front()
                && !self.at_server(&mut frame.received())
            {
                return false;
            }
            if let Some(frame) = self.to_client.pop_front() {
                let handled = self.client.handle(self.now, &mut frame.received());
                assert!(
                    handled.is_ok() || !self.is_clean,
                    "our client does not understand our server: {handled:?}"
                );
                if handled.is_err() {
                    return false;
                }
            }
        }
        true
    }

    fn at_server(&mut self, received: &mut Received) -> bool {
        let waiting = self.tickets.len();
        let handled = self.server.handle(self.now, received, &[2]);
        assert!(waiting < 8 * MAX_UNACKNOWLEDGED, "shares wait without bound");
        handled.is_ok()
    }

    fn raw_to_server(&mut self, input: &mut Input<'_>) -> bool {
        self.is_clean = false;
        match received(input) {
            Some(mut received) => self.at_server(&mut received),
            None => true,
        }
    }

    fn raw_to_client(&mut self, input: &mut Input<'_>) -> bool {
        self.is_clean = false;
        received(input).is_none_or(|mut received| self.client.handle(self.now, &mut received).is_ok())
    }

    /// The last share comes again, as it was.
    fn replay(&mut self) -> bool {
        self.is_clean = false;
        let last = self.last.clone();
        last.is_none_or(|frame| self.at_server(&mut frame.received()))
    }

    /// Takes out what happened, and holds it against what must be.
    fn look(&mut self) {
        while let Some(event) = self.server.poll_event() {
            if let Event::Block(found) = &event {
                assert!(!(found.is_share && self.is_full), "a block's share counts that no ledger takes");
                assert!(self.found.insert(found.hash), "the same block is reported twice");
                let target = blocks::tip(1, self.easy, self.now).target();
                assert!(as_number(found.hash) <= target, "it is no block");
            }
            if let Event::Share(share) = event {
                assert!(!self.is_full, "credited while the ledger takes nothing");
                assert!(self.credited.insert(share.hash), "the same share is credited twice");
                assert!(as_number(share.hash) <= share.work.to_target(), "a share above its target");
                assert!(share.work > Work::ZERO);
                self.tickets.push_back(share.ticket);
            }
        }
        assert!(self.server.channels() <= MAX_CHANNELS);
        self.to_client.extend(std::iter::from_fn(|| self.server.poll_send()));
        for frame in std::iter::from_fn(|| self.client.poll_send()) {
            if matches!(frame.message_type(), 0x1a | 0x1b) {
                self.last = Some(frame.clone());
            }
            self.to_server.push_back(frame);
        }
        self.hear();
    }

    fn hear(&mut self) {
        while let Some(event) = self.client.poll_event() {
            match event {
                client::Event::Job(job) => drop(self.jobs.insert(job.channel_id(), job)),
                client::Event::ShareAccepted { .. } => self.counts.accepted += 1,
                client::Event::ShareRejected { .. } => self.counts.rejected += 1,
                client::Event::Closed { channel_id, .. } => {
                    self.is_clean = false;
                    self.jobs.remove(&channel_id);
                }
                _ => {}
            }
        }
        let Counts { accepted, committed, .. } = self.counts;
        assert!(accepted <= committed || !self.is_clean, "an answer before its commit");
    }

    /// Everything that was sent arrives, everything is committed: then the books agree.
    fn come_to_rest(mut self) {
        for _ in 0..2_000 {
            self.look();
            self.commit(&mut Input::new(&[7, 0]));
            self.look();
            if self.to_server.is_empty() && self.to_client.is_empty() && self.tickets.is_empty() {
                break;
            }
            if !self.deliver(&mut Input::new(&[5])) {
                return;
            }
        }
        self.look();
        let Counts { submitted, accepted, rejected, .. } = self.counts;
        assert!(!self.is_clean || submitted == accepted + rejected, "{submitted}: {accepted} + {rejected}");
    }
}

fn target(input: &mut Input<'_>) -> Target {
    Work::new(1_u128 << input.below(128)).to_target()
}

/// A frame of any type and content; `None` if it cannot be framed.
pub fn received(input: &mut Input<'_>) -> Option<Received> {
    let extension = [0, 0x8000, 0x8002][input.below(3)];
    let bytes = frame(extension, input.byte(), input.bytes());
    Frame::from_bytes(bytes.into()).ok().map(|frame| frame.received())
}
