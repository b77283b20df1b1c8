//! A time to wake up at that seldom changes: set once, not with every share.

use std::pin::Pin;
use std::time::Instant;

use tokio::time::Sleep;

/// Rings at a time.
#[derive(Debug)]
pub struct Alarm {
    sleep: Pin<Box<Sleep>>,
    due: Option<Instant>,
}

/// Not set.
impl Default for Alarm {
    fn default() -> Self {
        Self { sleep: Box::pin(tokio::time::sleep_until(Instant::now().into())), due: None }
    }
}

impl Alarm {
    /// Comes back at `due`; never if there is none. Cancel-safe; to be called again with the same time costs little.
    pub async fn ring(&mut self, due: Option<Instant>) {
        let Some(at) = due else { return std::future::pending().await };
        if self.due != due {
            self.sleep.as_mut().reset(at.into());
            self.due = due;
        }
        self.sleep.as_mut().await;
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn it_rings_at_each_time_that_it_is_set_to_and_not_before() {
        let mut alarm = Alarm::default();
        let start = Instant::now();
        for step in 1..4 {
            let due = start + Duration::from_millis(30) * step;
            // Asked again and again, as a loop does.
            while timeout(Duration::from_millis(5), alarm.ring(Some(due))).await.is_err() {}
            assert!(Instant::now() >= due);
        }
        assert!(timeout(Duration::from_millis(20), alarm.ring(None)).await.is_err());
    }
}
