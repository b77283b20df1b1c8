//! Servers under test, ours or SRI's, on their core: where they listen and what they counted.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use link::AuthorityPublicKey;

use super::bed::Bed;
use super::{ours, theirs};
use crate::world::Metrics;

/// Whose programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `sluice-tp`, `sluice-hub`, `sluice-proxy`.
    Ours,
    /// `pool_sv2` and `translator_sv2`.
    Theirs,
}

/// How templates come to our hub. SRI's pool always takes them by IPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Bitcoin Core's mining interface.
    Ipc,
    /// Its JSON-RPC.
    Gbt,
}

/// Servers that run.
pub struct Stand {
    /// SV2: hub or pool.
    pub hub: SocketAddr,
    /// Its key.
    pub authority: AuthorityPublicKey,
    /// SV1: proxy or translator, if asked for.
    pub proxy: Option<SocketAddr>,
    /// Hub or pool; the template provider beside ours counts, too.
    pub hub_pids: Vec<u32>,
    /// Proxy or translator.
    pub proxy_pids: Vec<u32>,
    pub(super) page: String,
    pub(super) side: Side,
    /// Killed when dropped.
    pub(super) _kept: Vec<Box<dyn std::any::Any>>,
}

impl Stand {
    /// Starts what a run needs in a fresh `directory`.
    ///
    /// # Errors
    /// A program is missing or does not come up.
    pub async fn start(
        side: Side,
        bed: &Bed,
        source: Source,
        with_proxy: bool,
        directory: &Path,
        core: usize,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        match side {
            Side::Ours => ours::start(bed, source, with_proxy, directory, core).await,
            Side::Theirs => theirs::start(bed, with_proxy, directory, core).await,
        }
    }

    /// Shares that hub or pool have counted, as they say themselves.
    ///
    /// # Errors
    /// No answer.
    pub async fn arrived(&self, http: &reqwest::Client) -> anyhow::Result<u64> {
        let text = http.get(&self.page).timeout(Duration::from_secs(5)).send().await?.text().await?;
        match self.side {
            Side::Ours => {
                let totals: serde_json::Value = serde_json::from_str(&text)?;
                totals["shares"].as_u64().context("no count of shares")
            }
            Side::Theirs => {
                let sum = Metrics::parse(&text)?.sum("sv2_client_shares_accepted_total", &[]);
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count
                Ok(sum.unwrap_or_default() as u64)
            }
        }
    }
}
