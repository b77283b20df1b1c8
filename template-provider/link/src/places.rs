//! Places for peers: so many in all, and so many for one neighbourhood. Where a bound is reached, the oldest peer that has
//! said nothing gives way to the newcomer, so that silence keeps nobody out; nobody has to be looked for, so that a flood
//! of newcomers costs little. Where nobody is silent, one is looked for that brings nothing, now and then.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::address::neighbourhood;

/// To look through everybody costs; whoever floods full places must not make us do so each time.
pub const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// If places are full, a peer that is set up but has brought no share may be displaced after the time in which it should have found
/// this many. After half of that vardiff makes them eleven times easier, so it is enough for one that is a tenth as fast as it was
/// taken for.
const SHARES_BY_THEN: u32 = 20;
/// And for no less, however soon shares are wanted.
const MIN_UNPROVEN: Duration = Duration::from_secs(60);
/// And for no more, however late.
const MAX_UNPROVEN: Duration = Duration::from_secs(600);
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

/// How long a peer keeps its place that never brought a share, though one should be found in every `share_interval`, when somebody
/// else wants it.
pub fn unproven(share_interval: Duration) -> Duration {
    share_interval.saturating_mul(SHARES_BY_THEN).clamp(MIN_UNPROVEN, MAX_UNPROVEN)
}

/// Who has a place: what is kept of each, by its number, which counts up from 1.
#[derive(Debug)]
pub struct Places<T> {
    bounds: Bounds,
    last: u64,
    taken: BTreeMap<u64, Place<T>>,
    neighbourhoods: HashMap<IpAddr, Neighbourhood>,
    /// Those who have said nothing, oldest first.
    silent: BTreeSet<u64>,
    look: Look,
    /// For newcomers whose neighbourhood has more than half of all places: though they keep knocking, they take none of the others' looks.
    look_for_crowd: Look,
}

/// Those who come from one.
#[derive(Debug, Default)]
struct Neighbourhood {
    all: BTreeSet<u64>,
    silent: BTreeSet<u64>,
    /// Where its own bound is reached: who knocks there takes none of the others' looks.
    look: Look,
}

