//! The world's own node.

use std::time::Duration;

use integration::world::chain::CHECKED_IN;
use integration::world::{Chain, bounded, holds, until};

#[tokio::test]
async fn the_node_starts_with_the_checked_in_chain_and_mature_coins_and_comes_back_after_a_kill() {
    let test = async {
        let directory = tempfile::tempdir()?;
        let mut chain = Chain::start(directory.path()).await?;
        assert_eq!(chain.height().await?, CHECKED_IN);
        let paid = [chain.pay().await?, chain.pay().await?];
        assert_eq!(chain.mempool().await?.len(), 2);
        chain.generate().await?;
        let block = chain.block_at(CHECKED_IN + 1).await?;
        assert!(paid.iter().all(|txid| block.txdata.iter().any(|tx| tx.compute_txid() == *txid)));

        chain.kill();
        assert!(chain.height().await.is_err());
        chain.restart().await?;
        until("the chain is whole again", Duration::from_secs(10), async || {
            let height = chain.height().await?;
            holds(height >= CHECKED_IN, height)
        })
        .await
    };
    bounded(Duration::from_secs(120), test).await.unwrap();
}
