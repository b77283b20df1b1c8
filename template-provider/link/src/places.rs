//! Places for peers: so many in all, and so many for one neighbourhood. Where a bound is reached, the oldest peer that has
//! said nothing gives way to the newcomer, so that silence keeps nobody out; nobody has to be looked for, so that a flood
//! of newcomers costs little. Where nobody is silent, one is looked for that brings nothing, now and then.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::address::neighbourhood;

/// To look through everybody costs; whoever floods full places must not make us do so each time.
pub const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long a peer keeps its place that has come as far as miners do and never brought a share, when somebody else wants it.
pub const UNPROVEN: Duration = Duration::from_secs(600);
/// How long one of a crowd does, see [`Places::take`].
pub const UNPROVEN_IN_A_CROWD: Duration = Duration::from_secs(60);
/// Most that are found at one look.
const MAX_FOUND: usize = 256;

/// How many places there are.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// In all.
    pub all: usize,
    /// For one [`neighbourhood`].
    pub from_one: usize,
    /// How long a peer keeps its place that has said nothing, when somebody else wants it.
    pub silent: Duration,
}

/// Which bound is reached, and nobody gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// In all.
    All,
    /// For this neighbourhood.
    FromOne,
}

impl Full {
    /// Name of the reason, in log and metrics, for which the newcomer is sent away.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "max-connections",
            Self::FromOne => "max-connections-per-address",
        }
    }
}

/// Name of the reason, in log and metrics, for which one gives way to a newcomer.
pub const CROWDED: &str = "crowded";

/// Whether a peer that never brought a share has had its time since then.
pub fn is_overdue(since: Instant, now: Instant, is_of_a_crowd: bool) -> bool {
    let patience = if is_of_a_crowd { UNPROVEN_IN_A_CROWD } else { UNPROVEN };
    now.saturating_duration_since(since) >= patience
}

/// Who has a place: what is kept of each, by its number, which counts up from 1.
#[derive(Debug)]
pub struct Places<T> {
    bounds: Bounds,
    last: u64,
    taken: BTreeMap<u64, Place<T>>,
    by_neighbourhood: HashMap<IpAddr, usize>,
    /// Those who have said nothing, oldest first; and by where they come from.
    silent: BTreeSet<u64>,
    silent_from: BTreeSet<(IpAddr, u64)>,
    search: Search,
}

/// For those who have spoken and bring nothing.
#[derive(Debug, Default)]
struct Search {
    looked: Option<Instant>,
    /// And among those of one neighbourhood: a crowd that knocks where its own bound is reached takes none of the others' looks.
    looked_nearby: Option<Instant>,
    /// And for newcomers of a crowd, to whom others are of no use than to strangers: though it keeps knocking, it takes none of their looks.
    looked_crowd: Option<Instant>,
    /// Found at a stranger's last look for anybody's place, to be displaced one by one, by strangers.
    found: Vec<u64>,
}

#[derive(Debug)]
struct Place<T> {
    from: IpAddr,
    since: Instant,
    peer: T,
}

