//! SIGUSR2: this program starts the program file anew, with the same arguments, to be replaced by it. So whoever supervises
//! the process need not know how it is done; nginx knows the same signal.

use std::ffi::OsString;
use std::io;

use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::command_line::TAKE_OVER;

/// Why the first process of a container (PID 1) is not replaced: the kernel ends a container with it.
pub(crate) const FIRST: &str = "it is the first process of its container, which ends with it, a successor included; restart the container";

/// Whether [`FIRST`] holds for this process.
pub(crate) fn is_first() -> bool {
    std::process::id() == 1
}

/// Starts a successor at each signal, until `shutdown`; one at a time.
///
/// # Errors
/// What the system says.
pub(crate) fn on_signal(shutdown: CancellationToken) -> io::Result<impl Future<Output = ()> + Send> {
    let mut asked = signal(SignalKind::user_defined2())?;
    Ok(async move {
        loop {
            tokio::select! {
                Some(()) = asked.recv() => successor().await,
                () = shutdown.cancelled() => return,
            }
        }
    })
}

/// Starts it, and says if it ends before it has replaced this program.
async fn successor() {
    if is_first() {
        return tracing::error!("SIGUSR2: this program cannot be replaced: {FIRST}. Serving as before");
    }
    let arguments: Vec<_> = std::env::args_os().collect();
    let Some((program, arguments)) = arguments.split_first() else {
        return tracing::error!("cannot start a successor: this program was started without its name");
    };
    let arguments = with_take_over(arguments);
    match Command::new(program).args(arguments).spawn() {
        Ok(mut child) => {
            tracing::info!(program = %program.to_string_lossy(), pid = child.id(), "SIGUSR2: started a successor");
            match child.wait().await {
                Ok(status) => tracing::error!("the successor ended ({status}): it says why in its own lines"),
                Err(error) => tracing::error!("the successor is lost: {error}"),
            }
        }
        Err(error) => tracing::error!(
            program = %program.to_string_lossy(),
            "cannot start a successor: {error}. Serving as before"
        ),
    }
}

/// The arguments, with the flag once.
fn with_take_over(arguments: &[OsString]) -> Vec<OsString> {
    let flag = OsString::from(format!("--{TAKE_OVER}"));
    arguments.iter().filter(|argument| **argument != flag).chain([&flag]).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_told_to_take_over_once() {
        let arguments = ["--config", "a.toml", "--take-over"].map(OsString::from);
        let expected = ["--config", "a.toml", "--take-over"].map(OsString::from);
        assert_eq!(with_take_over(&arguments), expected);
        assert_eq!(with_take_over(&[]), ["--take-over"].map(OsString::from));
    }
}
