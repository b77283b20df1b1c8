//! One miner, one connection, one rule, until the end of time.

use super::random::Random;
use super::rule::{Maker, Start};
use std::collections::VecDeque;

/// No share is easier, as pools have it: work of difficulty 16.
const EASIEST: f64 = 16.0 * 4_295_032_833.0;

/// What happens to a miner.
#[derive(Clone)]
pub struct Life {
    /// Hashes a second from each second on; the first at 0.
    pub speeds: Vec<(f64, f64)>,
    pub until: f64,
    /// Seconds that each message takes.
    pub delay: f64,
    /// Every so many seconds the connection stalls for as many: what either end sends then arrives at once at its end.
    pub stalls: Option<(f64, f64)>,
}

/// What happened.
#[derive(Default)]
pub struct Trace {
    /// Work of a share from each second on.
    pub targets: Vec<(f64, f64)>,
    /// When shares arrived.
    pub arrivals: Vec<f64>,
}

impl Life {
    pub fn steady(speed: f64, until: f64) -> Self {
        Self { speeds: vec![(0.0, speed)], until, delay: 0.1, stalls: None }
    }

    /// Has this speed from second `at` on.
    pub fn then(mut self, at: f64, speed: f64) -> Self {
        self.speeds.push((at, speed));
        self
    }

    fn speed(&self, now: f64) -> f64 {
        self.speeds.iter().rev().find(|(from, _)| *from <= now).map_or(0.0, |(_, speed)| *speed)
    }

    fn next_speed(&self, now: f64) -> f64 {
        self.speeds.iter().map(|(from, _)| *from).find(|from| *from > now).unwrap_or(f64::INFINITY)
    }

    /// When something sent now arrives.
    fn arrival(&self, now: f64) -> f64 {
        let Some((every, length)) = self.stalls else { return now + self.delay };
        let begin = (now / every).floor() * every;
        self.delay + if begin > 0.0 && now < begin + length { begin + length } else { now }
    }
}

/// Lets a miner live under a rule.
pub fn live(life: &Life, maker: Maker, start: Start, luck: &mut Random) -> Trace {
    let mut rule = maker(start);
    let mut trace = Trace { targets: vec![(0.0, start.work)], ..Trace::default() };
    let mut target = start.work; // as the miner knows it
    let mut coming: VecDeque<(f64, f64)> = VecDeque::new(); // targets under way to the miner
    let mut sent: VecDeque<(f64, f64)> = VecDeque::new(); // shares under way from it
    let (mut now, mut left, mut look) = (0.0, luck.exponential(), rule.clock());
    loop {
        let pace = life.speed(now) / target;
        let found = if pace > 0.0 { now + left / pace } else { f64::INFINITY };
        let told = coming.front().map_or(f64::INFINITY, |next| next.0);
        let arrived = sent.front().map_or(f64::INFINITY, |next| next.0);
        let next = found.min(told).min(arrived).min(look).min(life.next_speed(now));
        if next >= life.until {
            return trace;
        }
        left -= (next - now) * pace;
        now = next;
        let mut wanted = None;
        if now == found {
            left = luck.exponential();
            sent.push_back((life.arrival(now), target));
        } else if now == told {
            target = coming.pop_front().map_or(target, |next| next.1);
        } else if now == arrived {
            let work = sent.pop_front().map_or(0.0, |share| share.1);
            trace.arrivals.push(now);
            rule.share(now, work);
            wanted = rule.look(now, true);
        } else if now == look {
            look += rule.clock();
            wanted = rule.look(now, false);
        }
        if let Some(work) = wanted.map(|work| work.max(EASIEST)) {
            trace.targets.push((now, work));
            coming.push_back((life.arrival(now), work));
        }
    }
}

impl Trace {
    /// Pieces of time from `from` on in which the target stood: begin, end, work.
    pub fn pieces(&self, from: f64, until: f64) -> impl Iterator<Item = (f64, f64, f64)> {
        let ends = self.targets.iter().skip(1).map(|(at, _)| *at).chain([until]);
        let pieces = self.targets.iter().zip(ends);
        pieces
            .map(move |((begin, work), end)| (begin.max(from), end, *work))
            .filter(|(begin, end, _)| end > begin)
    }

    pub fn changes(&self, from: f64, until: f64) -> usize {
        self.targets.iter().skip(1).filter(|(at, _)| (from..until).contains(at)).count()
    }

    pub fn shares(&self, from: f64, until: f64) -> usize {
        self.arrivals.iter().filter(|at| (from..until).contains(*at)).count()
    }

    /// The longest time without a share from `from` on.
    pub fn longest_gap(&self, from: f64) -> f64 {
        let mut last = from;
        self.arrivals.iter().filter(|at| **at >= from).fold(0.0, |longest: f64, at| {
            let gap = at - std::mem::replace(&mut last, *at);
            longest.max(gap)
        })
    }
}
