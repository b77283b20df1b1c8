//! The SV1 miner of a load: configure, subscribe, authorize, then a share for a share's answer.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use bitcoin::Target;
use bitcoin::hex::{DisplayHex, FromHex};
use mining::share::VERSION_ROLLING_MASK;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::counts::Counts;
use super::flight::Flight;
use super::notify::{Cache, Parsed};
use super::work::{Notified, Work};
use crate::cpu::target_of_difficulty;

/// Longest line that is taken.
const MAX_LINE: usize = 1 << 20;
/// Requests before the first share; shares have higher ids.
const CONFIGURE: u32 = 1;
const SUBSCRIBE: u32 = 2;
const AUTHORIZE: u32 = 3;
const SUGGEST: u32 = 4;
const FIRST_SHARE: u32 = 16;

/// How to introduce oneself.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) user: String,
    pub(super) password: String,
    pub(super) difficulty: Option<f64>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Miner {
    user: String,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    written: usize,
    extranonce: Option<(Vec<u8>, usize)>,
    mask: u32,
    authorized: bool,
    /// For the next job.
    target: Target,
    job: Option<(Arc<Parsed>, Target)>,
    tip: Option<[u8; 32]>,
    /// Made from the job when the first share of it is wanted.
    work: Option<Work>,
    next_id: u32,
    flight: Flight,
}

