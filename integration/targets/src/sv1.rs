//! An SV1 miner's lines, and what happens between them.
//!
//! The input is lines. One that begins with a control character is no line of the miner but an event: time, a job, an
//! upstream lost, a share worth having. What holds: everything said to the miner is JSON, a line each, and within bounds; no
//! share counts twice; a share sent properly gets exactly one answer.

use crate::input::Input;
use crate::upstream::{News, Upstream};
use bitcoin::BlockHash;
use mining::Now;
use proxy::session::{Event, PaceSettings, Session, Settings};
use proxy::sv1::Difficulty;
use proxy::sv1::lines::Lines;
use proxy::work::{JobIds, Work};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The connection's slice; its extranonce1 is this in four bytes.
const SLICE: u32 = 5;
/// Most that one line or event makes the session say, in bytes.
const MOST_SAID: usize = 64 * 1024;
/// Ids of our own requests begin here.
const FIRST_ID: u64 = 1_000_000_000_000;

/// Lines to a session.
pub fn run(data: &[u8]) {
    lines_are_whole(data);
    let mut world = World::new();
    for line in data.split(|byte| *byte == b'\n') {
        let goes_on = match line.split_first() {
            Some((event, rest)) if *event < 0x20 && *event != b'\r' && *event != b'\t' => {
                world.happen(*event, &mut Input::new(rest))
            }
            _ => world.session.handle_line(world.now, line).is_ok(),
        };
        world.look();
        if !goes_on {
            return;
        }
    }
    world.come_to_rest();
}

/// However the bytes come in, the same lines come out.
fn lines_are_whole(data: &[u8]) {
    let whole = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.push(piece);
            loop {
                match lines.next_line() {
                    Ok(Some(line)) => out.push(line.to_vec()),
                    Ok(None) => break,
                    Err(_) => return out,
                }
            }
        }
        out
    };
    assert_eq!(whole(&mut data.chunks(7)), whole(&mut std::iter::once(data)));
}

/// Settings of a proxy whose miners find a share every few hashes.
pub fn settings() -> Settings {
    Settings {
        extranonce2: 8,
        pace: PaceSettings {
            interval: Duration::from_secs(3),
            hash_rate: 1.0,
            minimum: Difficulty::new(1e-12).unwrap(),
        },
        authorize_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(900),
        unused_timeout: Duration::from_secs(86_400),
        answer_timeout: Duration::from_secs(2),
        hold: Duration::from_secs(120),
    }
}

struct World {
    now: Now,
    session: Session,
    upstream: Option<Upstream>,
    connections: u64,
    job_ids: Arc<JobIds>,
    work: Option<Arc<Work>>,
    /// Shares under way, by ticket: the session's tag.
    under_way: BTreeMap<u64, u32>,
    next_ticket: u64,
    counted: BTreeSet<BlockHash>,
    next_id: u64,
    answered: BTreeMap<u64, usize>,
    last: String,
}

impl World {
    fn new() -> Self {
        let now = Now { instant: Instant::now(), unix: crate::blocks::TIME };
        let mut world = Self {
            now,
            session: Session::new(now, Arc::new(settings()), SLICE),
            upstream: None,
            connections: 0,
            job_ids: Arc::default(),
            work: None,
            under_way: BTreeMap::new(),
            next_ticket: 0,
            counted: BTreeSet::new(),
            next_id: FIRST_ID,
            answered: BTreeMap::new(),
            last: String::new(),
        };
        world.connect();
        world
    }

    fn connect(&mut self) -> bool {
        self.connections += 1;
        let mut upstream = Upstream::new(self.now, self.connections, 4, Arc::clone(&self.job_ids));
        let news = upstream.talk(self.now);
        self.upstream = Some(upstream);
        self.hear(news)
    }

    /// Something that is no line; false when the session ends.
    fn happen(&mut self, event: u8, input: &mut Input<'_>) -> bool {
        match event % 12 {
            1 | 2 => self.pass(Duration::from_millis(u64::from(input.byte()).pow(2))),
            3 => self.publish(false, input),
            4 => self.publish(true, input),
            5 => self.lose(),
            6 if self.upstream.is_none() => self.connect(),
            7 | 8 => self.submit(input),
            9 => {
                let last = std::mem::take(&mut self.last);
                self.session.handle_line(self.now, last.as_bytes()).is_ok()
            }
            10 => {
                self.upstream.iter_mut().for_each(|upstream| upstream.answers = input.rarely(2));
                true
            }
            11 => {
                let by = [3600, -3600][input.below(2)];
                self.now.unix = self.now.unix.saturating_add_signed(by);
                true
            }
            _ => {
                self.session.say_goodbye("over");
                true
            }
        }
    }

