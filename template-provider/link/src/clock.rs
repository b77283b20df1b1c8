//! The clocks, for the shells around what is told the time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Now, in Unix seconds, for which SV2 has 32 bits; 0 before 1970, `u32::MAX` after 2106.
pub fn unix_now() -> u32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// Comes back at that time; never if there is none. Cancel-safe.
pub async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
