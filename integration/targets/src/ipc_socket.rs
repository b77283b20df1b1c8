//! Whoever is at the other end of the mining interface's socket, and says what it likes.
//!
//! What holds: our side comes to an end by itself, with a template or with words for what is wrong. `capnp-rpc` trusts its
//! peer and panics where an answer has no question; in the program that ends the connection, and so it does here. A panic of
//! ours is a finding.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Once;
use std::time::Duration;

use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, CompactTarget, Network, TxMerkleNode};
use bitcoin_capnp_types::capnp::message::ReaderOptions;
use bitcoin_capnp_types::capnp::{self, serialize as wire};
use bitcoin_capnp_types::capnp_rpc::rpc_capnp::message;
use template_provider::config::Fees;
use template_provider::ipc::{Settings, probe};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::LocalSet;

use crate::input::Input;

/// Bytes that wait for either end to read them.
const PIPE: usize = 1 << 16;
/// Our side has so many turns to ask something before the node goes on.
const TURNS: usize = 32;
/// Longer than anything takes here: who waits for so long has not noticed that the node is gone.
const LIMIT: Duration = Duration::from_secs(15);

/// Bytes to what a node does.
pub fn run(data: &[u8]) {
    if let Err(reason) = outcome(data) {
        assert!(!reason.is_empty());
        assert!(!reason.contains("did not answer"), "it waits for a node that is gone: {reason}");
    }
}

/// What `--check` would say of this node.
///
/// # Errors
/// What is wrong with it, in words.
pub fn outcome(data: &[u8]) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let node_has = data.to_vec();
    let look = async move {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let node = tokio::task::spawn_local(async move { Node::new(theirs).play(&node_has).await });
        let (reader, writer) = tokio::io::split(ours);
        let seen = probe::probe_over(reader, writer, &settings()).await;
        node.await.unwrap();
        seen
    };
    contained(|| LocalSet::new().block_on(&runtime, look))
        .unwrap_or_else(|| Err("capnp-rpc panicked under our own task".into()))
}

fn settings() -> Settings {
    Settings {
        socket: "/node.sock".into(),
        network: Network::Regtest,
        fees: Fees { interval: Duration::from_secs(30), threshold: Amount::ONE_SAT },
        timeout: LIMIT,
        stall: LIMIT,
        sets: 1,
        stale: LIMIT,
        rpc: None,
    }
}

thread_local! {
    /// A node is played on this thread.
    static IS_PLAYED: Cell<bool> = const { Cell::new(false) };
    /// Its last panic was not ours.
    static IS_THEIRS: Cell<bool> = const { Cell::new(false) };
}

/// What this comes to; none where a panic of Cap'n Proto's crates ended it. Those are not told to whoever would take them for findings.
fn contained<T>(body: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_theirs = panic.location().is_some_and(|place| place.file().contains("/capnp-"));
            IS_THEIRS.set(is_theirs);
            if !(is_theirs && IS_PLAYED.get()) {
                before(panic);
            }
        }));
    });
    IS_PLAYED.set(true);
    let ended = catch_unwind(AssertUnwindSafe(body));
    IS_PLAYED.set(false);
    match ended {
        Ok(ended) => Some(ended),
        Err(_) if IS_THEIRS.get() => None,
        Err(finding) => resume_unwind(finding),
    }
}

/// A node that answers what it is asked, or something else.
struct Node {
    end: DuplexStream,
    heard: Vec<u8>,
    /// Questions without an answer, oldest first.
    asked: VecDeque<u32>,
    /// Capabilities that it has given.
    given: u32,
}

impl Node {
    fn new(end: DuplexStream) -> Self {
        Self { end, heard: Vec::new(), asked: VecDeque::new(), given: 0 }
    }

    /// Until there are no more bytes, or nobody is there any more; then it is gone.
    async fn play(mut self, data: &[u8]) {
        let mut input = Input::new(data);
        while !input.is_empty() {
            let said = self.say(&mut input).await;
            if self.end.write_all(&said).await.is_err() {
                return;
            }
        }
        self.listen().await;
    }

    async fn say(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        match input.below(16) {
            0 => self.results(capability(0), &[]).await,
            1 => self.results(structure(1, 0, 1), &[capability(0)]).await,
            2 => self.results(structure(1, 1, 0), &[input.byte().into()]).await,
            3 => self.results(structure(1, 1, 1), &tip()).await,
            4 => self.exception(UNIMPLEMENTED, b"no such call").await,
            5 => self.data(&header()).await,
            6 => self.results(structure(1, 0, 1), &coinbase()).await,
            7 => self.results(structure(1, 0, 1), &[list(0, POINTERS, 0)]).await,
            8 => {
                let kind = input.byte().into();
                self.exception(kind, input.bytes()).await
            }
            9 => self.data(input.bytes()).await,
            // Anything for a content, and any capabilities.
            10 => {
                let content = first_word(input.bytes());
                let (objects, table) = (words(input.bytes()), words(input.bytes()));
                let id = self.question().await;
                returned(id, content, &objects, &table)
            }
            // The next answer is to another question, which may never have been asked.
            11 => {
                self.asked.push_front(input.byte().into());
                Vec::new()
            }
            12 => abort(input.bytes()),
            13 => input.bytes().to_vec(),
            // A message that claims to be this long.
            14 => [0_u32.to_le_bytes(), input.number().to_le_bytes()].concat(),
            _ => {
                self.listen().await;
                Vec::new()
            }
        }
    }

    /// The question that is answered next, be it that there is none.
    async fn question(&mut self) -> u32 {
        self.listen().await;
        self.asked.pop_front().unwrap_or_default()
    }

