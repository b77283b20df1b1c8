//! For unit tests: an SV2 mining server's messages, played into a real [`Trunk`], and a miner that talks JSON.
#![allow(clippy::unwrap_used)]

use crate::session::{Disconnect, Event, PaceSettings, Session, Settings};
use crate::sv1::Difficulty;
use crate::upstream::trunk::{self, Trunk};
use crate::work::Work;
use bitcoin::Target;
use link::Frame;
use mining::Now;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use stratum_core::binary_sv2::Sv2OptionOwned;
use stratum_core::mining_sv2::{
    CloseChannelOwned, NewExtendedMiningJobOwned, OpenExtendedMiningChannelSuccessOwned,
    OpenMiningChannelErrorOwned, SetNewPrevHashOwned, SetTargetOwned, SubmitSharesErrorOwned,
    SubmitSharesSuccess,
};
use stratum_core::parsers_sv2::MiningOwned;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

/// Every hash meets it.
pub(crate) fn easiest() -> Target {
    Target::from_le_bytes([0xff; 32])
}

/// No hash meets it.
pub(crate) const HARDEST: Target = Target::ZERO;
/// The time of all tests, unix.
pub(crate) const TIME: u32 = 1_750_000_000;

pub(crate) fn start() -> Now {
    Now { instant: Instant::now(), unix: TIME }
}

/// Settings under which about every third hash is a share.
pub(crate) fn settings() -> Settings {
    Settings {
        extranonce2: 8,
        pace: PaceSettings {
            interval: Duration::from_secs(3),
            hash_rate: 1.0,
            minimum: Difficulty::new(1e-12).unwrap(),
        },
        authorize_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(900),
        unused_timeout: Duration::from_secs(3600),
        answer_timeout: Duration::from_secs(2),
        hold: Duration::from_secs(120),
    }
}

/// A mining server as a trunk sees it.
pub(crate) struct Server {
    pub(crate) trunk: Trunk,
    next_channel: u32,
    next_request: u32,
    next_job: u32,
    /// Earliest time in jobs of the tip at hand.
    pub(crate) earliest: u32,
    /// The network's target in jobs of tips to come.
    pub(crate) nbits: u32,
    /// Makes jobs differ.
    content: u8,
}

impl Server {
    pub(crate) fn new(now: Now, connection: u64) -> Self {
        let repeat = Duration::from_secs(55);
        let settings = trunk::Settings { connection, extranonce2: 8, repeat, job_ids: Arc::default() };
        Self {
            trunk: Trunk::new(now, settings, &[2]),
            next_channel: 2,
            next_request: 1,
            next_job: 1,
            nbits: 0x1d00_ffff,
            content: 0,
            earliest: TIME,
        }
    }

    pub(crate) fn say(&mut self, now: Now, message: MiningOwned) {
        let mut received = Frame::message(message).unwrap().received();
        self.trunk.handle(now, &mut received).unwrap();
    }

    /// Opens a channel for `slot` with an extranonce prefix of 8 bytes; its id.
    pub(crate) fn open(&mut self, now: Now, slot: u64, target: Target, extranonce_size: u16) -> u32 {
        self.trunk.open(slot, "account", 1e12);
        if extranonce_size < 12 {
            let error_code = "min-extranonce-size-too-large".to_owned().try_into().unwrap();
            let error = OpenMiningChannelErrorOwned { request_id: self.next_request, error_code };
            self.say(now, MiningOwned::OpenMiningChannelError(error));
            self.next_request += 1;
        }
        let request_id = self.next_request;
        self.next_request += 1;
        let channel_id = self.next_channel;
        self.next_channel += 1;
        let success = OpenExtendedMiningChannelSuccessOwned {
            request_id,
            channel_id,
            target: target.to_le_bytes().into(),
            extranonce_prefix: vec![u8::try_from(channel_id).unwrap(); 8].try_into().unwrap(),
            extranonce_size,
            group_channel_id: 1,
        };
        self.say(now, MiningOwned::OpenExtendedMiningChannelSuccess(success));
        channel_id
    }

    /// A job for the whole group, on a new tip if `tip` is given; its id.
    pub(crate) fn job(&mut self, now: Now, tip: Option<u8>, version_rolling_allowed: bool) -> u32 {
        self.content = self.content.wrapping_add(1);
        self.same_job(now, tip, version_rolling_allowed)
    }

    fn same_job(&mut self, now: Now, tip: Option<u8>, version_rolling_allowed: bool) -> u32 {
        let job_id = self.next_job;
        self.next_job += 1;
        let min_ntime = if tip.is_some() { None } else { Some(self.earliest) };
        let job = NewExtendedMiningJobOwned {
            channel_id: 1,
            job_id,
            min_ntime: Sv2OptionOwned::new(min_ntime),
            version: 0x2000_0000,
            version_rolling_allowed,
            merkle_path: vec![[7; 32].into()].try_into().unwrap(),
            coinbase_tx_prefix: vec![1; 60].try_into().unwrap(),
            coinbase_tx_suffix: vec![0xe0_u8.wrapping_add(self.content); 50].try_into().unwrap(),
        };
        self.say(now, MiningOwned::NewExtendedMiningJob(job));
        if let Some(byte) = tip {
            let prev_hash = SetNewPrevHashOwned {
                channel_id: 1,
                job_id,
                prev_hash: [byte; 32].into(),
                min_ntime: TIME,
                nbits: self.nbits,
            };
            self.say(now, MiningOwned::SetNewPrevHash(prev_hash));
        }
        job_id
    }

    /// The channel's last job again, under another id and with another target.
    pub(crate) fn retarget(&mut self, now: Now, channel_id: u32, target: Target) -> u32 {
        let maximum_target = target.to_le_bytes().into();
        self.say(now, MiningOwned::SetTarget(SetTargetOwned { channel_id, maximum_target }));
        self.same_job(now, None, true)
    }

