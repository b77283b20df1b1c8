//! Packets that are lost on their way.

use integration::faults::{Line, Packets, apart};
use integration::world::{Plan, bounded};

use crate::{BOUND, a_block_arrives, miner, more_shares};

#[test]
fn shares_and_a_block_get_through_lines_that_lose_up_to_a_fifth_of_the_packets() {
    let test = async {
        let mut line = Line::start(Plan::default()).await?;
        let packets = Packets::default();
        let parts = [&line.world.pool.template_provider, &line.world.pool.hub, &line.world.proxy];
        let ports = parts.map(|part| part.port());
        let miner = miner(&line);
        for percent in [5, 20] {
            packets.lose(percent, &ports)?;
            more_shares(&miner, 10).await?;
            a_block_arrives(&mut line, &miner).await?;
        }
        packets.lose_none()?;
        line.nothing_is_lost(&miner).await?;
        assert_eq!(miner.tally().connections, 1, "{:?}", miner.tally());
        Ok(())
    };
    apart(
        "lost_packets::shares_and_a_block_get_through_lines_that_lose_up_to_a_fifth_of_the_packets",
        &["nft"],
        bounded(BOUND, test),
    );
}
