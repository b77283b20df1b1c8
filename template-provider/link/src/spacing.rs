//! How often a [neighbourhood] may do what comes to nothing: 256 times at once, then so many times a second.
//!
//! [neighbourhood]: crate::address::neighbourhood

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// So often at once.
pub(crate) const AT_ONCE: u32 = 256;
/// Nobody rests longer for what others of the neighbourhood did.
pub(crate) const LONGEST: Duration = Duration::from_secs(2);

/// What came from each neighbourhood.
#[derive(Debug)]
pub(crate) struct Spacing {
    /// From one time to the next, after the first.
    apart: Duration,
    /// When all of it would have come, so far apart.
    spaced: HashMap<IpAddr, Instant>,
    /// With so many those are looked for that need not be here any more.
    tidy_at: usize,
}

impl Spacing {
    /// Nothing came yet. After [`AT_ONCE`] times, the next may follow each other so far apart.
    pub(crate) fn new(apart: Duration) -> Self {
        Self { apart, spaced: HashMap::new(), tidy_at: 0 }
    }

    /// Once more from there.
    pub(crate) fn count(&mut self, neighbourhood: IpAddr, now: Instant) {
        if self.spaced.len() >= self.tidy_at {
            self.spaced.retain(|_, spaced| *spaced > now);
            self.tidy_at = (2 * self.spaced.len()).max(1024);
        }
        let spaced = self.spaced.entry(neighbourhood).or_insert(now);
        *spaced = ((*spaced).max(now) + self.apart).min(now + self.apart * (AT_ONCE - 1) + LONGEST);
    }

    /// Once less.
    pub(crate) fn give_back(&mut self, neighbourhood: IpAddr) {
        if let Some(spaced) = self.spaced.get_mut(&neighbourhood) {
            *spaced = spaced.checked_sub(self.apart).unwrap_or(*spaced);
        }
    }

    /// Until when nothing more may come from there; `None`: it may now.
    pub(crate) fn rests_until(&self, neighbourhood: IpAddr, now: Instant) -> Option<Instant> {
        let spaced = *self.spaced.get(&neighbourhood)?;
        spaced.checked_sub(self.apart * (AT_ONCE - 1)).filter(|rested| *rested > now)
    }

    /// When all of it would have come, if anything did.
    #[cfg(test)]
    pub(crate) fn spaced(&self, neighbourhood: IpAddr) -> Option<Instant> {
        self.spaced.get(&neighbourhood).copied()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const APART: Duration = Duration::from_millis(50);
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn so_often_at_once_and_then_apart() {
        let (mut spacing, now) = (Spacing::new(APART), Instant::now());
        for _ in 0..AT_ONCE {
            assert_eq!(spacing.rests_until(HERE, now), None);
            spacing.count(HERE, now);
        }
        assert_eq!(spacing.rests_until(HERE, now), Some(now + APART));
        assert_eq!(spacing.rests_until(HERE, now + APART), None);
        spacing.give_back(HERE);
        assert_eq!(spacing.rests_until(HERE, now), None);
    }

    #[test]
    fn however_much_came_the_rest_is_bounded() {
        let (mut spacing, now) = (Spacing::new(APART), Instant::now());
        (0..100_000).for_each(|_| spacing.count(HERE, now));
        assert_eq!(spacing.rests_until(HERE, now), Some(now + LONGEST));
        assert_eq!(spacing.rests_until(HERE, now + LONGEST), None);
    }

    #[test]
    fn neighbourhoods_that_are_quiet_again_are_forgotten() {
        let (mut spacing, now) = (Spacing::new(APART), Instant::now());
        for n in 0..5_000_u32 {
            spacing.count(IpAddr::from(n.to_be_bytes()), now + Duration::from_millis(n.into()));
        }
        assert!(spacing.spaced.len() <= 2048, "{}", spacing.spaced.len());
    }
}
