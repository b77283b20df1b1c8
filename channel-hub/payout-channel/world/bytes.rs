//! Traces as bytes: three to an action, so that taking some out leaves the others as they were. Random ones, changed
//! ones, and how a failing one is made short enough to read.

/// Bytes of an action: what it is, and two numbers that it may use.
pub const ACTION: usize = 3;

/// Most actions of a trace; the rest of longer bytes is not read.
pub const LONGEST: usize = 80;

/// A generator whose numbers repeat for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed; neighbouring seeds give unlike numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits (SplitMix64).
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 32).unwrap() % end.max(1)
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

/// The bytes of trace number `seed`: one in two is all random, the others are changed ones of the corpus.
pub fn trace(seed: u64, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut random = Random::new(seed);
    if corpus.is_empty() || random.below(2) == 0 {
        let length = ACTION * (6 + random.below(LONGEST - 19));
        return (0..length).map(|_| random.byte()).collect();
    }
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(5) {
        change(&mut random, &mut bytes, corpus);
    }
    bytes.truncate(ACTION * LONGEST);
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let action = |random: &mut Random, bytes: &[u8]| ACTION * random.below(bytes.len() / ACTION + 1);
    let at = action(random, bytes);
    let until = (at + ACTION * random.below(6)).min(bytes.len());
    match random.below(5) {
        0 => drop(bytes.drain(at..until)),
        1 => drop(bytes.splice(at..at, bytes[at..until].to_vec())),
        2 => {
            let other = &corpus[random.below(corpus.len())];
            let from = action(random, other).min(other.len());
            let part = &other[from..(from + ACTION * random.below(12)).min(other.len())];
            drop(bytes.splice(at..until, part.iter().copied()));
        }
        3 => {
            let new: [u8; ACTION] = std::array::from_fn(|_| random.byte());
            drop(bytes.splice(at..at, new));
        }
        _ => {
            let at = random.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.byte();
            }
        }
    }
}

/// The shortest bytes found that still fail: without as many actions as can be, and with small numbers. Tries at most
/// `tries` runs.
pub fn shrunk(bytes: &[u8], mut tries: usize, fails: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut best = bytes.to_vec();
    let mut better = |best: &mut Vec<u8>, candidate: Vec<u8>| {
        let fits = tries > 0 && candidate != *best && {
            tries -= 1;
            fails(&candidate)
        };
        if fits {
            *best = candidate;
        }
        fits
    };
    let mut part = (best.len() / ACTION).next_power_of_two();
    while part > 0 {
        let mut at = 0;
        while at < best.len() {
            let until = (at + part * ACTION).min(best.len());
            let without = [&best[..at], &best[until..]].concat();
            if !better(&mut best, without) {
                at = until;
            }
        }
        part /= 2;
    }
    for at in 0..best.len() {
        for smaller in [0, 1, best[at] / 2, best[at].saturating_sub(1)] {
            let mut candidate = best.clone();
            candidate[at] = smaller;
            if smaller < best[at] && better(&mut best, candidate) {
                break;
            }
        }
    }
    best
}
