//! The mining interface of Bitcoin Core 30.
//!
//! Its libmultiprocess has no queue of calls: of those that come for a thread while another waits for it there, 30.0 dies (assertion `!m_fn`) and
//! 30.1 to 30.3 refuse them ("thread busy"). So no thread is given a second call here ([`Thread::without_a_queue`]), and what should not wait for
//! other calls has one of its own.

use std::rc::Rc;
use std::time::Duration;

use bitcoin_capnp_types::capnp::capability::Promise;
use bitcoin_capnp_types::capnp::{self, ErrorKind};
use bitcoin_capnp_types_30::init_capnp::init;
use bitcoin_capnp_types_30::mining_capnp::{block_template, mining};
use bitcoin_capnp_types_30::proxy_capnp::{thread, thread_map};

use super::threads::{Calls, Thread};
use super::{
    Answer, Mining, Part, RawCoinbase, Room, SolvedHeader, Template, Verdict, Waiting, ask, milliseconds,
    shared_mining_calls, shared_template_calls,
};

/// 30.0 cannot interrupt a wait, which must be over before the connection is closed. And where we are killed the node dies if a wait then brings
/// a template.
const MOST_PATIENCE: Duration = Duration::from_millis(500);

struct NodeMining {
    client: mining::Client,
    thread_map: thread_map::Client,
    /// A thread of the node that carries out our short calls.
    thread: Thread<thread::Client>,
    calls: Calls,
}

struct NodeTemplate {
    client: block_template::Client,
    threads: Rc<Threads>,
}

/// Those of one set of templates.
struct Threads {
    header: Thread<thread::Client>,
    coinbase: Thread<thread::Client>,
    merkle_path: Thread<thread::Client>,
    transactions: Thread<thread::Client>,
    /// A block does not wait behind the transactions of a template.
    solutions: Thread<thread::Client>,
    waiting: thread::Client,
    calls: Calls,
}

impl Threads {
    async fn new(
        map: &thread_map::Client,
        mining: &mining::Client,
        calls: &Calls,
    ) -> Result<Self, capnp::Error> {
        let begun = async |name| new_thread(map, mining, name).await;
        let thread = async |name| Ok::<_, capnp::Error>(Thread::without_a_queue(begun(name).await?, calls));
        Ok(Self {
            header: thread("sluice-header").await?,
            coinbase: thread("sluice-coinbase").await?,
            merkle_path: thread("sluice-path").await?,
            transactions: thread("sluice-ask").await?,
            solutions: thread("sluice-block").await?,
            waiting: begun("sluice-wait").await?,
            calls: calls.clone(),
        })
    }

    fn of(&self, part: Part) -> &Thread<thread::Client> {
        match part {
            Part::Header => &self.header,
            Part::Coinbase => &self.coinbase,
            Part::MerklePath => &self.merkle_path,
            Part::Transactions => &self.transactions,
        }
    }

    fn attend<T: 'static>(&self, call: impl Future<Output = Result<T, capnp::Error>> + 'static) -> Answer<T> {
        self.calls.attend(call)
    }
}

pub(super) async fn mining(
    init: init::Client,
    thread_map: thread_map::Client,
    thread: thread::Client,
) -> Result<Rc<dyn Mining>, capnp::Error> {
    let mut request = init.make_mining_request();
    request.get().get_context()?.set_thread(thread.clone());
    let client = request.send().promise.await?.get()?.get_result()?;
    let calls = Calls::default();
    let thread = Thread::without_a_queue(thread, &calls);
    Ok(Rc::new(NodeMining { client, thread_map, thread, calls }))
}

/// A thread that has answered a call, so that it may be let go at any time: a node of version 30 may die of one that has not begun yet
/// ("Operation not permitted").
async fn new_thread(
    map: &thread_map::Client,
    mining: &mining::Client,
    name: &str,
) -> Result<thread::Client, capnp::Error> {
    let mut request = map.make_thread_request();
    request.get().set_name(name);
    let thread = request.send().promise.await?.get()?.get_result()?;
    let mut first = mining.is_test_chain_request();
    first.get().get_context()?.set_thread(thread.clone());
    first.send().promise.await?;
    Ok(thread)
}

impl Mining for NodeMining {
    shared_mining_calls!();

    fn version(&self) -> &'static str {
        "30"
    }

    fn dies_of_early_calls(&self) -> bool {
        true
    }

    fn create_new_block(&self, room: Room) -> Answer<Rc<dyn Template>> {
        let mut request = self.client.create_new_block_request();
        let (map, mining, calls) = (self.thread_map.clone(), self.client.clone(), self.calls.clone());
        self.calls.attend(async move {
            // This version gives the call no thread, and its options no defaults.
            let mut options = request.get().get_options()?;
            options.set_use_mempool(true);
            options.set_block_reserved_weight(room.weight);
            options.set_coinbase_output_max_additional_sigops(room.sigops);
            let client = request.send().promise.await?.get()?.get_result()?;
            let threads = Rc::new(Threads::new(&map, &mining, &calls).await?);
            Ok(Rc::new(NodeTemplate { client, threads }) as Rc<dyn Template>)
        })
    }

    fn submit_block(&self, _block: &[u8]) -> Answer<Option<Verdict>> {
        Promise::ok(None)
    }

    fn rpc(&self, _method: &str) -> Answer<Option<String>> {
        Promise::ok(None)
    }

    fn rest(&self) -> Answer<()> {
        self.calls.rest()
    }
}

impl Template for NodeTemplate {
    shared_template_calls!();

    fn most_patience(&self) -> Duration {
        MOST_PATIENCE
    }

    fn coinbase(&self) -> Answer<RawCoinbase> {
        let thread = self.threads.of(Part::Coinbase);
        ask!(self.client, thread, get_coinbase_tx_request, |answer| {
            RawCoinbase::Transaction(answer.get_result()?.to_vec())
        })
    }

    fn submit_solution(&self, header: SolvedHeader, coinbase: &[u8]) -> Answer<Verdict> {
        let mut request = self.client.submit_solution_request();
        request.get().set_coinbase(coinbase);
        self.threads.solutions.call(move |thread| {
            Promise::from_future(async move {
                let mut params = request.get();
                params.set_version(header.version);
                params.set_timestamp(header.time);
                params.set_nonce(header.nonce);
                params.get_context()?.set_thread(thread);
                let taken = request.send().promise.await?.get()?.get_result();
                Ok(if taken { Verdict::Taken } else { Verdict::Refused(String::new()) })
            })
        })
    }
}
