//! Difficulties that cgminer has been sent and that do not hold for it yet.
//!
//! It takes one for the next job. What comes meanwhile is for the job after that one, the newest in place of those
//! before it (`parse_diff` and `parse_notify` in its util.c). So after two changes within a job the next job has the first.

use crate::sv1::Difficulty;

/// At most two; none when the last that it was sent holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Stack {
    next: Option<Difficulty>,
    after: Option<Difficulty>,
}

impl Stack {
    /// The miner was sent this difficulty.
    pub(super) fn push(&mut self, difficulty: Difficulty) {
        let place = if self.next.is_none() { &mut self.next } else { &mut self.after };
        *place = Some(difficulty);
    }

    /// The miner is sent a job: the difficulty that holds for it from here on, if it is another than before.
    pub(super) fn next_job(&mut self) -> Option<Difficulty> {
        std::mem::replace(&mut self.next, self.after.take())
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Difficulty> {
        self.next.into_iter().chain(self.after)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn of_many_difficulties_within_a_job_the_first_holds_for_the_next_job_and_the_last_for_the_one_after() {
        let difficulty = |value| Difficulty::new(value).unwrap();
        let mut stack = Stack::default();
        assert_eq!(stack.next_job(), None);
        for value in [1.0, 2.0, 3.0] {
            stack.push(difficulty(value));
        }
        assert_eq!(stack.iter().collect::<Vec<_>>(), [difficulty(1.0), difficulty(3.0)]);
        assert_eq!(stack.next_job(), Some(difficulty(1.0)));
        stack.push(difficulty(4.0));
        assert_eq!(stack.next_job(), Some(difficulty(3.0)));
        assert_eq!(stack.next_job(), Some(difficulty(4.0)));
        assert_eq!(stack.next_job(), None);
    }
}
