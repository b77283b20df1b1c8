//! What a node answers when it is asked for a template. Whatever it says, what is taken for a template makes valid
//! work: it can be fitted to any client, and every message of it fits a frame.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use bitcoin::consensus::encode::{deserialize, serialize};
use distribution::{BlockTemplate, Constraints, Parts, Retention, Server};
use link::Frame;
use node::{Auth, BlockchainInfo, GetBlockTemplate, HeaderInfo, Node, NodeConfig, Submission};
use serde::de::DeserializeOwned;
use template_provider::ipc::answer::{self, BadTemplate, Known, RawCoinbase, RawHead, RawTransactions};

use crate::input::Input;

/// An answer over JSON-RPC: the result of `getblocktemplate`, or the whole body of an answer to any call.
pub fn gbt(data: &[u8]) {
    if let Ok(parts) = template_provider::gbt::decode(data) {
        serve(parts);
    }
    let within = [&b"{\"result\":"[..], data, b",\"error\":null,\"id\":0}"].concat();
    for body in [data, &within] {
        read::<GetBlockTemplate>("getblocktemplate", body);
        read::<BlockchainInfo>("getblockchaininfo", body);
        read::<HeaderInfo>("getblockheader", body);
        let said = read::<String>("submitblock", body);
        let answer = Submission::from_answer(said.as_deref());
        if let Submission::Rejected(reason) | Submission::NotYet(reason) = answer {
            assert_eq!(Some(reason), said);
        }
    }
}

/// As a call would; what is wrong has words.
fn read<T: DeserializeOwned>(method: &str, body: &[u8]) -> Option<T> {
    static NODE: LazyLock<Node> = LazyLock::new(|| {
        let auth = Auth::UserPassword { user: "u".into(), password: "p".into() };
        Node::new(NodeConfig::new("http://127.0.0.1:1", auth)).unwrap()
    });
    match NODE.read(method, body) {
        Ok(answer) => answer,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            error.is_transient();
            None
        }
    }
}

/// Messages of the mining interface. What is left over behind the block are changes to them.
pub fn ipc(data: &[u8]) {
    if let Err(reason) = ipc_template(data) {
        assert!(!reason.is_empty());
    }
}

/// Serves clients with what they say, before and after the transactions have come.
///
/// # Errors
/// It is no template; in words.
pub fn ipc_template(data: &[u8]) -> Result<(), String> {
    let text = |error: BadTemplate| error.to_string();
    let (mut head, mut rest, left) = answer::from_bytes(data)?;
    let (mut changes, mut room) = (Input::new(left), Constraints::default());
    while !changes.is_empty() {
        change(&mut changes, &mut head, &mut rest, &mut room);
    }
    let parts = answer::parts(&head, room).map_err(text)?;
    serve(parts.clone());
    let transactions = answer::transactions(&rest, &parts, &mut Known::default()).map_err(text);
    parts.transactions.settle(transactions.as_ref().ok().cloned());
    serve(parts);
    transactions.map(drop)
}

fn change(by: &mut Input<'_>, head: &mut RawHead, rest: &mut RawTransactions, room: &mut Constraints) {
    match by.below(9) {
        0 => head.coinbase = RawCoinbase::Transaction(first_transaction(&rest.block)),
        1 => set(by, &mut rest.fees),
        2 => set(by, &mut rest.sigops),
        3 => lengthen(by, &mut rest.fees),
        4 => lengthen(by, &mut rest.sigops),
        5 => {
            head.merkle_path.pop();
        }
        6 => head.merkle_path.push(by.bytes().to_vec()),
        7 => match &mut head.coinbase {
            RawCoinbase::Fields { reward, .. } => *reward = number(by),
            RawCoinbase::Transaction(bytes) => {
                let place = by.below(bytes.len());
                bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte = by.byte());
            }
        },
        _ => {
            *room = Constraints {
                max_additional_size: by.number(),
                max_additional_sigops: u16::from_le_bytes([by.byte(), by.byte()]),
            };
        }
    }
}

fn set(by: &mut Input<'_>, numbers: &mut [i64]) {
    let place = by.below(numbers.len());
    if let Some(number) = numbers.get_mut(place) {
        *number = self::number(by);
    }
}

/// By one, or shortens them.
fn lengthen(by: &mut Input<'_>, numbers: &mut Vec<i64>) {
    if by.rarely(2) {
        numbers.pop();
    } else {
        numbers.push(number(by));
    }
}

fn number(by: &mut Input<'_>) -> i64 {
    match by.pick(&[-1, 0, 1, 50_0000_0000, i64::MIN, i64::MAX]) {
        Some(0) | None => i64::from(by.number()),
        Some(odd) => *odd,
    }
}

/// The coinbase that the block has, serialised.
fn first_transaction(block: &[u8]) -> Vec<u8> {
    let block = deserialize::<bitcoin::Block>(block).ok();
    block.and_then(|block| block.txdata.first().map(serialize)).unwrap_or_default()
}

fn serve(parts: Parts) {
    let template = Arc::new(BlockTemplate::new(1 << 32, parts));
    // The last leaves room for a single transaction with sigops, or for none.
    for (max_additional_size, max_additional_sigops) in [(0, 0), (100, 4), (900_000, 0), (100, 19_999)] {
        let constraints = Constraints { max_additional_size, max_additional_sigops };
        let mut client = distribution::Client::new();
        client.constraints(constraints).unwrap();
        let mut server = Server::new(Retention::default(), Some(Arc::clone(&template)));
        let said: Option<Frame> = client.poll_send();
        if server.handle(Instant::now(), &mut said.unwrap().received()).is_err() {
            continue;
        }
        while let Ok(Some(frame)) = server.poll_send() {
            client.handle(&mut frame.received()).expect("our client understands our server");
        }
    }
}
