//! When a peer that has many channels may open its next one, or one that changes them may change the next: to open one costs
//! as much as many shares, to update one as much as a few, and whoever does so by thousands must not keep those waiting who
//! hand in shares.
//!
//! All peers that open more than a few, or update any, share one part of the time of half of the machine's cores,
//! [neighbourhood] by neighbourhood. So a flood from one place costs a proxy elsewhere that opens one more channel next to
//! nothing, and floods from many places together take no more of the others' time. Farms that all come back at once, as after a
//! restart, are such a flood, too: with more cores they have their channels sooner.
//!
//! [neighbourhood]: crate::neighbourhood

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZero;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::address::neighbourhood;

/// Channels that a connection opens without a rest, closed ones included.
const FREE: u64 = 16;
/// What an update of a channel takes, its answer included.
const UPDATE: Duration = Duration::from_micros(10);
/// All these peers take one part in so many of the time of half of the cores.
const PARTS: u32 = 16;
/// An opening that took longer, because its thread had to wait, counts as this.
const LONGEST: Duration = Duration::from_millis(2);
/// Nobody rests longer, since its shares wait meanwhile. Where more than a thousand places, or connections of one place, rest at
/// a time, this comes before their part, and they take more of it.
const LONGEST_REST: Duration = Duration::from_secs(2);

/// What a connection did with its channels since it was last looked at.
#[derive(Clone, Debug)]
pub struct Turn {
    /// How long that took.
    pub took: Duration,
    /// How many channels it had opened before, closed ones included, and how many now.
    pub opened: Range<u64>,
    /// How often it updated one. A translator does so for each miner that comes or goes.
    pub updates: u32,
}

impl Turn {
    /// Whether it had all the updates that it may have: to be [named](Openings::FAULT).
    pub fn is_fault(&self) -> bool {
        self.updates >= Openings::UPDATES_AT_ONCE
    }
}

/// When each neighbourhood may open the next one; one for all sessions of a listener.
#[derive(Debug)]
pub struct Openings {
    /// Until when each rests.
    resting: Mutex<HashMap<IpAddr, Instant>>,
    /// Half of the machine's cores, at least one.
    cores: u32,
}

impl Default for Openings {
    fn default() -> Self {
        Self::on(std::thread::available_parallelism().map_or(1, NonZero::get))
    }
}

impl Openings {
    /// Frames that a peer's turn may have behind the first, before what they brought about is sent.
    pub const FRAMES_AT_ONCE: usize = 512;
    /// Updates of channels that a peer's turn may have.
    pub const UPDATES_AT_ONCE: u32 = 32;
    /// A peer's fault, in log and metrics, whose turn had as many.
    pub const FAULT: &str = "too-many-updates";
    /// Said of it.
    pub const SAID: &str = "updates its channels too often: read more slowly";

    /// On a machine with so many cores.
    fn on(cores: usize) -> Self {
        let cores = u32::try_from(cores / 2).unwrap_or(u32::MAX).max(1);
        Self { resting: Mutex::default(), cores }
    }

    /// A peer at this address has had this turn. Until when it should rest: not be read, that is; at most two seconds.
    pub fn rest_after(&self, now: Instant, turn: &Turn, address: IpAddr) -> Option<Instant> {
        let has_opened = !turn.opened.is_empty();
        let opened = has_opened.then(|| self.rest(now, turn.took, turn.opened.end, address)).flatten();
        opened.max(self.rest_for_updates(now, turn.updates, address))
    }

    /// It has just opened a channel, its `opened`th, and it took so long.
    fn rest(&self, now: Instant, took: Duration, opened: u64, address: IpAddr) -> Option<Instant> {
        (opened > FREE).then(|| self.rest_for(now, took.min(LONGEST), address))
    }

    /// It has just updated its channels so often.
    fn rest_for_updates(&self, now: Instant, updates: u32, address: IpAddr) -> Option<Instant> {
        (updates > 0).then(|| self.rest_for(now, UPDATE * updates, address))
    }

