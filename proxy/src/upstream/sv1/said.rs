//! One line from an SV1 pool → what it says. Lenient where pools differ; what makes no sense is an error with a reason.

use crate::sv1::Difficulty;
use bitcoin::hex::FromHex;
use serde::Deserialize;
use serde_json::Value;

/// Longest line a pool may send, in bytes. A coinbase that pays hundreds of outputs takes tens of kilobytes.
pub const MAX_LINE: usize = 256 * 1024;
/// Longest id of a pool's job, in bytes.
const MAX_JOB_ID: usize = 128;
/// Most siblings on a merkle path; 2^32 transactions fit no block.
const MAX_PATH: usize = 32;
/// Longest extranonce1, in bytes. With what is rolled it has to fit a coinbase's 100 bytes of input script.
const MAX_EXTRANONCE1: usize = 32;

/// What a line is.
#[derive(Debug)]
pub enum Said {
    /// An answer to what was asked under this id.
    Answer(u64, Answer),
    /// `mining.notify`.
    Job(Box<PoolJob>),
    /// `mining.set_difficulty`: holds from the next job on.
    Difficulty(Difficulty),
    /// `mining.set_extranonce`: holds from the next job on.
    Extranonce(PoolExtranonce),
    /// `mining.set_version_mask`.
    VersionMask(u32),
    /// `client.reconnect`: to this host and port, where it names them.
    Reconnect(Option<String>, Option<u16>),
    /// `client.show_message`.
    Message(String),
    /// A request that wants an answer: its id as JSON text, and the method.
    Question(String, String),
    /// Nothing that matters here.
    Nothing,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// `result`; null if there is none.
    pub result: Value,
    /// `error`; null if there is none.
    pub error: Value,
    /// ckpool's `reject-reason`.
    pub reason: Option<String>,
}

/// A job as it stands in `mining.notify`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolJob {
    /// The pool's.
    pub id: String,
    /// Internal byte order.
    pub prev_hash: [u8; 32],
    /// Coinbase before extranonce1.
    pub coinb1: Vec<u8>,
    /// Coinbase after extranonce2.
    pub coinb2: Vec<u8>,
    /// Siblings of the coinbase, from the deepest up.
    pub merkle_path: Vec<[u8; 32]>,
    /// Header version before any rolling.
    pub version: u32,
    /// The header's target, compact.
    pub nbits: u32,
    /// Seconds since 1970.
    pub ntime: u32,
    /// All earlier jobs are void.
    pub clean: bool,
}

/// What a pool gives of the extranonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolExtranonce {
    /// Extranonce1: the pool's part.
    pub prefix: Vec<u8>,
    /// Bytes of extranonce2: what is ours to choose.
    pub rollable: usize,
}

/// Why a line cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    /// Not a JSON object.
    #[error("a line that is no JSON object")]
    NotJson,
    /// Parameters that do not fit.
    #[error("a {0} that cannot be understood")]
    Malformed(&'static str),
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    id: Value,
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: Value,
    #[serde(rename = "reject-reason")]
    reason: Option<Value>,
}

impl Said {
    /// Parses one line.
    pub fn parse(line: &[u8]) -> Result<Self, Nonsense> {
        let envelope: Envelope = serde_json::from_slice(line).map_err(|_| Nonsense::NotJson)?;
        let Some(method) = envelope.method else { return Ok(answer(envelope)) };
        let params = match envelope.params {
            Value::Array(params) => params,
            _ => Vec::new(),
        };
        let malformed = |what| move || Nonsense::Malformed(what);
        Ok(match method.as_str() {
            "mining.notify" => Self::Job(Box::new(job(&params).ok_or_else(malformed("mining.notify"))?)),
            "mining.set_difficulty" => {
                Self::Difficulty(difficulty(&params).ok_or_else(malformed("mining.set_difficulty"))?)
            }
            "mining.set_extranonce" => {
                Self::Extranonce(extranonce(&params).ok_or_else(malformed("mining.set_extranonce"))?)
            }
            "mining.set_version_mask" => {
                Self::VersionMask(word(params.first()).ok_or_else(malformed("mining.set_version_mask"))?)
            }
            "client.reconnect" => Self::Reconnect(host(params.first()), port(params.get(1))),
            "client.show_message" => Self::Message(message(&params)),
            _ if envelope.id.is_null() => Self::Nothing,
            _ => Self::Question(envelope.id.to_string(), method),
        })
    }
}

