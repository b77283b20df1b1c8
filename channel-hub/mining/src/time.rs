//! The clocks that a session is told; it reads none itself.

use std::time::Instant;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: for intervals and timeouts.
    pub instant: Instant,
    /// Wall clock, seconds since 1970.
    pub unix: u32,
}

impl Now {
    /// This moment, later by `by`.
    pub fn after(self, by: std::time::Duration) -> Self {
        let seconds = u32::try_from(by.as_secs()).unwrap_or(u32::MAX);
        Self { instant: self.instant + by, unix: self.unix.saturating_add(seconds) }
    }
}
