//! Virtual time: what happens next.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Events in the order of their times; those of one moment in the order in which they were planned.
#[derive(Debug)]
pub struct Agenda<E> {
    events: BinaryHeap<Planned<E>>,
    planned: u64,
    now: Duration,
}

#[derive(Debug)]
struct Planned<E> {
    at: Duration,
    number: u64,
    event: E,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { events: BinaryHeap::new(), planned: 0, now: Duration::ZERO }
    }
}

impl<E> Agenda<E> {
    /// Since the run began.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Plans an event; one that would lie in the past comes next.
    pub fn plan(&mut self, at: Duration, event: E) {
        self.planned += 1;
        self.events.push(Planned { at: at.max(self.now), number: self.planned, event });
    }

    /// Plans an event some seconds from now.
    pub fn plan_in(&mut self, seconds: f64, event: E) {
        self.plan(self.now + Duration::from_secs_f64(seconds), event);
    }

    /// Goes on to the next event.
    pub fn advance(&mut self) -> Option<E> {
        let Planned { at, event, .. } = self.events.pop()?;
        self.now = at;
        Some(event)
    }
}

impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives the greatest first.
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Planned<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_then_in_the_order_in_which_they_were_planned() {
        let mut agenda = Agenda::default();
        agenda.plan_in(2.0, "third");
        agenda.plan_in(1.0, "first");
        agenda.plan_in(1.0, "second");
        assert_eq!(agenda.advance(), Some("first"));
        agenda.plan(Duration::ZERO, "late, so at once");
        assert_eq!([agenda.advance(), agenda.advance()], [Some("second"), Some("late, so at once")]);
        assert_eq!(agenda.now(), Duration::from_secs(1));
        assert_eq!([agenda.advance(), agenda.advance()], [Some("third"), None]);
    }
}
