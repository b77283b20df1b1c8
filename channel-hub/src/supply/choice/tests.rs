//! Which provider is used, and when another one is.

use super::*;

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

fn at(height: u32, since: Instant) -> Option<Candidate> {
    Some(Candidate { standing: Standing::Known, height, since })
}

#[test]
fn the_first_that_works_is_used() {
    let start = Instant::now();
    let mut choice = Choice::default();
    assert!(!choice.decide(start, &[None, None]));
    assert!(choice.decide(start, &[None, at(5, start)]));
    assert_eq!(choice.in_use(), Some(1));
}

#[test]
fn the_first_is_returned_to_once_it_is_steady() {
    let start = Instant::now();
    let mut choice = Choice::default();
    choice.decide(start, &[None, at(5, start)]);
    let both = [at(5, after(start, 60)), at(5, start)];
    assert!(!choice.decide(after(start, 61), &both));
    assert_eq!(choice.poll_timeout(after(start, 61), &both), Some(after(start, 70)));
    assert!(choice.decide(after(start, 70), &both));
    assert_eq!(choice.in_use(), Some(0));
}

#[test]
fn a_provider_that_stays_behind_is_left_and_one_that_is_a_moment_late_is_not() {
    let start = Instant::now();
    let mut choice = Choice::default();
    choice.decide(start, &[at(5, start), at(5, start)]);
    let behind = [at(5, start), at(6, start)];
    assert!(!choice.decide(after(start, 100), &behind));
    assert_eq!(choice.in_use(), Some(0));
    assert!(choice.decide(after(start, 103), &behind));
    assert_eq!(choice.in_use(), Some(1));
}

#[test]
fn when_the_one_in_use_goes_the_next_level_one_takes_over_at_once() {
    let start = Instant::now();
    let mut choice = Choice::default();
    choice.decide(start, &[at(5, start), at(4, start), at(5, start)]);
    assert!(choice.decide(after(start, 50), &[None, at(4, start), at(5, start)]));
    assert_eq!(choice.in_use(), Some(2));
}

#[test]
fn miners_are_not_taken_back_to_an_older_block_unless_nobody_else_is_left() {
    let start = Instant::now();
    let mut choice = Choice::default();
    choice.decide(start, &[at(5, start), at(4, start)]);
    let left = [None, at(4, start)];
    assert!(!choice.decide(after(start, 1), &left));
    assert_eq!(choice.in_use(), None);
    assert!(choice.decide(after(start, 3), &left));
    assert_eq!(choice.in_use(), Some(1));
}

#[test]
fn a_provider_that_comes_back_is_a_change_even_if_it_is_the_same() {
    let start = Instant::now();
    let mut choice = Choice::default();
    choice.decide(start, &[at(5, start)]);
    choice.decide(after(start, 1), &[None]);
    assert!(choice.decide(after(start, 2), &[at(5, after(start, 2))]));
}

fn standing(standing: Standing, height: u32, since: Instant) -> Option<Candidate> {
    Some(Candidate { standing, height, since })
}

#[test]
fn a_provider_on_another_network_does_not_win_by_its_height() {
    let start = Instant::now();
    let mut choice = Choice::default();
    // At first nobody knows: the higher one is believed.
    let unjudged = |height| standing(Standing::Unjudged, height, start);
    choice.decide(start, &[unjudged(900_000), unjudged(5)]);
    assert_eq!(choice.in_use(), Some(0));
    // The node knows the other one's block: that one is used at once.
    let known = standing(Standing::Known, 5, start);
    assert!(choice.decide(after(start, 1), &[unjudged(900_000), known]));
    assert_eq!(choice.in_use(), Some(1));
    // And stays in use, as if the first had never been.
    let foreign = standing(Standing::Foreign, 900_001, start);
    assert!(!choice.decide(after(start, 60), &[foreign, known]));
    assert_eq!(choice.poll_timeout(after(start, 60), &[foreign, known]), None);
}

#[test]
fn where_there_is_no_other_one_that_nobody_knows_is_used() {
    let start = Instant::now();
    let mut choice = Choice::default();
    let foreign = standing(Standing::Foreign, 7, start);
    assert!(choice.decide(start, &[None, foreign]));
    assert_eq!(choice.in_use(), Some(1));
}

#[test]
fn one_that_the_node_left_behind_gives_way_at_once_and_stays_where_there_is_no_other() {
    let start = Instant::now();
    let mut choice = Choice::default();
    choice.decide(start, &[at(5, start), None]);
    let behind = standing(Standing::Behind, 5, start);
    assert!(!choice.decide(after(start, 60), &[behind, None]));
    assert_eq!(choice.in_use(), Some(0));
    let unjudged = standing(Standing::Unjudged, 6, after(start, 61));
    assert!(choice.decide(after(start, 61), &[behind, unjudged]));
    assert_eq!(choice.in_use(), Some(1));
}
