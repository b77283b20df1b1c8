//! sluice-tp in a process of its own, which has its own memory and its own files.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// It ends with this.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn start(directory: &Path, config: &str) -> Self {
        let (file, log) = (directory.join("tp.toml"), directory.join("log"));
        fs::write(&file, config).unwrap();
        let out = File::create(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sluice-tp"))
            .arg("--config")
            .arg(&file)
            .stderr(out.try_clone().unwrap())
            .stdout(out)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Memory in use, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Lets it open so many more files than it has open; what it might open before.
    pub(crate) fn leave_room_for(&self, files: u64) -> Rlimit {
        let open = fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count() as u64;
        // The hard limit is this process's own, which the program has from it.
        let limit = Rlimit { current: Some(open + files), ..getrlimit(Resource::Nofile) };
        self.limit_files(limit)
    }

    /// Sets how many files it may open; what it might open before.
    pub(crate) fn limit_files(&self, limit: Rlimit) -> Rlimit {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        prlimit(pid, Resource::Nofile, limit).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
