//! One line → one JSON-RPC request (or an answer to something we sent), its id as it came.
//!
//! Own parsing, not `sv1_api`: see docs/decisions/0001-own-sv1-framing.md.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest id that is echoed, in bytes of JSON; ids wait in memory while a share is at the upstream.
pub const MAX_ID: usize = 256;

/// A JSON-RPC id: the JSON text as the miner sent it (`null` if it sent none), for echoing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Id(Arc<str>);

/// What a miner's line is.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// A request, to be answered.
    Request(Request<'a>),
    /// An answer to something that we sent; nothing we send needs one.
    Answer,
}

/// A method call.
#[derive(Debug)]
pub struct Request<'a> {
    /// To be echoed in the answer.
    pub id: Id,
    /// Such as `mining.submit`.
    pub method: Cow<'a, str>,
    /// JSON text of the parameters; `[]` if the miner sent none.
    pub params: &'a str,
}

/// A line that is neither a request nor an answer. What it says goes to the miner.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not JSON, or not a JSON object.
    #[error("Not a JSON object")]
    NotJson,
    /// A JSON object whose method is no text, or that has a key twice.
    #[error("Not a request: the method must be a text, and no key come twice")]
    Malformed(Id),
    /// Neither `method` nor `result` nor `error`.
    #[error("Neither a request nor an answer: there is no method")]
    NoMethod(Id),
    /// The id is longer than [`MAX_ID`].
    #[error("Id longer than {MAX_ID} bytes")]
    IdTooLong,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Text<'a>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// A JSON string, borrowed where it has no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl Id {
    /// The id of what has none.
    pub fn null() -> Self {
        Self("null".into())
    }

    /// Whether it is null or was not there.
    pub fn is_null(&self) -> bool {
        &*self.0 == "null"
    }

    /// As JSON text.
    pub fn json(&self) -> &str {
        &self.0
    }
}

impl RequestError {
    /// Whom it is said to: the line's id, if that can be read.
    pub fn id(&self) -> Id {
        match self {
            Self::Malformed(id) | Self::NoMethod(id) => id.clone(),
            Self::NotJson | Self::IdTooLong => Id::null(),
        }
    }

    /// Of a line that is no [`Envelope`].
    fn of(line: &[u8]) -> Self {
        let Ok(fields) = serde_json::from_slice::<BTreeMap<String, &RawValue>>(line) else {
            return Self::NotJson;
        };
        id(fields.get("id").copied()).map_or_else(|error| error, Self::Malformed)
    }
}

impl<'a> Incoming<'a> {
    /// Parses one line.
    ///
    /// # Errors
    /// The line is no JSON-RPC, or its id is too long; [`RequestError::id`] says whom to answer.
    pub fn parse(line: &'a [u8]) -> Result<Self, RequestError> {
        let envelope: Envelope<'a> = serde_json::from_slice(line).map_err(|_| RequestError::of(line))?;
        let Some(Text(method)) = envelope.method else {
            let answer = envelope.result.is_some() || envelope.error.is_some();
            return if answer { Ok(Self::Answer) } else { Err(RequestError::NoMethod(id(envelope.id)?)) };
        };
        let params = envelope.params.map_or("[]", RawValue::get);
        Ok(Self::Request(Request { id: id(envelope.id)?, method, params }))
    }
}

fn id(json: Option<&RawValue>) -> Result<Id, RequestError> {
    let id = json.map_or("null", RawValue::get);
    if id.len() > MAX_ID { Err(RequestError::IdTooLong) } else { Ok(Id(id.into())) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn request(line: &str) -> Request<'_> {
        match Incoming::parse(line.as_bytes()).unwrap() {
            Incoming::Request(request) => request,
            Incoming::Answer => panic!("an answer: {line}"),
        }
    }

    #[test]
    fn an_id_of_any_json_type_is_kept_as_it_came() {
        for id in
            ["1", "null", "\"a\\u0041\"", "1.50", "-3", "true", "[1, 2]", "{\"a\":1}", "18446744073709551616"]
        {
            let line = format!("{{\"method\":\"mining.ping\",\"id\":{id},\"params\":[]}}");
            assert_eq!(request(&line).id.json(), id);
        }
    }

    #[test]
    fn a_missing_id_is_null_and_missing_parameters_are_none() {
        let request = request("{\"method\":\"mining.ping\"}");
        assert_eq!((request.id.json(), request.params), ("null", "[]"));
    }

    #[test]
    fn an_answer_is_told_from_a_request() {
        let line = br#"{"id":5,"result":"cgminer/4.12","error":null}"#;
        assert!(matches!(Incoming::parse(line).unwrap(), Incoming::Answer));
    }

    #[test]
    fn what_is_no_request_has_a_named_reason() {
        let error = |line: &[u8]| Incoming::parse(line).unwrap_err();
        for line in [&b"GET / HTTP/1.1"[..], &b"[1,2]"[..], &b"\xff\xfe"[..], &b"{\"id\":1"[..]] {
            assert_eq!(error(line), RequestError::NotJson);
        }
        let long = format!("{{\"id\":\"{}\",\"method\":\"x\"}}", "a".repeat(MAX_ID));
        assert_eq!(error(long.as_bytes()), RequestError::IdTooLong);
        let long = long.replace("\"x\"", "5");
        assert_eq!(error(long.as_bytes()), RequestError::IdTooLong);
    }

    #[test]
    fn what_is_no_request_is_answered_with_its_id() {
        let id = |json: &str| Id(json.into());
        for (line, expected) in [
            (r#"{"id":13,"params":[]}"#, RequestError::NoMethod(id("13"))),
            (r#"{"params":[]}"#, RequestError::NoMethod(id("null"))),
            (r#"{"id":"a","method":5}"#, RequestError::Malformed(id("\"a\""))),
            (r#"{"method":[],"params":[]}"#, RequestError::Malformed(id("null"))),
            (r#"{"id":1,"id":2,"method":"mining.ping"}"#, RequestError::Malformed(id("2"))),
            (r#"{"id":7,"method":"mining.ping","method":"mining.ping"}"#, RequestError::Malformed(id("7"))),
        ] {
            let error = Incoming::parse(line.as_bytes()).unwrap_err();
            assert_eq!((error.id(), &error), (expected.id(), &expected), "{line}");
        }
    }
}