impl<T> Places<T> {
    /// All free.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            last: 0,
            taken: BTreeMap::new(),
            by_neighbourhood: HashMap::new(),
            silent: BTreeSet::new(),
            silent_from: BTreeSet::new(),
            search: Search::default(),
        }
    }

    /// A place for what `peer` makes of its number, and who gave way to it. Where a bound is reached and nobody is silent, it
    /// is the one of least `worth`, `None` being more than any, and of those the oldest: among those of a neighbourhood if
    /// that is full, else among all. `worth` also hears whether the peer is one of a crowd: its neighbourhood has more than half of all
    /// places, they are all taken, and the newcomer comes from elsewhere.
    ///
    /// # Errors
    /// A bound is reached, and nobody gives way.
    pub fn take(
        &mut self,
        now: Instant,
        address: IpAddr,
        peer: impl FnOnce(u64) -> T,
        worth: impl Fn(&T, bool) -> Option<u8>,
    ) -> Result<(u64, Option<T>), Full> {
        let from = neighbourhood(address);
        let mut displaced = None;
        if let Some(full) = self.full(from) {
            let number = match full {
                Full::FromOne => {
                    self.silent(now, Some(from)).or_else(|| self.useless_nearby(now, from, worth))
                }
                Full::All => self.silent(now, None).or_else(|| self.useless(now, from, worth)),
            };
            let number = number.ok_or(full)?;
            displaced = self.free(number);
        }
        Ok((self.add(now, address, peer), displaced))
    }

    /// A place beyond all bounds: for a peer that had one before.
    pub fn add(&mut self, now: Instant, address: IpAddr, peer: impl FnOnce(u64) -> T) -> u64 {
        let from = neighbourhood(address);
        self.last += 1;
        let number = self.last;
        *self.by_neighbourhood.entry(from).or_default() += 1;
        self.silent.insert(number);
        self.silent_from.insert((from, number));
        self.taken.insert(number, Place { from, since: now, peer: peer(number) });
        number
    }

    /// This one has said something: it is no longer one of the silent.
    pub fn spoke(&mut self, number: u64) {
        if let Some(place) = self.taken.get(&number) {
            self.silent.remove(&number);
            self.silent_from.remove(&(place.from, number));
        }
    }

    /// Gives a place back; who had it, unless it has given way before.
    pub fn free(&mut self, number: u64) -> Option<T> {
        self.spoke(number);
        let place = self.taken.remove(&number)?;
        if let Some(count) = self.by_neighbourhood.get_mut(&place.from) {
            *count -= 1;
            if *count == 0 {
                self.by_neighbourhood.remove(&place.from);
            }
        }
        Some(place.peer)
    }

    /// Who has this place.
    pub fn get(&self, number: u64) -> Option<&T> {
        self.taken.get(&number).map(|place| &place.peer)
    }

    /// Everybody, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.taken.values().map(|place| &place.peer)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.taken.len()
    }

    /// Whether all are free.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    fn full(&self, from: IpAddr) -> Option<Full> {
        if self.by_neighbourhood.get(&from).is_some_and(|count| *count >= self.bounds.from_one) {
            return Some(Full::FromOne);
        }
        (self.taken.len() >= self.bounds.all).then_some(Full::All)
    }

    /// The oldest of the silent, if it has been so for long enough.
    fn silent(&self, now: Instant, among: Option<IpAddr>) -> Option<u64> {
        let number = match among {
            Some(from) => {
                self.silent_from.range((from, 0)..=(from, u64::MAX)).next().map(|(_, number)| *number)
            }
            None => self.silent.first().copied(),
        }?;
        let since = self.taken.get(&number)?.since;
        (now.saturating_duration_since(since) >= self.bounds.silent).then_some(number)
    }

    /// One among a neighbourhood that has spoken and may be displaced by a newcomer from there.
    fn useless_nearby(
        &mut self,
        now: Instant,
        from: IpAddr,
        worth: impl Fn(&T, bool) -> Option<u8>,
    ) -> Option<u64> {
        if !is_due(&mut self.search.looked_nearby, now) {
            return None;
        }
        let worth = |place: &Place<T>| worth(&place.peer, false).filter(|_| place.from == from);
        self.displaceable(worth).min().map(|(_, number)| number)
    }

    /// One that has spoken and may be displaced by a newcomer from here.
    fn useless(&mut self, now: Instant, from: IpAddr, worth: impl Fn(&T, bool) -> Option<u8>) -> Option<u64> {
        if self.has_crowd(from) {
            return self.useless_to_crowd(now, from, worth);
        }
        while let Some(number) = self.search.found.pop() {
            let place = self.taken.get(&number);
            if place.is_some_and(|place| worth(&place.peer, self.is_of_a_crowd(place, from)).is_some()) {
                return Some(number);
            }
        }
        if !is_due(&mut self.search.looked, now) {
            return None;
        }
        let worth = |place: &Place<T>| worth(&place.peer, self.is_of_a_crowd(place, from));
        let mut found: Vec<_> = self.displaceable(worth).collect();
        found.sort_unstable();
        found.truncate(MAX_FOUND);
        self.search.found = found.into_iter().rev().map(|(_, number)| number).collect();
        self.search.found.pop()
    }

    /// The same for a newcomer of a crowd, one at a look.
    fn useless_to_crowd(
        &mut self,
        now: Instant,
        from: IpAddr,
        worth: impl Fn(&T, bool) -> Option<u8>,
    ) -> Option<u64> {
        if !is_due(&mut self.search.looked_crowd, now) {
            return None;
        }
        let worth = |place: &Place<T>| worth(&place.peer, self.is_of_a_crowd(place, from));
        self.displaceable(worth).min().map(|(_, number)| number)
    }

    /// Worth and number of all that may be displaced; of the same worth the lowest number is the oldest.
    fn displaceable(&self, worth: impl Fn(&Place<T>) -> Option<u8>) -> impl Iterator<Item = (u8, u64)> {
        self.taken.iter().filter_map(move |(number, place)| Some((worth(place)?, *number)))
    }

    fn is_of_a_crowd(&self, place: &Place<T>, newcomer: IpAddr) -> bool {
        place.from != newcomer && self.has_crowd(place.from)
    }

    /// Whether a neighbourhood has more than half of all places.
    fn has_crowd(&self, from: IpAddr) -> bool {
        self.by_neighbourhood.get(&from).is_some_and(|count| *count > self.bounds.all / 2)
    }
}

