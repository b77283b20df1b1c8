//! A clock that jumps, in the real programs: libfaketime before their libc, with the offset read from a file.
//!
//! Only the time of day jumps. The monotonic clock goes on, as it does on a machine whose clock is set.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::world::Process;

/// One clock, for as many programs as look at it.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

/// Where Debian, Ubuntu, Fedora and Arch put it.
const PLACES: [&str; 6] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
    "/opt/homebrew/lib/faketime/libfaketimeMT.so.1",
];

impl Clock {
    /// A clock that is right, kept in `directory` as `name`.
    ///
    /// # Errors
    /// libfaketime is not installed, or the file cannot be written.
    pub fn new(directory: &Path, name: &str) -> anyhow::Result<Self> {
        let file = directory.join(format!("{name}.clock"));
        let clock = Self { library: library().context("libfaketime is not installed")?, file };
        clock.set(0)?;
        Ok(clock)
    }

    /// Whether this machine has what it needs.
    pub fn is_possible() -> bool {
        library().is_some()
    }

    /// From its next start on, `process` looks at this clock.
    pub fn wear(&self, process: &mut Process) {
        let settings = [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_DONT_RESET", "1".to_owned()),
        ];
        for (name, value) in settings {
            process.set_environment(name, &value);
        }
    }

    /// Sets the clock: it is so many seconds before (positive) or behind the real one. Programs see it within two
    /// seconds.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set(&self, seconds: i64) -> anyhow::Result<()> {
        let fresh = self.file.with_extension("new");
        std::fs::write(&fresh, format!("{seconds:+}s\n"))?;
        Ok(std::fs::rename(fresh, &self.file)?)
    }
}

fn library() -> Option<PathBuf> {
    PLACES.iter().map(PathBuf::from).find(|path| path.is_file())
}
