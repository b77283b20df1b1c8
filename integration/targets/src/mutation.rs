//! Changes made to bytes without libFuzzer: the same for the same seed, on stable Rust.

/// A generator whose numbers repeat.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or(usize::MAX) % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap_or(0)
    }
}

/// Bytes at which parsers and counters tend to break.
const ODD: [u8; 12] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\\', b'\n', b'{', b'[', b'-', b'e'];

/// No input gets longer than this by mutation, in bytes.
const LONGEST: usize = 4096;

/// A few changes to one of the inputs, parts of others included.
pub fn mutated(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus.get(random.below(corpus.len())).cloned().unwrap_or_default();
    for _ in 0..=random.below(6) {
        change(random, &mut bytes, corpus);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = random.below(bytes.len() + 1);
    let until = (at + random.below(24)).min(bytes.len());
    match random.below(9) {
        0 => drop(bytes.drain(at..until)),
        1 => drop(bytes.splice(at..at, bytes[at..until].to_vec())),
        2 => bytes.insert(at, random.byte()),
        3 => bytes.insert(at, ODD[random.below(ODD.len())]),
        4 => {
            let other = corpus.get(random.below(corpus.len())).map_or(&[][..], Vec::as_slice);
            let from = random.below(other.len() + 1);
            let part = &other[from..(from + random.below(64)).min(other.len())];
            drop(bytes.splice(at..until, part.iter().copied()));
        }
        5 => bytes.truncate(at.max(1)),
        6 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(1).wrapping_sub(2 * (random.byte() & 1)),
        7 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        _ if at < bytes.len() => bytes[at] = random.byte(),
        _ => bytes.push(random.byte()),
    }
}
