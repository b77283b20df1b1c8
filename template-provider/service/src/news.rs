//! Log lines about connections that come and go: some in a second, so that those who come and go in masses cannot fill a disk.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines in a second.
const LINES: u32 = 50;
const SECOND: Duration = Duration::from_secs(1);

/// Counts lines; shared by all connections.
#[derive(Debug, Default)]
pub struct News(Mutex<Second>);

#[derive(Debug, Default)]
struct Second {
    began: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl News {
    /// Whether there is room for one more line now. Says of itself how many had none.
    #[must_use]
    pub fn room(&self) -> bool {
        let (room, left_out) = self.take(Instant::now());
        if left_out > 0 {
            tracing::info!(left_out, "lines about connections were left out");
        }
        room
    }

    fn take(&self, now: Instant) -> (bool, u64) {
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left_out = 0;
        if second.began.is_none_or(|began| now.saturating_duration_since(began) >= SECOND) {
            left_out = second.left_out;
            *second = Second { began: Some(now), ..Second::default() };
        }
        let room = second.lines < LINES;
        if room {
            second.lines += 1;
        } else {
            second.left_out += 1;
        }
        (room, left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_bound_are_counted_and_told_with_the_next_one() {
        let (news, start) = (News::default(), Instant::now());
        let told = (0..LINES + 7).filter(|_| news.take(start).0).count();
        assert_eq!(told, LINES as usize);
        assert_eq!(news.take(start + SECOND), (true, 7));
        assert_eq!(news.take(start + SECOND), (true, 0));
    }
}
