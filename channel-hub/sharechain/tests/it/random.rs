//! Random trees of shares, the same from the same seed: forks, uncles, hubs with sheets, block heights and targets that
//! move, times that jitter.

use bitcoin::{Amount, CompactTarget};
use sharechain::params::Retarget;
use sharechain::{Candidate, Chain, FullShare, Params, Recipient, ShareId};

use crate::miner::{Making, candidate, hub, params, script, sheet};

/// splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// A tree as it grew, parents first, and the chain on which it grew.
pub(crate) struct Tree {
    pub(crate) shares: Vec<FullShare>,
    pub(crate) chain: Chain,
    recipients: Vec<Recipient>,
    block_height: u32,
    forks: usize,
}

/// Windows, lags and limits that differ from case to case.
pub(crate) fn random_params(random: &mut Random) -> Params {
    let limit = [1_000, 100_000_000, 400_000_000][random.below(3)];
    Params {
        window_shares: 4 + u32::try_from(random.below(20)).unwrap(),
        lag: 1 + u32::try_from(random.below(4)).unwrap(),
        max_outputs: 1 + u8::try_from(random.below(6)).unwrap(),
        limit: Amount::from_sat(limit),
        keep_limit: Amount::from_sat(limit / 5 * 4),
        sheet_reach: 12 + u32::try_from(random.below(20)).unwrap(),
        sheet_gap: u32::try_from(random.below(3)).unwrap(),
        retarget: if random.one_in(4) { Retarget::Least } else { Retarget::Any },
        ..params()
    }
}

impl Tree {
    /// Of so many shares. One in `forks` extends something else than the tip.
    pub(crate) fn grow(random: &mut Random, params: Params, length: usize, forks: usize) -> Self {
        let mut tree = Self::seed(params, forks);
        (0..length).for_each(|_| tree.grow_one(random));
        tree
    }

    pub(crate) fn seed(params: Params, forks: usize) -> Self {
        let recipients = vec![script(0), script(1), script(2), script(3), hub(7), hub(8), script(4)];
        Self { shares: Vec::new(), chain: Chain::new(params), recipients, block_height: 3, forks }
    }

    pub(crate) fn grow_one(&mut self, random: &mut Random) {
        let parent = self.parent(random);
        if random.one_in(4) {
            self.block_height += 1;
        }
        let mut candidate = self.candidate(random, parent);
        let share = match self.chain.plan(&candidate) {
            Ok(_) => self.solve(random, &candidate),
            Err(_) => {
                candidate = Candidate { recipient: script(0), pendings: None, sheet: None, ..candidate };
                self.solve(random, &candidate)
            }
        };
        match self.chain.insert(&share) {
            Ok(_) => self.shares.push(share),
            // A sheet that may not stand here: not what is meant to be seen.
            Err(why) => assert!(candidate.sheet.is_some(), "{why}"),
        }
    }

    fn parent(&self, random: &mut Random) -> ShareId {
        if self.shares.is_empty() || !random.one_in(self.forks) {
            return self.chain.tip();
        }
        let back = 1 + random.below(12.min(self.shares.len()));
        let parent = self.shares[self.shares.len() - back].checked();
        let top = self.chain.standing(&self.chain.tip()).unwrap().height;
        if parent.share().data.height + 12 < top { self.chain.tip() } else { parent.id() }
    }

    fn candidate(&self, random: &mut Random, parent: ShareId) -> Candidate {
        // Squared, so that some are heavier than others.
        let who = random.below(self.recipients.len()).min(random.below(self.recipients.len()));
        let mut candidate = candidate(parent, self.recipients[who].clone());
        candidate.block.height = self.block_height - u32::try_from(random.below(3)).unwrap();
        candidate.block.value += Amount::from_sat(random.next() % 1_000_000_000);
        if random.one_in(5) {
            candidate.block.bits =
                CompactTarget::from_consensus(0x2004_0000 + u32::try_from(random.below(0x10_0000)).unwrap());
        }
        let name = match who {
            4 => Some(7),
            5 => Some(8),
            _ => None,
        };
        if let Some(name) = name.filter(|_| random.one_in(2)) {
            let period = candidate.block.height / 8 + u32::from(random.one_in(3));
            candidate.sheet = Some(sheet(name, period));
        }
        candidate
    }

    fn solve(&mut self, random: &mut Random, candidate: &Candidate) -> FullShare {
        let mut making = Making::new(&mut self.chain, candidate);
        let earliest = self.chain.earliest_time(&candidate.parent).unwrap();
        making.time = (making.time + u32::try_from(random.below(61)).unwrap() - 30).max(earliest);
        making.full()
    }
}