    /// Hears what our side says, until there is a question.
    async fn listen(&mut self) {
        let mut bytes = [0; 4096];
        for _ in 0..TURNS {
            if !self.asked.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                read = self.end.read(&mut bytes) => match read {
                    Ok(count @ 1..) => self.hear(&bytes[..count]),
                    _ => return,
                },
                () = tokio::task::yield_now() => {}
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.heard.extend_from_slice(bytes);
        loop {
            let mut rest = self.heard.as_slice();
            let asked = match wire::read_message_from_flat_slice(&mut rest, ReaderOptions::new()) {
                Ok(message) => message.get_root().and_then(question).unwrap(),
                Err(_) => return, // it is not here whole
            };
            let left = rest.len();
            self.asked.extend(asked);
            self.heard.drain(..self.heard.len() - left);
        }
    }

    /// The content and its objects, with a capability of its own.
    async fn results(&mut self, content: u64, objects: &[u64]) -> Vec<u8> {
        let id = self.question().await;
        self.given += 1;
        returned(id, content, objects, &[SENDER_HOSTED | (u64::from(self.given) << 32)])
    }

    /// Bytes for a result.
    async fn data(&mut self, bytes: &[u8]) -> Vec<u8> {
        let objects = [vec![list(0, BYTES, bytes.len() as u64)], words(bytes)].concat();
        self.results(structure(1, 0, 1), &objects).await
    }

    async fn exception(&mut self, kind: u64, reason: &[u8]) -> Vec<u8> {
        let id = self.question().await;
        let head = [structure(0, 1, 1), RETURN, structure(0, 2, 1), u64::from(id) | (EXCEPTION << 48), 0];
        frame(&[&head[..], &exception(kind, reason)].concat())
    }
}

/// What our side asks with a message, if it asks.
fn question(message: message::Reader<'_>) -> capnp::Result<Option<u32>> {
    Ok(match message.which()? {
        message::Bootstrap(bootstrap) => Some(bootstrap?.get_question_id()),
        message::Call(call) => Some(call?.get_question_id()),
        _ => None,
    })
}

// Cap'n Proto's RPC protocol (rpc.capnp), word by word, so that nothing is too wrong to be said: `capnp decode` reads it.

/// Of a message, by its place in the union: see `Message`, `Return`, `CapDescriptor`, `Exception`.
const ABORT: u64 = 1;
const RETURN: u64 = 3;
const EXCEPTION: u64 = 1;
const SENDER_HOSTED: u64 = 1;
const UNIMPLEMENTED: u64 = 3;
/// Kinds of elements of a list.
const BYTES: u64 = 2;
const POINTERS: u64 = 6;
const STRUCTURES: u64 = 7;

/// A pointer to a structure that begins so many words behind it, with words of data and pointers.
fn structure(behind: u64, data: u64, pointers: u64) -> u64 {
    (behind << 2) | (data << 32) | (pointers << 48)
}

/// A pointer to a list.
fn list(behind: u64, kind: u64, count: u64) -> u64 {
    1 | (behind << 2) | (kind << 32) | (count << 35)
}

/// The capability at this place of the message's table.
fn capability(place: u64) -> u64 {
    3 | (place << 32)
}

/// A `Return` with results: the pointer to its content counts from the word before its objects.
fn returned(id: u32, content: u64, objects: &[u64], capabilities: &[u64]) -> Vec<u8> {
    let head = [structure(0, 1, 1), RETURN, structure(0, 2, 1), id.into(), 0, structure(0, 0, 2)];
    let count = capabilities.len() as u64;
    let table = [content, list(objects.len() as u64, STRUCTURES, 2 * count)];
    let mut all = [&head[..], &table, objects, &[structure(count, 1, 1)]].concat();
    all.extend(capabilities.iter().flat_map(|capability| [*capability, 0]));
    frame(&all)
}

/// An `Exception` and the pointer to it.
fn exception(kind: u64, reason: &[u8]) -> Vec<u64> {
    let text = [reason, &[0]].concat();
    let head = [structure(0, 1, 2), kind << 32, list(1, BYTES, text.len() as u64), 0];
    [&head[..], &words(&text)].concat()
}

fn abort(reason: &[u8]) -> Vec<u8> {
    frame(&[&[structure(0, 1, 1), ABORT][..], &exception(0, reason)].concat())
}

/// One segment, and its length before it.
fn frame(words: &[u64]) -> Vec<u8> {
    let length = (words.len() as u64) << 32;
    std::iter::once(&length).chain(words).flat_map(|word| word.to_le_bytes()).collect()
}

/// Bytes as words, the last one filled up with zeros.
fn words(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks(8).map(first_word).collect()
}

fn first_word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(word)
}

/// Results of `getTip`: there is one, at height 99.
fn tip() -> Vec<u64> {
    [vec![1, structure(0, 1, 1), 99, list(0, BYTES, 32)], words(&[1; 32])].concat()
}

/// Results of `getCoinbaseTx`, of block 100.
fn coinbase() -> Vec<u64> {
    let (version, sequence, lock_time) = (2, 0xffff_fffe, 99);
    let fields = [version | (sequence << 32), 50_0000_0000, lock_time];
    let script = [1, 100];
    let pointers = [list(2, BYTES, script.len() as u64), 0, 0];
    [vec![structure(0, 3, 3)], fields.to_vec(), pointers.to_vec(), words(&script)].concat()
}

fn header() -> Vec<u8> {
    serialize(&Header {
        version: Version::TWO,
        prev_blockhash: BlockHash::from_byte_array([1; 32]),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 1,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    })
}
