//! Luck that repeats: the same seed, the same run.

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Everything that comes follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Another sequence, that does not depend on how much is taken from this one afterwards.
    pub fn branch(&mut self) -> Self {
        Self(self.bits())
    }

    /// Between 0 and 1, both excluded.
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Exponentially distributed.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -self.unit().ln() * mean
    }

    /// Normally distributed, mean 0, deviation 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Events of a Poisson process that has `mean` of them; by the normal law where there are hundreds.
    pub fn poisson(&mut self, mean: f64) -> u32 {
        if mean > 500.0 {
            return whole(mean + mean.sqrt() * self.normal());
        }
        let mut count = 0;
        let mut at = self.exponential(1.0);
        while at < mean {
            count += 1;
            at += self.exponential(1.0);
        }
        count
    }

    /// One of so many places; `among` is at least 1.
    pub fn below(&mut self, among: usize) -> usize {
        let among = u128::from(u64::try_from(among).unwrap_or(u64::MAX));
        usize::try_from((u128::from(self.bits()) * among) >> 64).unwrap_or(0)
    }
}

/// The nearest whole number that fits.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped
fn whole(number: f64) -> u32 {
    number.round().clamp(0.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of many draws.
    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        const DRAWS: u32 = 100_000;
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..DRAWS {
            let number = draw();
            sum += number;
            squares += number * number;
        }
        let mean = sum / f64::from(DRAWS);
        (mean, squares / f64::from(DRAWS) - mean * mean)
    }

    #[test]
    fn draws_have_the_mean_and_the_variance_that_their_names_say() {
        let mut random = Random::new(1);
        let near = |(mean, variance): (f64, f64), wanted: (f64, f64)| {
            assert!((mean - wanted.0).abs() < 0.02 * wanted.1.sqrt().max(0.5), "{mean} for {}", wanted.0);
            assert!((variance / wanted.1 - 1.0).abs() < 0.03, "{variance} for {}", wanted.1);
        };
        near(moments(|| random.unit()), (0.5, 1.0 / 12.0));
        near(moments(|| random.exponential(3.0)), (3.0, 9.0));
        near(moments(|| random.normal()), (0.0, 1.0));
        near(moments(|| f64::from(random.poisson(4.0))), (4.0, 4.0));
        near(moments(|| f64::from(random.poisson(10_000.0))), (10_000.0, 10_000.0));
    }
}
