//! Extranonce prefixes that nobody had before: reserved in the store, a range at a time.

use std::sync::Arc;
use std::time::Duration;

use mining::ExtranoncePrefixes;
use store::Store;

/// Under this name the store keeps what is reserved.
const NAME: &str = "extranonce";
/// Prefixes reserved at a time.
const RANGE: u32 = 65_536;
/// How often it is looked whether more are needed.
const LOOK: Duration = Duration::from_millis(200);

/// Reserves the first range; returns once it is on the disk.
///
/// # Errors
/// The store takes nothing.
pub async fn first(store: &dyn Store, server_id: u16) -> anyhow::Result<Arc<ExtranoncePrefixes>> {
    let range = store.reserve(NAME, RANGE)?;
    store.committed().reached(range.ready).await?;
    let end = range.first + u64::from(range.count);
    Ok(Arc::new(ExtranoncePrefixes::new(server_id, range.first..end)))
}

/// Reserves more whenever less than half a range is left. Ends when the store closes.
///
/// Ranges follow each other without a gap: this is the only place that reserves them.
pub async fn keep_up(store: Arc<dyn Store>, prefixes: Arc<ExtranoncePrefixes>) {
    let mut committed = store.committed();
    loop {
        tokio::time::sleep(LOOK).await;
        if prefixes.left() >= u64::from(RANGE) / 2 {
            continue;
        }
        // A full queue is tried again at the next look.
        let Ok(range) = store.reserve(NAME, RANGE) else { continue };
        if committed.reached(range.ready).await.is_err() {
            return;
        }
        prefixes.grant_until(range.first + u64::from(range.count));
    }
}
