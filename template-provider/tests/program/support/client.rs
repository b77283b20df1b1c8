//! A client of Template Distribution that mines on regtest, where every second hash is a block.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, Sequence, Target, Transaction, TxIn, TxMerkleNode, TxOut,
    Witness, transaction,
};
use distribution::client::Event;
use distribution::{Constraints, merkle};
use link::{AuthorityKey, Frame, Link, LinkError};
use stratum_core::common_messages_sv2::Protocol;
use stratum_core::template_distribution_sv2::{NewTemplateOwned, SetNewPrevHashOwned, SubmitSolutionOwned};

use super::DEADLINE;

pub(crate) struct Client {
    link: Link,
    session: distribution::Client,
    /// Scripts that it adds are so long, in bytes.
    script: usize,
}

/// What to mine on.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) template: NewTemplateOwned,
    pub(crate) prev_hash: SetNewPrevHashOwned,
}

impl Client {
    pub(crate) async fn connect(address: &str, key: &AuthorityKey, size: u32) -> Self {
        let link = Link::connect(address, &settings(key)).await.unwrap();
        let script = (size as usize).min(60_000) - 11;
        let mut client = Self { link, session: distribution::Client::new(), script };
        client
            .session
            .constraints(Constraints { max_additional_size: size, max_additional_sigops: 4 })
            .unwrap();
        client.flush().await;
        client
    }

    /// The next event, within `limit`.
    pub(crate) async fn event_within(&mut self, limit: Duration) -> Option<Event> {
        tokio::time::timeout(limit, async {
            loop {
                if let Some(event) = self.session.poll_event() {
                    return event;
                }
                let mut received = self.link.recv().await.unwrap();
                self.session.handle(&mut received).unwrap();
            }
        })
        .await
        .ok()
    }

    /// Waits for the next tip.
    pub(crate) async fn new_tip(&mut self) -> Work {
        self.new_tip_within(DEADLINE).await
    }

    pub(crate) async fn new_tip_within(&mut self, limit: Duration) -> Work {
        let mut template = None;
        loop {
            match self.event_within(limit).await.expect("no new tip in time") {
                Event::Template(new) => template = Some(new),
                Event::PrevHash(prev_hash) => {
                    let template = template.filter(|template| template.template_id == prev_hash.template_id);
                    return Work { template: template.unwrap(), prev_hash };
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until the server closes the connection.
    pub(crate) async fn closed(&mut self) -> bool {
        tokio::time::timeout(DEADLINE, self.link.recv()).await.is_ok_and(|received| received.is_err())
    }

    pub(crate) async fn transaction_data(&mut self, template_id: u64) -> Event {
        self.session.request_transaction_data(template_id).unwrap();
        self.flush().await;
        self.event_within(DEADLINE).await.unwrap()
    }

    /// Asks for data so many times and reads no answer.
    pub(crate) async fn ask_without_reading(&mut self, template_id: u64, times: usize) {
        for _ in 0..times {
            self.session.request_transaction_data(template_id).unwrap();
        }
        self.flush().await;
    }

    /// Sends so many messages of an extension that is not spoken, in one piece.
    pub(crate) async fn say_in_an_unknown_extension(&mut self, times: u64) {
        let message = Frame::from_bytes(vec![0x43, 0x50, 0x09, 0, 0, 0].into()).unwrap();
        (0..times).for_each(|_| self.link.queue(&message).unwrap());
        self.flush().await;
    }

    /// Mines a block and hands it in; its hash.
    pub(crate) async fn solve(&mut self, work: &Work) -> BlockHash {
        let hash = self.submit(work);
        self.flush().await;
        hash
    }

    /// Mines a block, and hands it in together with more requests than the server takes.
    pub(crate) async fn solve_and_break_off(&mut self, work: &Work) -> BlockHash {
        let hash = self.submit(work);
        for _ in 0..100 {
            self.session.request_transaction_data(work.template.template_id).unwrap();
        }
        self.flush().await;
        hash
    }

    fn submit(&mut self, work: &Work) -> BlockHash {
        let (coinbase, txid) = self.coinbase(&work.template);
        let path: Vec<merkle::Node> =
            work.template.merkle_path.iter_bytes().map(|node| node.try_into().unwrap()).collect();
        let mut header = Header {
            version: Version::from_consensus(work.template.version.cast_signed()),
            prev_blockhash: BlockHash::from_slice(work.prev_hash.prev_hash.as_bytes()).unwrap(),
            merkle_root: TxMerkleNode::from_byte_array(merkle::root(txid, &path)),
            time: work.prev_hash.header_timestamp,
            bits: CompactTarget::from_consensus(work.prev_hash.n_bits),
            nonce: 0,
        };
        while !Target::from_compact(header.bits).is_met_by(header.block_hash()) {
            header.nonce += 1;
        }
        let solution = SubmitSolutionOwned {
            template_id: work.template.template_id,
            version: work.template.version,
            header_timestamp: header.time,
            header_nonce: header.nonce,
            coinbase_tx: coinbase.try_into().unwrap(),
        };
        self.session.submit_solution(solution).unwrap();
        header.block_hash()
    }

    /// A coinbase as long as the client said it may be.
    fn coinbase(&self, template: &NewTemplateOwned) -> (Vec<u8>, merkle::Node) {
        let mut script_sig = template.coinbase_prefix.as_bytes().to_vec();
        script_sig.resize(100, 0x51);
        let value = Amount::from_sat(template.coinbase_tx_value_remaining);
        let own = [vec![0x6a], vec![0x51; self.script - 1]].concat();
        let mut output = vec![TxOut { value, script_pubkey: own.into() }];
        let (commitment, _) =
            bitcoin::consensus::deserialize_partial(template.coinbase_tx_outputs.as_bytes()).unwrap();
        output.push(commitment);
        let coinbase = Transaction {
            version: transaction::Version(template.coinbase_tx_version.cast_signed()),
            lock_time: LockTime::from_consensus(template.coinbase_tx_locktime),
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: script_sig.into(),
                sequence: Sequence(template.coinbase_tx_input_sequence),
                witness: Witness::from_slice(&[[0; 32]]),
            }],
            output,
        };
        (serialize(&coinbase), coinbase.compute_txid().to_byte_array())
    }

    async fn flush(&mut self) {
        self.write().await.unwrap();
    }

    async fn write(&mut self) -> Result<(), LinkError> {
        while let Some(frame) = self.session.poll_send() {
            self.link.queue(&frame)?;
        }
        self.link.flush().await
    }
}

pub(crate) fn settings(key: &AuthorityKey) -> link::Client {
    link::Client {
        authority: Some(key.public()),
        protocol: Protocol::TemplateDistributionProtocol,
        flags: 0,
        device: link::Device { vendor: "test".into(), ..link::Device::default() },
        extensions: Vec::new(),
        limits: link::Limits::default(),
    }
}
