//! A template provider's session and its client's.
//!
//! What holds: ids only rise; a solution that is accepted is a block by rust-bitcoin's rules; our client understands
//! whatever our server says; nobody's bytes stop
//! either; nothing waits for transactions that have come or never do; and when both are gone, so are the templates.

use crate::input::Input;
use crate::mining::received;
use bitcoin::absolute::LockTime;
use bitcoin::block::Version;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version as TransactionVersion;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
    Witness,
};
use distribution::client::Event as Said;
use distribution::server::Event;
use distribution::{
    BlockTemplate, Client, Coinbase, Constraints, Parts, Retention, Server, Solution, TemplateTransaction,
    Transactions,
};
use link::Frame;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use stratum_core::template_distribution_sv2::{NewTemplateOwned, SubmitSolutionOwned};

/// Bytes to actions.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new();
    while !input.is_empty() {
        if !world.act(&mut input) {
            world = World::new();
        }
        world.look();
    }
    let published = std::mem::take(&mut world.published);
    drop(world);
    assert!(published.iter().all(|template| template.upgrade().is_none()), "templates that are never freed");
}

struct World {
    now: Instant,
    server: Server,
    client: Client,
    to_server: VecDeque<Frame>,
    to_client: VecDeque<Frame>,
    templates: Vec<NewTemplateOwned>,
    published: Vec<Weak<BlockTemplate>>,
    /// Transactions that follow their template.
    owed: Vec<(Transactions, Vec<TemplateTransaction>)>,
    /// Solutions before their transactions.
    unfinished: Vec<Solution>,
    next: u64,
    last: u64,
    is_clean: bool,
    /// Some coinbase was changed.
    is_spoilt: bool,
}

impl World {
    fn new() -> Self {
        let retention =
            Retention { templates: 3, replaced: Duration::from_secs(60), stale: Duration::from_secs(10) };
        Self {
            now: Instant::now(),
            server: Server::new(retention, None),
            client: Client::new(),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            templates: Vec::new(),
            published: Vec::new(),
            owed: Vec::new(),
            unfinished: Vec::new(),
            next: 1,
            last: 0,
            is_clean: true,
            is_spoilt: false,
        }
    }

    /// One action; false when the connection is over.
    fn act(&mut self, input: &mut Input<'_>) -> bool {
        match input.below(13) {
            0 => {
                let max_additional_size = [0, 100, 1000, 999_000, input.number()][input.below(5)];
                let max_additional_sigops = u16::from(input.byte()) * 100;
                let constraints = Constraints { max_additional_size, max_additional_sigops };
                self.client.constraints(constraints).unwrap();
            }
            1 | 2 => return self.publish(input),
            3 => self.client.request_transaction_data(self.id(input)).unwrap(),
            4..=6 => self.solve(input),
            7 => {
                self.now += Duration::from_millis(u64::from(input.byte()).pow(2));
                self.server.handle_timeout(self.now);
                assert!(
                    self.server.poll_timeout().is_none_or(|due| due > self.now),
                    "a timer that does not move on"
                );
            }
            8..=9 => return self.deliver(input),
            10 => {
                self.is_clean = false;
                self.is_spoilt = true;
                return received(input)
                    .is_none_or(|mut frame| self.server.handle(self.now, &mut frame).is_ok());
            }
            11 => return self.arrive(input),
            _ => {
                self.is_clean = false;
                return received(input).is_none_or(|mut frame| self.client.handle(&mut frame).is_ok());
            }
        }
        true
    }

    fn id(&self, input: &mut Input<'_>) -> u64 {
        let known: Vec<u64> = self.templates.iter().map(|template| template.template_id).collect();
        input.pick(&known).copied().unwrap_or_default() + u64::from(input.rarely(6))
    }

    fn publish(&mut self, input: &mut Input<'_>) -> bool {
        let mut parts = parts(input.byte() % 3, input.below(6), input.byte());
        if input.rarely(3) {
            let whole = parts.transactions;
            let max_additional_size = [0, 1000, 999_000][input.below(3)];
            let room = Constraints { max_additional_size, max_additional_sigops: 1000 };
            parts.transactions = Transactions::awaited(whole.merkle_path().to_vec(), room);
            self.owed.push((parts.transactions.clone(), whole.all().unwrap().to_vec()));
        }
        let template = Arc::new(BlockTemplate::new(self.next << 32, parts));
        self.next += 1;
        self.published.push(Arc::downgrade(&template));
        self.server.publish(self.now, template).is_ok()
    }

    /// Transactions come, or are given up.
    fn arrive(&mut self, input: &mut Input<'_>) -> bool {
        if self.owed.is_empty() {
            return true;
        }
        let (transactions, all) = self.owed.swap_remove(input.below(self.owed.len()));
        transactions.settle(if input.rarely(4) { None } else { Some(all) });
        if self.server.handle_arrival(self.now).is_err() {
            return false;
        }
        assert!(!self.owed.is_empty() || !self.server.is_waiting(), "waits for nothing");
        true
    }

