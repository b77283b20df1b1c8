//! Open files: how many the process may have. Every connection is one.

use std::os::fd::{AsFd, AsRawFd as _};

use rustix::process::{Resource, getrlimit, setrlimit};

/// Files beside the connections: logs, store, page, upstreams, and some to spare.
const OTHERS: u64 = 128;

/// Of these, as many as no connection gets: a block that is found while connections take all that there is must find one for
/// its file and one for its node.
const SPARE: u64 = 32;

/// Whether a file that was just opened leaves the spare ones free: the kernel gives the lowest number that is free.
pub(crate) fn leaves_spare(file: impl AsFd) -> bool {
    u64::try_from(file.as_fd().as_raw_fd()).is_ok_and(|number| number < open_files().saturating_sub(SPARE))
}

/// Raises the soft limit to the hard one: programs that use select() need the low default, this one does not.
/// Returns the limit before and after.
pub(crate) fn raise_open_files() -> (u64, u64) {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current.unwrap_or(u64::MAX);
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => (before, open_files()),
        Err(_) => (before, before), // the soft limit holds, and the log line says it
    }
}

/// How many files this process may have open; `u64::MAX` if there is no limit.
#[must_use]
pub fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Warns if the limit of open files does not hold `connections`, the value of the config key `key`. With too few, those
/// who are connected are served, and others wait until files come free.
pub fn fits_open_files(key: &str, connections: usize) -> bool {
    let (limit, needed) = (open_files(), (connections as u64).saturating_add(OTHERS));
    let fits = needed <= limit;
    if !fits {
        tracing::warn!(
            "{key} is {connections}, but only {limit} files may be open: about {} connections fit. Raise the hard limit to \
             {needed} (systemd: LimitNOFILE={needed}; shell: ulimit -Hn), or lower {key}",
            limit.saturating_sub(OTHERS),
        );
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one_and_what_does_not_fit_is_said() {
        let (before, after) = raise_open_files();
        assert_eq!(Some(after), getrlimit(Resource::Nofile).maximum.or(Some(u64::MAX)));
        assert!(before <= after);
        assert_eq!(raise_open_files(), (after, after));
        assert!(fits_open_files("limits.connections", 1));
        assert_eq!(fits_open_files("limits.connections", usize::MAX), after == u64::MAX);
    }
}
