//! A template provider: distribution's server end on a socket.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bitcoin::block::Version;
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};
use distribution::server::Event;
use distribution::{BlockTemplate, Coinbase, Parts, Retention, Server, Solution, TemplateTransaction};
use link::Link;
use stratum_core::common_messages_sv2::Protocol;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// 512 expected hashes: shares are easier, blocks come within milliseconds.
const BITS: u32 = 0x1f7f_ffff;

/// A template provider that the test plays.
pub(crate) struct Provider {
    pub(crate) address: String,
    pub(crate) solutions: Arc<Mutex<Vec<Solution>>>,
    templates: watch::Sender<Option<Arc<BlockTemplate>>>,
    /// Whether it gives transactions to who asks.
    gives: watch::Sender<bool>,
    /// The templates that it was asked for the transactions of.
    asked: Arc<Mutex<Vec<u64>>>,
    /// Whether it hangs, as a stopped process does.
    hangs: watch::Sender<bool>,
    next_id: u64,
    task: JoinHandle<()>,
}

impl Provider {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let templates = watch::Sender::new(None);
        let solutions = Arc::new(Mutex::new(Vec::new()));
        let gives = watch::Sender::new(true);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let hangs = watch::Sender::new(false);
        let heard = Heard { solutions: Arc::clone(&solutions), asked: Arc::clone(&asked) };
        let task = tokio::spawn(accept(listener, templates.clone(), gives.clone(), hangs.clone(), heard));
        Self { address, solutions, templates, gives, asked, hangs, next_id: 1 << 16, task }
    }

    /// The templates that it was asked for the transactions of, by their place among those published, from 1.
    pub(crate) fn asked(&self) -> Vec<u64> {
        self.asked.lock().unwrap().iter().map(|id| (id >> 16) - 1).collect()
    }

    /// From now on whoever asks for transactions (does not) get them.
    pub(crate) fn give_transactions(&self, gives: bool) {
        self.gives.send_replace(gives);
    }

    /// From now on it does nothing while its connections stay, or does again.
    pub(crate) fn hang(&self, hangs: bool) {
        self.hangs.send_replace(hangs);
    }

    /// A template for this height, with one transaction.
    pub(crate) fn publish(&mut self, height: u32) {
        self.next_id += 1 << 16;
        self.templates.send_replace(Some(Arc::new(BlockTemplate::new(self.next_id, parts(height)))));
    }

    /// It is gone, and its connections with it.
    pub(crate) fn stop(self) {
        self.task.abort();
    }
}

/// What its clients have said.
#[derive(Clone)]
struct Heard {
    solutions: Arc<Mutex<Vec<Solution>>>,
    asked: Arc<Mutex<Vec<u64>>>,
}

async fn accept(
    listener: TcpListener,
    templates: watch::Sender<Option<Arc<BlockTemplate>>>,
    gives: watch::Sender<bool>,
    hangs: watch::Sender<bool>,
    heard: Heard,
) {
    let server = Arc::new(link::Server {
        authority: link::AuthorityKey::generate(&mut rand::thread_rng()),
        certificate_validity: Duration::from_secs(60),
        protocol: Protocol::TemplateDistributionProtocol,
        supported_flags: 0,
        flags: 0,
        extensions: vec![],
        limits: link::Limits::default(),
    });
    let mut sessions = tokio::task::JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        while_it_hangs(&mut hangs.subscribe()).await;
        // Who has waited for too long is gone.
        let Ok(link) = Link::accept(socket, &server).await else { continue };
        let (templates, gives, hangs) = (templates.subscribe(), gives.subscribe(), hangs.subscribe());
        sessions.spawn(serve(link, templates, gives, hangs, heard.clone()));
    }
}

async fn while_it_hangs(hangs: &mut watch::Receiver<bool>) {
    let _ = hangs.wait_for(|hangs| !*hangs).await;
}

async fn serve(
    mut link: Link,
    mut templates: watch::Receiver<Option<Arc<BlockTemplate>>>,
    mut gives: watch::Receiver<bool>,
    mut hangs: watch::Receiver<bool>,
    heard: Heard,
) -> Result<(), link::LinkError> {
    let mut session = Server::new(Retention::default(), templates.borrow_and_update().clone());
    loop {
        tokio::select! {
            received = link.recv() => session.handle(Instant::now(), &mut received?).unwrap(),
            changed = templates.changed() => {
                if changed.is_err() { return Ok(()); }
                if let Some(template) = templates.borrow_and_update().clone() {
                    session.publish(Instant::now(), template).unwrap();
                }
            }
            Ok(()) = gives.changed() => {}
        }
        while_it_hangs(&mut hangs).await;
        while let Some(event) = session.poll_event() {
            match event {
                Event::Solution(solution) => heard.solutions.lock().unwrap().push(*solution),
                Event::SolutionRefused(error) => panic!("{error}"),
                Event::TransactionDataRequested { template_id, .. } => {
                    heard.asked.lock().unwrap().push(template_id);
                }
                Event::Constraints(_) | Event::UnknownExtension(_) => {}
            }
        }
        while *gives.borrow() || !session.data_is_next() {
            let Some(frame) = session.poll_send().unwrap() else { break };
            link.queue(&frame)?;
        }
        link.flush().await?;
    }
}

/// A block at `height`; the block before is named after its height.
fn parts(height: u32) -> Parts {
    let transaction = transaction(height);
    let commitment = distribution::merkle::witness_commitment([transaction.wtxid.to_byte_array()]);
    Parts {
        version: Version::from_consensus(0x2000_0000),
        prev_hash: BlockHash::from_byte_array([u8::try_from(height - 1).unwrap(); 32]),
        height,
        bits: CompactTarget::from_consensus(BITS),
        time: 1_700_000_000,
        coinbase: Coinbase::at(height, Amount::from_sat(5_000_000_000) + transaction.fee, Some(commitment)),
        transactions: vec![transaction].into(),
        weight_limit: 4_000_000,
        sigop_limit: 80_000,
    }
}

fn transaction(height: u32) -> TemplateTransaction {
    let transaction = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::from_consensus(height),
        input: vec![TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 0 },
            script_sig: bitcoin::ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[7; 64]]),
        }],
        output: vec![TxOut { value: Amount::from_sat(1000), script_pubkey: vec![0x51].into() }],
    };
    TemplateTransaction {
        data: bitcoin::consensus::serialize(&transaction).into(),
        txid: transaction.compute_txid(),
        wtxid: transaction.compute_wtxid(),
        depends: vec![],
        fee: Amount::from_sat(500),
        sigops: 0,
        weight: transaction.weight().to_wu(),
    }
}
