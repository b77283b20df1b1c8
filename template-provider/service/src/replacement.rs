//! SIGUSR2: this program starts the program file anew, with the same arguments, to be replaced by it. So whoever supervises
//! the process need not know how it is done; nginx knows the same signal.

use std::ffi::OsString;
use std::io;
use std::pin::Pin;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::command_line::TAKE_OVER;
use crate::handover::Candidate;

/// How long a successor may take for its first word, which it says before it opens or asks anything.
const FIRST_WORD: Duration = Duration::from_secs(60);
/// How long one that did not take over may take to end.
const LAST_WORD: Duration = Duration::from_secs(10);

/// Why the first process of a container (PID 1) is not replaced: the kernel ends a container with it.
pub(crate) const FIRST: &str = "it is the first process of its container, which ends with it, a successor included; restart the container";

/// Whether [`FIRST`] holds for this process.
pub(crate) fn is_first() -> bool {
    std::process::id() == 1
}

/// Starts a successor at each signal, until `shutdown`; one at a time. `candidate` is what is heard of it.
///
/// # Errors
/// What the system says.
pub(crate) fn on_signal(
    shutdown: CancellationToken,
    candidate: watch::Receiver<Candidate>,
) -> io::Result<impl Future<Output = ()> + Send> {
    let mut asked = signal(SignalKind::user_defined2())?;
    Ok(async move {
        let mut successor: Option<Successor> = None;
        loop {
            tokio::select! {
                Some(()) = asked.recv() => match &successor {
                    Some(successor) => successor.is_there_already(*candidate.borrow()),
                    None => successor = start(&candidate),
                },
                () = ended(&mut successor) => successor = None,
                () = shutdown.cancelled() => return,
            }
        }
    })
}

/// Starts one, or says why not.
fn start(candidate: &watch::Receiver<Candidate>) -> Option<Successor> {
    if is_first() {
        tracing::error!("SIGUSR2: this program cannot be replaced: {FIRST}. Serving as before");
        return None;
    }
    let arguments: Vec<_> = std::env::args_os().collect();
    let Some((program, arguments)) = arguments.split_first() else {
        tracing::error!("cannot start a successor: this program was started without its name");
        return None;
    };
    let mut command = Command::new(program);
    command.args(with_take_over(arguments));
    let program = program.to_string_lossy();
    match Successor::start(&mut command, candidate.clone(), FIRST_WORD) {
        Ok(successor) => {
            tracing::info!(%program, pid = successor.pid, "SIGUSR2: started a successor");
            Some(successor)
        }
        Err(error) => {
            tracing::error!(%program, "cannot start a successor: {error}. Serving as before");
            None
        }
    }
}

/// Waits for the end of the one that there is. Cancel-safe.
async fn ended(successor: &mut Option<Successor>) {
    match successor {
        Some(successor) => match successor.ended().await {
            Ok(status) => tracing::error!("the successor ended ({status}): it says why in its own lines"),
            Err(error) => tracing::error!("the successor is lost: {error}"),
        },
        None => std::future::pending().await,
    }
}

/// A program that was started to replace this one.
struct Successor {
    child: Child,
    pid: u32,
    /// Ends with the reason when it has had its time.
    overdue: Pin<Box<dyn Future<Output = &'static str> + Send>>,
}

impl Successor {
    fn start(
        command: &mut Command,
        mut candidate: watch::Receiver<Candidate>,
        first_word: Duration,
    ) -> io::Result<Self> {
        candidate.mark_unchanged();
        let child = command.spawn()?;
        let pid = child.id().unwrap_or_default();
        Ok(Self { child, pid, overdue: Box::pin(overdue(pid, candidate, first_word)) })
    }

    /// Waits until it has ended, and ends it when it has had its time: while it hangs no other could be started. Cancel-safe.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                status = self.child.wait() => return status,
                why = &mut self.overdue => {
                    self.overdue = Box::pin(std::future::pending());
                    tracing::error!(pid = self.pid, "the successor {why}: it is killed. Serving as before");
                    self.child.start_kill()?;
                }
            }
        }
    }

    /// Answers a further signal.
    fn is_there_already(&self, candidate: Candidate) {
        let pid = self.pid;
        match candidate {
            Candidate::Serves(_) => tracing::info!(pid, "SIGUSR2: the successor serves already"),
            _ => tracing::warn!(pid, "SIGUSR2: the successor started before has not taken over yet"),
        }
    }
}

/// When a successor has had its time, and why. Between its first word and its last the hand-over bounds it.
async fn overdue(pid: u32, mut candidate: watch::Receiver<Candidate>, first_word: Duration) -> &'static str {
    let Ok(heard) = tokio::time::timeout(first_word, candidate.changed()).await else {
        return "has not said in time that it takes over";
    };
    if heard.is_err() || candidate.wait_for(|candidate| *candidate == Candidate::Failed(pid)).await.is_err() {
        return std::future::pending().await; // this program ends
    }
    tokio::time::sleep(LAST_WORD).await;
    "did not take over, and does not end"
}

/// The arguments, with the flag once.
fn with_take_over(arguments: &[OsString]) -> Vec<OsString> {
    let flag = OsString::from(format!("--{TAKE_OVER}"));
    arguments.iter().filter(|argument| **argument != flag).chain([&flag]).cloned().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_told_to_take_over_once() {
        let arguments = ["--config", "a.toml", "--take-over"].map(OsString::from);
        let expected = ["--config", "a.toml", "--take-over"].map(OsString::from);
        assert_eq!(with_take_over(&arguments), expected);
        assert_eq!(with_take_over(&[]), ["--take-over"].map(OsString::from));
    }

    /// A successor that hangs.
    fn hanging(candidate: &watch::Sender<Candidate>, first_word: Duration) -> Successor {
        let mut command = Command::new("sleep");
        command.arg("600").kill_on_drop(true);
        Successor::start(&mut command, candidate.subscribe(), first_word).unwrap()
    }

    #[tokio::test]
    async fn a_successor_that_says_nothing_is_killed_and_another_can_be_started() {
        // What was heard of one before does not count for it.
        let candidate = watch::Sender::new(Candidate::Failed(1));
        let mut successor = Some(hanging(&candidate, Duration::from_millis(100)));
        let killed = ended(&mut successor);
        tokio::time::timeout(Duration::from_secs(30), killed).await.expect("it hangs");
    }

    #[tokio::test]
    async fn a_successor_that_prepares_is_left_its_time() {
        let candidate = watch::Sender::new(Candidate::Nobody);
        let mut successor = hanging(&candidate, Duration::from_millis(100));
        candidate.send_replace(Candidate::Prepares(successor.pid));
        let early = tokio::time::timeout(Duration::from_millis(500), successor.ended()).await;
        assert!(early.is_err(), "it was ended: {early:?}");
    }
}