/// For one that has spoken and brings nothing.
#[derive(Debug, Default)]
struct Look {
    last: Option<Instant>,
    /// Found then, to be displaced one by one, the last first.
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
            neighbourhoods: HashMap::new(),
            silent: BTreeSet::new(),
            look: Look::default(),
            look_for_crowd: Look::default(),
        }
    }

    /// A place for what `peer` makes of its number, and who gave way to it. Where a bound is reached and nobody is silent, the
    /// peer with the lowest `worth` goes, the oldest first; one whose `worth` is `None` never goes. It is one of the
    /// neighbourhood if that is full, else one of all. They are looked for every [`LOOK_AGAIN`] at most, apart for each
    /// neighbourhood that is full or has more than half of all places.
    ///
    /// # Errors
    /// A bound is reached, and nobody gives way.
    pub fn take(
        &mut self,
        now: Instant,
        address: IpAddr,
        peer: impl FnOnce(u64) -> T,
        worth: impl Fn(&T) -> Option<u8>,
    ) -> Result<(u64, Option<T>), Full> {
        let from = neighbourhood(address);
        let mut displaced = None;
        if let Some(full) = self.full(from) {
            let silent = match full {
                Full::FromOne => self.neighbourhoods.get(&from).and_then(|those| those.silent.first()),
                Full::All => self.silent.first(),
            };
            let silent = silent.copied().filter(|number| self.is_silent_for_long(*number, now));
            let number = silent.or_else(|| self.useless(now, from, full, worth)).ok_or(full)?;
            displaced = self.free(number);
        }
        Ok((self.add(now, address, peer), displaced))
    }

    /// A place beyond all bounds: for a peer that had one before.
    pub fn add(&mut self, now: Instant, address: IpAddr, peer: impl FnOnce(u64) -> T) -> u64 {
        let from = neighbourhood(address);
        self.last += 1;
        let number = self.last;
        let neighbours = self.neighbourhoods.entry(from).or_default();
        neighbours.all.insert(number);
        neighbours.silent.insert(number);
        self.silent.insert(number);
        self.taken.insert(number, Place { from, since: now, peer: peer(number) });
        number
    }

    /// This one has said something: it is no longer one of the silent.
    pub fn spoke(&mut self, number: u64) {
        self.silent.remove(&number);
        if let Some(place) = self.taken.get(&number)
            && let Some(neighbours) = self.neighbourhoods.get_mut(&place.from)
        {
            neighbours.silent.remove(&number);
        }
    }

    /// Gives a place back; who had it, unless it has given way before.
    pub fn free(&mut self, number: u64) -> Option<T> {
        self.spoke(number);
        let place = self.taken.remove(&number)?;
        if let Some(neighbours) = self.neighbourhoods.get_mut(&place.from) {
            neighbours.all.remove(&number);
            if neighbours.all.is_empty() {
                self.neighbourhoods.remove(&place.from);
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
        if self.count(from) >= self.bounds.from_one {
            return Some(Full::FromOne);
        }
        (self.taken.len() >= self.bounds.all).then_some(Full::All)
    }

    /// How many come from there.
    fn count(&self, from: IpAddr) -> usize {
        self.neighbourhoods.get(&from).map_or(0, |neighbours| neighbours.all.len())
    }

    fn is_silent_for_long(&self, number: u64, now: Instant) -> bool {
        let since = self.taken.get(&number).map(|place| place.since);
        since.is_some_and(|since| now.saturating_duration_since(since) >= self.bounds.silent)
    }

    /// One that has spoken and may be displaced by a newcomer from here, where this is full.
    fn useless(
        &mut self,
        now: Instant,
        from: IpAddr,
        full: Full,
        worth: impl Fn(&T) -> Option<u8>,
    ) -> Option<u64> {
        let is_of_a_crowd = self.count(from) > self.bounds.all / 2;
        let neighbours = self.neighbourhoods.get_mut(&from);
        match (full, neighbours) {
            (Full::FromOne, Some(Neighbourhood { all, look, .. })) => {
                look.find(now, &self.taken, all.iter().copied(), worth)
            }
            _ => {
                let look = if is_of_a_crowd { &mut self.look_for_crowd } else { &mut self.look };
                look.find(now, &self.taken, self.taken.keys().copied(), worth)
            }
        }
    }
}

impl Look {
    /// One of `those`, or of the ones found before, who is still there and may be displaced. Of the same worth the lowest number is the oldest.
    fn find<T>(
        &mut self,
        now: Instant,
        taken: &BTreeMap<u64, Place<T>>,
        those: impl Iterator<Item = u64>,
        worth: impl Fn(&T) -> Option<u8>,
    ) -> Option<u64> {
        let worth = |number: u64| worth(&taken.get(&number)?.peer);
        while let Some(number) = self.found.pop() {
            if worth(number).is_some() {
                return Some(number);
            }
        }
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < LOOK_AGAIN) {
            return None;
        }
        self.last = Some(now);
        let mut found: Vec<_> = those.filter_map(|number| Some((worth(number)?, number))).collect();
        found.sort_unstable();
        found.truncate(MAX_FOUND);
        self.found = found.into_iter().rev().map(|(_, number)| number).collect();
        self.found.pop()
    }
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
        places.take(now, address.parse().unwrap(), |number| number, |_| None)
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
        assert!(places.is_empty() && places.neighbourhoods.is_empty() && places.silent.is_empty());
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
    fn a_crowd_that_keeps_knocking_takes_neither_the_look_of_another_nor_what_one_has_found() {
        const CROWD: &str = "192.0.2.1";
        let start = Instant::now();
        let may_leave = std::cell::Cell::new(16);
        let next = |places: &mut Places<u64>, address: &str, now| -> Result<Option<u64>, Full> {
            let worth = |number: &u64| (*number <= may_leave.get()).then_some(0);
            let (number, displaced) = places.take(now, address.parse().unwrap(), |number| number, worth)?;
            places.spoke(number);
            Ok(displaced)
        };
        for from_one in [16, 17] {
            let mut places = places(16, from_one);
            may_leave.set(16);
            for _ in 0..16 {
                assert_eq!(next(&mut places, CROWD, start), Ok(None));
            }
            may_leave.set(0);
            assert!(next(&mut places, CROWD, start).is_err(), "it has looked");
            may_leave.set(16);
            assert!(next(&mut places, CROWD, start).is_err(), "and may not yet again");
            assert_eq!(next(&mut places, "192.0.2.2", start), Ok(Some(1)), "at the same moment");
            let again = start + LOOK_AGAIN;
            assert_eq!(next(&mut places, CROWD, again), Ok(Some(2)));
            assert_eq!(
                next(&mut places, "192.0.2.2", again),
                Ok(Some(3)),
                "of those found before, without the second"
            );
            let crowd: Vec<_> = (4..=16).map(|_| next(&mut places, CROWD, again)).collect();
            assert_eq!(crowd, (4..=16).map(|number| Ok(Some(number))).collect::<Vec<_>>(), "all at once");
            assert_eq!(next(&mut places, "192.0.2.2", again), Err(Full::All), "all others are new");
        }
    }
}
