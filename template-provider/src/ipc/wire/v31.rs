//! The mining interface of Bitcoin Core 31 and later.

use std::rc::Rc;
use std::time::Duration;

use bitcoin_capnp_types::capnp::capability::Promise;
use bitcoin_capnp_types::capnp::{self, ErrorKind};
use bitcoin_capnp_types::init_capnp::init;
use bitcoin_capnp_types::mining_capnp::{block_template, mining};
use bitcoin_capnp_types::proxy_capnp::{thread, thread_map};

use super::threads::Thread;
use super::{
    Answer, Mining, Part, RawCoinbase, Room, SolvedHeader, Template, Verdict, Waiting, ask, if_implemented,
    milliseconds, shared_mining_calls, shared_template_calls,
};

struct NodeMining {
    init: init::Client,
    client: mining::Client,
    thread_map: thread_map::Client,
    /// A thread of the node that carries out our short calls, one after the other.
    thread: Thread<thread::Client>,
}

struct NodeTemplate {
    client: block_template::Client,
    threads: Threads,
}

#[derive(Clone)]
struct Threads {
    asking: Thread<thread::Client>,
    waiting: thread::Client,
}

impl Threads {
    fn of(&self, _: Part) -> &Thread<thread::Client> {
        &self.asking
    }

    fn attend<T>(&self, call: impl Future<Output = Result<T, capnp::Error>> + 'static) -> Answer<T> {
        Promise::from_future(call)
    }
}

/// What makes threads of the node, and one of them.
pub(super) async fn first_thread(
    init: &init::Client,
) -> Result<(thread_map::Client, thread::Client), capnp::Error> {
    let thread_map = init.construct_request().send().promise.await?.get()?.get_thread_map()?;
    let thread = new_thread(&thread_map, "sluice").await?;
    Ok((thread_map, thread))
}

pub(super) async fn mining(
    init: &init::Client,
    thread_map: thread_map::Client,
    thread: thread::Client,
) -> Result<Rc<dyn Mining>, capnp::Error> {
    let mut request = init.make_mining_request();
    request.get().get_context()?.set_thread(thread.clone());
    let client = request.send().promise.await?.get()?.get_result()?;
    let thread = Thread::with_a_queue(thread);
    Ok(Rc::new(NodeMining { init: init.clone(), client, thread_map, thread }))
}

async fn new_thread(map: &thread_map::Client, name: &str) -> Result<thread::Client, capnp::Error> {
    let mut request = map.make_thread_request();
    request.get().set_name(name);
    request.send().promise.await?.get()?.get_result()
}

impl Mining for NodeMining {
    shared_mining_calls!();

    fn version(&self) -> &'static str {
        "31 or later"
    }

    fn create_new_block(&self, room: Room) -> Answer<Rc<dyn Template>> {
        let mut request = self.client.create_new_block_request();
        let map = self.thread_map.clone();
        Promise::from_future(async move {
            let asking = new_thread(&map, "sluice-ask").await?;
            let waiting = new_thread(&map, "sluice-wait").await?;
            request.get().get_context()?.set_thread(asking.clone());
            request.get().set_cooldown(false);
            let mut options = request.get().get_options()?;
            options.set_use_mempool(true);
            options.set_block_reserved_weight(room.weight);
            options.set_coinbase_output_max_additional_sigops(room.sigops);
            let client = request.send().promise.await?.get()?.get_result()?;
            let asking = Thread::with_a_queue(asking);
            Ok(Rc::new(NodeTemplate { client, threads: Threads { asking, waiting } }) as Rc<dyn Template>)
        })
    }

    fn submit_block(&self, block: &[u8]) -> Answer<Option<Verdict>> {
        let mut request = self.client.submit_block_request();
        request.get().set_block(block);
        let map = self.thread_map.clone();
        Promise::from_future(async move {
            // A block may take seconds to check: not on the thread that tells whether the node is alive.
            let thread = new_thread(&map, "sluice-block").await?;
            request.get().get_context()?.set_thread(thread);
            let Some(response) = if_implemented(request.send().promise.await)? else { return Ok(None) };
            let answer = response.get()?;
            Ok(Some(verdict(answer.get_result(), answer.get_reason()?)?))
        })
    }

    fn rpc(&self, method: &str) -> Answer<Option<String>> {
        let mut making = self.init.make_rpc_request();
        let thread = self.thread.client();
        let call = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"{method}","params":[]}}"#);
        Promise::from_future(async move {
            making.get().get_context()?.set_thread(thread.clone());
            let Some(made) = if_implemented(making.send().promise.await)? else { return Ok(None) };
            let mut request = made.get()?.get_result()?.execute_rpc_request();
            request.get().get_context()?.set_thread(thread);
            request.get().set_request(call);
            request.get().set_uri("/");
            request.get().set_user("sluice");
            let response = request.send().promise.await?;
            Ok(Some(response.get()?.get_result()?.to_string()?))
        })
    }
}

impl Template for NodeTemplate {
    shared_template_calls!();

    fn coinbase(&self) -> Answer<RawCoinbase> {
        let thread = self.threads.of(Part::Coinbase);
        ask!(self.client, thread, get_coinbase_tx_request, |answer| RawCoinbase::read(answer.get_result()?)?)
    }

    /// By the old number as well, not only when the new one is found unknown: that answer may come behind a whole block. Where
    /// there is the new one the old one does nothing but fail.
    fn submit_solution(&self, header: SolvedHeader, coinbase: &[u8]) -> Answer<Verdict> {
        let mut request = self.client.submit_solution_request();
        let mut older = self.client.submit_solution_old7_request();
        let mut fill = || {
            let mut params = request.get();
            params.set_version(header.version);
            params.set_timestamp(header.time);
            params.set_nonce(header.nonce);
            params.set_coinbase(coinbase);
            params.get_context()?.set_thread(self.threads.asking.client());
            let mut params = older.get();
            params.set_version(header.version);
            params.set_timestamp(header.time);
            params.set_nonce(header.nonce);
            params.set_coinbase(coinbase);
            params.get_context()?.set_thread(self.threads.asking.client());
            Ok(())
        };
        if let Err(error) = fill() {
            return Promise::err(error);
        }
        let (response, older) = (request.send().promise, older.send().promise);
        Promise::from_future(async move {
            match if_implemented(response.await)? {
                Some(response) => {
                    let answer = response.get()?;
                    verdict(answer.get_result(), answer.get_reason()?)
                }
                None => verdict(older.await?.get()?.get_result(), "".into()),
            }
        })
    }
}

fn verdict(taken: bool, reason: capnp::text::Reader<'_>) -> Result<Verdict, capnp::Error> {
    Ok(if taken { Verdict::Taken } else { Verdict::Refused(reason.to_string()?) })
}
