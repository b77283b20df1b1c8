//! Which templates' transactions a provider is asked for: few at a time, the newest first. Pure.
//!
//! Over a slow line templates may come faster than their transactions, and a provider bounds the requests that wait with it.
//! What is left of older templates is asked for when nothing newer is.

use std::time::{Duration, Instant};

use mining::TemplateId;

/// Most requests without an answer; the newest waits behind so many at most.
const MAX_ASKED: usize = 4;
/// One that a provider has left without an answer for so long, and answered nothing else meanwhile, gets none: it keeps no
/// place. Answers come in order, so over a slow line each of them brings the others nearer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most templates whose turn has not come.
const MAX_WAITING: usize = 16;

/// What one connection to a provider is asked.
#[derive(Debug, Default)]
pub struct Fetches {
    asked: Vec<(TemplateId, Instant)>,
    /// The newest last.
    waiting: Vec<TemplateId>,
    /// When the last answer came.
    answered: Option<Instant>,
}

impl Fetches {
    /// This template's transactions are wanted. If too many wait, the one that is given up for it.
    pub fn want(&mut self, template: TemplateId) -> Option<TemplateId> {
        self.waiting.push(template);
        (self.waiting.len() > MAX_WAITING).then(|| self.waiting.remove(0))
    }

    /// This template's transactions are wanted before all others, also if it was given up. If too many wait, the one that is
    /// given up for it.
    pub fn urge(&mut self, template: TemplateId) -> Option<TemplateId> {
        if self.asked.iter().any(|(asked, _)| *asked == template) {
            return None;
        }
        self.waiting.retain(|waiting| *waiting != template);
        self.want(template)
    }

    /// The next one to ask for, if it is time to.
    pub fn next(&mut self, now: Instant) -> Option<TemplateId> {
        let answered = self.answered;
        self.asked.retain(|(_, at)| now < answered.map_or(*at, |answered| answered.max(*at)) + PATIENCE);
        if self.asked.len() >= MAX_ASKED {
            return None;
        }
        let template = self.waiting.pop()?;
        self.asked.push((template, now));
        Some(template)
    }

    /// This one was answered `now`, be it that nobody waits for it any more.
    pub fn over(&mut self, template: TemplateId, now: Instant) {
        self.answered = Some(now);
        self.unsent(template);
    }

    /// This one could not be asked for.
    pub fn unsent(&mut self, template: TemplateId) {
        self.asked.retain(|(asked, _)| *asked != template);
    }

    /// The connection is gone, and with it these requests.
    pub fn end(&mut self) -> impl Iterator<Item = TemplateId> + use<> {
        let Self { asked, waiting, .. } = std::mem::take(self);
        asked.into_iter().map(|(template, _)| template).chain(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: u64) -> TemplateId {
        TemplateId { provider: 3, id }
    }

    fn all(fetches: &mut Fetches, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| fetches.next(now)).map(|template| template.id).collect()
    }

    #[test]
    fn few_are_asked_for_at_a_time_and_then_the_newest_first() {
        let (mut fetches, now) = (Fetches::default(), Instant::now());
        let mut asked = Vec::new();
        for n in 1..=20 {
            assert_eq!(fetches.want(id(n)), None);
            asked.extend(all(&mut fetches, now));
        }
        assert_eq!(asked, [1, 2, 3, 4]);
        fetches.over(id(2), now);
        assert_eq!(all(&mut fetches, now), [20]);
        fetches.over(id(2), now);
        assert_eq!(all(&mut fetches, now), [0; 0], "an answer that nobody waits for makes no room");
        fetches.over(id(1), now);
        assert_eq!(all(&mut fetches, now), [19]);
        let late = now + PATIENCE;
        assert_eq!(all(&mut fetches, late), [18, 17, 16, 15], "those before get no answer any more");
        assert_eq!(
            fetches.end().map(|template| template.id).collect::<Vec<_>>()[..6],
            [18, 17, 16, 15, 5, 6]
        );
        assert_eq!(all(&mut fetches, late), [0; 0]);
    }

    #[test]
    fn a_provider_that_answers_slowly_is_asked_for_no_more_than_it_answers() {
        let (mut fetches, start) = (Fetches::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!((1..=12).all(|n| fetches.want(id(n)).is_none()));
        assert_eq!(all(&mut fetches, start), [12, 11, 10, 9]);
        fetches.over(id(12), after(100));
        assert_eq!(all(&mut fetches, after(121)), [8]);
        fetches.over(id(99), after(200));
        assert_eq!(all(&mut fetches, after(319)), [0; 0], "it answers, though what nobody waits for");
        assert_eq!(all(&mut fetches, after(320)), [7, 6, 5, 4], "it does not answer any more");
    }

    #[test]
    fn one_that_is_urged_comes_next_also_if_it_was_given_up() {
        let (mut fetches, now) = (Fetches::default(), Instant::now());
        assert_eq!((1..=17).filter_map(|n| fetches.want(id(n))).collect::<Vec<_>>(), [id(1)]);
        assert_eq!(fetches.urge(id(5)), None);
        assert_eq!(fetches.urge(id(1)), Some(id(2)));
        assert_eq!(all(&mut fetches, now), [1, 5, 17, 16]);
        assert_eq!(fetches.urge(id(1)), None, "it was asked for");
        fetches.over(id(17), now);
        assert_eq!(all(&mut fetches, now), [15]);
    }

    #[test]
    fn of_those_that_wait_the_oldest_are_given_up() {
        let mut fetches = Fetches::default();
        let given_up: Vec<_> = (1..=20).filter_map(|n| fetches.want(id(n))).collect();
        assert_eq!(given_up, [1, 2, 3, 4].map(id));
    }
}
