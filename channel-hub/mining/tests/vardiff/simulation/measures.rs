//! What is measured of a rule at one share rate.

use super::miner::{Life, Trace, live};
use super::random::Random;
use super::rule::{Maker, Start};

/// Hash rates of the devices: 500 GH/s to 300 TH/s.
pub const DEVICES: [f64; 4] = [0.5e12, 6e12, 90e12, 300e12];
const HOUR: f64 = 3600.0;
/// A target suits up to this factor.
const SUITS: f64 = 1.5;
/// It must go on suiting for this long, in seconds, to count as settled.
const GOES_ON: f64 = 600.0;

/// A rule's figures; times in seconds.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Retargets an hour of a steady miner.
    pub retargets: f64,
    /// How far its target is off, root mean square, in per cent.
    pub off: f64,
    /// How far shares in ten minutes are off what is wanted, root mean square, in per cent. Luck alone is `luck`.
    pub scatter: f64,
    pub luck: f64,
    /// The same of a miner whose speed drifts by a quarter up and down within four hours.
    pub off_in_drift: f64,
    /// Retargets an hour with messages that take two seconds and stalls of twenty seconds every five minutes.
    pub retargets_in_stalls: f64,
    pub up: Step,
    pub down: Step,
    pub doubled: Step,
    pub halved: Step,
    /// First target a hundred times too easy, and too hard.
    pub too_easy: Step,
    pub too_hard: Step,
    /// An hour without power on an open connection: until settled afterwards, and shares in its first minute.
    pub back: Step,
    pub flood: f64,
}

/// After a change: time until settled, median and 90th of a hundred.
#[derive(Clone, Copy, Debug, Default)]
pub struct Step {
    pub median: f64,
    pub slow: f64,
    /// Shares too many in half an hour, mean.
    pub surplus: f64,
    /// Longest time without a share, median.
    pub gap: f64,
    /// Retargets in half an hour, mean.
    pub retargets: f64,
}

/// A rule at one share rate, over many miners.
pub struct Bench {
    pub maker: Maker,
    pub shares_per_minute: f64,
    /// Miners for each measure.
    pub miners: u64,
}

impl Bench {
    pub fn figures(&self) -> Figures {
        let (retargets, off, scatter) = self.steady();
        let (back, flood) = self.back();
        Figures {
            retargets,
            off,
            scatter,
            luck: 100.0 / (GOES_ON / self.interval()).sqrt(),
            off_in_drift: self.drift(),
            retargets_in_stalls: self.stalls(),
            up: self.step(10.0),
            down: self.step(0.1),
            doubled: self.step(2.0),
            halved: self.step(0.5),
            too_easy: self.first(0.01),
            too_hard: self.first(100.0),
            back,
            flood,
        }
    }

    /// Those of a steady miner alone.
    pub fn steady_figures(&self) -> Figures {
        let (retargets, off, scatter) = self.steady();
        Figures { retargets, off, scatter, ..Figures::default() }
    }

    fn interval(&self) -> f64 {
        60.0 / self.shares_per_minute
    }

    /// Runs each miner's life; `one` gets its speed and luck.
    fn run<T>(&self, salt: u64, one: impl FnMut(f64, &mut Random) -> T) -> Vec<T> {
        self.run_some(self.miners, salt, one)
    }

    fn run_some<T>(&self, miners: u64, salt: u64, mut one: impl FnMut(f64, &mut Random) -> T) -> Vec<T> {
        let devices = DEVICES.iter().cycle();
        let seeds = 0..miners;
        seeds.zip(devices).map(|(seed, speed)| one(*speed, &mut Random::new(seed * 1_000 + salt))).collect()
    }

    /// Begins up to three times too easy or too hard.
    fn live(&self, life: &Life, luck: &mut Random) -> Trace {
        let wrong = 3_f64.powf(luck.unit() * 2.0 - 1.0);
        let work = life.speeds[0].1 * self.interval() * wrong;
        live(life, self.maker, Start { interval: self.interval(), work }, luck)
    }

    fn steady(&self) -> (f64, f64, f64) {
        let (from, until) = (HOUR, 9.0 * HOUR);
        let all = self.run(1, |speed, luck| {
            let trace = self.live(&Life::steady(speed, until), luck);
            let off = off(&trace, from, until, |_| speed * self.interval());
            (count(trace.changes(from, until)), off, self.scatter(&trace, from, until))
        });
        let hours = (until - from) / HOUR * count(all.len());
        let mean = |part: fn(&(f64, f64, f64)) -> f64| all.iter().map(part).sum::<f64>() / count(all.len());
        (
            all.iter().map(|one| one.0).sum::<f64>() / hours,
            percent(mean(|one| one.1)),
            percent(mean(|one| one.2)),
        )
    }

    /// Mean square of (shares in ten minutes / wanted − 1).
    fn scatter(&self, trace: &Trace, from: f64, until: f64) -> f64 {
        let windows = ((until - from) / GOES_ON).floor();
        let mut bins = vec![0.0; index(windows)];
        for at in trace.arrivals.iter().filter(|at| **at >= from) {
            if let Some(bin) = bins.get_mut(index((at - from) / GOES_ON)) {
                *bin += self.interval() / GOES_ON;
            }
        }
        bins.iter().map(|bin: &f64| (bin - 1.0).powi(2)).sum::<f64>() / windows
    }

