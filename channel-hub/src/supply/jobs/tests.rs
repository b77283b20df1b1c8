//! What sessions get of what providers say.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::supply::choice::STEADY;
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, BlockHash, CompactTarget, Network};
use distribution::{BlockTemplate, Client, Coinbase, Constraints, Parts, Retention, Server};

const ADDRESS: &str = "tb1qcpmga8eqxzwz4nmnew6v6xkapggs3sqzt6w66u";

/// A template provider without sockets: both ends of its protocol.
struct Pair {
    server: Server,
    client: Client,
    next_id: u64,
}

impl Pair {
    fn new() -> Self {
        let mut pair =
            Self { server: Server::new(Retention::default(), None), client: Client::new(), next_id: 0 };
        pair.client.constraints(Constraints::default()).unwrap();
        let mut frame = pair.client.poll_send().unwrap().received();
        pair.server.handle(Instant::now(), &mut frame).unwrap();
        pair
    }

    /// What the hub hears when a template for `height` is published.
    fn publish(&mut self, height: u32) -> Vec<Event> {
        self.next_id += 1 << 16;
        let template = Arc::new(BlockTemplate::new(self.next_id, parts(height)));
        self.server.publish(Instant::now(), template).unwrap();
        while let Some(frame) = self.server.poll_send().unwrap() {
            self.client.handle(&mut frame.received()).unwrap();
        }
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }
}

fn parts(height: u32) -> Parts {
    Parts {
        version: bitcoin::block::Version::TWO,
        prev_hash: BlockHash::from_byte_array([u8::try_from(height).unwrap(); 32]),
        height,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        time: 1_700_000_000,
        coinbase: Coinbase::at(height, Amount::from_sat(5_000_000_000), None),
        transactions: vec![].into(),
        weight_limit: 4_000_000,
        sigop_limit: 80_000,
    }
}

struct World {
    jobs: Jobs,
    pairs: [Pair; 2],
    now: Instant,
}

impl World {
    fn new() -> Self {
        let reward = Reward::parse(ADDRESS, Network::Signet).unwrap();
        let mut jobs = Jobs::new(2, reward, CoinbaseTag::default());
        jobs.up(0, 0);
        jobs.up(1, 1);
        Self { jobs, pairs: [Pair::new(), Pair::new()], now: Instant::now() }
    }

    /// What sessions get when this provider publishes a template: `J<height>`, `F<height>` for a future job,
    /// `T<height>` for a tip.
    fn publish(&mut self, provider: usize, height: u32) -> Vec<String> {
        let events = self.pairs[provider].publish(height);
        let mut seen = Vec::new();
        for event in events {
            seen.extend(shown(self.jobs.handle(self.now, provider, &event).unwrap()));
        }
        seen
    }
}

fn shown(outcomes: Vec<Outcome>) -> Vec<String> {
    let shown = |outcome| match outcome {
        Outcome::Publish(WorkUpdate::Job(job)) if job.tip().is_none() => Some(format!("F{}", job.height())),
        Outcome::Publish(WorkUpdate::Job(job)) => Some(format!("J{}", job.height())),
        Outcome::Publish(WorkUpdate::Tip { tip, .. }) => Some(format!("T{}", tip.prev_hash()[0])),
        Outcome::Switched(provider) => Some(format!("use {provider}")),
        Outcome::Redial(provider) => Some(format!("redial {provider}")),
        Outcome::Fetch(_) => None,
    };
    outcomes.into_iter().filter_map(shown).collect()
}

#[test]
fn the_first_template_is_published_with_its_tip_and_the_next_one_under_it_as_a_job() {
    let mut world = World::new();
    assert_eq!(world.publish(0, 5), ["use 0", "F5", "T5"]);
    assert_eq!(world.publish(0, 5), ["J5"]);
    assert_eq!(world.publish(0, 6), ["F6", "T6"]);
}

#[test]
fn what_a_provider_says_that_is_not_in_use_reaches_no_session() {
    let mut world = World::new();
    world.publish(0, 5);
    assert!(world.publish(1, 5).is_empty());
    assert!(world.publish(1, 5).is_empty());
    assert_eq!(world.jobs.height(1), Some(5));
}