/// A line of the server's.
#[derive(Deserialize)]
struct Line<'a> {
    id: Option<u32>,
    #[serde(borrow)]
    method: Option<&'a str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Miner {
    pub(super) fn new(options: Options) -> anyhow::Result<Self> {
        let Options { user, password, difficulty } = options;
        let mut outgoing = Vec::new();
        let agent = concat!("sluice-load/", env!("CARGO_PKG_VERSION"));
        writeln!(
            outgoing,
            r#"{{"id":{CONFIGURE},"method":"mining.configure","params":[["version-rolling"],{{"version-rolling.mask":"{VERSION_ROLLING_MASK:08x}","version-rolling.min-bit-count":2}}]}}
{{"id":{SUBSCRIBE},"method":"mining.subscribe","params":["{agent}"]}}"#
        )?;
        if let Some(difficulty) = difficulty {
            writeln!(
                outgoing,
                r#"{{"id":{SUGGEST},"method":"mining.suggest_difficulty","params":[{difficulty}]}}"#
            )?;
        }
        let (name, password) = (Value::from(user.as_str()), Value::from(password));
        writeln!(
            outgoing,
            r#"{{"id":{AUTHORIZE},"method":"mining.authorize","params":[{name},{password}]}}"#
        )?;
        Ok(Self {
            user: name.to_string(),
            incoming: Vec::new(),
            outgoing,
            written: 0,
            extranonce: None,
            mask: 0,
            authorized: false,
            target: target_of_difficulty(1.0),
            job: None,
            tip: None,
            work: None,
            next_id: FIRST_SHARE,
            flight: Flight::default(),
        })
    }

    pub(super) fn has_work(&self) -> bool {
        self.authorized && self.extranonce.is_some() && self.job.is_some()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.flight.len()
    }

    /// When each share was written that has no answer.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = Instant> {
        self.flight.times()
    }

    /// What it waits for that has no work.
    pub(super) fn stage(&self) -> &'static str {
        match (&self.extranonce, self.authorized) {
            (None, _) => "no answer to mining.subscribe",
            (_, false) => "no answer to mining.authorize",
            _ => "no job",
        }
    }

    pub(super) fn unsent(&self) -> &[u8] {
        &self.outgoing[self.written..]
    }

    pub(super) fn sent(&mut self, count: usize) {
        self.written += count;
        if self.written == self.outgoing.len() {
            self.written = 0;
            self.outgoing.clear();
        }
    }

    pub(super) fn handle(
        &mut self,
        now: Instant,
        bytes: &[u8],
        cache: &mut Cache,
        counts: &mut Counts,
    ) -> anyhow::Result<()> {
        // Mostly whole lines come in: those are read where they are.
        if self.incoming.is_empty() {
            let rest = self.lines(now, bytes, cache, counts)?;
            self.incoming.extend_from_slice(rest);
        } else {
            let mut whole = std::mem::take(&mut self.incoming);
            whole.extend_from_slice(bytes);
            let left = self.lines(now, &whole, cache, counts)?.len();
            whole.drain(..whole.len() - left);
            self.incoming = whole;
        }
        ensure!(self.incoming.len() <= MAX_LINE, "a line without end");
        Ok(())
    }

    /// Takes all whole lines; what is left is the beginning of another.
    fn lines<'a>(
        &mut self,
        now: Instant,
        mut bytes: &'a [u8],
        cache: &mut Cache,
        counts: &mut Counts,
    ) -> anyhow::Result<&'a [u8]> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.line(now, &bytes[..end], cache, counts)?;
            bytes = &bytes[end + 1..];
        }
        Ok(bytes)
    }

    fn line(
        &mut self,
        now: Instant,
        line: &[u8],
        cache: &mut Cache,
        counts: &mut Counts,
    ) -> anyhow::Result<()> {
        let message: Line<'_> = serde_json::from_slice(line)
            .with_context(|| format!("not SV1: {}", String::from_utf8_lossy(&line[..line.len().min(200)])))?;
        match (message.method, message.id) {
            (Some(method), _) => self.notified(now, method, message.params, line, cache, counts),
            (None, Some(id)) if id >= FIRST_SHARE => self.judged(now, id, &message, counts),
            (None, Some(id)) => self.answered(id, &message),
            (None, None) => Ok(()),
        }
    }

    fn judged(&mut self, now: Instant, id: u32, line: &Line<'_>, counts: &mut Counts) -> anyhow::Result<()> {
        let sent = self.flight.answered(id).context("an answer to nothing")?;
        if line.result.is_some_and(|result| result.get() == "true") {
            counts.accept(now, sent);
        } else {
            counts.reject(now, reason(line.error));
        }
        Ok(())
    }

    fn answered(&mut self, id: u32, line: &Line<'_>) -> anyhow::Result<()> {
        let result: Value = line.result.map_or(Ok(Value::Null), |raw| serde_json::from_str(raw.get()))?;
        match id {
            CONFIGURE if result["version-rolling"] == true => {
                let mask = result["version-rolling.mask"].as_str().unwrap_or_default();
                self.mask = u32::from_str_radix(mask, 16)? & VERSION_ROLLING_MASK;
            }
            SUBSCRIBE => {
                let first = result[1].as_str().context("subscribe: no extranonce1")?;
                let size = result[2].as_u64().context("subscribe: no size of extranonce2")?;
                self.extranonce = Some((Vec::from_hex(first)?, usize::try_from(size)?));
            }
            AUTHORIZE if result == true => self.authorized = true,
            AUTHORIZE => bail!("not authorized: {}", reason(line.error)),
            _ => {}
        }
        Ok(())
    }

    fn notified(
        &mut self,
        now: Instant,
        method: &str,
        params: Option<&RawValue>,
        line: &[u8],
        cache: &mut Cache,
        counts: &mut Counts,
    ) -> anyhow::Result<()> {
        let params = params.map_or("[]", RawValue::get);
        match method {
            "mining.notify" => {
                let had_work = self.has_work();
                let job = cache.parse(line, params)?;
                let prev_hash = job.prev_hash;
                (self.job, self.work) = (Some((job, self.target)), None);
                if self.tip.replace(prev_hash) != Some(prev_hash) && had_work {
                    counts.tip(now, prev_hash);
                }
            }
            "mining.set_difficulty" => {
                let [difficulty]: [f64; 1] = serde_json::from_str(params)?;
                self.target = target_of_difficulty(difficulty);
            }
            "mining.set_extranonce" => {
                let (first, size): (String, usize) = serde_json::from_str(params)?;
                self.extranonce = Some((Vec::from_hex(&first)?, size));
            }
            "client.reconnect" => bail!("asked to reconnect"),
            _ => {}
        }
        Ok(())
    }

    /// Queues one share; [`Self::written`] says when it goes out.
    pub(super) fn submit(&mut self) -> anyhow::Result<()> {
        let (job, target) = self.job.as_ref().context("no job")?;
        let work = match &mut self.work {
            Some(work) => work,
            empty => {
                let (first, size) = self.extranonce.as_ref().context("no extranonce")?;
                let notified = Notified {
                    body: Arc::clone(&job.body),
                    version: job.version,
                    mask: self.mask,
                    prev_hash: job.prev_hash,
                    ntime: job.ntime,
                    nbits: job.nbits,
                };
                let work = Work::of_notify(&notified, first, *size, *target);
                if let Some(refusal) = work.refusal() {
                    return Err(refusal.into());
                }
                empty.insert(work)
            }
        };
        let share = work.next();
        let (id, mask) = (self.next_id, self.mask);
        self.next_id = id.wrapping_add(1);
        let extranonce = share.extranonce.as_hex();
        write!(
            self.outgoing,
            r#"{{"id":{id},"method":"mining.submit","params":[{},"{}","{extranonce}","{:08x}","{:08x}""#,
            self.user, job.id, share.ntime, share.nonce
        )?;
        if mask != 0 {
            write!(self.outgoing, r#","{:08x}""#, share.version & mask)?;
        }
        self.outgoing.extend_from_slice(b"]}\n");
        self.flight.queued(id);
        Ok(())
    }

    /// What is queued goes out now.
    pub(super) fn written(&mut self, now: Instant) {
        self.flight.written(now);
    }
}

fn reason(error: Option<&RawValue>) -> String {
    error.map_or("no reason", RawValue::get).to_owned()
}
