//! Shares of one channel that have no answer yet.

use std::collections::BTreeSet;

/// Most shares of a channel that may be without an answer.
pub const MAX_OUTSTANDING: usize = 65_536;

/// Sequence numbers count up from 1, so their order is the order of sending.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    last: u32,
    open: BTreeSet<u32>,
}

impl Outstanding {
    /// A number for the next share; `None` if too many are open.
    pub(crate) fn next(&mut self) -> Option<u32> {
        if self.open.len() >= MAX_OUTSTANDING {
            return None;
        }
        self.last = self.last.wrapping_add(1);
        self.open.insert(self.last);
        Some(self.last)
    }

    /// One answer for `count` shares of which `last` is the latest (SV2 spec §5.3.13). That one is meant for
    /// sure, unless it has its answer already: some servers name the latest that they looked at, though they refused it. Which
    /// the others are it does not say: the oldest, since servers answer in order.
    pub(crate) fn accepted(&mut self, last: u32, count: u32) -> Vec<u32> {
        if count == 0 || !(self.open.contains(&last) || (1..=self.last).contains(&last)) {
            return Vec::new();
        }
        let latest = self.open.take(&last);
        let others = count as usize - latest.iter().len();
        let mut accepted: Vec<u32> = self.open.range(..last).take(others).copied().collect();
        accepted.iter().for_each(|number| {
            self.open.remove(number);
        });
        accepted.extend(latest);
        accepted
    }

    /// Whether that one was open.
    pub(crate) fn rejected(&mut self, sequence_number: u32) -> bool {
        self.open.remove(&sequence_number)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn five() -> Outstanding {
        let mut outstanding = Outstanding::default();
        (0..5).for_each(|_| assert!(outstanding.next().is_some()));
        outstanding
    }

    #[test]
    fn one_answer_settles_all_up_to_it_but_the_rejected() {
        let mut outstanding = five();
        assert!(outstanding.rejected(2));
        assert_eq!(outstanding.accepted(4, 3), [1, 3, 4]);
        assert_eq!(outstanding.accepted(5, 1), [5]);
    }

    #[test]
    fn a_share_whose_answer_is_delayed_stays_open() {
        let mut outstanding = five();
        assert_eq!(outstanding.accepted(3, 1), [3]);
        assert_eq!(outstanding.accepted(5, 4), [1, 2, 4, 5]);
    }

    #[test]
    fn an_answer_up_to_a_share_that_has_its_own_settles_those_before_it() {
        let mut outstanding = five();
        assert!(outstanding.rejected(4));
        assert_eq!(outstanding.accepted(4, 2), [1, 2]);
        assert_eq!(outstanding.accepted(4, 9), [3]);
        assert!(outstanding.accepted(4, 1).is_empty());
        assert_eq!(outstanding.accepted(5, 1), [5]);
    }

    #[test]
    fn answers_to_what_was_never_sent_settle_nothing() {
        let mut outstanding = five();
        assert!(outstanding.accepted(6, 6).is_empty());
        assert!(outstanding.accepted(3, 0).is_empty());
        assert!(!outstanding.rejected(6));
        assert_eq!(outstanding.accepted(5, u32::MAX).len(), 5);
    }

    #[test]
    fn there_is_a_bound() {
        let mut outstanding = Outstanding::default();
        assert!((0..MAX_OUTSTANDING).all(|_| outstanding.next().is_some()));
        assert_eq!(outstanding.next(), None);
        outstanding.rejected(1);
        assert!(outstanding.next().is_some());
    }
}