#[test]
fn the_next_provider_takes_over_with_what_it_sent_before() {
    let mut world = World::new();
    world.publish(0, 5);
    world.publish(1, 5);
    world.publish(1, 5);
    let outcomes = world.jobs.down(world.now, 0);
    assert!(outcomes.iter().any(|outcome| matches!(outcome, Outcome::Fetch(_))));
    assert_eq!(shown(outcomes), ["use 1", "J5"]);
    assert_eq!(world.publish(1, 6), ["F6", "T6"]);
}

#[test]
fn a_job_that_is_taken_over_begins_at_a_later_time_under_an_id_of_its_own() {
    let mut world = World::new();
    world.publish(0, 5);
    world.publish(1, 5);
    world.now += std::time::Duration::from_secs(7);
    let outcomes = world.jobs.down(world.now, 0);
    let job = outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Publish(WorkUpdate::Job(job)) => Some(Arc::clone(job)),
        _ => None,
    });
    let job = job.unwrap();
    assert_eq!(job.id(), 3);
    assert_eq!(job.tip().unwrap().min_ntime(), 1_700_000_008, "the seventh second may be searched already");
}

#[test]
fn the_first_provider_is_returned_to_when_it_has_been_back_for_a_while() {
    let mut world = World::new();
    world.publish(0, 5);
    world.publish(1, 5);
    world.jobs.down(world.now, 0);
    world.pairs[0] = Pair::new();
    world.jobs.up(0, 16);
    assert!(world.publish(0, 5).is_empty());
    world.now = world.jobs.poll_timeout(world.now).unwrap();
    while world.jobs.in_use() == Some(1) {
        world.now += STEADY;
        let outcomes = world.jobs.handle_timeout(world.now);
        if !outcomes.is_empty() {
            assert_eq!(shown(outcomes), ["use 0", "J5"]);
        }
    }
    assert_eq!(world.jobs.in_use(), Some(0));
}

#[test]
fn job_ids_are_never_zero_and_never_a_sessions_own() {
    let mut world = World::new();
    world.publish(0, 5);
    world.jobs.next_id = FIRST_SESSION_JOB_ID - 1;
    assert_eq!(world.publish(0, 5), ["J5"]);
    assert_eq!(world.jobs.next_id, 1);
    assert_eq!(world.publish(0, 5), ["J5"]);
}

/// What the provider says of a template for `height`, the template spoilt so that it makes no job.
fn spoilt(world: &mut World, provider: usize, height: u32) -> Vec<Event> {
    let mut events = world.pairs[provider].publish(height);
    for event in &mut events {
        if let Event::Template(template) = event {
            template.coinbase_prefix = vec![0; 200].try_into().unwrap();
        }
    }
    events
}

#[test]
fn a_block_whose_template_makes_no_job_ends_the_use_of_its_provider_until_another_template_does() {
    let mut world = World::new();
    world.publish(0, 5);
    world.publish(1, 5);
    let events = spoilt(&mut world, 0, 6);
    assert!(world.jobs.handle(world.now, 0, &events[0]).is_err());
    assert_eq!(shown(world.jobs.handle(world.now, 0, &events[1]).unwrap()), ["use 1", "J5"]);
    // A better template on the same block makes a job: the provider is back.
    assert!(world.publish(0, 6).is_empty());
    assert_eq!(world.jobs.height(0), Some(6));
    world.now += STEADY;
    assert_eq!(shown(world.jobs.handle_timeout(world.now)), ["use 0", "J6"]);
}

#[test]
fn with_one_provider_the_old_job_stays_until_a_template_makes_one() {
    let mut world = World::new();
    world.publish(0, 5);
    let events = spoilt(&mut world, 0, 6);
    assert!(world.jobs.handle(world.now, 0, &events[0]).is_err());
    assert!(world.jobs.handle(world.now, 0, &events[1]).unwrap().is_empty());
    assert_eq!(world.jobs.in_use(), None);
    assert_eq!(world.publish(0, 6), ["use 0", "J6"]);
}