    pub(crate) fn acknowledge(&mut self, now: Now, channel_id: u32, last_sequence_number: u32, count: u32) {
        let success = SubmitSharesSuccess {
            channel_id,
            last_sequence_number,
            new_submits_accepted_count: count,
            new_shares_sum: u64::from(count),
        };
        self.say(now, MiningOwned::SubmitSharesSuccess(success));
    }

    pub(crate) fn refuse(&mut self, now: Now, channel_id: u32, sequence_number: u32, code: &str) {
        let error_code = code.to_owned().try_into().unwrap();
        let error = SubmitSharesErrorOwned { channel_id, sequence_number, error_code };
        self.say(now, MiningOwned::SubmitSharesError(error));
    }

    pub(crate) fn close(&mut self, now: Now, channel_id: u32) {
        let reason_code = "bye".to_owned().try_into().unwrap();
        self.say(now, MiningOwned::CloseChannel(CloseChannelOwned { channel_id, reason_code }));
    }

    pub(crate) fn events(&mut self) -> Vec<trunk::Event> {
        std::iter::from_fn(|| self.trunk.poll_event()).collect()
    }

    /// The last work that the trunk made for `slot`.
    pub(crate) fn work(&mut self, slot: u64) -> Option<Arc<Work>> {
        let of_slot = |event| match event {
            trunk::Event::Work { slot: of, work, .. } if of == slot => work,
            _ => None,
        };
        self.events().into_iter().filter_map(of_slot).last()
    }
}

/// A server on whose channel 0 no share is enough for the upstream, and about every sixteenth hash is a block.
pub(crate) fn server_of_blocks(now: Now) -> Server {
    let mut server = Server::new(now, 1);
    server.nbits = 0x200f_ffff;
    server.open(now, 0, HARDEST, 16);
    server
}

/// One channel with a job on it, whose shares must meet `target`.
pub(crate) fn work(now: Now, target: Target) -> Arc<Work> {
    let mut server = Server::new(now, 1);
    server.open(now, 0, target, 16);
    server.job(now, Some(1), true);
    server.work(0).unwrap()
}

/// A miner's end of a session.
pub(crate) struct Talk {
    pub(crate) session: Session,
    pub(crate) now: Now,
}

impl Talk {
    pub(crate) fn new(now: Now) -> Self {
        Self::with(now, settings())
    }

    pub(crate) fn with(now: Now, settings: Settings) -> Self {
        Self { session: Session::new(now, settings.into(), 5), now }
    }

    /// Subscribed and authorised as `w`, with work; what was said is forgotten.
    pub(crate) fn mining(now: Now, work: &Arc<Work>) -> Self {
        let mut talk = Self::new(now);
        talk.say(r#"{"id":1,"method":"mining.subscribe","params":["cgminer/4.12.0"]}"#);
        talk.say(r#"{"id":2,"method":"mining.authorize","params":["w","x"]}"#);
        talk.apply(Some(work)).unwrap();
        talk.events();
        talk
    }

    /// A line from the miner; what it is sent in return.
    pub(crate) fn say(&mut self, line: &str) -> Vec<Value> {
        self.session.handle_line(self.now, line.as_bytes()).unwrap();
        self.heard()
    }

    pub(crate) fn apply(&mut self, work: Option<&Arc<Work>>) -> Result<Vec<Value>, Disconnect> {
        self.session.apply(self.now, work.cloned())?;
        Ok(self.heard())
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, by: Duration) -> Result<Vec<Value>, Disconnect> {
        self.now = self.now.after(by);
        self.session.handle_timeout(self.now)?;
        Ok(self.heard())
    }

    pub(crate) fn heard(&mut self) -> Vec<Value> {
        let text = String::from_utf8(self.session.output().as_bytes().to_vec()).unwrap();
        let output = self.session.output();
        output.sent(output.as_bytes().len());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    /// Submits with this nonce for `work`; the answer.
    pub(crate) fn submit(&mut self, work: &Work, nonce: u32) -> Vec<Value> {
        let params = json!([
            "w",
            format!("{:x}", work.id),
            "00000000000000aa",
            format!("{TIME:08x}"),
            format!("{nonce:08x}")
        ]);
        self.say(&json!({"id": 9, "method": "mining.submit", "params": params}).to_string())
    }

    /// A nonce whose hash is, or is not, below `target`.
    pub(crate) fn nonce(&self, work: &Work, target: Target, meets: bool) -> u32 {
        (0..u32::MAX).find(|&nonce| (Self::hash(work, nonce) <= target) == meets).unwrap()
    }

    /// The hash, as a number, of what [`Self::submit`] hands in.
    pub(crate) fn hash(work: &Work, nonce: u32) -> Target {
        let extranonce = work.extranonce(&[0, 0, 0, 5], &[0, 0, 0, 0, 0, 0, 0, 0xaa]);
        let rolled = crate::work::Rolled { extranonce, version: 0x2000_0000, ntime: TIME, nonce };
        mining::header::as_number(work.job.header(&rolled.choice()).hash())
    }
}

/// What was logged while this was the default subscriber, by line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn says(&self, what: &str) -> bool {
        self.0.lock().unwrap().iter().any(|line| line.contains(what))
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The methods of notifications, and the results or error codes of answers, in order.
pub(crate) fn gist(lines: &[Value]) -> Vec<Value> {
    let of = |line: &Value| match (&line["method"], &line["error"]) {
        (Value::String(method), _) => json!(method),
        (_, Value::Null) => line["result"].clone(),
        (_, error) => error[0].clone(),
    };
    lines.iter().map(of).collect()
}
