//! A handful of SV1 miners over TLS that come and go. They send no shares: what is looked at is what their connections leave behind.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::abuse::{Target, tls};
use crate::sv1::{Desk, Wire};
use crate::world::chain::ADDRESS;

/// At a time.
const VISITORS: usize = 5;
/// How long each stays once it has work.
const STAY: Duration = Duration::from_secs(5);
/// Until it comes again, and until it tries again where the proxy is away.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest handshake.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// Where they come from; the load is at 127.0.0.1.
const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// They come until they are told to leave.
pub(super) struct Visitors {
    tasks: TaskTracker,
    stop: CancellationToken,
    visits: Arc<AtomicU64>,
}

impl Visitors {
    pub(super) fn come_to(target: &Target) -> Self {
        let (tasks, stop, visits) =
            (TaskTracker::new(), CancellationToken::new(), Arc::<AtomicU64>::default());
        for _ in 0..VISITORS {
            let (target, stop, visits) = (target.clone(), stop.clone(), Arc::clone(&visits));
            tasks.spawn(async move {
                stop.run_until_cancelled(come_again(&target, &visits)).await;
            });
        }
        tasks.close();
        Self { tasks, stop, visits }
    }

    /// How many visits there were that had work and stayed for as long as they wanted.
    pub(super) async fn leave(self) -> u64 {
        self.stop.cancel();
        self.tasks.wait().await;
        self.visits.load(Ordering::Relaxed)
    }
}

async fn come_again(target: &Target, visits: &AtomicU64) {
    loop {
        // The proxy may be away, or its upstream: such visits are not counted.
        if visit(target).await.is_ok() {
            visits.fetch_add(1, Ordering::Relaxed);
        }
        sleep(PAUSE).await;
    }
}

async fn visit(target: &Target) -> anyhow::Result<()> {
    let socket = timeout(HANDSHAKE, tls::inside(target, FROM)).await??;
    let mut desk = Desk::sit_at(Wire::on(socket), &format!("{ADDRESS}.visitor")).await?;
    ensure!(desk.wire.stays_open(STAY).await, "it was let go");
    Ok(())
}
