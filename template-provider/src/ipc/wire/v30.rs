//! The mining interface of Bitcoin Core 30.

use std::rc::Rc;
use std::time::Duration;

use bitcoin_capnp_types::capnp::capability::Promise;
use bitcoin_capnp_types::capnp::{self, ErrorKind};
use bitcoin_capnp_types_30::init_capnp::init;
use bitcoin_capnp_types_30::mining_capnp::{block_template, mining};
use bitcoin_capnp_types_30::proxy_capnp::{thread, thread_map};

use super::{
    Answer, Mining, RawCoinbase, Room, SolvedHeader, Template, Verdict, Waiting, ask, milliseconds,
    shared_mining_calls, shared_template_calls,
};

/// Whether a template is asked before it is there: no node of this version was at hand to try it with.
const PIPELINES: bool = false;

struct NodeMining {
    client: mining::Client,
    thread_map: thread_map::Client,
    /// A thread of the node that carries out our short calls, one after the other.
    thread: thread::Client,
}

struct NodeTemplate {
    client: block_template::Client,
    threads: Threads,
}

#[derive(Clone)]
struct Threads {
    asking: thread::Client,
    waiting: thread::Client,
}

pub(super) async fn mining(init: init::Client) -> Result<Rc<dyn Mining>, capnp::Error> {
    let thread_map = init.construct_request().send().promise.await?.get()?.get_thread_map()?;
    let thread = new_thread(&thread_map, "sluice").await?;
    let mut request = init.make_mining_request();
    request.get().get_context()?.set_thread(thread.clone());
    let client = request.send().promise.await?.get()?.get_result()?;
    Ok(Rc::new(NodeMining { client, thread_map, thread }))
}

async fn new_thread(map: &thread_map::Client, name: &str) -> Result<thread::Client, capnp::Error> {
    let mut request = map.make_thread_request();
    request.get().set_name(name);
    request.send().promise.await?.get()?.get_result()
}

impl Mining for NodeMining {
    shared_mining_calls!();

    fn version(&self) -> &'static str {
        "30"
    }

    fn create_new_block(&self, room: Room) -> Answer<Rc<dyn Template>> {
        let mut request = self.client.create_new_block_request();
        let map = self.thread_map.clone();
        Promise::from_future(async move {
            let asking = new_thread(&map, "sluice-ask").await?;
            let waiting = new_thread(&map, "sluice-wait").await?;
            // This version gives the call no thread, and its options no defaults.
            let mut options = request.get().get_options()?;
            options.set_use_mempool(true);
            options.set_block_reserved_weight(room.weight);
            options.set_coinbase_output_max_additional_sigops(room.sigops);
            let client = request.send().promise.await?.get()?.get_result()?;
            Ok(Rc::new(NodeTemplate { client, threads: Threads { asking, waiting } }) as Rc<dyn Template>)
        })
    }

    fn submit_block(&self, _block: &[u8]) -> Answer<Option<Verdict>> {
        Promise::ok(None)
    }

    fn rpc(&self, _method: &str) -> Answer<Option<String>> {
        Promise::ok(None)
    }
}

impl Template for NodeTemplate {
    shared_template_calls!();

    fn coinbase(&self) -> Answer<RawCoinbase> {
        ask!(self, get_coinbase_tx_request, |answer| RawCoinbase::Transaction(answer.get_result()?.to_vec()))
    }

    fn submit_solution(&self, header: SolvedHeader, coinbase: &[u8]) -> Answer<Verdict> {
        let mut request = self.client.submit_solution_request();
        request.get().set_coinbase(coinbase);
        let thread = self.threads.asking.clone();
        Promise::from_future(async move {
            let mut params = request.get();
            params.set_version(header.version);
            params.set_timestamp(header.time);
            params.set_nonce(header.nonce);
            params.get_context()?.set_thread(thread);
            let taken = request.send().promise.await?.get()?.get_result();
            Ok(if taken { Verdict::Taken } else { Verdict::Refused(String::new()) })
        })
    }
}
