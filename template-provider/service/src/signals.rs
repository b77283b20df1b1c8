//! SIGTERM and SIGINT: the first asks the program to drain, the second ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Both signals, registered. From here on neither kills the process by itself.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// # Errors
    /// What the system says.
    pub(crate) fn register() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Cancels `shutdown` at the first signal and returns at the second, with the status that shells expect of a process
    /// that ended by it: 128 and the signal's number.
    pub(crate) async fn watch(mut self, shutdown: CancellationToken) -> u8 {
        let (name, _) = self.next().await;
        tracing::info!(signal = name, "draining; a second signal ends at once");
        shutdown.cancel();
        self.next().await.1
    }

    async fn next(&mut self) -> (&'static str, u8) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", 128 + 15),
            _ = self.interrupt.recv() => ("SIGINT", 128 + 2),
        }
    }
}
