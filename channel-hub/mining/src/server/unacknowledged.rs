//! Shares of one channel that wait for their commit, and the merged answer when it came.
//!
//! SubmitShares.Success says "all up to this sequence number but the rejected", so a share is released only
//! after all that were accepted before it.

use crate::work::Work;
use std::collections::VecDeque;
use stratum_core::mining_sv2::SubmitSharesSuccess;

/// Oldest first; ticket numbers rise.
#[derive(Debug, Default)]
pub(crate) struct Unacknowledged {
    shares: VecDeque<Waiting>,
    /// All work released so far: difficulties are rounded down once for the sum, not once for each share.
    released: Work,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    sequence_number: u32,
    work: Work,
    committed: bool,
}

impl Unacknowledged {
    pub(crate) fn push(&mut self, ticket: u64, sequence_number: u32, work: Work) {
        self.shares.push_back(Waiting { ticket, sequence_number, work, committed: false });
    }

    pub(crate) fn len(&self) -> usize {
        self.shares.len()
    }

    /// Whether that makes an answer due.
    pub(crate) fn commit(&mut self, ticket: u64) -> bool {
        if let Ok(index) = self.shares.binary_search_by_key(&ticket, |share| share.ticket) {
            self.shares[index].committed = true;
        }
        self.is_due()
    }

    /// It will not be credited after all: its sequence number, if it was waiting.
    pub(crate) fn take_back(&mut self, ticket: u64) -> Option<u32> {
        let index = self.shares.binary_search_by_key(&ticket, |share| share.ticket).ok()?;
        self.shares.remove(index).map(|share| share.sequence_number)
    }

    /// Whether an answer is due.
    pub(crate) fn is_due(&self) -> bool {
        self.shares.front().is_some_and(|share| share.committed)
    }

    /// One answer for all that can be released; how many that were is in it.
    pub(crate) fn release(&mut self, channel_id: u32) -> Option<SubmitSharesSuccess> {
        let before = difficulties(self.released);
        let (mut last_sequence_number, mut count) = (None, 0);
        while let Some(share) = self.shares.pop_front_if(|share| share.committed) {
            self.released += share.work;
            last_sequence_number = Some(share.sequence_number);
            count += 1;
        }
        Some(SubmitSharesSuccess {
            channel_id,
            last_sequence_number: last_sequence_number?,
            new_submits_accepted_count: count,
            new_shares_sum: difficulties(self.released) - before,
        })
    }
}

/// Work in units of difficulty 1, rounded down.
fn difficulties(work: Work) -> u64 {
    u64::try_from(work.hashes() / Work::OF_DIFFICULTY_1.hashes()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn three() -> Unacknowledged {
        let mut waiting = Unacknowledged::default();
        (0..3).for_each(|n| waiting.push(10 + n, 1 + u32::try_from(n).unwrap(), Work::OF_DIFFICULTY_1));
        waiting
    }

    #[test]
    fn nothing_is_released_before_it_is_committed() {
        let mut waiting = three();
        assert!(waiting.release(2).is_none());
        assert!(!waiting.commit(11));
        assert!(waiting.release(2).is_none());
    }

    #[test]
    fn a_late_commit_releases_those_behind_it_in_one_answer() {
        let mut waiting = three();
        assert!(!waiting.commit(11));
        assert!(waiting.commit(10));
        let success = waiting.release(2).unwrap();
        assert_eq!(
            (success.last_sequence_number, success.new_submits_accepted_count, success.new_shares_sum),
            (2, 2, 2)
        );
        assert_eq!(waiting.len(), 1);
    }

    #[test]
    fn a_share_that_is_taken_back_is_in_no_answer_and_holds_none_up() {
        let mut waiting = three();
        assert!(!waiting.commit(11));
        assert_eq!(waiting.take_back(10), Some(1));
        assert!(waiting.is_due());
        let success = waiting.release(2).unwrap();
        assert_eq!((success.last_sequence_number, success.new_submits_accepted_count), (2, 1));
        assert_eq!((waiting.take_back(10), waiting.take_back(11), waiting.len()), (None, None, 1));
    }

    #[test]
    fn a_commit_told_twice_or_never_asked_for_changes_nothing() {
        let mut waiting = three();
        waiting.commit(10);
        waiting.release(2);
        assert!(!waiting.commit(10));
        assert!(!waiting.commit(99));
        assert!(waiting.release(2).is_none());
    }

    #[test]
    fn difficulties_below_one_add_up() {
        let mut waiting = Unacknowledged::default();
        let mut sum = 0;
        for n in 0..10 {
            waiting.push(n, 0, Work::new(Work::OF_DIFFICULTY_1.hashes() / 4 + 1));
            waiting.commit(n);
            sum += waiting.release(2).unwrap().new_shares_sum;
        }
        assert_eq!(sum, 2);
    }
}
