//! Shares of one connection or channel that have no answer yet.

use std::collections::VecDeque;
use std::time::Instant;

/// In the order they were sent, which is the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Flight(VecDeque<(u32, Instant)>);

impl Flight {
    pub(super) fn sent(&mut self, number: u32, now: Instant) {
        self.0.push_back((number, now));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The answer to exactly this one: when it was sent.
    pub(super) fn answered(&mut self, number: u32) -> Option<Instant> {
        let index = self.0.binary_search_by_key(&number, |(sent, _)| *sent).ok()?;
        self.0.remove(index).map(|(_, sent)| sent)
    }

    /// The next of those up to `last` that one answer settles; call it as often as the answer says.
    pub(super) fn next_up_to(&mut self, last: u32) -> Option<Instant> {
        self.0.pop_front_if(|(number, _)| *number <= last).map(|(_, sent)| sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_settles_as_many_as_it_says_and_never_later_ones() {
        let mut flight = Flight::default();
        (1..=4).for_each(|number| flight.sent(number, Instant::now()));
        assert!(flight.answered(2).is_some());
        assert!(flight.answered(2).is_none());
        assert!(flight.next_up_to(3).is_some());
        assert!(flight.next_up_to(3).is_some());
        assert!(flight.next_up_to(3).is_none());
        assert_eq!(flight.len(), 1);
    }
}
