//! What systemd is told of this service; nothing where it is not there.

use sd_notify::NotifyState;

/// Tells it.
pub(crate) fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd cannot be told how this program stands: {error}");
    }
}
