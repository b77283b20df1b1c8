#![allow(clippy::unwrap_used)]

use std::time::Duration;

use node::{Auth, Node, NodeConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::ipc::{Desk, Order};
use crate::outlet::{NotSubmitted, Outlet};
use crate::solution_store::Settled;
use crate::solutions::tests::{Blocks, early, eventually};

/// Serves each of `answers` (status, body) once, in turn, then the last one again and again. The node, and how often it was asked.
pub(crate) async fn node_saying(
    answers: &'static [(&'static str, &'static str)],
) -> (Node, watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, asks) = watch::channel(0);
    tokio::spawn(async move {
        for i in 0.. {
            let mut stream = listener.accept().await.unwrap().0;
            let (status, body) = answers.get(i).or(answers.last()).unwrap();
            assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
            let head =
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + body).as_bytes()).await.unwrap();
            asked.send_replace(i + 1);
        }
    });
    let auth = Auth::UserPassword { user: "u".into(), password: "p".into() };
    let config = NodeConfig { timeout: Duration::from_secs(2), ..NodeConfig::new(url, auth) };
    (Node::new(config).unwrap(), asks)
}

pub(crate) const STARTS: (&str, &str) =
    ("500 Internal Server Error", r#"{"result":null,"error":{"code":-28,"message":"Loading"},"id":0}"#);
pub(crate) const UNKNOWN: (&str, &str) = (
    "500 Internal Server Error",
    r#"{"result":null,"error":{"code":-5,"message":"Block not found"},"id":0}"#,
);
const KNOWN: (&str, &str) = (
    "200 OK",
    r#"{"result":{"hash":"0000000000000000000000000000000000000000000000000000000000000001","confirmations":1,"height":100,"time":1,"mediantime":1},"error":null,"id":0}"#,
);
/// It may be invalid, or be checked at this moment.
const BESIDE: (&str, &str) = (
    "200 OK",
    r#"{"result":{"hash":"0000000000000000000000000000000000000000000000000000000000000001","confirmations":-1,"height":100,"time":1,"mediantime":1},"error":null,"id":0}"#,
);

/// What is said at last of a block whose transactions never came.
async fn answer_to_a_lost_block(answers: &'static [(&'static str, &'static str)]) -> Option<Settled> {
    let blocks = Blocks::by(Outlet::Rpc(node_saying(answers).await.0));
    let (solution, transactions) = early();
    let (arrived, arrivals) = watch::channel(0);
    blocks.solutions.submit(solution, arrivals);
    transactions.settle(None);
    arrived.send_modify(|count| *count += 1);
    let settled = || blocks.solutions.found()[0].settled();
    eventually("the block is settled", || settled().is_some()).await;
    settled()
}

#[tokio::test]
async fn a_lost_block_is_asked_for_until_the_node_answers() {
    assert_eq!(answer_to_a_lost_block(&[STARTS, STARTS, KNOWN]).await, Some(Settled::Done));
    assert_eq!(answer_to_a_lost_block(&[STARTS, UNKNOWN]).await, Some(Settled::Rejected));
    assert_eq!(answer_to_a_lost_block(&[BESIDE, BESIDE, KNOWN]).await, Some(Settled::Done));
}

const ACCEPTS: (&str, &str) = ("200 OK", r#"{"result":null,"error":null,"id":0}"#);
pub(crate) const REFUSES_THE_LOGIN: (&str, &str) = ("401 Unauthorized", "");

/// A block found where JSON-RPC answers so, and the orders that come by IPC to the same node.
async fn found_beside(answers: &'static [(&'static str, &'static str)]) -> (Blocks, mpsc::Receiver<Order>) {
    let (desk, orders) = Desk::open();
    let ipc = Outlet::Ipc { name: "test".into(), desk, beside_rpc: true };
    let blocks = Blocks::by_all(vec![Outlet::Rpc(node_saying(answers).await.0), ipc]);
    let (solution, transactions) = early();
    transactions.settle(Some(Vec::new()));
    blocks.solutions.submit(solution, watch::channel(0).1);
    (blocks, orders)
}

async fn next(orders: &mut mpsc::Receiver<Order>) -> Option<Order> {
    tokio::time::timeout(Duration::from_secs(2), orders.recv()).await.ok().flatten()
}

fn away() -> NotSubmitted {
    NotSubmitted::Other("away".into())
}

#[tokio::test]
async fn ipc_is_tried_until_it_takes_the_block_where_json_rpc_refuses_the_login() {
    let (blocks, mut orders) = found_beside(&[REFUSES_THE_LOGIN]).await;
    for _ in 0..2 {
        next(&mut orders).await.unwrap().refuse(away());
    }
    next(&mut orders).await.unwrap().accept();
    eventually("the block is settled", || blocks.solutions.found()[0].settled() == Some(Settled::Done)).await;
}

#[tokio::test]
async fn ipc_is_not_tried_again_where_it_never_takes_such_a_block_or_json_rpc_has_the_answer() {
    let (_blocks, mut orders) = found_beside(&[REFUSES_THE_LOGIN]).await;
    next(&mut orders).await.unwrap().refuse(NotSubmitted::NoWholeBlocks);
    assert!(next(&mut orders).await.is_none());
    let (blocks, mut orders) = found_beside(&[ACCEPTS]).await;
    eventually("JSON-RPC has the answer", || blocks.solutions.found()[0].settled() == Some(Settled::Done))
        .await;
    next(&mut orders).await.unwrap().refuse(away());
    assert!(next(&mut orders).await.is_none());
}
