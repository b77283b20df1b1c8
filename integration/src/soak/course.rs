//! What happens when: restarts of everything in the first half, of the node and the template provider after that, and
//! nothing in the last quarter. So hub and proxy each have a life of half the time, and every program one of a quarter: of
//! [`LEAST`] that is long enough to judge it.

use std::time::Duration;

/// What is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// bitcoind.
    Node,
    /// sluice-tp.
    TemplateProvider,
    /// sluice-hub.
    Hub,
    /// sluice-proxy.
    Proxy,
}

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// SIGKILL, and started again.
    Kill(Part),
    /// SIGTERM, and started again.
    Terminate(Part),
    /// A successor takes over while it runs.
    Replace(Part),
}

const FIRST_HALF: [Event; 10] = [
    Event::Kill(Part::Hub),
    Event::Terminate(Part::Proxy),
    Event::Kill(Part::TemplateProvider),
    Event::Replace(Part::Hub),
    Event::Terminate(Part::Node),
    Event::Kill(Part::Proxy),
    Event::Terminate(Part::Hub),
    Event::Replace(Part::Proxy),
    Event::Kill(Part::Node),
    Event::Terminate(Part::TemplateProvider),
];

const THIRD_QUARTER: [Event; 3] =
    [Event::Kill(Part::Node), Event::Terminate(Part::TemplateProvider), Event::Kill(Part::TemplateProvider)];

/// Longest pause between two restarts while there are any.
const PAUSE: Duration = Duration::from_secs(60);

/// Shortest course in which every program has a life that says something, minutes.
pub const LEAST: u64 = 5;

/// When each event is due, counted from the beginning, in order.
pub fn course(whole: Duration) -> Vec<(Duration, Event)> {
    let half = spread(Duration::ZERO, whole / 2, &FIRST_HALF);
    let quarter = spread(whole / 2, whole / 4, &THIRD_QUARTER);
    half.into_iter().chain(quarter).collect()
}

/// All of `events` in turn, evenly, once or as often as they fit with [`PAUSE`] between them.
fn spread(from: Duration, length: Duration, events: &[Event]) -> Vec<(Duration, Event)> {
    let count = u32::try_from(events.len()).unwrap_or(1);
    let rounds = u32::try_from(length.as_secs() / (PAUSE.as_secs() * u64::from(count))).unwrap_or(1).max(1);
    let all = count * rounds;
    let turns = events.iter().cycle().take(all as usize);
    turns.zip(0..all).map(|(event, place)| (from + length * (2 * place + 1) / (2 * all), *event)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::lives::LONG;
    use super::*;

    fn part(event: Event) -> Part {
        let (Event::Kill(part) | Event::Terminate(part) | Event::Replace(part)) = event;
        part
    }

    #[test]
    fn every_program_is_left_alone_for_long_enough_to_judge_it() {
        for minutes in [LEAST, 10, 600] {
            let whole = Duration::from_secs(60 * minutes);
            for program in [Part::Node, Part::TemplateProvider, Part::Hub, Part::Proxy] {
                let last = course(whole).into_iter().rfind(|(_, event)| part(*event) == program);
                let life = whole - last.map_or(whole, |(due, _)| due);
                // Beyond that, what a restart takes.
                assert!(life >= LONG + Duration::from_secs(20), "{program:?} {life:?} of {minutes} minutes");
            }
        }
    }

    #[test]
    fn every_program_is_restarted_in_each_way_that_it_has_and_left_alone_at_the_end() {
        for minutes in [LEAST, 10, 600] {
            let whole = Duration::from_secs(60 * minutes);
            let course = course(whole);
            assert!(course.is_sorted_by_key(|(due, _)| *due));
            for event in FIRST_HALF.into_iter().chain(THIRD_QUARTER) {
                assert!(course.iter().any(|(_, of_course)| *of_course == event), "{event:?}");
            }
            assert!(course.iter().all(|(due, _)| *due < whole * 3 / 4));
            let first_half = |(due, event): &(_, Event)| {
                *due < whole / 2 || !matches!(part(*event), Part::Hub | Part::Proxy)
            };
            assert!(course.iter().all(first_half));
        }
    }
}
