//! Against a server that says what a real node says only at rare moments.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use node::{Auth, Node, NodeConfig, NodeError, Submission};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Longer than any answer takes.
const AMPLE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

/// Serves each of `answers` (status, body) once, in turn; then takes requests and stays silent.
async fn node_saying(answers: &[(&'static str, &'static str)]) -> Node {
    node_within(AMPLE, answers).await
}

/// The same, where a call may take so long.
async fn node_within(timeout: Duration, answers: &[(&'static str, &'static str)]) -> Node {
    let answers = answers.to_vec();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut silent = Vec::new();
        for i in 0.. {
            let mut stream = listener.accept().await.unwrap().0;
            let Some((status, body)) = answers.get(i) else {
                silent.push(stream);
                continue;
            };
            assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
            let head =
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + body).as_bytes()).await.unwrap();
        }
    });
    let auth = Auth::UserPassword { user: "u".into(), password: "p".into() };
    Node::new(NodeConfig { timeout, ..NodeConfig::new(url, auth) }).unwrap()
}

#[tokio::test]
async fn a_node_that_starts_is_warming_up_in_its_own_words() {
    let body = r#"{"error":{"code":-28,"message":"Verifying blocks…"},"id":0}"#;
    let error = node_saying(&[("200 OK", body)]).await.ready().await.unwrap_err();
    assert!(
        matches!(&error, NodeError::WarmingUp { status, .. } if status == "Verifying blocks…"),
        "{error:?}"
    );
    assert!(error.is_transient());
}

#[tokio::test]
async fn an_old_node_is_told_apart_by_its_version() {
    let body = r#"{"result":{"version":290100,"subversion":"/Satoshi:29.1.0/"},"error":null,"id":0}"#;
    let error = node_saying(&[("200 OK", body)]).await.ready().await.unwrap_err();
    assert!(matches!(error, NodeError::TooOld { .. }), "{error:?}");
    assert!(
        error.to_string().contains("version 29.1") && error.to_string().contains("30.0 is the oldest"),
        "{error}"
    );
}

#[tokio::test]
async fn a_template_asked_of_a_node_that_syncs_is_initial_block_download() {
    let body = r#"{"result":null,"error":{"code":-10,"message":"Bitcoin Core is in initial sync"},"id":0}"#;
    let error = node_saying(&[("500 Internal Server Error", body)]).await.block_template().await.unwrap_err();
    assert!(matches!(error, NodeError::InitialBlockDownload { .. }), "{error:?}");
}

#[tokio::test]
async fn a_full_work_queue_is_busy() {
    let answers = &[("503 Service Unavailable", "Work queue depth exceeded")];
    let error = node_saying(answers).await.best_block_hash().await.unwrap_err();
    assert!(
        matches!(&error, NodeError::Busy { status, .. } if status == "Work queue depth exceeded"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_node_that_refuses_without_a_word_may_be_shutting_down() {
    let error = node_saying(&[("503 Service Unavailable", "")]).await.best_block_hash().await.unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().contains("shuts down"), "{error}");
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_forbidden() {
    let error = node_saying(&[("403 Forbidden", "")]).await.best_block_hash().await.unwrap_err();
    assert!(error.to_string().contains("rpcallowip"), "{error}");
}

#[tokio::test]
async fn a_silent_node_times_out() {
    let error = node_within(SHORT, &[]).await.best_block_hash().await.unwrap_err();
    assert!(matches!(&error, NodeError::Timeout { method, .. } if method == "getbestblockhash"), "{error:?}");
}

#[tokio::test]
async fn a_long_poll_outlasts_the_timeout_of_other_calls() {
    let node = node_within(SHORT, &[]).await;
    let poll = tokio::time::timeout(Duration::from_secs(1), node.block_template_after("id")).await;
    assert!(poll.is_err(), "it waits on");
}

#[tokio::test]
async fn a_web_server_that_is_no_bitcoind_makes_no_sense() {
    let error = node_saying(&[("200 OK", "<html>")]).await.best_block_hash().await.unwrap_err();
    assert!(matches!(error, NodeError::BadAnswer { .. }), "{error:?}");
}

#[test]
fn a_url_without_http_is_refused_before_anything_is_sent() {
    for url in ["127.0.0.1:8332", "https://127.0.0.1:8332", "http://user:pass@127.0.0.1:8332", ""] {
        let auth = Auth::Cookie("/nowhere/.cookie".into());
        let error = Node::new(NodeConfig::new(url, auth)).unwrap_err();
        assert!(matches!(error, NodeError::Url { .. }), "{url}: {error:?}");
    }
}

#[tokio::test]
async fn a_block_that_the_node_does_not_know_is_no_error() {
    let said = |body| [("500 Internal Server Error", body)];
    let unknown = said(r#"{"result":null,"error":{"code":-5,"message":"Block not found"},"id":0}"#);
    let broken = said(r#"{"result":null,"error":{"code":-1,"message":"Can't read block"},"id":0}"#);
    let hash = "1".repeat(64).parse().unwrap();
    assert!(node_saying(&unknown).await.block_header(&hash).await.unwrap().is_none());
    let error = node_saying(&broken).await.block_header(&hash).await.unwrap_err();
    assert!(matches!(error, NodeError::Rpc { code: -1, .. }), "{error:?}");
}

/// A block that came on another way at the same time, stored and not yet checked when it is submitted the first time.
#[tokio::test]
async fn a_duplicate_is_asked_about_again() {
    let duplicate = ("200 OK", r#"{"result":"duplicate","error":null,"id":0}"#);
    let invalid = ("200 OK", r#"{"result":"duplicate-invalid","error":null,"id":0}"#);
    let rejected = node_saying(&[duplicate, invalid]).await.submit_block(&[0]).await.unwrap();
    assert_eq!(rejected, Submission::Rejected("duplicate-invalid".into()));
    let has = node_saying(&[duplicate, duplicate]).await.submit_block(&[0]).await.unwrap();
    assert_eq!(has, Submission::Duplicate);
}

#[test]
fn what_a_node_refuses_only_for_now_is_not_rejected() {
    let answer = |reason| Submission::from_answer(Some(reason));
    for reason in ["prev-blk-not-found", "time-too-new"] {
        assert_eq!(answer(reason), Submission::NotYet(reason.into()));
    }
    for reason in ["time-too-old", "bad-prevblk", ""] {
        assert_eq!(answer(reason), Submission::Rejected(reason.into()));
    }
}
