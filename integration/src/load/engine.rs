//! The thread that drives all connections through a run.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventFlags};
use tokio_util::sync::CancellationToken;

use super::counts::Counts;
use super::measure::Measure;
use super::notify::Cache;
use super::pacer::Pacer;
use super::peer::{Miner, Peer, Shared};
use super::plan::{Plan, Pressure, Protocol};
use super::report::Report;
use super::work::TooHard;
use super::{sv1, sv2};

/// Events taken from the system at once.
const EVENTS: usize = 512;
/// Bytes read at once.
const BUFFER: usize = 256 * 1024;
/// How often connections are looked after that nothing happens on.
const SWEEP: Duration = Duration::from_millis(20);
/// Before a connection that ended is made again.
const RETRY: Duration = Duration::from_millis(200);
/// Longest time that shares are searched for until answers, the clock and Ctrl-C have their turn.
const TURN: Duration = Duration::from_millis(5);

/// Everything of a run.
pub(super) struct Engine {
    plan: Plan,
    shared: Shared,
    places: Vec<Place>,
    pacer: Option<Pacer>,
    /// Connections that owe shares, since their turn was over.
    owing: VecDeque<usize>,
    turn_ends: Instant,
    phase: Phase,
    measure: Measure,
    random: SmallRng,
    /// Connections in their set-up.
    setting_up: usize,
    /// Places whose first connection has not begun.
    next: usize,
    /// Whether the server was found to hand out work that nobody here can do: to ask again is of no use.
    is_too_hard: bool,
    stop: CancellationToken,
}

/// Where a connection is, or is to be.
#[derive(Default)]
struct Place {
    peer: Option<Peer>,
    /// When to connect again.
    again: Option<Instant>,
    /// When to close it and connect again.
    until: Option<Instant>,
    /// Whether its first connection had work, or was given up.
    is_settled: bool,
    was_connected: bool,
    /// Whether it stands among those that owe shares.
    is_owing: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    SettingUp { give_up: Instant },
    WarmingUp { end: Instant },
    Measuring { end: Instant },
    Draining { end: Instant },
}

impl Engine {
    pub(super) fn new(plan: Plan, stop: CancellationToken) -> anyhow::Result<Self> {
        let now = Instant::now();
        let epoll: OwnedFd = epoll::create(CreateFlags::CLOEXEC)?;
        let counts = Counts::new(now, plan.each_share)?;
        let shared = Shared { epoll, buffer: vec![0; BUFFER], notified: Cache::default(), counts };
        let places = (0..plan.connections).map(|_| Place::default()).collect();
        let (phase, measure) =
            (Phase::SettingUp { give_up: now + plan.set_up }, Measure::new(&plan.pids, now));
        let random = SmallRng::from_entropy();
        Ok(Self {
            plan,
            shared,
            places,
            pacer: None,
            owing: VecDeque::new(),
            turn_ends: now,
            phase,
            measure,
            random,
            setting_up: 0,
            next: 0,
            is_too_hard: false,
            stop,
        })
    }

    /// Runs until the last answer, or the end of patience.
    pub(super) fn run(mut self) -> anyhow::Result<Report> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        let mut swept = Instant::now();
        loop {
            let now = Instant::now();
            if now - swept >= SWEEP {
                swept = now;
                self.sweep(now);
            }
            self.connect_more(now);
            self.send_due();
            if self.advance(Instant::now()) {
                return Ok(self.report());
            }
            let wait = self.wait(Instant::now(), swept + SWEEP);
            events.clear();
            match epoll::wait(&self.shared.epoll, spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.turn_ends = Instant::now() + TURN;
            for _ in 0..self.owing.len() {
                self.send_owed();
            }
            for event in &events {
                let (data, flags) = (event.data, event.flags);
                if let Ok(index) = usize::try_from(data.u64()) {
                    self.happened(index, flags);
                }
            }
        }
    }

    /// How long to sleep. Not while a tip spreads: waking this thread for each of a thousand lines would take the server's core as long as a
    /// fifth of writing them, which no miner on a machine of its own costs it.
    fn wait(&self, now: Instant, sweep: Instant) -> Timespec {
        if self.shared.counts.tip_spreads(now) || !self.owing.is_empty() {
            return Timespec::default();
        }
        let due = self.pacer.as_ref().and_then(Pacer::next).map_or(sweep, |due| due.min(sweep));
        Timespec::try_from(due.saturating_duration_since(now)).unwrap_or_default()
    }

    /// Starts connections as long as the plan allows more at once.
    fn connect_more(&mut self, now: Instant) {
        while self.next < self.places.len() && self.setting_up < self.plan.at_once && self.is_setting_up() {
            self.connect(self.next, now);
            self.next += 1;
        }
    }

    fn is_setting_up(&self) -> bool {
        matches!(self.phase, Phase::SettingUp { .. })
    }

    fn connect(&mut self, index: usize, now: Instant) {
        self.setting_up += 1;
        let peer = self.miner(index, now).and_then(|miner| {
            let source = source(index, self.plan.sources);
            Peer::connect(self.plan.address, source, miner, index as u64, &self.shared.epoll, now)
        });
        match peer {
            Ok(peer) => self.places[index].peer = Some(peer),
            Err(error) => self.failed(index, now, &error),
        }
    }

