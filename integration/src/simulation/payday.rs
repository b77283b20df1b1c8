//! What hashers are paid, day by day, and how far it scatters.

use serde::Serialize;

/// Sizes that are looked at, as parts of the pool.
pub const SIZES: [f64; 5] = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6];
/// Hashers of each size.
pub const ALIKE: usize = 10;
/// Subsidy, in satoshi. Fees are left out everywhere.
pub const SUBSIDY: f64 = 312_500_000.0;
/// Blocks of all Bitcoin a day.
pub const BLOCKS_A_DAY: f64 = 144.0;

/// All hashers that are looked at: [`ALIKE`] of each of [`SIZES`], as parts of the pool.
pub fn hashers() -> Vec<f64> {
    SIZES.iter().flat_map(|size| [*size; ALIKE]).collect()
}

/// Pay of all hashers, each day of some years.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// By year (a replica, of as many days as the run has), hasher and day, in satoshi.
    years: Vec<Vec<Vec<f64>>>,
    /// Payments of each hasher.
    payments: Vec<u64>,
    /// Blocks that the pool won; none are counted for those who mine alone.
    won: u64,
    days: usize,
}

/// Pay of one size of hasher.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pay {
    /// Part of the pool.
    pub size: f64,
    /// Fair pay a day, in satoshi: its part of all work times the subsidy, no fee taken.
    pub fair_a_day: f64,
    /// Pay over the hasher's part of the blocks that the pool won; of those who mine alone, over fair pay.
    pub mean: f64,
    /// Standard deviation over the mean, of days, weeks and thirty days.
    pub deviation: [f64; 3],
    /// Days, weeks and thirty days without any pay, as parts of all.
    pub nothing: [f64; 3],
    /// Mean payment, in satoshi; 0 if there was none.
    pub payment: f64,
}

/// Days of the spans of [`Pay`].
pub const SPANS: [usize; 3] = [1, 7, 30];

impl Ledger {
    /// Nothing paid yet.
    pub fn new(days: usize) -> Self {
        Self { years: Vec::new(), payments: vec![0; hashers().len()], won: 0, days }
    }

    /// Another replica of the same days begins.
    pub fn begin(&mut self) {
        self.years.push(vec![vec![0.0; self.days]; self.payments.len()]);
    }

    /// The pool won a block in the newest replica.
    pub fn win(&mut self) {
        self.won += 1;
    }

    /// Pays a hasher on a day of the newest replica; days beyond the last are left out.
    pub fn pay(&mut self, hasher: usize, day: usize, satoshi: f64) {
        if satoshi <= 0.0 {
            return;
        }
        let Some(paid) = self.years.last_mut().and_then(|year| year[hasher].get_mut(day)) else { return };
        *paid += satoshi;
        self.payments[hasher] += 1;
    }

    /// Pay of each size in a pool with this part of Bitcoin's hash rate.
    pub fn by_size(&self, pool: f64) -> Vec<Pay> {
        SIZES.iter().enumerate().map(|(at, size)| self.of_size(at, *size, pool)).collect()
    }

    fn of_size(&self, at: usize, size: f64, pool: f64) -> Pay {
        let alike = at * ALIKE..(at + 1) * ALIKE;
        let spans = SPANS.map(|span| {
            let sums = self
                .years
                .iter()
                .flat_map(|year| &year[alike.clone()])
                .flat_map(|days| days.chunks_exact(span).map(|days| days.iter().sum::<f64>()));
            Moments::of(sums)
        });
        let fair_a_day = BLOCKS_A_DAY * pool * size * SUBSIDY;
        let payments: u64 = self.payments[alike.clone()].iter().sum();
        let paid: f64 = self.years.iter().flat_map(|year| &year[alike.clone()]).flatten().sum();
        let worth = match self.won {
            0 => fair_a_day * (self.years.len() * self.days * ALIKE) as f64,
            won => won as f64 * size * SUBSIDY * ALIKE as f64,
        };
        Pay {
            size,
            fair_a_day,
            mean: paid / worth,
            deviation: spans.map(|span| span.deviation / span.mean.max(f64::MIN_POSITIVE)),
            nothing: spans.map(|span| span.nothing),
            payment: if payments == 0 { 0.0 } else { paid / payments as f64 },
        }
    }

    /// One hasher's pay, summed up day by day, of the first replicas one after another.
    pub fn sums_of(&self, hasher: usize, days: usize) -> Vec<f64> {
        let each = self.years.iter().flat_map(|year| &year[hasher]).take(days);
        let sums = each.scan(0.0, |sum, paid| {
            *sum += paid;
            Some(*sum)
        });
        sums.collect()
    }
}

/// Mean, standard deviation, and the part that is nothing.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
    /// Part that is 0 or less.
    pub nothing: f64,
}

impl Moments {
    /// Of some numbers.
    pub fn of(numbers: impl Iterator<Item = f64>) -> Self {
        let (mut count, mut sum, mut squares, mut nothing) = (0.0, 0.0, 0.0, 0.0);
        for number in numbers {
            count += 1.0;
            sum += number;
            squares += number * number;
            nothing += if number > 0.0 { 0.0 } else { 1.0 };
        }
        let count = f64::max(count, 1.0);
        let mean = sum / count;
        Self { mean, deviation: (squares / count - mean * mean).max(0.0).sqrt(), nothing: nothing / count }
    }
}
