//! What a process has locked is free when it is gone, but not all of it at one moment.

use std::time::{Duration, Instant};

/// How long a process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Attempts it until nothing is held any more, or for five seconds; the last attempt's outcome.
///
/// # Errors
/// Those of the attempt: at once where nothing `is_held`.
pub async fn when_let_go<T, E, F: Future<Output = Result<T, E>>>(
    mut attempt: impl FnMut() -> F,
    is_held: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let began = Instant::now();
    loop {
        match attempt().await {
            Err(error) if is_held(&error) && began.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
}
