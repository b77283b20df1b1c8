//! Extranonce prefixes: what keeps mining channels from doing the same work.
//!
//! No prefix is ever handed out twice, restarts included, so none can serve two channels under one tip. The
//! shell reserves numbers in the store before they are granted here; what was reserved and not used is lost,
//! which 2^48 numbers can bear.

use crate::PREFIX_SIZE;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

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
