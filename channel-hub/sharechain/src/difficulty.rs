//! Which target a share must meet: ASERT from the genesis share (the formula of aserti3-2d, with the anchor at
//! genesis), on integers, the same on every machine.

use bitcoin::{CompactTarget, Target};
use primitive_types::U512;

use crate::params::{Params, Retarget};

/// Bits after the point in exponent and factor.
const POINT: u32 = 16;
/// Beyond this power of two any target is the easiest.
const MOST_DOUBLINGS: i64 = 238;

/// The share target that a share on this parent must state, given the target that its header states: ASERT's, never harder
/// than the block's own where anything follows from that ([`Retarget`]), and above all no easier than the network's parameters
/// say; rounded as compact targets are.
pub fn required(params: &Params, parent_height: u32, parent_time: u32, network: Target) -> CompactTarget {
    let asert = asert(params, parent_height, parent_time);
    let wanted = if params.retarget == Retarget::Least { asert } else { asert.max(network) };
    wanted.min(params.easiest_target()).to_compact_lossy()
}

/// ⌊anchor × 2^((time − genesis time − interval × height) / half-life)⌋, 2^x by the cubic of aserti3-2d.
fn asert(params: &Params, parent_height: u32, parent_time: u32) -> Target {
    let late = i64::from(parent_time)
        - i64::from(params.genesis_time)
        - i64::from(params.interval) * i64::from(parent_height);
    let exponent = (late << POINT).div_euclid(i64::from(params.half_life));
    let (doublings, fraction) = (exponent >> POINT, exponent & 0xffff);
    if doublings > MOST_DOUBLINGS {
        return any();
    }
    let anchor = U512::from_big_endian(&params.anchor_target().to_be_bytes());
    let product = anchor * U512::from(power_of_two(fraction.unsigned_abs()));
    let shift = doublings - i64::from(POINT);
    // 273 bits and a shift to the left of at most 222: nothing is lost. To the right all may be.
    let distance = usize::try_from(shift.unsigned_abs()).unwrap_or(usize::MAX);
    let target = if shift < 0 { product >> distance.min(511) } else { product << distance };
    let bytes = target.max(U512::one()).to_big_endian();
    let (high, low) = bytes.split_at(32);
    match <[u8; 32]>::try_from(low) {
        Ok(low) if high.iter().all(|byte| *byte == 0) => Target::from_be_bytes(low),
        _ => any(),
    }
}

/// Any hash meets it. (The library's `Target::MAX` is mainnet's easiest.)
fn any() -> Target {
    Target::from_be_bytes([0xff; 32])
}

/// 2^(fraction / 65,536) × 65,536 for a fraction below 65,536, to within 0.013 %.
fn power_of_two(fraction: u64) -> u64 {
    let x = u128::from(fraction);
    let sum = 195_766_423_245_049 * x + 971_821_376 * x * x + 5_127 * x * x * x + (1 << 47);
    65_536 + u64::try_from(sum >> 48).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{council, params};
    use crate::work::Work;
    use primitive_types::U256;

    fn at(late: i64, height: u32) -> Target {
        let params = params();
        let time = i64::from(params.genesis_time) + i64::from(params.interval) * i64::from(height) + late;
        asert(&params, height, u32::try_from(time).unwrap())
    }

    #[test]
    fn on_time_the_target_stays_and_a_half_life_late_or_early_doubles_or_halves_it() {
        let (params, anchor) = (params(), params().anchor_target());
        let half_life = i64::from(params.half_life);
        assert_eq!(at(0, 0), anchor);
        assert_eq!(at(0, 1_000_000), anchor);
        let number = |target: Target| U256::from_big_endian(&target.to_be_bytes());
        assert_eq!(number(at(half_life, 50)), number(anchor) * U256::from(2));
        assert_eq!(number(at(-half_life, 50_000)), number(anchor) / U256::from(2));
        assert_eq!(number(at(-7 * half_life, 50_000)), number(anchor) / U256::from(128));
    }

    #[test]
    fn the_target_never_falls_when_a_share_is_later() {
        let mut last = at(-10_000, 1_000_000);
        for late in -9_999..10_000 {
            let target = at(late, 1_000_000);
            assert!(target >= last, "{late}");
            last = target;
        }
    }

    #[test]
    fn far_off_times_end_at_the_bounds_and_not_in_a_panic() {
        let params = params();
        let hardest = Target::from_be_bytes({
            let mut bytes = [0; 32];
            bytes[31] = 1;
            bytes
        });
        assert_eq!(asert(&params, u32::MAX, 0), hardest);
        assert_eq!(asert(&params, 0, u32::MAX), any());
        assert_eq!(required(&params, 0, u32::MAX, hardest), params.easiest);
        let network = Target::from_compact(CompactTarget::from_consensus(0x1a01_2345));
        assert_eq!(required(&params, u32::MAX, 0, network), network.to_compact_lossy());
    }

    /// A miner joins with as much hash rate as the pool has, states the least difficulty for ten minutes, and leaves. Shares in that
    /// time, and seconds until a share takes less than twice its time again.
    fn ten_minutes_of_least_difficulty(params: &Params) -> (u32, u64) {
        let normal = Work::of(params.anchor_target()).hashes() / u128::from(params.interval);
        let real = Target::from_compact(CompactTarget::from_consensus(0x1a03_77ae));
        let begin = u64::from(params.genesis_time + params.interval * 1_000) * 1_000;
        let (mut height, mut time) = (1_000, begin);
        let mut mine = |time: &mut u64, (network, rate): (Target, u128)| {
            let bits = required(params, height, u32::try_from(*time / 1_000).unwrap(), network);
            let taken = Work::of(Target::from_compact(bits)).hashes() * 1_000 / rate;
            *time += u64::try_from(taken).unwrap();
            height += 1;
            taken
        };
        let mut shares = 0;
        while time < begin + 600_000 {
            mine(&mut time, (params.easiest_target(), 2 * normal));
            shares += 1;
        }
        let end = time;
        while mine(&mut time, (real, normal)) > 2_000 * u128::from(params.interval) {}
        (shares, (time - end) / 1_000)
    }

    #[test]
    fn on_testnet4_blocks_of_least_difficulty_make_no_shares_cheap() {
        let params = Params::testnet4(council());
        let (shares, seconds) = ten_minutes_of_least_difficulty(&params);
        assert!((20..40).contains(&shares) && seconds <= 120, "{shares} shares, {seconds} s");
        let (shares, seconds) =
            ten_minutes_of_least_difficulty(&Params { retarget: Retarget::Any, ..params });
        assert!(shares > 10_000 && seconds > 2 * 86_400, "{shares} shares, {seconds} s");
    }

    #[test]
    fn no_block_however_easy_makes_a_share_easier_than_the_easiest() {
        let params = Params { easiest: CompactTarget::from_consensus(0x1f00_ffff), ..params() };
        for height in [0, 1_000_000] {
            assert_eq!(required(&params, height, params.genesis_time, any()), params.easiest);
        }
    }
}
