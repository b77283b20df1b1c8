//! Extranonce prefixes: what keeps mining channels from doing the same work.
//!
//! No prefix is ever handed out twice, restarts included, so none can serve two channels under one tip. The
//! shell reserves numbers in the store before they are granted here; what was reserved and not used is lost,
//! which 2^48 numbers can bear.

use crate::room::Place;
use crate::{PREFIX_SIZE, ROLLABLE_SIZE};
use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// A channel's part of the extranonce: a prefix that is its own, and bytes behind it that it may roll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    prefix: [u8; PREFIX_SIZE],
    prefix_size: u8,
    rollable: u8,
}

impl Space {
    /// `None` if the prefix is longer than [`PREFIX_SIZE`] or `rollable` more than [`ROLLABLE_SIZE`].
    #[allow(clippy::cast_possible_truncation)] // both are below 32
    pub fn new(prefix: &[u8], rollable: usize) -> Option<Self> {
        let mut bytes = [0; PREFIX_SIZE];
        bytes.get_mut(..prefix.len())?.copy_from_slice(prefix);
        (rollable <= ROLLABLE_SIZE).then_some(Self {
            prefix: bytes,
            prefix_size: prefix.len() as u8,
            rollable: rollable as u8,
        })
    }

    /// What no other channel has.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix[..usize::from(self.prefix_size)]
    }

    /// Bytes behind the prefix that an extended channel may roll.
    pub fn rollable(&self) -> usize {
        usize::from(self.rollable)
    }

    /// What a standard channel has there: it rolls nothing.
    pub(crate) fn not_rolled(&self) -> &'static [u8] {
        &[0; ROLLABLE_SIZE][..self.rollable()]
    }
}

/// A [`Space`] for one channel, for as long as it is held.
pub struct Lease {
    space: Space,
    /// The space is free again when it is dropped.
    claim: Option<Box<dyn Any + Send + Sync>>,
    /// The channel's, where channels are counted by their leases.
    _place: Option<Place>,
}

impl Lease {
    /// Of a space that is never handed out again.
    pub const fn for_ever(space: Space) -> Self {
        Self { space, claim: None, _place: None }
    }

    /// Of a space that is free again when `claim` is dropped.
    pub fn until_dropped(space: Space, claim: impl Any + Send + Sync) -> Self {
        Self { space, claim: Some(Box::new(claim)), _place: None }
    }

    /// The same, holding a channel's place as well.
    pub fn in_place(self, place: Place) -> Self {
        Self { _place: Some(place), ..self }
    }

    /// Takes the other's space, and keeps its own place; `false` if there is no other.
    pub fn move_to(&mut self, other: Option<Self>) -> bool {
        let Some(other) = other else { return false };
        (self.space, self.claim) = (other.space, other.claim);
        true
    }

    /// Whether its space is never handed out again, and so was nobody's before.
    pub const fn is_for_ever(&self) -> bool {
        self.claim.is_none()
    }

    /// What is leased.
    pub const fn space(&self) -> &Space {
        &self.space
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("space", &self.space).finish_non_exhaustive()
    }
}

/// Where a session's channels get their part of the extranonce.
pub trait Extranonces: fmt::Debug + Send + Sync {
    /// Bytes that every extended channel of the session may roll.
    fn rollable(&self) -> usize;

    /// A part that no other channel has under the same work; `None` if none is left.
    fn lease(&self) -> Option<Lease>;

    /// Another part for the channel that has `lease`; `false` if none is left. Whoever counts channels by their leases
    /// must not count this one twice.
    fn renew(&self, lease: &mut Lease) -> bool {
        lease.move_to(self.lease())
    }
}

impl Extranonces for ExtranoncePrefixes {
    fn rollable(&self) -> usize {
        ROLLABLE_SIZE
    }

    fn lease(&self) -> Option<Lease> {
        Space::new(&self.take()?, ROLLABLE_SIZE).map(Lease::for_ever)
    }
}

/// Numbers that six bytes can hold.
const NUMBERS: u64 = 1 << 48;

/// Hands out prefixes of [`PREFIX_SIZE`] bytes: two of `server_id`, six of a counter, both big-endian.
#[derive(Debug)]
pub struct ExtranoncePrefixes {
    server_id: u16,
    next: AtomicU64,
    end: AtomicU64,
}

impl ExtranoncePrefixes {
    /// Hands out the numbers of `reserved`, which must be durably reserved already.
    pub fn new(server_id: u16, reserved: Range<u64>) -> Self {
        let end = reserved.end.min(NUMBERS);
        Self { server_id, next: AtomicU64::new(reserved.start), end: AtomicU64::new(end) }
    }

    /// A prefix that nobody had before; `None` when the reserved numbers are used up.
    pub fn take(&self) -> Option<[u8; PREFIX_SIZE]> {
        let number = self
            .next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                (next < self.end.load(Ordering::Acquire)).then_some(next + 1)
            })
            .ok()?;
        let mut prefix = number.to_be_bytes();
        prefix[..2].copy_from_slice(&self.server_id.to_be_bytes());
        Some(prefix)
    }

    /// Extends the reserved numbers up to, not including, `end`; a smaller `end` changes nothing.
    pub fn grant_until(&self, end: u64) {
        self.end.fetch_max(end.min(NUMBERS), Ordering::Release);
    }

    /// How many prefixes are left: the shell reserves more before it is none.
    pub fn left(&self) -> u64 {
        self.end.load(Ordering::Acquire).saturating_sub(self.next.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_count_up_behind_the_server_id() {
        let prefixes = ExtranoncePrefixes::new(0x0102, 0xfe..0x101);
        assert_eq!(prefixes.take(), Some([1, 2, 0, 0, 0, 0, 0, 0xfe]));
        assert_eq!(prefixes.take(), Some([1, 2, 0, 0, 0, 0, 0, 0xff]));
        assert_eq!(prefixes.take(), Some([1, 2, 0, 0, 0, 0, 1, 0]));
    }

    #[test]
    fn nothing_is_handed_out_beyond_what_was_reserved() {
        let prefixes = ExtranoncePrefixes::new(0, 5..6);
        assert!(prefixes.take().is_some());
        assert_eq!((prefixes.take(), prefixes.left()), (None, 0));
        prefixes.grant_until(3);
        assert_eq!(prefixes.take(), None);
        prefixes.grant_until(7);
        assert_eq!(prefixes.take(), Some([0, 0, 0, 0, 0, 0, 0, 6]));
    }

    #[test]
    fn the_counter_never_runs_into_the_server_id() {
        let prefixes = ExtranoncePrefixes::new(7, NUMBERS - 1..u64::MAX);
        assert_eq!(prefixes.take(), Some([0, 7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
        assert_eq!(prefixes.take(), None);
    }
}
