//! The calls of Bitcoin Core's mining interface that are used here, whatever the node's version.
//!
//! Cap'n Proto numbers its calls, and Core renumbered them between 30 and 31; [`v31`] also knows what later versions
//! added, and falls back where a node has not got it. Everything here is `!Send`: it lives on one thread.

mod threads;
mod v30;
mod v31;

use std::rc::Rc;
use std::time::Duration;

use bitcoin_capnp_types::capnp::capability::{FromClientHook, Promise};
use bitcoin_capnp_types::capnp::{self, ErrorKind};
use bitcoin_capnp_types::init_capnp::init;

use super::answer::RawCoinbase;
use super::kind::Kind;

/// An answer that is on its way. Dropping it tells the node that it is not wanted; a call under way goes on there.
pub(super) type Answer<T> = Promise<T, capnp::Error>;

/// The node's mining interface.
pub(super) trait Mining {
    /// Whether calls must wait until it has loaded its chain.
    fn dies_of_early_calls(&self) -> bool {
        false
    }
    /// What is known of the node's version.
    fn version(&self) -> &'static str;
    /// Whether the chain is any but the main one.
    fn is_test_chain(&self) -> Answer<bool>;
    /// Whether the node holds itself to be in initial block download.
    fn is_catching_up(&self) -> Answer<bool>;
    /// Hash (as the header has it) and height of the best block; none while the node starts.
    fn tip(&self) -> Answer<Option<(Vec<u8>, u32)>>;
    /// A template that leaves room for this. It and those that follow it run on two threads of the node of their own.
    fn create_new_block(&self, room: Room) -> Answer<Rc<dyn Template>>;
    /// Hands the node a whole block. None: the node is too old for that.
    fn submit_block(&self, block: &[u8]) -> Answer<Option<Verdict>>;
    /// The answer of a JSON-RPC call without parameters. None: the node is too old for that.
    fn rpc(&self, method: &str) -> Answer<Option<String>>;
    /// When the connection can be closed: a node of version 30 may crash when a client goes during a call.
    fn rest(&self) -> Answer<()> {
        Promise::ok(())
    }
}

/// The next template, on its way.
pub(super) struct Waiting {
    /// None: not within the patience, or the node ends.
    pub(super) answer: Answer<Option<Rc<dyn Template>>>,
    /// It, before it is there: what it is asked now goes to the node now, which answers as soon as there is one (promise pipelining). None:
    /// it can only be asked then.
    pub(super) promised: Option<Rc<dyn Template>>,
}

/// A template that the node holds for us until this is dropped. A call is sent when it is made or when its turn comes, not when its answer is
/// waited for.
pub(super) trait Template {
    /// The block's header, 80 bytes.
    fn header(&self) -> Answer<Vec<u8>>;
    /// What the coinbase must look like.
    fn coinbase(&self) -> Answer<RawCoinbase>;
    /// Hashes beside the coinbase on its way to the merkle root, the deepest first.
    fn merkle_path(&self) -> Answer<Vec<Vec<u8>>>;
    /// The whole block with a dummy for its coinbase.
    fn block(&self) -> Answer<Vec<u8>>;
    /// Fees of its transactions, in satoshi.
    fn fees(&self) -> Answer<Vec<i64>>;
    /// Sigop costs of its transactions.
    fn sigops(&self) -> Answer<Vec<i64>>;
    /// The most patience that a wait may have with this node.
    fn most_patience(&self) -> Duration {
        Duration::MAX
    }
    /// The next template: when the tip changes, or when one would pay `more` satoshis.
    fn wait_next(&self, patience: Duration, more: i64) -> Waiting;
    /// Ends a [`Self::wait_next`] under way.
    fn interrupt_wait(&self) -> Answer<()>;
    /// Hands the node a solution of this template. `coinbase`: serialised with its witness.
    fn submit_solution(&self, header: SolvedHeader, coinbase: &[u8]) -> Answer<Verdict>;
}

/// What a template is asked, by the thread of the node that answers it.
#[derive(Clone, Copy, Debug)]
enum Part {
    Header,
    Coinbase,
    MerklePath,
    /// The block, the fees, the sigops.
    Transactions,
}

/// What a template leaves free, as `BlockCreateOptions` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) weight: u64,
    pub(super) sigops: u64,
}

/// The part of a solved block's header that the miner chooses.
#[derive(Clone, Copy, Debug)]
pub(super) struct SolvedHeader {
    pub(super) version: u32,
    pub(super) time: u32,
    pub(super) nonce: u32,
}

/// What the node says to a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has processed it. That it is valid is certain only where the node gives reasons.
    Taken,
    /// It does not want it; in BIP22's words, or none.
    Refused(String),
}

/// `MAX_MONEY`: fees never rise by so much, and the node need not look for them.
pub(super) const NEVER: i64 = 2_100_000_000_000_000;
/// The most that Core takes for `block_reserved_weight`.
const MOST_WEIGHT: u64 = 4_000_000;
/// The most sigops a block can keep free.
const MAX_SIGOPS: u64 = 80_000;

impl From<Kind> for Room {
    fn from(kind: Kind) -> Self {
        let room = kind.room();
        Self {
            weight: room.reserved_weight().min(MOST_WEIGHT),
            sigops: room.reserved_sigops().min(MAX_SIGOPS),
        }
    }
}

