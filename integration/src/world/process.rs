//! A child process and its log.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::wait::until;

/// A program that runs, or ran, with what it needs to run again. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

/// Lines of a log that a panic shows.
const SHOWN: usize = 30;

impl Process {
    /// Describes a program; its output goes to `log`. Nothing runs yet.
    pub fn new(
        name: impl Into<String>,
        program: PathBuf,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
        log: PathBuf,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self { name: name.into(), program, arguments, environment: Vec::new(), log, child: None }
    }

    /// The same with an environment variable.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets an environment variable for its next start.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Binds it to one core, from its next start on.
    pub fn pin(&mut self, core: usize) {
        let program = std::mem::replace(&mut self.program, "taskset".into());
        let pinned = ["-c".into(), core.to_string().into(), program.into_os_string()];
        self.arguments.splice(0..0, pinned);
    }

    /// Gives it this soft limit of open files, from its next start on; the hard one stays.
    pub fn limit_files(&mut self, soft: u64) {
        let program = std::mem::replace(&mut self.program, "/bin/sh".into());
        let limited = format!("ulimit -Sn {soft} && exec \"$0\" \"$@\"");
        self.arguments.splice(0..0, ["-c".into(), limited.into(), program.into_os_string()]);
    }

    /// Starts it; its output is added to the log.
    ///
    /// In a process group of its own, so that Ctrl-C reaches only us, who end the children in order. It is killed
    /// when the thread that calls this ends (`setpriv`, where the machine has it): so call it on the main thread or on
    /// a test's, never on a pool's.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        use std::os::unix::process::CommandExt;
        ensure!(!self.is_running(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = mortal(&self.program);
        let child = command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {} ({})", self.name, self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Starts a successor with one more argument, by which it takes over from the running one, and waits until that one
    /// has ended by itself. From then on the successor is this process.
    ///
    /// # Errors
    /// It does not run, or did not end within `patience`; then the successor is killed.
    pub async fn replace(&mut self, argument: &str, patience: Duration) -> anyhow::Result<()> {
        ensure!(self.is_running(), "{} does not run", self.name);
        let predecessor = self.child.take();
        self.arguments.push(argument.into());
        let started = self.start();
        self.arguments.pop();
        let mut successor = std::mem::replace(&mut self.child, predecessor);
        started?;
        let ended = until("the predecessor ends", patience, async || {
            let gave_up = successor.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            Ok(match self.is_running() {
                false => Ok(()),
                true if gave_up => Err(anyhow::anyhow!("the successor gave up:\n{}", self.log_end())),
                true => anyhow::bail!("it still runs"),
            })
        })
        .await
        .and_then(|ended| ended);
        let Err(error) = ended else {
            self.child = successor;
            return Ok(());
        };
        if let Some(mut successor) = successor {
            drop(successor.kill()); // it may have ended by itself
            drop(successor.wait());
        }
        Err(error).with_context(|| self.name.clone())
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// What it is called in logs and errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill()); // it may have ended by itself
            drop(child.wait());
        }
    }

    /// SIGSTOP: it stands still, and its connections stay.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT, after [`Self::pause`].
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGUSR2: it starts its own successor, which is a process of which only the log tells.
    ///
    /// # Errors
    /// It does not run.
    pub fn ask_for_a_successor(&self) -> anyhow::Result<()> {
        self.signal(Signal::USR2)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let pid = pid.with_context(|| format!("{} does not run", self.name))?;
        Ok(kill_process(pid, signal)?)
    }

    /// SIGTERM, and waits for its end; kills it after `patience`.
    ///
    /// # Errors
    /// It did not run, or did not end by itself within `patience`.
    pub async fn terminate(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let child = self.child.as_mut().with_context(|| format!("{} does not run", self.name))?;
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM); // it may have ended by itself
        }
        let ended =
            until("end after SIGTERM", patience, async || child.try_wait()?.context("it still runs")).await;
        let ended = ended.with_context(|| self.name.clone());
        self.kill();
        ended
    }

    /// Fails if the program has ended.
    ///
    /// # Errors
    /// It has ended; the end of its log is in the error.
    pub fn ensure_running(&mut self) -> anyhow::Result<()> {
        let running = self.is_running();
        ensure!(running, "{} has ended; the end of its log:\n{}", self.name, self.log_end());
        Ok(())
    }

    /// Everything it has said so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }
}

thread_local! {
    /// Ends of the logs of this thread's processes that are gone, for the test that failed.
    static GONE: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Takes the ends of the logs of all processes that this thread has dropped since it was last asked.
pub(super) fn logs_of_the_gone() -> String {
    GONE.with(RefCell::take).concat()
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let log =
            format!("---- the end of {}'s log ({})\n{}\n", self.name, self.log.display(), self.log_end());
        if GONE.try_with(|gone| gone.borrow_mut().push(log)).is_err() {
            return; // the thread itself is ending, and nobody will ask
        }
        if std::thread::panicking() {
            show(&logs_of_the_gone());
        }
    }
}

#[allow(clippy::print_stderr)] // this is where a failed test says why
fn show(logs: &str) {
    eprint!("{logs}");
}

/// A command that the kernel kills when we are gone, however that came about.
fn mortal(program: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if !setpriv.exists() {
        return Command::new(program);
    }
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::wait::holds;
    use super::*;

    fn shell(script: &str, log: &Path) -> Process {
        Process::new("shell", "/bin/sh".into(), ["-c", script], log.to_owned())
    }

    #[tokio::test]
    async fn a_killed_process_can_be_started_again_and_its_log_grows() {
        let directory = tempfile::tempdir().unwrap();
        let mut process = shell("echo here; exec sleep 60", &directory.path().join("log"));
        for lines in 1..=2 {
            process.start().unwrap();
            assert!(process.start().is_err(), "it runs already");
            let said = async || holds(process.log().lines().count() == lines, process.log());
            until("a line", Duration::from_secs(5), said).await.unwrap();
            process.kill();
            assert!(!process.is_running());
        }
    }

    #[tokio::test]
    async fn a_process_that_minds_sigterm_ends_and_one_that_does_not_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let mut minds =
            shell("trap 'exit 7' TERM; echo here; while :; do sleep 0.05; done", &directory.path().join("a"));
        minds.start().unwrap();
        until("a line", Duration::from_secs(5), async || holds(!minds.log().is_empty(), "no line"))
            .await
            .unwrap();
        assert_eq!(minds.terminate(Duration::from_secs(5)).await.unwrap().code(), Some(7));
        let mut deaf =
            shell("trap '' TERM; echo here; while :; do sleep 0.05; done", &directory.path().join("b"));
        deaf.start().unwrap();
        until("a line", Duration::from_secs(5), async || holds(!deaf.log().is_empty(), "no line"))
            .await
            .unwrap();
        assert!(deaf.terminate(Duration::from_millis(300)).await.is_err());
        assert!(!deaf.is_running());
    }
}
