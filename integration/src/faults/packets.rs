//! Packets that get lost, by nft's rules for this network namespace; so only in a test that runs
//! [`apart`](super::apart()).

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// The rules of this namespace; without one everything arrives.
#[derive(Debug, Default)]
pub struct Packets(());

impl Packets {
    /// So many of a hundred packets from and to this port are lost, by chance. Holds instead of all earlier rules.
    ///
    /// # Errors
    /// nft's.
    pub fn lose(&self, percent: u8, ports: &[u16]) -> anyhow::Result<()> {
        let chance =
            if percent >= 100 { String::new() } else { format!("numgen random mod 100 < {percent} ") };
        let rules: String = ports
            .iter()
            .map(|port| format!("tcp dport {port} {chance}drop\n tcp sport {port} {chance}drop\n "))
            .collect();
        apply(&rules)
    }

    /// Nothing more from or to these ports arrives: each side looks to the other as if it had vanished.
    ///
    /// # Errors
    /// nft's.
    pub fn lose_all(&self, ports: &[u16]) -> anyhow::Result<()> {
        self.lose(100, ports)
    }

    /// Everything arrives again.
    ///
    /// # Errors
    /// nft's.
    pub fn lose_none(&self) -> anyhow::Result<()> {
        apply("")
    }
}

/// Dropped where they come in: a sender notices nothing.
fn apply(rules: &str) -> anyhow::Result<()> {
    let script = format!(
        "table inet sluice_faults\ndelete table inet sluice_faults\ntable inet sluice_faults {{\n \
         chain lost {{\n type filter hook input priority 0;\n {rules}}}\n}}\n"
    );
    let mut nft =
        Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    nft.stdin.take().context("nft takes no rules")?.write_all(script.as_bytes())?;
    let output = nft.wait_with_output()?;
    ensure!(output.status.success(), "nft: {}\n{script}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
