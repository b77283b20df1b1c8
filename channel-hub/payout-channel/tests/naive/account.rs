//! What is owed, a second time: written from PROTOCOL.md alone ("State and claim", "Rules", "The hub's end"), as plainly as it says it, by
//! going through everything that ever happened.

/// Something that the hub did.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Done {
    /// Signed for work on a height, with a base.
    Signed(u32, u64),
    /// Credited shares on a height.
    Credited(u32, u64),
    /// Raised the pending of a win to an amount.
    Raised(u32, u64),
    /// Settled all wins up to a height.
    Settled(u32),
}

/// Everything so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Naive {
    pub(crate) done: Vec<Done>,
    /// The best chain from the height `first` on: whether each block is a win.
    pub(crate) first: u32,
    pub(crate) blocks: Vec<bool>,
}

/// S, settled_to, and (B, P_B).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owed {
    pub(crate) settled_to: u32,
    pub(crate) settled: u64,
    pub(crate) pendings: Vec<(u32, u64)>,
}

impl Naive {
    pub(crate) fn tip(&self) -> u32 {
        self.first + u32::try_from(self.blocks.len()).unwrap() - 1
    }

    pub(crate) fn is_win(&self, height: u32) -> bool {
        let place = height.checked_sub(self.first).map(|place| place as usize);
        place.and_then(|place| self.blocks.get(place)).copied().unwrap_or(false)
    }

    /// P_B, whether settled or not.
    pub(crate) fn pending(&self, height: u32) -> u64 {
        let mut amount = 0;
        for done in &self.done {
            match *done {
                Done::Signed(other, base) if other == height => amount = base,
                Done::Credited(other, more) if other == height => amount += more,
                Done::Raised(other, to) if other == height => amount = to,
                _ => {}
            }
        }
        amount
    }

    pub(crate) fn settled_to(&self) -> u32 {
        let settled = self.done.iter().filter_map(|done| match *done {
            Done::Settled(height) => Some(height),
            _ => None,
        });
        settled.max().unwrap_or(0)
    }

    /// S holds every win up to settled_to.
    pub(crate) fn settled(&self) -> u64 {
        (self.first..=self.settled_to())
            .filter(|height| self.is_win(*height))
            .map(|height| self.pending(height))
            .sum()
    }

    /// Wins that are not settled.
    pub(crate) fn open_wins(&self) -> Vec<u32> {
        (self.settled_to() + 1..=self.tip()).filter(|height| self.is_win(*height)).collect()
    }

    /// The state for work on a height: every open win and the height itself, no pending being 0.
    pub(crate) fn owed(&self, height: u32) -> Owed {
        let mut heights = self.open_wins();
        if height > self.settled_to() && !heights.contains(&height) {
            heights.push(height);
        }
        heights.sort_unstable();
        let pendings = heights.into_iter().map(|height| (height, self.pending(height)));
        Owed {
            settled_to: self.settled_to(),
            settled: self.settled(),
            pendings: pendings.filter(|(_, amount)| *amount > 0).collect(),
        }
    }

    /// S, wins, P_{B−1} and P_B, as R4 counts them.
    pub(crate) fn at_stake(&self, height: u32) -> u64 {
        let wins = self.open_wins();
        let others = [height - 1, height].into_iter().filter(|other| !wins.contains(other));
        self.settled() + wins.iter().copied().chain(others).map(|height| self.pending(height)).sum::<u64>()
    }
}

/// Values of a claim's outputs, and its fee, from the table in "State and claim".
pub(crate) fn claim(owed: &Owed, capacity: u64, max_pendings: u64) -> (Vec<u64>, u64) {
    let reserve = 118 + 43 * (2 + max_pendings) + 330;
    let pendings: Vec<u64> =
        owed.pendings.iter().map(|(_, amount)| *amount).filter(|amount| *amount >= 330).collect();
    let rest = capacity - owed.settled - pendings.iter().sum::<u64>();
    let outputs = 1 + pendings.len() as u64 + u64::from(rest >= 330);
    let fee = 118 + 43 * outputs;
    let mut values = vec![owed.settled + reserve - fee];
    values.extend(pendings);
    if rest >= 330 {
        values.push(rest);
        (values, fee)
    } else {
        (values, fee + rest)
    }
}
