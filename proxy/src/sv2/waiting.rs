//! Shares that wait for the upstream's word, oldest first.

use mining::server::Ticket;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// By tag, which counts up: nothing is searched for.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Tag of the first place.
    first: u32,
    /// Empty where the answer came before an older one's.
    places: VecDeque<Option<Share>>,
}

/// A share that waits.
#[derive(Debug)]
pub(super) struct Share {
    /// At the session that answers the miner.
    pub(super) ticket: Ticket,
    /// Who found it.
    pub(super) worker: Arc<str>,
    /// Then it is accepted on our own word.
    pub(super) until: Instant,
}

impl Waiting {
    /// The tag of the share that is pushed next.
    pub(super) fn next_tag(&self) -> u32 {
        self.first.wrapping_add(u32::try_from(self.places.len()).unwrap_or(u32::MAX))
    }

    /// `until` must not be before that of an earlier share.
    pub(super) fn push(&mut self, share: Share) {
        self.places.push_back(Some(share));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The share with this tag, if it still waits.
    pub(super) fn take(&mut self, tag: u32) -> Option<Share> {
        let place = usize::try_from(tag.wrapping_sub(self.first)).ok()?;
        let share = self.places.get_mut(place)?.take();
        self.tidy();
        share
    }

    /// The oldest, if it has waited long enough at `now`.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Share> {
        self.next_timeout().filter(|until| *until <= now)?;
        self.take(self.first)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.places.front().and_then(Option::as_ref).map(|share| share.until)
    }

    /// The first place is never empty.
    fn tidy(&mut self) {
        while self.places.pop_front_if(|place| place.is_none()).is_some() {
            self.first = self.first.wrapping_add(1);
        }
    }
}
