//! What an answer keeps a core busy for, and how long it is good for because of that.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// An answer is good for so many times as long as it kept the core: whoever asks without end has a tenth of one.
const REST: u32 = 10;

/// Work on an answer; it begins and ends on the same thread.
#[derive(Debug)]
pub struct Effort {
    /// What the thread had used of a core.
    begun: Duration,
}

impl Effort {
    /// Begins now. What other threads do does not count, nor waiting for a core or a disk.
    #[must_use]
    pub fn begin() -> Self {
        Self { begun: cpu_time() }
    }

    /// How long to keep the answer that is made now.
    #[must_use]
    pub fn rest(&self) -> Duration {
        cpu_time().saturating_sub(self.begun) * REST
    }
}

/// Of this thread.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_rests_ten_times_as_long_as_it_was_worked_on_and_waiting_is_no_work() {
        let effort = Effort::begin();
        std::thread::sleep(Duration::from_millis(100));
        assert!(effort.rest() < Duration::from_millis(500));
        let until = cpu_time() + Duration::from_millis(50);
        while cpu_time() < until {}
        assert!(effort.rest() >= Duration::from_millis(500));
    }
}
