//! Selfish mining (Eyal and Sirer 2013), on the library's fork choice: finds are kept back while they lead, and shown when
//! that costs the others most.

use sharechain::{Chain, FullShare, ShareId, Work};
use std::collections::VecDeque;
use std::sync::Arc;

/// What one node keeps back.
#[derive(Debug)]
pub struct Fork {
    /// Its own finds that nobody else has, the lowest first.
    hidden: VecDeque<Arc<FullShare>>,
    /// The best share that everybody has.
    public: (ShareId, Work, u32),
    /// Whether its fork and another of the same length are both known.
    is_racing: bool,
}

impl Fork {
    /// Nothing kept back yet.
    pub fn new(chain: &Chain) -> Self {
        Self { hidden: VecDeque::new(), public: (chain.tip(), Work::ZERO, 0), is_racing: false }
    }

    /// What to show after an own find.
    pub fn found(&mut self, share: Arc<FullShare>) -> Vec<Arc<FullShare>> {
        self.hidden.push_back(share);
        if std::mem::take(&mut self.is_racing) { self.show_all() } else { Vec::new() }
    }

    /// What to show after somebody else's shares came.
    pub fn came(&mut self, chain: &Chain, shares: &[Arc<FullShare>]) -> Vec<Arc<FullShare>> {
        shares.iter().for_each(|share| self.note(share));
        self.is_racing = false;
        let Some(last) = self.hidden.back() else { return Vec::new() };
        let (tip, height) = (last.checked().id(), last.checked().share().data.height);
        if chain.tip() != tip {
            // Lost. Shown all the same: its first share may still count as an uncle.
            return self.show_all();
        }
        match height.saturating_sub(self.public.2) {
            0 => {
                self.is_racing = true;
                self.show_all()
            }
            1 => self.show_all(),
            _ => self.show_up_to(self.public.2),
        }
    }

    /// Everything that is left.
    pub fn show_all(&mut self) -> Vec<Arc<FullShare>> {
        self.show_up_to(u32::MAX)
    }

    fn show_up_to(&mut self, height: u32) -> Vec<Arc<FullShare>> {
        let is_up_to = |share: &Arc<FullShare>| share.checked().share().data.height <= height;
        let shown = self.hidden.iter().take_while(|share| is_up_to(share)).count();
        let shown: Vec<Arc<FullShare>> = self.hidden.drain(..shown).collect();
        shown.iter().for_each(|share| self.note(share));
        shown
    }

    fn note(&mut self, share: &FullShare) {
        let data = &share.checked().share().data;
        if data.total_work > self.public.1 {
            self.public = (share.checked().id(), data.total_work, data.height);
        }
    }
}
