//! Answers and notifications → lines of JSON, appended to what goes to the miner next.

use super::{Difficulty, Id, Notify, Rejection};
use serde_json::{Value, json};
use std::fmt::{self, Write};

/// Room that is kept while nothing waits, in bytes: an answer. A job takes more, but there is one in half a minute.
const KEPT: usize = 128;

/// Bytes on their way to one miner.
#[derive(Debug, Default)]
pub struct Output(Vec<u8>);

impl Output {
    /// Answers a request; `result` is JSON.
    pub fn result(&mut self, id: &Id, result: &Value) {
        self.line(format_args!("{{\"id\":{},\"result\":{result},\"error\":null}}", id.json()));
    }

    /// Answers a request with `true`.
    pub fn accepted(&mut self, id: &Id) {
        self.line(format_args!("{{\"id\":{},\"result\":true,\"error\":null}}", id.json()));
    }

    /// Answers a request with an error.
    pub fn rejected(&mut self, id: &Id, why: &Rejection) {
        let (id, code, text) = (id.json(), why.code(), json!(why.text()));
        self.line(format_args!("{{\"id\":{id},\"result\":null,\"error\":[{code},{text},null]}}"));
    }

    /// `mining.set_difficulty`.
    pub fn set_difficulty(&mut self, difficulty: Difficulty) {
        self.notification("mining.set_difficulty", format_args!("[{difficulty}]"));
    }

    /// `mining.set_extranonce`: extranonce1 as hex and the size of extranonce2 in bytes.
    pub fn set_extranonce(&mut self, extranonce1: &str, size: usize) {
        self.notification("mining.set_extranonce", format_args!("[\"{extranonce1}\",{size}]"));
    }

    /// `mining.set_version_mask` (BIP310).
    pub fn set_version_mask(&mut self, mask: u32) {
        self.notification("mining.set_version_mask", format_args!("[\"{mask:08x}\"]"));
    }

    /// `client.reconnect` to where the miner came from.
    pub fn reconnect(&mut self) {
        self.notification("client.reconnect", format_args!("[]"));
    }

    /// `client.show_message`, for the person at the miner.
    pub fn show_message(&mut self, text: &str) {
        self.notification("client.show_message", format_args!("{}", json!([text])));
    }

    /// `mining.notify`. `insert` is hex that goes to the end of coinb1; `clean` tells the miner to drop older jobs.
    pub fn notify(&mut self, job: &Notify, insert: &str, clean: bool) {
        job.write(&mut self.0, insert, clean);
    }

    /// Bytes that a predecessor has not sent yet; before anything else.
    pub fn unsent(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// What has been written, to be sent and then [taken off](Self::sent).
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// So many bytes have left. When all have, memory that a burst has taken is given back.
    pub fn sent(&mut self, bytes: usize) {
        self.0.drain(..bytes.min(self.0.len()));
        if self.0.is_empty() {
            self.0.shrink_to(KEPT);
        }
    }

    fn notification(&mut self, method: &str, params: fmt::Arguments<'_>) {
        self.line(format_args!("{{\"id\":null,\"method\":\"{method}\",\"params\":{params}}}"));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        let Ok(()) = writeln!(Bytes(&mut self.0), "{line}") else {
            unreachable!("a vector takes every byte")
        };
    }
}

struct Bytes<'a>(&'a mut Vec<u8>);

impl Write for Bytes<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sv1::{Incoming, VERSION_ROLLING_MASK};

    #[test]
    fn every_line_is_json_with_the_id_as_it_came() {
        let Incoming::Request(request) = Incoming::parse(br#"{"id":"x\"y","method":"m"}"#).unwrap() else {
            panic!("no request")
        };
        let mut out = Output::default();
        out.result(&request.id, &json!([1, "a"]));
        out.accepted(&request.id);
        out.rejected(&request.id, &Rejection::other("say \"no\"\n"));
        out.set_difficulty(Difficulty::new(0.001).unwrap());
        out.set_extranonce("0001", 8);
        out.set_version_mask(VERSION_ROLLING_MASK);
        out.reconnect();
        out.show_message("a \"quoted\" word");
        let text = std::str::from_utf8(out.as_bytes()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0], json!({"id": "x\"y", "result": [1, "a"], "error": null}));
        assert_eq!(lines[1], json!({"id": "x\"y", "result": true, "error": null}));
        assert_eq!(lines[2], json!({"id": "x\"y", "result": null, "error": [20, "say \"no\"\n", null]}));
        assert_eq!(lines[3], json!({"id": null, "method": "mining.set_difficulty", "params": [0.001]}));
        assert_eq!(lines[4], json!({"id": null, "method": "mining.set_extranonce", "params": ["0001", 8]}));
        assert_eq!(
            lines[5],
            json!({"id": null, "method": "mining.set_version_mask", "params": ["1fffe000"]})
        );
        assert_eq!(lines[6], json!({"id": null, "method": "client.reconnect", "params": []}));
        assert_eq!(
            lines[7],
            json!({"id": null, "method": "client.show_message", "params": ["a \"quoted\" word"]})
        );
        out.sent(1);
        assert_eq!(&out.as_bytes()[..5], b"\"id\":");
        out.sent(out.as_bytes().len());
        assert!(out.as_bytes().is_empty());
    }
}