    fn drift(&self) -> f64 {
        let (from, until) = (HOUR, 9.0 * HOUR);
        let all = self.run(2, |speed, luck| {
            let at = |now: f64| speed * (1.0 + 0.25 * (now / (4.0 * HOUR) * std::f64::consts::TAU).sin());
            let minutes = (0..index(until / 60.0)).map(count);
            let speeds = minutes.map(|minute| (minute * 60.0, at(minute * 60.0))).collect();
            let trace = self.live(&Life { speeds, ..Life::steady(speed, until) }, luck);
            off(&trace, from, until, |now| at(now) * self.interval())
        });
        percent(all.iter().sum::<f64>() / count(all.len()))
    }

    fn stalls(&self) -> f64 {
        let (from, until) = (HOUR, 5.0 * HOUR);
        let all = self.run(3, |speed, luck| {
            let life = Life { delay: 2.0, stalls: Some((300.0, 20.0)), ..Life::steady(speed, until) };
            count(self.live(&life, luck).changes(from, until))
        });
        all.iter().sum::<f64>() / count(all.len()) / ((until - from) / HOUR)
    }

    /// After four hours the miner is `factor` times as fast.
    fn step(&self, factor: f64) -> Step {
        let all = self.run(4, |speed, luck| {
            let at = 4.0 * HOUR + 60.0 * luck.unit();
            let life = Life::steady(speed, at + 2.0 * HOUR).then(at, speed * factor);
            self.seen(&self.live(&life, luck), speed * factor, at, life.until)
        });
        Step::of(&all)
    }

    /// The first target has `factor` times too much work.
    fn first(&self, factor: f64) -> Step {
        let all = self.run(5, |speed, luck| {
            let life = Life::steady(speed, 2.0 * HOUR);
            let interval = self.interval();
            let start = Start { interval, work: (speed * interval * factor).max(1.0) };
            self.seen(&live(&life, self.maker, start, luck), speed, 0.0, life.until)
        });
        Step::of(&all)
    }

    fn back(&self) -> (Step, f64) {
        // Fewer of them: under some rules such a miner sends a million shares.
        let all = self.run_some(self.miners / 4, 6, |speed, luck| {
            let (off, on) = (4.0 * HOUR, 5.0 * HOUR);
            let life = Life::steady(speed, on + 2.0 * HOUR).then(off, 0.0).then(on, speed);
            let trace = self.live(&life, luck);
            (self.seen(&trace, speed, on, life.until), count(trace.shares(on, on + 60.0)))
        });
        let (seen, floods): (Vec<Step>, Vec<f64>) = all.into_iter().unzip();
        (Step::of(&seen), quantile(floods, 0.5))
    }

    /// One miner's step: all fields its own.
    fn seen(&self, trace: &Trace, speed: f64, at: f64, until: f64) -> Step {
        let half = at + HOUR / 2.0;
        let settled = settled(trace, speed * self.interval(), at, until);
        Step {
            median: settled,
            slow: settled,
            surplus: count(trace.shares(at, half)) - HOUR / 2.0 / self.interval(),
            gap: trace.longest_gap(at),
            retargets: count(trace.changes(at, half)),
        }
    }
}

impl Step {
    fn of(all: &[Self]) -> Self {
        let part = |part: fn(&Self) -> f64| all.iter().map(part).collect::<Vec<_>>();
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / count(values.len());
        Self {
            median: quantile(part(|one| one.median), 0.5),
            slow: quantile(part(|one| one.slow), 0.9),
            surplus: mean(part(|one| one.surplus)),
            gap: quantile(part(|one| one.gap), 0.5),
            retargets: mean(part(|one| one.retargets)),
        }
    }
}

/// Mean square of the logarithm of target over ideal.
fn off(trace: &Trace, from: f64, until: f64, ideal: impl Fn(f64) -> f64) -> f64 {
    let pieces = trace.pieces(from, until).flat_map(|(begin, end, work)| {
        let minutes = ((end - begin) / 60.0).ceil();
        let step = (end - begin) / minutes;
        (0..index(minutes)).map(move |minute| (begin + step * (count(minute) + 0.5), step, work))
    });
    pieces.map(|(at, length, work)| length * (work / ideal(at)).ln().powi(2)).sum::<f64>() / (until - from)
}

/// Seconds from `from` until the target suits and goes on suiting.
fn settled(trace: &Trace, ideal: f64, from: f64, until: f64) -> f64 {
    let mut since = None;
    for (begin, end, work) in trace.pieces(from, until) {
        if (work / ideal).ln().abs() > SUITS.ln() {
            since = None;
            continue;
        }
        let begin = *since.get_or_insert(begin);
        if end - begin >= GOES_ON {
            return begin - from;
        }
    }
    until - from
}

fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[index(count(values.len() - 1) * part)]
}

fn percent(mean_square: f64) -> f64 {
    mean_square.sqrt() * 100.0
}

#[allow(clippy::cast_precision_loss)]
fn count(number: usize) -> f64 {
    number as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn index(number: f64) -> usize {
    number as usize
}