#[test]
fn a_provider_that_the_node_knows_nothing_of_gives_way_and_one_that_it_knew_once_never_does() {
    let mut world = World::new();
    world.publish(0, 200);
    world.publish(1, 5);
    assert_eq!(world.jobs.in_use(), Some(0));
    let outcomes = world.jobs.judged(world.now, 1, Standing::Known);
    assert_eq!(shown(outcomes), ["use 1", "J5"]);
    assert!(world.jobs.judged(world.now, 0, Standing::Foreign).is_empty());
    assert!(world.jobs.judged(world.now, 1, Standing::Foreign).is_empty());
    assert_eq!(world.jobs.standing(1), Standing::Known);
}

impl World {
    /// What follows when the node's height is heard of after so many seconds.
    fn node_at(&mut self, seconds: u64, height: u32) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        shown(self.jobs.node_at(self.now, height))
    }
}

#[test]
fn a_provider_that_the_node_left_behind_is_connected_to_anew_and_its_job_stays() {
    let mut world = World::new();
    world.publish(0, 5);
    world.jobs.judged(world.now, 0, Standing::Known);
    assert!(world.node_at(100, 4).is_empty());
    assert!(world.node_at(2, 5).is_empty());
    assert!(world.node_at(9, 6).is_empty());
    assert_eq!(world.jobs.behind(world.now, 0), None);
    assert_eq!(world.node_at(1, 6), ["redial 0"]);
    assert_eq!(world.jobs.behind(world.now, 0), Some(Behind { height: 5, node: 6, seconds: 10 }));
    assert_eq!(world.jobs.in_use(), Some(0));
    assert!(world.node_at(REDIAL.as_secs() - 1, 6).is_empty(), "once is enough");
    assert_eq!(world.node_at(1, 6), ["redial 0"]);
    assert_eq!(world.publish(0, 7), ["F7", "T7"]);
    assert_eq!(world.jobs.behind(world.now, 0), None);
}

#[test]
fn one_that_comes_up_at_an_older_block_takes_no_miners_from_one_that_is_behind_before_it_is_judged() {
    let mut world = World::new();
    world.publish(0, 5);
    world.jobs.judged(world.now, 0, Standing::Known);
    world.node_at(0, 6);
    assert_eq!(world.node_at(10, 6), ["redial 0"]);
    assert!(world.publish(1, 4).is_empty());
    assert_eq!(world.jobs.behind(world.now, 1), None, "it may be of another network");
    assert_eq!(world.jobs.in_use(), Some(0));
    assert_eq!(world.publish(1, 7), ["use 1", "J7"]);
}

#[test]
fn one_that_catches_up_stays_behind_until_it_has_and_is_connected_to_anew_every_five_minutes() {
    let mut world = World::new();
    world.publish(0, 5);
    world.jobs.judged(world.now, 0, Standing::Known);
    world.node_at(0, 6);
    assert_eq!(world.node_at(10, 7), ["redial 0"]);
    world.publish(0, 6);
    assert!(world.node_at(1, 7).is_empty(), "it was connected to anew just now");
    assert!(world.jobs.behind(world.now, 0).is_some(), "the node has long had 6");
    world.jobs.down(world.now, 0);
    world.pairs[0] = Pair::new();
    world.jobs.up(0, 16);
    world.publish(0, 6);
    assert!(world.node_at(1, 7).is_empty());
    assert!(world.jobs.behind(world.now, 0).is_some(), "nor does a new connection give it time");
    world.publish(0, 8);
    assert_eq!(world.jobs.behind(world.now, 0), None);
}

#[test]
fn a_node_that_goes_back_a_block_has_not_reached_what_it_left() {
    let mut world = World::new();
    world.publish(0, 6);
    world.jobs.judged(world.now, 0, Standing::Known);
    world.node_at(0, 6);
    world.node_at(5, 5);
    assert!(world.node_at(60, 5).is_empty());
    world.node_at(1, 6);
    assert!(world.node_at(9, 6).is_empty());
    assert_eq!(world.node_at(1, 6), ["redial 0"]);
}

#[test]
fn a_provider_of_which_the_node_knows_nothing_is_not_behind() {
    let mut world = World::new();
    world.publish(0, 5);
    world.node_at(0, 900);
    assert!(world.node_at(60, 900).is_empty());
    assert_eq!(world.jobs.behind(world.now, 0), None);
}