    fn pass(&mut self, time: Duration) -> bool {
        self.now = self.now.after(time);
        let goes_on = self.session.handle_timeout(self.now).is_ok();
        let news = self.upstream.as_mut().map(|upstream| upstream.talk(self.now));
        let goes_on = goes_on && news.is_none_or(|news| self.hear(news));
        assert!(!goes_on || self.session.poll_timeout() > self.now.instant, "a timer that does not move on");
        goes_on
    }

    fn publish(&mut self, new_tip: bool, input: &mut Input<'_>) -> bool {
        let Some(upstream) = &mut self.upstream else { return true };
        upstream.publish(self.now, new_tip, !input.rarely(3));
        let news = upstream.talk(self.now);
        self.hear(news)
    }

    fn lose(&mut self) -> bool {
        let news = self.upstream.take().map(|mut upstream| upstream.end());
        news.is_none_or(|news| self.hear(news))
    }

    fn hear(&mut self, news: News) -> bool {
        for (ticket, outcome) in news.answers {
            if let Some(tag) = self.under_way.remove(&ticket) {
                self.session.answer(tag, &outcome);
            }
        }
        let Some(work) = news.work else { return true };
        self.work.clone_from(&work);
        self.session.apply(self.now, work).is_ok()
    }

    /// Hands in a share of the work at hand; its nonce makes it good, or nearly.
    fn submit(&mut self, input: &mut Input<'_>) -> bool {
        let Some(work) = &self.work else { return true };
        let (seed, tries) = (input.byte(), u32::from(input.byte() % 40));
        let extranonce2 = [0, 0, 0, 0, 0, 0, 0, seed % 4];
        let extranonce = work.extranonce(&SLICE.to_be_bytes(), &extranonce2);
        let (version, ntime) = (work.job.version(), work.ntime);
        let choice =
            |nonce| mining::share::Choice { nonce, ntime, version, extranonce: extranonce.as_bytes() };
        let nonce = work.job.header(&choice(0)).grinder().find(work.job.target(), 0..tries).unwrap_or(tries);
        let (id, job) = (self.next_id, work.id);
        self.next_id += 1;
        self.last = format!(
            "{{\"id\":{id},\"method\":\"mining.submit\",\"params\":[\"w\",\"{job:x}\",\"{:016x}\",\"{ntime:08x}\",\"{nonce:08x}\"]}}",
            u64::from_be_bytes(extranonce2)
        );
        self.answered.insert(id, 0);
        self.session.handle_line(self.now, self.last.as_bytes()).is_ok()
    }

    /// Takes out what was said and what happened.
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
                    None => self.session.answer(share.tag, &proxy::session::Outcome::Lost),
                },
                _ => {}
            }
        }
        let said = self.session.output().as_bytes().to_vec();
        self.session.output().sent(said.len());
        assert!(said.len() < MOST_SAID, "{} bytes at once", said.len());
        let said = String::from_utf8(said).expect("text");
        assert!(said.is_empty() || said.ends_with('\n'));
        for line in said.lines() {
            // Not into numbers: a miner's id comes back as it was, however large.
            let line: BTreeMap<String, &RawValue> = serde_json::from_str(line).expect("a line of JSON");
            let id = line.get("id").and_then(|id| id.get().parse::<u64>().ok());
            if let Some(times) = id.and_then(|id| self.answered.get_mut(&id)) {
                *times += 1;
            }
        }
    }

    /// All answers are due by now. A line may have been sent twice; then it has two.
    fn come_to_rest(&mut self) {
        for _ in 0..3 {
            let goes_on = self.pass(Duration::from_secs(2));
            self.look();
            if !goes_on {
                return;
            }
        }
        let silent: Vec<_> = self.answered.iter().filter(|(_, times)| **times == 0).collect();
        assert!(silent.is_empty(), "shares without an answer: {silent:?}");
    }
}
