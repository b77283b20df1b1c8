//! Shares of one connection or channel that have no answer yet.

use std::collections::VecDeque;
use std::time::Instant;

/// In the order they were sent, which is the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Flight {
    sent: VecDeque<(u32, Instant)>,
    /// Found, but not written yet: what the search for those after them takes is nobody's answer time.
    queued: Vec<u32>,
}

impl Flight {
    /// Found; its time begins when it is [written](Self::written).
    pub(super) fn queued(&mut self, number: u32) {
        self.queued.push(number);
    }

    /// All that are queued are written now.
    pub(super) fn written(&mut self, now: Instant) {
        self.sent.extend(self.queued.drain(..).map(|number| (number, now)));
    }

    pub(super) fn len(&self) -> usize {
        self.sent.len() + self.queued.len()
    }

    /// When each was written that has no answer.
    pub(super) fn times(&self) -> impl Iterator<Item = Instant> {
        self.sent.iter().map(|(_, at)| *at)
    }

    /// The answer to exactly this one: when it was sent.
    pub(super) fn answered(&mut self, number: u32) -> Option<Instant> {
        let index = self.sent.binary_search_by_key(&number, |(sent, _)| *sent).ok()?;
        self.sent.remove(index).map(|(_, at)| at)
    }

    /// The next of those up to `last` that one answer settles; call it as often as the answer says.
    pub(super) fn next_up_to(&mut self, last: u32) -> Option<Instant> {
        self.sent.pop_front_if(|(number, _)| *number <= last).map(|(_, at)| at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_answer_settles_as_many_as_it_says_and_never_later_ones() {
        let mut flight = Flight::default();
        (1..=4).for_each(|number| flight.queued(number));
        flight.written(Instant::now());
        assert!(flight.answered(2).is_some());
        assert!(flight.answered(2).is_none());
        assert!(flight.next_up_to(3).is_some());
        assert!(flight.next_up_to(3).is_some());
        assert!(flight.next_up_to(3).is_none());
        assert_eq!(flight.len(), 1);
    }

    #[test]
    fn the_time_of_a_share_begins_when_it_is_written_and_not_when_it_was_found() {
        let (mut flight, first) = (Flight::default(), Instant::now());
        let second = first + Duration::from_secs(1);
        flight.queued(1);
        assert_eq!((flight.len(), flight.times().count()), (1, 0));
        flight.written(first);
        (2..=3).for_each(|number| flight.queued(number));
        flight.written(second);
        assert_eq!(flight.times().collect::<Vec<_>>(), [first, second, second]);
        assert_eq!((flight.answered(3), flight.len()), (Some(second), 2));
    }
}