    fn solve(&mut self, input: &mut Input<'_>) {
        let Some(template) = input.pick(&self.templates).cloned() else { return };
        let mut coinbase = coinbase(&template, input.below(101).max(2));
        if input.rarely(4) {
            let at = input.number() as usize % coinbase.len();
            coinbase[at] ^= 1 << input.below(8);
            self.is_spoilt = true;
        }
        let solution = SubmitSolutionOwned {
            template_id: template.template_id,
            version: if input.rarely(5) { input.number() } else { template.version },
            header_timestamp: 1_700_000_001,
            header_nonce: input.byte().into(),
            coinbase_tx: coinbase.try_into().unwrap(),
        };
        self.client.submit_solution(solution).unwrap();
    }

    fn deliver(&mut self, input: &mut Input<'_>) -> bool {
        for _ in 0..=input.below(6) {
            if let Some(frame) = self.to_server.pop_front()
                && self.server.handle(self.now, &mut frame.received()).is_err()
            {
                return false;
            }
            if let Some(frame) = self.to_client.pop_front() {
                let handled = self.client.handle(&mut frame.received());
                assert!(
                    handled.is_ok() || !self.is_clean,
                    "our client does not understand our server: {handled:?}"
                );
                if handled.is_err() {
                    return false;
                }
            }
        }
        true
    }

    fn look(&mut self) {
        while let Some(event) = self.server.poll_event() {
            if let Event::Solution(solution) = event {
                self.unfinished.push(*solution);
            }
        }
        self.unfinished.retain(|solution| {
            let Some(block) = solution.block() else { return solution.template.is_awaited() };
            let block: Block = deserialize(&block).unwrap();
            assert!(block.check_merkle_root());
            // A client may spoil its own coinbase's witness; that is for the node to refuse.
            assert!(block.check_witness_commitment() || self.is_spoilt);
            block.header.validate_pow(block.header.target()).unwrap();
            false
        });
        while let Ok(Some(frame)) = self.server.poll_send() {
            self.to_client.push_back(frame);
        }
        self.to_server.extend(std::iter::from_fn(|| self.client.poll_send()));
        while let Some(event) = self.client.poll_event() {
            if let Said::Template(template) = event {
                assert!(template.template_id > self.last || !self.is_clean, "a template's id falls");
                self.last = template.template_id;
                self.templates.push(template);
            }
        }
        if self.templates.len() > 8 {
            self.templates.remove(0);
        }
    }
}

/// A template on tip `tip` with `count` transactions of different sizes, some spending from the one before.
fn parts(tip: u8, count: usize, salt: u8) -> Parts {
    let mut transactions: Vec<TemplateTransaction> = Vec::new();
    for position in 0..count {
        let parent = transactions.last().filter(|_| position % 2 == 1).map(|before| before.txid);
        transactions.push(transaction(position, parent, salt));
    }
    let fees: Amount = transactions.iter().map(|transaction| transaction.fee).sum();
    let commitment =
        distribution::merkle::witness_commitment(transactions.iter().map(|one| one.wtxid.to_byte_array()));
    Parts {
        version: Version::from_consensus(0x2000_0000),
        prev_hash: BlockHash::from_byte_array([tip; 32]),
        height: 200,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        time: 1_700_000_000,
        coinbase: Coinbase::at(200, Amount::from_sat(50_0000_0000) + fees, Some(commitment)),
        transactions: transactions.into(),
        weight_limit: 4_000_000,
        sigop_limit: 80_000,
    }
}

fn transaction(position: usize, parent: Option<Txid>, salt: u8) -> TemplateTransaction {
    let place = u8::try_from(position).unwrap();
    let txid = parent.unwrap_or_else(|| Txid::from_byte_array([salt ^ place; 32]));
    let input = TxIn {
        previous_output: OutPoint { txid, vout: 0 },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::from_slice(&[vec![7; 40 * position]]),
    };
    let output = TxOut { value: Amount::from_sat(1000), script_pubkey: vec![0x51; 100 + position].into() };
    let transaction = Transaction {
        version: TransactionVersion::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output: vec![output],
    };
    TemplateTransaction {
        data: serialize(&transaction).into(),
        txid: transaction.compute_txid(),
        wtxid: transaction.compute_wtxid(),
        depends: parent.map(|_| position - 1).into_iter().collect(),
        fee: Amount::from_sat(u64::from(salt) + 1),
        sigops: u64::from(salt) * 200,
        weight: transaction.weight().to_wu(),
    }
}

/// What a pool makes of a template.
fn coinbase(new: &NewTemplateOwned, script_sig: usize) -> Vec<u8> {
    let mut script = new.coinbase_prefix.as_bytes().to_vec();
    script.resize(script_sig.max(script.len()), 0x51);
    let value = Amount::from_sat(new.coinbase_tx_value_remaining);
    let mut output = vec![TxOut { value, script_pubkey: vec![0x51; 22].into() }];
    let mut required = new.coinbase_tx_outputs.as_bytes();
    for _ in 0..new.coinbase_tx_outputs_count {
        let Ok((next, size)) = bitcoin::consensus::deserialize_partial(required) else { break };
        required = &required[size..];
        output.push(next);
    }
    serialize(&Transaction {
        version: TransactionVersion(new.coinbase_tx_version.cast_signed()),
        lock_time: LockTime::from_consensus(new.coinbase_tx_locktime),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: script.into(),
            sequence: Sequence(new.coinbase_tx_input_sequence),
            witness: Witness::from_slice(&[[0; 32]]),
        }],
        output,
    })
}
