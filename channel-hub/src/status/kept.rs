//! What was put together a moment ago, for whoever asks again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long it is good for, at least.
const FRESH: Duration = Duration::from_secs(1);
/// And so many times as long as it took: whoever looks again and again costs no more than a tenth of a core.
const REST: u32 = 10;

/// Until when it is good, and what it is.
#[derive(Debug)]
pub(super) struct Kept<T>(Mutex<Option<(Instant, Arc<T>)>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Kept<T> {
    /// What is kept, if it is good yet; else what `take` makes. Others who ask meanwhile wait for that.
    ///
    /// # Errors
    /// Those of `take`; nothing is kept of it.
    pub(super) fn fresh<E>(&self, take: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        if let Some((until, value)) = &*kept
            && begun < *until
        {
            return Ok(Arc::clone(value));
        }
        let value = Arc::new(take()?);
        let until = Instant::now() + FRESH.max(begun.elapsed() * REST);
        *kept = Some((until, Arc::clone(&value)));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_again_at_once_gets_the_same_and_a_failure_is_not_kept() {
        let kept = Kept::default();
        assert_eq!(kept.fresh(|| Err::<u32, _>("away")), Err("away"));
        let first = kept.fresh(|| Ok::<_, ()>(1));
        assert_eq!(kept.fresh(|| Ok(2)), first, "within a second");
    }

    #[test]
    fn what_took_long_is_kept_ten_times_as_long() {
        let kept = Kept::default();
        let slow = || {
            std::thread::sleep(Duration::from_millis(200));
            Ok::<_, ()>(1)
        };
        let first = kept.fresh(slow);
        std::thread::sleep(FRESH + Duration::from_millis(200));
        assert_eq!(kept.fresh(|| Ok(2)), first);
    }
}
