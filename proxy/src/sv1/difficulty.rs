//! SV1's difficulty, a floating-point number, and the target it stands for.
//!
//! Difficulty 1 is the target 0x00000000ffff0000…. The float is turned into a target once, with integers;
//! everything that decides compares targets.

use bitcoin::Target;
use std::fmt;

/// A difficulty as it stands in `mining.set_difficulty`: positive and finite.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Difficulty(f64);

impl Difficulty {
    /// The largest that a miner may ask for, and the configuration name: beyond it are no shares, and numbers that firmware cannot
    /// read.
    pub const MOST: f64 = mining::server::MAX_DIFFICULTY;

    /// `None` unless positive and normal (no zero, infinity, NaN, denormal).
    pub fn new(value: f64) -> Option<Self> {
        (value.is_normal() && value > 0.0).then_some(Self(value))
    }

    /// What a miner asks for: as [`Self::new`], and no more than [`Self::MOST`].
    pub fn asked(value: f64) -> Option<Self> {
        Self::new(value).map(|Self(asked)| Self(asked.min(Self::MOST)))
    }

    /// This many; 1 for 0.
    pub const fn whole(value: u32) -> Self {
        Self(if value == 0 { 1.0 } else { value as f64 })
    }

    /// The largest difficulty, in steps that firmware understands, whose target is not harder than `target`:
    /// whole numbers from 1 up (some firmware cuts the fraction off), three digits below.
    pub fn at_most(target: Target) -> Self {
        let exact = target.difficulty_float();
        // A target of zero has no difficulty; nothing can meet either.
        let exact = if exact.is_finite() { exact.max(f64::MIN_POSITIVE * 1e3) } else { f64::MAX / 2.0 };
        // A whole difficulty must come back whole, though its target was rounded.
        let mut rounded = Self(round_down(exact * (1.0 + 1e-12)));
        while rounded.target() < target && rounded.0 > f64::MIN_POSITIVE {
            rounded = Self(round_down(rounded.0 * 0.999_999));
        }
        rounded
    }

    /// The hash, read as a little-endian number, must not be above this.
    pub fn target(self) -> Target {
        let bits = self.0.to_bits();
        let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
        let exponent = i32::try_from(bits >> 52).unwrap_or(0) - 1075;
        // difficulty = mantissa × 2^exponent; target = (0xffff × 2^208) ÷ difficulty, kept to 75 bits.
        let quotient = (0xffff_u128 << 112) / u128::from(mantissa);
        shifted(quotient, 96 - exponent)
    }

    /// As a plain number, for display.
    pub fn value(self) -> f64 {
        self.0
    }
}

/// As JSON: whole numbers without a fraction.
impl fmt::Display for Difficulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

fn round_down(value: f64) -> f64 {
    if value >= 1.0 {
        return value.floor();
    }
    let scale = 10f64.powf((-value.log10()).ceil() + 2.0);
    let rounded = (value * scale).floor() / scale;
    if rounded > 0.0 { rounded } else { value }
}

/// `value` × 2^`shift` as a target; the easiest or the hardest there is where that does not fit 256 bits.
fn shifted(value: u128, shift: i32) -> Target {
    let Ok(left) = u32::try_from(shift) else {
        let value = value.checked_shr(shift.unsigned_abs()).unwrap_or(0);
        return from_parts(0, value);
    };
    if left + (128 - value.leading_zeros()) > 256 {
        return Target::from_le_bytes([0xff; 32]);
    }
    match left {
        0 => from_parts(0, value),
        1..128 => from_parts(value >> (128 - left), value << left),
        _ => from_parts(value << (left - 128), 0),
    }
}

fn from_parts(high: u128, low: u128) -> Target {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&low.to_le_bytes());
    bytes[16..].copy_from_slice(&high.to_le_bytes());
    Target::from_le_bytes(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn target(difficulty: f64) -> Target {
        Difficulty::new(difficulty).unwrap().target()
    }

    #[test]
    fn difficulty_one_and_its_powers_of_two_are_exact() {
        assert_eq!(target(1.0), Target::MAX);
        for shift in 0..140_u32 {
            let mut bytes = [0; 32];
            bytes[26..28].copy_from_slice(&[0xff, 0xff]);
            let number = num(&bytes);
            assert_eq!(
                num(&target(2f64.powi(i32::try_from(shift).unwrap())).to_le_bytes()),
                shr(number, shift)
            );
        }
    }

    /// Most significant 128-bit half first.
    fn num(le: &[u8; 32]) -> (u128, u128) {
        (u128::from_le_bytes(le[16..].try_into().unwrap()), u128::from_le_bytes(le[..16].try_into().unwrap()))
    }

    fn shr((high, low): (u128, u128), by: u32) -> (u128, u128) {
        match by {
            0 => (high, low),
            1..128 => (high >> by, (low >> by) | (high << (128 - by))),
            128 => (0, high),
            _ => (0, high >> (by - 128)),
        }
    }

    #[test]
    fn fractions_work() {
        let easier = target(0.000_25);
        assert!(easier > Target::MAX);
        assert!((easier.difficulty_float() / 0.000_25 - 1.0).abs() < 1e-12);
        assert_eq!(target(1e-70), Target::from_le_bytes([0xff; 32]));
        assert_eq!(target(1e300), Target::from_le_bytes([0; 32]));
    }

    #[test]
    fn a_rounded_difficulty_is_never_harder_than_its_target_and_close_below() {
        for exact in [3.7e-9, 0.001_234_56, 0.5, 0.999_99, 1.0, 1.5, 1023.9, 65_536.0, 1e15, 1.234e20] {
            let wanted = target(exact);
            let rounded = Difficulty::at_most(wanted);
            assert!(rounded.target() >= wanted, "{exact}");
            assert!(rounded.value() > exact * 0.49, "{exact} became {rounded}");
        }
        assert_eq!(Difficulty::at_most(target(1023.9)).to_string(), "1023");
        assert_eq!(Difficulty::at_most(target(0.001_234_56)).to_string(), "0.00123");
        for whole in 1..10_000_u32 {
            assert_eq!(Difficulty::at_most(target(whole.into())).value(), f64::from(whole));
        }
        Difficulty::at_most(Target::from_le_bytes([0; 32]));
        assert!(Difficulty::at_most(Target::from_le_bytes([0xff; 32])).target() > Target::MAX);
    }

    #[test]
    fn what_is_no_difficulty_is_refused() {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-320] {
            assert_eq!(Difficulty::new(value), None);
        }
    }

    #[test]
    fn what_a_miner_asks_for_is_bounded() {
        let asked = |value| Difficulty::asked(value).map(|asked| asked.to_string());
        assert_eq!(asked(1e300).as_deref(), Some("1000000000000000"));
        assert_eq!(asked(2048.0).as_deref(), Some("2048"));
        assert_eq!((asked(f64::NAN), asked(f64::INFINITY), asked(0.0)), (None, None, None));
    }
}
