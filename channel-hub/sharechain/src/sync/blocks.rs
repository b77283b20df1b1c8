//! Blocks that shares stand on and this node does not know: their headers are asked for, and given to the shell.

use bitcoin::BlockHash;
use bitcoin::block::Header;

use super::fault::Fault;
use super::node::{Event, Node, Now, PeerId};
use super::peer::Outgoing;
use super::settings::Blocks;

impl<B: Blocks> Node<B> {
    /// Asks who brought a share for its parent block's header; one at a time.
    pub(crate) fn want_header(&mut self, now: Now, block: BlockHash, from: PeerId) {
        let Some(peer) = self.peers.get_mut(&from).filter(|peer| peer.header.is_none()) else { return };
        peer.header = Some((block, now.instant));
        if !peer.send(Outgoing::GetHeader(block)) {
            self.blame(now, from, Fault::SlowReader);
        }
    }

    /// An answer to that. Who has it not is at no fault: it may have taken the share because it is buried.
    pub(crate) fn header(
        &mut self,
        peer: PeerId,
        block: BlockHash,
        header: Option<Header>,
    ) -> Result<(), Fault> {
        let asked = self.peer(peer).header.take_if(|(asked, _)| *asked == block);
        asked.ok_or(Fault::Unasked)?;
        let Some(header) = header else { return Ok(()) };
        if header.block_hash() != block || header.validate_pow(header.target()).is_err() {
            return Err(Fault::OtherHeader(block));
        }
        self.events.push_back(Event::Header { header, from: peer });
        Ok(())
    }
}