    fn miner(&self, index: usize, now: Instant) -> anyhow::Result<Miner> {
        let user = match self.plan.workers {
            true => format!("{}.worker{index}", self.plan.user),
            false => self.plan.user.clone(),
        };
        Ok(match &self.plan.protocol {
            Protocol::Sv1 { password, difficulty } => {
                let (password, difficulty) = (password.clone(), *difficulty);
                Miner::Sv1(Box::new(sv1::Miner::new(sv1::Options { user, password, difficulty })?))
            }
            Protocol::Sv2 { authority, kind, channels, hash_rate } => {
                let (authority, kind, channels, hash_rate) = (*authority, *kind, *channels, *hash_rate);
                let options = sv2::Options { authority, kind, channels, hash_rate, user };
                Miner::Sv2(Box::new(sv2::Miner::new(options, self.plan.address, now)?))
            }
        })
    }

    fn happened(&mut self, index: usize, flags: EventFlags) {
        let Some(peer) = self.places.get_mut(index).and_then(|place| place.peer.as_mut()) else { return };
        let mut outcome = Ok(());
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            outcome = peer.read(&mut self.shared);
        }
        let outcome = outcome.and_then(|()| self.go_on(index));
        if let Err(error) = outcome {
            self.ended(index, &error);
        }
    }

    /// Sends what is to be sent now that something changed.
    fn go_on(&mut self, index: usize) -> anyhow::Result<()> {
        let Some(peer) = self.places[index].peer.as_mut() else { return Ok(()) };
        if !peer.is_set_up && peer.has_work() {
            peer.is_set_up = true;
            self.set_up(index, Instant::now());
            if let Some(peer) = self.places[index].peer.as_mut().filter(|_| self.plan.shares_at_once) {
                peer.submit(&mut self.shared)?;
            }
        }
        let place = &mut self.places[index];
        let Some(peer) = place.peer.as_mut() else { return Ok(()) };
        if let Pressure::Saturate { outstanding } = self.plan.pressure
            && peer.is_set_up
            && matches!(self.phase, Phase::WarmingUp { .. } | Phase::Measuring { .. })
        {
            while peer.in_flight() < outstanding.max(1) {
                if Instant::now() >= self.turn_ends {
                    if !std::mem::replace(&mut place.is_owing, true) {
                        self.owing.push_back(index);
                    }
                    break;
                }
                peer.submit(&mut self.shared)?;
            }
        }
        peer.flush(&self.shared.epoll)
    }

    /// The connection that has waited longest goes on.
    fn send_owed(&mut self) {
        let Some(index) = self.owing.pop_front() else { return };
        self.places[index].is_owing = false;
        if let Err(error) = self.go_on(index) {
            self.ended(index, &error);
        }
    }

    fn set_up(&mut self, index: usize, now: Instant) {
        self.setting_up -= 1;
        let lifetime = self.plan.lifetime.map(|lifetime| lifetime.mul_f64(self.random.gen_range(0.5..1.5)));
        let place = &mut self.places[index];
        place.until = lifetime.map(|lifetime| now + lifetime);
        let counts = &mut self.shared.counts;
        if let Some(peer) = &place.peer {
            let micros = u64::try_from((now - peer.started).as_micros()).unwrap_or(u64::MAX);
            counts.set_up.saturating_record(micros.max(1));
        }
        counts.reconnected += u64::from(place.was_connected);
        (place.is_settled, place.was_connected) = (true, true);
    }

    fn ended(&mut self, index: usize, error: &anyhow::Error) {
        let now = Instant::now();
        let Some(peer) = self.places[index].peer.take() else { return };
        self.shared.counts.lost += peer.in_flight() as u64;
        let is_too_hard = error.is::<TooHard>();
        self.is_too_hard |= is_too_hard;
        if peer.is_set_up {
            *self.shared.counts.ended.entry(format!("{error:#}")).or_default() += 1;
            self.places[index].again = (self.plan.reconnect && !is_too_hard).then(|| now + RETRY);
        } else {
            self.failed(index, now, error);
        }
    }

    /// An attempt to connect came to nothing.
    fn failed(&mut self, index: usize, now: Instant, error: &anyhow::Error) {
        self.setting_up -= 1;
        *self.shared.counts.failed.entry(format!("{error:#}")).or_default() += 1;
        self.places[index].is_settled = !self.plan.reconnect;
        self.places[index].again = self.plan.reconnect.then(|| now + RETRY);
    }

    /// It has had its time to get work.
    fn give_up_on(&mut self, index: usize, now: Instant) {
        if let Some(peer) = self.places[index].peer.take() {
            self.failed(index, now, &self.too_late(peer.stage()));
        }
    }

    fn too_late(&self, stage: &str) -> anyhow::Error {
        anyhow::anyhow!("{stage} within {} s", self.plan.set_up.as_secs_f64())
    }

    /// The time for all to be set up is over.
    fn give_up_on_the_rest(&mut self, now: Instant) {
        for index in 0..self.next {
            if self.places[index].peer.as_ref().is_some_and(|peer| !peer.is_set_up) {
                self.give_up_on(index, now);
            }
        }
        let not_begun = (self.places.len() - self.next) as u64;
        if not_begun > 0 {
            *self.shared.counts.failed.entry(self.too_late("not begun").to_string()).or_default() +=
                not_begun;
        }
    }

    /// Connections that are to be made again, have lived long enough, or have waited long enough for work.
    fn sweep(&mut self, now: Instant) {
        for index in 0..self.places.len() {
            let is_late = |peer: &Peer| !peer.is_set_up && now >= peer.started + self.plan.set_up;
            if !self.is_setting_up() && self.places[index].peer.as_ref().is_some_and(is_late) {
                self.give_up_on(index, now);
            }
            let place = &mut self.places[index];
            if place.until.take_if(|until| *until <= now).is_some()
                && let Some(peer) = place.peer.take()
            {
                self.shared.counts.lost += peer.in_flight() as u64;
                place.again = Some(now);
            }
            if place.again.take_if(|again| *again <= now).is_some()
                && !matches!(self.phase, Phase::Draining { .. })
            {
                self.connect(index, now);
            }
        }
        self.end_without_connections(now);
    }

    /// There is nothing to measure if nobody ever had work, or nobody can do it.
    fn end_without_connections(&mut self, now: Instant) {
        let is_left = |place: &Place| place.peer.is_some() || place.again.is_some();
        if matches!(self.phase, Phase::WarmingUp { .. } | Phase::Measuring { .. })
            && !self.places.iter().any(is_left)
            && (self.is_too_hard || !self.places.iter().any(|place| place.was_connected))
        {
            self.begin_draining(now);
        }
    }

    /// What is due now, as far as it is found in a turn: of a pace that is too fast there is always more.
    fn send_due(&mut self) {
        let begun = Instant::now();
        while Instant::now() < begun + TURN {
            let Some((index, due)) = self.pacer.as_mut().and_then(|pacer| pacer.take(begun)) else { return };
            let Some(peer) = self.places[index].peer.as_mut().filter(|peer| peer.is_set_up) else { continue };
            let found = peer.submit(&mut self.shared);
            self.shared.counts.late(Instant::now() - due);
            let sent = found.and_then(|()| peer.flush(&self.shared.epoll));
            if let Err(error) = sent {
                self.ended(index, &error);
            }
        }
    }

    /// Goes from phase to phase; true when the last is over.
    fn advance(&mut self, now: Instant) -> bool {
        if self.stop.is_cancelled() && !matches!(self.phase, Phase::Draining { .. }) {
            self.begin_draining(now);
        }
        match self.phase {
            Phase::SettingUp { give_up } => {
                let settled =
                    self.next == self.places.len() && self.places.iter().all(|place| place.is_settled);
                if settled || now >= give_up {
                    self.give_up_on_the_rest(now);
                    self.begin_load(now);
                }
            }
            Phase::WarmingUp { end } if now >= end => {
                self.measure.begin(now);
                self.shared.counts.begin(now);
                self.plan.measuring.cancel();
                self.phase = Phase::Measuring { end: now + self.plan.duration };
            }
            Phase::Measuring { end } if now >= end => self.begin_draining(now),
            Phase::Draining { end } => {
                let in_flight =
                    || self.places.iter().filter_map(|place| place.peer.as_ref()).any(|p| p.in_flight() > 0);
                return now >= end || !in_flight();
            }
            _ => {}
        }
        false
    }

    fn begin_load(&mut self, now: Instant) {
        self.measure.connected(now);
        self.phase = Phase::WarmingUp { end: now + self.plan.warm_up };
        if let Pressure::Paced { per_second } = self.plan.pressure {
            let random = SmallRng::from_entropy();
            self.pacer = Some(Pacer::new(self.places.len(), per_second, now, random));
        }
        self.turn_ends = now + TURN;
        for index in 0..self.places.len() {
            if let Err(error) = self.go_on(index) {
                self.ended(index, &error);
            }
        }
        self.end_without_connections(now);
    }

    fn begin_draining(&mut self, now: Instant) {
        self.measure.end(now);
        self.shared.counts.end(now);
        self.pacer = None;
        self.phase = Phase::Draining { end: now + self.plan.drain };
    }

    fn report(mut self) -> Report {
        let (now, counts) = (Instant::now(), &mut self.shared.counts);
        for peer in self.places.iter().filter_map(|place| place.peer.as_ref()) {
            counts.lost += peer.in_flight() as u64;
            peer.give_up_waiting(now, counts);
        }
        let connected = self.places.iter().filter(|place| place.was_connected).count();
        self.measure.report(self.plan.connections, connected, &self.shared.counts)
    }
}

/// 127.0.0.1, 127.0.0.2, … in turn.
fn source(index: usize, sources: u32) -> Option<Ipv4Addr> {
    let turn = u32::try_from(index).unwrap_or(u32::MAX).checked_rem(sources)?;
    Some(Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + turn))
}