/// An id comes back as the number it was, or as a string that holds it.
fn answer(envelope: Envelope) -> Said {
    let id = envelope.id.as_u64().or_else(|| envelope.id.as_str()?.parse().ok());
    let reason = envelope.reason.and_then(|reason| reason.as_str().map(str::to_owned));
    match id {
        Some(id) => Said::Answer(id, Answer { result: envelope.result, error: envelope.error, reason }),
        None => Said::Nothing,
    }
}

/// The parts of the answer to `mining.subscribe` that matter: `[[…], extranonce1, size of extranonce2]`.
pub fn subscription(result: &Value) -> Option<PoolExtranonce> {
    extranonce(result.as_array()?.get(1..)?)
}

/// The version mask in the answer to `mining.configure`; 0 where version rolling is refused.
pub fn version_mask(result: &Value) -> u32 {
    match result["version-rolling"] == true {
        true => word(result.get("version-rolling.mask")).unwrap_or(0),
        false => 0,
    }
}

fn extranonce(params: &[Value]) -> Option<PoolExtranonce> {
    let prefix = Vec::from_hex(params.first()?.as_str()?).ok()?;
    let rollable = usize::try_from(params.get(1)?.as_u64()?).ok()?;
    (prefix.len() <= MAX_EXTRANONCE1).then_some(PoolExtranonce { prefix, rollable })
}

fn job(params: &[Value]) -> Option<PoolJob> {
    let text = |index: usize| params.get(index)?.as_str();
    let path = params.get(4)?.as_array()?;
    let siblings = path.iter().map(|hash| FromHex::from_hex(hash.as_str()?).ok());
    let id = params.first().and_then(|id| match id {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    })?;
    // Eight words, each with its bytes swapped.
    let mut prev_hash = <[u8; 32]>::from_hex(text(1)?).ok()?;
    prev_hash.chunks_exact_mut(4).for_each(<[u8]>::reverse);
    let job = PoolJob {
        id,
        prev_hash,
        coinb1: Vec::from_hex(text(2)?).ok()?,
        coinb2: Vec::from_hex(text(3)?).ok()?,
        merkle_path: siblings.collect::<Option<_>>()?,
        version: word(params.get(5))?,
        nbits: word(params.get(6))?,
        ntime: word(params.get(7))?,
        clean: params.get(8).and_then(Value::as_bool).unwrap_or(false),
    };
    (job.id.len() <= MAX_JOB_ID && job.merkle_path.len() <= MAX_PATH).then_some(job)
}

fn difficulty(params: &[Value]) -> Option<Difficulty> {
    let value = params.first()?;
    Difficulty::new(value.as_f64().or_else(|| value.as_str()?.parse().ok())?)
}

/// A 32-bit number in up to eight hex digits.
fn word(value: Option<&Value>) -> Option<u32> {
    let digits = value?.as_str()?;
    u32::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16).ok()
}

fn host(value: Option<&Value>) -> Option<String> {
    value?.as_str().map(str::trim).filter(|host| !host.is_empty()).map(str::to_owned)
}

/// A number, or a string that holds one.
fn port(value: Option<&Value>) -> Option<u16> {
    let value = value?;
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
    u16::try_from(number).ok().filter(|port| *port != 0)
}

/// For a log line: printable and short.
fn message(params: &[Value]) -> String {
    let text = params.first().and_then(Value::as_str).unwrap_or("");
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
