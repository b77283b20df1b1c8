//! Ports that no other world takes, in this process or another.
//!
//! They lie below the range that the kernel gives to outgoing connections, so that a program which was killed finds its
//! port free when it comes back. A lock file for each holds it for one world; the lock goes with the process.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, bail};

const FIRST: u16 = 12_000;
const COUNT: u16 = 18_000;

/// A port on 127.0.0.1, ours as long as this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Takes one that is free.
    ///
    /// # Errors
    /// No port is free, or the directory of the locks cannot be written to.
    pub fn take() -> anyhow::Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let locks = std::env::temp_dir().join("sluice-ports");
        std::fs::create_dir_all(&locks).with_context(|| format!("making {}", locks.display()))?;
        let start = (std::process::id() % u32::from(COUNT)) * 61;
        for _ in 0..COUNT {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let number = FIRST + u16::try_from((start + step) % u32::from(COUNT))?;
            let lock = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(locks.join(number.to_string()))?;
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("no free port between {FIRST} and {}", FIRST + COUNT)
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:port`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_worlds_get_the_same_port() {
        let ports: Vec<Port> = (0..50).map(|_| Port::take().unwrap()).collect();
        assert_eq!(ports.iter().map(Port::number).collect::<HashSet<_>>().len(), 50);
    }
}