/// The node's mining interface, in the oldest wording that it understands.
pub(super) async fn mining(init: init::Client) -> Result<Rc<dyn Mining>, capnp::Error> {
    let (map, thread) = v31::first_thread(&init).await?;
    match v31::mining(&init, map.clone(), thread.clone()).await {
        // With the same thread: a node of version 30 may die where one is let go that has not begun yet.
        Err(error) if error.kind == ErrorKind::Unimplemented => {
            let (map, thread) =
                (FromClientHook::new(map.client.hook), FromClientHook::new(thread.client.hook));
            v30::mining(FromClientHook::new(init.client.hook), map, thread).await
        }
        answer => answer,
    }
}

/// What a call answers, or none if the node does not know the call.
fn if_implemented<T>(answer: Result<T, capnp::Error>) -> Result<Option<T>, capnp::Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.kind == ErrorKind::Unimplemented => Ok(None),
        Err(error) => Err(error),
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The calls that both generations word alike, but for their numbers.
macro_rules! shared_mining_calls {
    () => {
        fn is_test_chain(&self) -> Answer<bool> {
            ask!(self.client, self.thread, is_test_chain_request, |answer| answer.get_result())
        }

        fn is_catching_up(&self) -> Answer<bool> {
            ask!(self.client, self.thread, is_initial_block_download_request, |answer| answer.get_result())
        }

        fn tip(&self) -> Answer<Option<(Vec<u8>, u32)>> {
            ask!(self.client, self.thread, get_tip_request, |answer| {
                if !answer.get_has_result() {
                    return Ok(None);
                }
                let tip = answer.get_result()?;
                Some((tip.get_hash()?.to_vec(), u32::try_from(tip.get_height()).unwrap_or_default()))
            })
        }
    };
}

/// As [`shared_mining_calls`], of a template.
macro_rules! shared_template_calls {
    () => {
        fn header(&self) -> Answer<Vec<u8>> {
            let thread = self.threads.of(Part::Header);
            ask!(self.client, thread, get_block_header_request, |answer| answer.get_result()?.to_vec())
        }

        fn merkle_path(&self) -> Answer<Vec<Vec<u8>>> {
            let thread = self.threads.of(Part::MerklePath);
            ask!(self.client, thread, get_coinbase_merkle_path_request, |answer| {
                let nodes = answer.get_result()?.iter();
                nodes.map(|node| node.map(<[u8]>::to_vec)).collect::<Result<_, _>>()?
            })
        }

        fn block(&self) -> Answer<Vec<u8>> {
            let thread = self.threads.of(Part::Transactions);
            ask!(self.client, thread, get_block_request, |answer| answer.get_result()?.to_vec())
        }

        fn fees(&self) -> Answer<Vec<i64>> {
            let thread = self.threads.of(Part::Transactions);
            ask!(self.client, thread, get_tx_fees_request, |answer| answer.get_result()?.iter().collect())
        }

        fn sigops(&self) -> Answer<Vec<i64>> {
            let thread = self.threads.of(Part::Transactions);
            ask!(self.client, thread, get_tx_sigops_request, |answer| answer.get_result()?.iter().collect())
        }

        fn wait_next(&self, patience: Duration, more: i64) -> Waiting {
            let mut request = self.client.wait_next_request();
            let mut fill = || {
                request.get().get_context()?.set_thread(self.threads.waiting.clone());
                let mut options = request.get().get_options()?;
                options.set_timeout(milliseconds(patience));
                options.set_fee_threshold(more);
                Ok(())
            };
            if let Err(error) = fill() {
                return Waiting { answer: Promise::err(error), promised: None };
            }
            let sent = request.send();
            let (response, promised) = (sent.promise, sent.pipeline.get_result());
            let template = |client, threads| Rc::new(NodeTemplate { client, threads }) as Rc<dyn Template>;
            let promised = Some(template(promised, self.threads.clone()));
            let threads = self.threads.clone();
            let answer = self.threads.attend(async move {
                match response.await?.get()?.get_result() {
                    Ok(client) => Ok(Some(template(client, threads))),
                    Err(error) if error.kind == ErrorKind::MessageContainsNullCapabilityPointer => Ok(None),
                    Err(error) => Err(error),
                }
            });
            Waiting { answer, promised }
        }

        fn interrupt_wait(&self) -> Answer<()> {
            let response = self.client.interrupt_wait_request().send().promise;
            Promise::from_future(async move { response.await.map(|_| ()) })
        }
    };
}

/// A call without parameters, on a thread, and what is read of its answer.
macro_rules! ask {
    ($client:expr, $thread:expr, $request:ident, |$answer:ident| $read:expr) => {{
        let client = $client.clone();
        $thread.call(move |thread| {
            let mut request = client.$request();
            match request.get().get_context() {
                Ok(mut context) => context.set_thread(thread),
                Err(error) => return Promise::err(error),
            }
            let response = request.send().promise;
            Promise::from_future(async move {
                let response = response.await?;
                let $answer = response.get()?;
                Ok($read)
            })
        })
    }};
}

use {ask, shared_mining_calls, shared_template_calls};