    fn rest_for(&self, now: Instant, took: Duration, address: IpAddr) -> Instant {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.retain(|_, rested| *rested > now);
        let neighbourhood = neighbourhood(address);
        let rested = *resting.entry(neighbourhood).or_insert(now);
        // Those that rest at the same time have their part together.
        let places = u32::try_from(resting.len()).unwrap_or(u32::MAX);
        let rest = took.saturating_mul(PARTS.saturating_mul(places)) / self.cores;
        let rested = (rested + rest.min(LONGEST_REST)).min(now + LONGEST_REST);
        resting.insert(neighbourhood, rested);
        rested
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const TOOK: Duration = Duration::from_micros(100);
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn peers_with_few_channels_do_not_rest() {
        let (openings, now) = (Openings::on(1), Instant::now());
        assert!((1..=FREE).all(|opened| openings.rest(now, TOOK, opened, HERE).is_none()));
        assert_eq!(openings.rest(now, TOOK, FREE + 1, HERE), Some(now + TOOK * PARTS));
    }

    #[test]
    fn those_of_one_place_share_one_part_of_the_time_whatever_their_number() {
        let (openings, now) = (Openings::on(1), Instant::now());
        let last = (0..20).map(|_| openings.rest(now, TOOK, 1000, HERE).unwrap()).last().unwrap();
        assert_eq!(last, now + TOOK * PARTS * 20);
        let later = now + Duration::from_secs(1);
        assert_eq!(
            openings.rest(later, TOOK, 1000, HERE),
            Some(later + TOOK * PARTS),
            "no debt, and nothing saved up"
        );
        assert_eq!(
            openings.rest(later, Duration::from_secs(9), 1000, HERE),
            Some(later + (TOOK + LONGEST) * PARTS)
        );
    }

    #[test]
    fn a_proxy_elsewhere_that_opens_one_more_channel_rests_for_that_one_and_nobody_for_longer_than_two_seconds()
     {
        let (openings, now) = (Openings::on(1), Instant::now());
        let longest = (0..5_000).filter_map(|_| openings.rest(now, LONGEST, 1000, HERE)).max();
        assert_eq!(longest, Some(now + LONGEST_REST));
        assert_eq!(openings.rest(now, TOOK, FREE + 1, THERE), Some(now + TOOK * PARTS * 2));
    }

    #[test]
    fn however_many_places_they_come_from_all_together_take_one_part_of_the_time() {
        let start = Instant::now();
        let (openings, end) = (Openings::on(1), start + Duration::from_secs(10));
        let mut next: Vec<(Instant, u32)> = (0..300).map(|place| (start, place)).collect();
        let mut taken = Duration::ZERO;
        loop {
            let (now, place) = next.iter_mut().min().unwrap();
            if *now >= end {
                break;
            }
            taken += TOOK;
            *now = openings.rest(*now, TOOK, 1000, IpAddr::from(place.to_be_bytes())).unwrap();
        }
        // At first nobody knows how many come.
        let part = (end - start) / PARTS;
        assert!(taken < part * 5 / 4 && taken > part / 2, "{taken:?} of {part:?}");
    }

    #[test]
    fn of_more_cores_they_take_as_large_a_part_and_farms_that_come_back_at_once_wait_less() {
        let now = Instant::now();
        let rest = |cores| Openings::on(cores).rest(now, TOOK, FREE + 1, HERE).unwrap() - now;
        assert_eq!([1, 2, 3].map(rest), [TOOK * PARTS; 3]);
        assert_eq!([4, 8, 64].map(rest), [2, 4, 32].map(|part| TOOK * PARTS / part));
    }

    #[test]
    fn updates_take_their_part_too_and_those_of_a_whole_farm_that_comes_back_are_soon_done() {
        let (openings, now) = (Openings::on(1), Instant::now());
        assert_eq!(openings.rest_for_updates(now, 0, HERE), None);
        let farm = (0..5_000).filter_map(|_| openings.rest_for_updates(now, 1, HERE)).last();
        assert_eq!(farm, Some(now + UPDATE * PARTS * 5_000));
        assert!(farm < Some(now + Duration::from_secs(1)));
    }

    #[test]
    fn those_that_have_rested_are_forgotten() {
        let (openings, now) = (Openings::on(1), Instant::now());
        for n in 0..5_000_u32 {
            openings.rest(now + TOOK * n, TOOK, 1000, IpAddr::from(n.to_be_bytes()));
        }
        openings.rest(now + LONGEST_REST * 2, TOOK, 1000, HERE);
        assert_eq!(openings.resting.lock().unwrap().len(), 1);
    }
}