/// Whether it is long enough since the last look, which is now if so.
fn is_due(looked: &mut Option<Instant>, now: Instant) -> bool {
    let is_due = looked.is_none_or(|at| now.saturating_duration_since(at) >= LOOK_AGAIN);
    if is_due {
        *looked = Some(now);
    }
    is_due
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SILENT: Duration = Duration::from_secs(1);

    fn places(all: usize, from_one: usize) -> Places<u64> {
        Places::new(Bounds { all, from_one, silent: SILENT })
    }

    fn take(places: &mut Places<u64>, now: Instant, address: &str) -> Result<(u64, Option<u64>), Full> {
        places.take(now, address.parse().unwrap(), |number| number, |_, _| None)
    }

    #[test]
    fn places_are_bounded_in_all_and_by_neighbourhood_and_come_free_once() {
        let (mut places, now) = (places(3, 2), Instant::now());
        let (first, _) = take(&mut places, now, "2001:db8::1").unwrap();
        take(&mut places, now, "2001:db8::2").unwrap();
        assert_eq!(take(&mut places, now, "2001:db8::3"), Err(Full::FromOne));
        take(&mut places, now, "192.0.2.1").unwrap();
        assert_eq!(take(&mut places, now, "192.0.2.2"), Err(Full::All));
        assert_eq!((places.free(first), places.free(first)), (Some(first), None));
        assert_eq!(take(&mut places, now, "2001:db8::3"), Ok((4, None)));
        let freed: Vec<_> = (1..=4).filter_map(|number| places.free(number)).collect();
        assert_eq!(freed, [2, 3, 4]);
        assert!(places.is_empty() && places.by_neighbourhood.is_empty() && places.silent_from.is_empty());
    }

    #[test]
    fn the_oldest_that_is_silent_gives_way_after_a_time_and_a_neighbourhood_pays_with_its_own() {
        let (mut places, now) = (places(3, 2), Instant::now());
        for address in ["192.0.2.1", "192.0.2.2", "192.0.2.2"] {
            take(&mut places, now, address).unwrap();
        }
        assert_eq!(take(&mut places, now + SILENT / 2, "192.0.2.3"), Err(Full::All));
        assert_eq!(take(&mut places, now + SILENT, "192.0.2.2"), Ok((4, Some(2))));
        assert_eq!(take(&mut places, now + SILENT, "192.0.2.3"), Ok((5, Some(1))));
        places.spoke(3);
        assert_eq!(take(&mut places, now + SILENT, "192.0.2.3"), Err(Full::All), "the others are young");
    }

    #[test]
    fn where_nobody_is_silent_the_oldest_of_least_worth_gives_way_and_a_flood_of_newcomers_looks_for_none() {
        let (mut places, now) = (places(4, 3), Instant::now());
        for address in ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"] {
            let (number, _) = take(&mut places, now, address).unwrap();
            places.spoke(number);
        }
        let looks = std::cell::Cell::new(0);
        let worth = |number: &u64| {
            looks.set(looks.get() + 1);
            [None, Some(1), Some(0), Some(0)].get(usize::try_from(*number).unwrap() - 1).copied().flatten()
        };
        let mut next = |address: &str, now| {
            let worth = |number: &u64, _| worth(number);
            let taken = places.take(now, address.parse().unwrap(), |number| number, worth);
            if let Ok((number, _)) = taken {
                places.spoke(number);
            }
            taken.map(|(_, displaced)| displaced)
        };
        assert_eq!(next("192.0.2.1", now), Ok(Some(3)), "of its own neighbourhood");
        assert_eq!(next("192.0.2.3", now), Ok(Some(4)), "whose look takes nobody else's");
        assert_eq!(next("192.0.2.3", now), Ok(Some(2)), "found at the same look");
        let before = looks.get();
        assert_eq!(next("192.0.2.3", now), Err(Full::All));
        assert_eq!(looks.get(), before);
        assert_eq!(next("192.0.2.3", now + LOOK_AGAIN), Err(Full::All), "the first is worth its place");
        assert_eq!(looks.get(), before + 4);
    }

    #[test]
    fn one_of_a_crowd_is_told_from_the_others_by_a_newcomer_from_elsewhere() {
        let (mut places, now) = (places(4, 4), Instant::now());
        let mut next = |address: &str, now| {
            let worth = |_: &u64, is_of_a_crowd: bool| is_of_a_crowd.then_some(0);
            let (number, displaced) = places.take(now, address.parse().unwrap(), |number| number, worth)?;
            places.spoke(number);
            Ok(displaced)
        };
        for address in ["192.0.2.9", "192.0.2.1", "192.0.2.1", "192.0.2.1"] {
            assert_eq!(next(address, now), Ok(None));
        }
        assert_eq!(next("192.0.2.1", now), Err(Full::All), "three of four, and one of them again");
        assert_eq!(next("192.0.2.2", now + LOOK_AGAIN), Ok(Some(2)), "the oldest of the three");
        assert_eq!(next("192.0.2.3", now + LOOK_AGAIN * 2), Err(Full::All), "two of four are no crowd");
    }

    #[test]
    fn a_crowd_that_keeps_knocking_takes_neither_the_look_of_a_stranger_nor_what_one_has_found() {
        const CROWD: &str = "192.0.2.1";
        let start = Instant::now();
        let next = |places: &mut Places<u64>, address: &str, now| -> Result<Option<u64>, Full> {
            let worth = |_: &u64, is_of_a_crowd: bool| is_of_a_crowd.then_some(0);
            let (number, displaced) = places.take(now, address.parse().unwrap(), |number| number, worth)?;
            places.spoke(number);
            Ok(displaced)
        };
        let crowded = |all: usize| {
            let mut places = places(all, all);
            assert_eq!(next(&mut places, "192.0.2.9", start), Ok(None));
            for _ in 1..all {
                assert_eq!(next(&mut places, CROWD, start), Ok(None));
            }
            places
        };
        let mut few = crowded(4);
        assert_eq!(next(&mut few, CROWD, start), Err(Full::All));
        assert_eq!(next(&mut few, "192.0.2.2", start), Ok(Some(2)), "at the same moment");

        let mut many = crowded(16);
        let mut strangers = Vec::new();
        for milliseconds in 0..200 {
            let now = start + Duration::from_millis(milliseconds);
            assert_eq!(next(&mut many, CROWD, now), Err(Full::All));
            // Two of them soon after each other: the second has what the first one found.
            if milliseconds % 40 == 7 || milliseconds % 40 == 9 {
                strangers.push(next(&mut many, "192.0.2.2", now));
            }
        }
        let oldest: Vec<Result<Option<u64>, Full>> = (2..=8).map(|number| Ok(Some(number))).collect();
        assert_eq!(strangers[..7], oldest, "while the crowd has more than half");
        assert_eq!(strangers[7..], [Err(Full::All); 3]);
    }
}
