//! One SV1 connection from the miner's side, as a state machine: lines in, lines and events out.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bitcoin::Target;
use bitcoin::hex::{DisplayHex, FromHex};
use serde_json::{Value, json};

use super::notify::Notify;
use crate::cpu::{Find, Job, target_of_difficulty};

/// What the miner says about itself and asks for.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) user: String,
    pub(super) password: String,
    pub(super) agent: String,
    /// Asked for with `mining.configure`; zero asks for nothing.
    pub(super) version_mask: u32,
    /// Whether it sends `mining.extranonce.subscribe`.
    pub(super) follows_extranonce: bool,
}

/// Names a job: the connection it belongs to, and the server's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) connection: u64,
    pub(super) job_id: String,
}

pub(super) enum Event {
    /// Search this from now on.
    Work { job: Arc<Job<Tag>>, target: Target, difficulty: f64 },
    /// The server took a share found at this target.
    Accepted(Target),
    /// The server refused a share; `code text` as it said it.
    Rejected(String),
    /// The server gave this `extranonce1`.
    Extranonce(Vec<u8>),
    /// The server asks to come back, there or (if empty) here, after so many seconds.
    Reconnect { host: String, port: u16, wait: u64 },
    /// A text for a person.
    Message(String),
}

/// Why a connection is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("the server sent something that is not SV1: {0}")]
    Protocol(String),
    #[error("the server refused {method}: {reason}")]
    Method { method: &'static str, reason: String },
}

enum Request {
    Configure,
    Subscribe,
    Authorize,
    Optional,
    Submit(Target),
}

pub(super) struct Session {
    identity: Identity,
    connection: u64,
    next_id: u64,
    waiting: HashMap<u64, Request>,
    extranonce: Option<(Vec<u8>, usize)>,
    difficulty: f64,
    mask: u32,
    rolls: bool,
    out: VecDeque<String>,
    events: VecDeque<Event>,
}

impl Session {
    /// Starts with the requests of a common device: configure, subscribe, authorize.
    pub(super) fn new(identity: Identity, connection: u64) -> Self {
        let mut session = Self {
            identity,
            connection,
            next_id: 1,
            waiting: HashMap::new(),
            extranonce: None,
            difficulty: 1.0,
            mask: 0,
            rolls: false,
            out: VecDeque::new(),
            events: VecDeque::new(),
        };
        session.open();
        session
    }

    fn open(&mut self) {
        let Identity { user, password, agent, version_mask, follows_extranonce } = self.identity.clone();
        if version_mask != 0 {
            let mask = format!("{version_mask:08x}");
            let options = json!({ "version-rolling.mask": mask, "version-rolling.min-bit-count": 2 });
            self.request(Request::Configure, "mining.configure", &json!([["version-rolling"], options]));
        }
        self.request(Request::Subscribe, "mining.subscribe", &json!([agent]));
        if follows_extranonce {
            self.request(Request::Optional, "mining.extranonce.subscribe", &json!([]));
        }
        self.request(Request::Authorize, "mining.authorize", &json!([user, password]));
    }

    /// Sends a share, unless it belongs to an earlier connection; says whether it did.
    pub(super) fn submit(&mut self, find: &Find<Tag>) -> bool {
        if find.tag.connection != self.connection {
            return false;
        }
        let (extranonce, ntime, nonce) = (
            find.extranonce.to_lower_hex_string(),
            format!("{:08x}", find.ntime),
            format!("{:08x}", find.nonce),
        );
        let mut params = vec![
            json!(self.identity.user),
            json!(find.tag.job_id),
            json!(extranonce),
            json!(ntime),
            json!(nonce),
        ];
        if self.rolls {
            params.push(json!(format!("{:08x}", find.version & self.mask)));
        }
        self.request(Request::Submit(find.target), "mining.submit", &Value::Array(params));
        true
    }

    /// Shares that wait for an answer.
    pub(super) fn unanswered(&self) -> u64 {
        self.waiting.values().filter(|request| matches!(request, Request::Submit(_))).count() as u64
    }

    pub(super) fn poll_send(&mut self) -> Option<String> {
        self.out.pop_front()
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes one line of the server's.
    pub(super) fn handle(&mut self, line: &str) -> Result<(), Refused> {
        let bad = || Refused::Protocol(line.chars().take(200).collect());
        let message: Value = serde_json::from_str(line).map_err(|_| bad())?;
        match message.get("method").and_then(Value::as_str) {
            Some(method) => {
                let params = message.get("params").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                self.notified(method, params, message.get("id")).ok_or_else(bad)
            }
            None => match message.get("id").and_then(Value::as_u64).and_then(|id| self.waiting.remove(&id)) {
                Some(request) => self.answered(&request, &message),
                None => Err(bad()),
            },
        }
    }

    fn notified(&mut self, method: &str, params: &[Value], id: Option<&Value>) -> Option<()> {
        let text = |index: usize| params.get(index).and_then(Value::as_str);
        match method {
            "mining.notify" => self.notify(&Notify::parse(params)?)?,
            "mining.set_difficulty" => self.difficulty = params.first()?.as_f64()?,
            "mining.set_extranonce" => {
                let size = usize::try_from(params.get(1)?.as_u64()?).ok()?;
                self.change_extranonce(Vec::from_hex(text(0)?).ok()?, size);
            }
            "mining.set_version_mask" => {
                self.mask = u32::from_str_radix(text(0)?, 16).ok()? & self.identity.version_mask
            }
            "client.reconnect" => self.events.push_back(reconnect(params)),
            "client.show_message" => self.events.push_back(Event::Message(text(0)?.to_owned())),
            "client.get_version" => self.reply(id, &json!(self.identity.agent)),
            "mining.ping" => self.reply(id, &json!("pong")),
            _ => {}
        }
        Some(())
    }

    /// Difficulty, extranonce and mask set before a job hold from that job on.
    fn notify(&mut self, notify: &Notify) -> Option<()> {
        let (extranonce_1, size) = self.extranonce.as_ref()?;
        let tag = Tag { connection: self.connection, job_id: notify.job_id.clone() };
        let coinbase = notify.coinbase(extranonce_1, *size);
        let Notify { version, prev_hash, ntime, nbits, .. } = *notify;
        let job = Arc::new(Job::new(tag, coinbase, version, self.mask, prev_hash, ntime, nbits));
        let (difficulty, target) = (self.difficulty, target_of_difficulty(self.difficulty));
        self.events.push_back(Event::Work { job, target, difficulty });
        Some(())
    }

    fn answered(&mut self, request: &Request, message: &Value) -> Result<(), Refused> {
        let (result, error) = (&message["result"], &message["error"]);
        let refused = |method| Err(Refused::Method { method, reason: error.to_string() });
        match request {
            Request::Configure => self.configured(result),
            Request::Subscribe => match subscription(result) {
                Some((extranonce_1, size)) => self.change_extranonce(extranonce_1, size),
                None => return refused("mining.subscribe"),
            },
            Request::Authorize if result != &json!(true) => return refused("mining.authorize"),
            Request::Submit(target) if result == &json!(true) => {
                self.events.push_back(Event::Accepted(*target))
            }
            Request::Submit(_) => self.events.push_back(Event::Rejected(reason(error))),
            Request::Authorize | Request::Optional => {}
        }
        Ok(())
    }

    fn change_extranonce(&mut self, extranonce_1: Vec<u8>, size: usize) {
        self.events.push_back(Event::Extranonce(extranonce_1.clone()));
        self.extranonce = Some((extranonce_1, size));
    }

    /// A server that does not roll versions may refuse `mining.configure`; mining goes on without.
    fn configured(&mut self, result: &Value) {
        self.rolls = result["version-rolling"] == json!(true);
        let mask =
            result["version-rolling.mask"].as_str().and_then(|mask| u32::from_str_radix(mask, 16).ok());
        if self.rolls {
            self.mask = mask.unwrap_or(0) & self.identity.version_mask;
        }
    }

    fn request(&mut self, request: Request, method: &str, params: &Value) {
        let id = self.next_id;
        self.next_id += 1;
        self.waiting.insert(id, request);
        self.out.push_back(json!({ "id": id, "method": method, "params": params }).to_string());
    }

    fn reply(&mut self, id: Option<&Value>, result: &Value) {
        if let Some(id) = id.filter(|id| !id.is_null()) {
            self.out.push_back(json!({ "id": id, "result": result, "error": null }).to_string());
        }
    }
}

/// `[[subscriptions], extranonce_1, extranonce_2_size]`
fn subscription(result: &Value) -> Option<(Vec<u8>, usize)> {
    let extranonce_1 = Vec::from_hex(result.get(1)?.as_str()?).ok()?;
    Some((extranonce_1, usize::try_from(result.get(2)?.as_u64()?).ok()?))
}

/// SV1 errors are `[code, text, data]`.
fn reason(error: &Value) -> String {
    match (error.get(0).and_then(Value::as_i64), error.get(1).and_then(Value::as_str)) {
        (Some(code), Some(text)) => format!("{code} {text}"),
        _ => error.to_string(),
    }
}

/// `[host, port, seconds]`; the port comes as a number or as text.
fn reconnect(params: &[Value]) -> Event {
    let port = params.get(1).and_then(|port| port.as_u64().or_else(|| port.as_str()?.parse().ok()));
    Event::Reconnect {
        host: params.first().and_then(Value::as_str).unwrap_or_default().to_owned(),
        port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
        wait: params.get(2).and_then(Value::as_u64).unwrap_or(0),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn session(version_mask: u32) -> Session {
        let (user, password, agent) = ("addr.rig".to_owned(), "x".to_owned(), "sluice-cpu".to_owned());
        Session::new(Identity { user, password, agent, version_mask, follows_extranonce: true }, 1)
    }

    fn notify(id: &str) -> String {
        let params = json!([id, "00".repeat(32), "01", "02", [], "20000000", "1e0377ae", "6774a000", true]);
        json!({ "id": null, "method": "mining.notify", "params": params }).to_string()
    }

    fn open(session: &mut Session) {
        let sent: Vec<Value> = std::iter::from_fn(|| session.poll_send())
            .map(|line| serde_json::from_str(&line).unwrap())
            .collect();
        for request in sent {
            let result = match request["method"].as_str().unwrap() {
                "mining.configure" => json!({ "version-rolling": true, "version-rolling.mask": "1fffe000" }),
                "mining.subscribe" => json!([[], "aabbccdd", 4]),
                _ => json!(true),
            };
            session
                .handle(&json!({ "id": request["id"], "result": result, "error": null }).to_string())
                .unwrap();
        }
        assert!(matches!(session.poll_event(), Some(Event::Extranonce(_))));
        assert!(session.poll_event().is_none());
    }

    fn work(session: &mut Session) -> (Arc<Job<Tag>>, Target) {
        let mut events = std::iter::from_fn(|| session.poll_event());
        let work = events.find_map(|event| match event {
            Event::Work { job, target, .. } => Some((job, target)),
            _ => None,
        });
        work.unwrap()
    }

    fn find(session: &mut Session) -> Find<Tag> {
        let (job, _) = work(session);
        job.search(Target::from_be_bytes([0xff; 32]), 1).remove(0)
    }

    #[test]
    fn difficulty_and_extranonce_hold_from_the_next_job_on() {
        let mut session = session(0x1fff_e000);
        open(&mut session);
        session.handle(r#"{"id":null,"method":"mining.set_difficulty","params":[0.25]}"#).unwrap();
        session.handle(&notify("a")).unwrap();
        let (job, target) = work(&mut session);
        assert_eq!(target, target_of_difficulty(0.25));
        assert_eq!(job.version_mask, 0x1fff_e000);
        session.handle(r#"{"id":null,"method":"mining.set_extranonce","params":["ee",7]}"#).unwrap();
        assert!(matches!(session.poll_event(), Some(Event::Extranonce(_))));
        assert!(session.poll_event().is_none());
        session.handle(&notify("b")).unwrap();
        let (job, _) = work(&mut session);
        let Coinbase::Rolled { prefix, rolled, .. } = &job.coinbase else { panic!("fixed") };
        assert_eq!((prefix.as_slice(), *rolled), (&[0x01, 0xee][..], 7));
    }

    #[test]
    fn answers_to_shares_become_counts_with_reasons() {
        let mut session = session(0x1fff_e000);
        open(&mut session);
        session.handle(&notify("a")).unwrap();
        let find = find(&mut session);
        assert!(session.submit(&find));
        let sent: Value = serde_json::from_str(&session.poll_send().unwrap()).unwrap();
        assert_eq!(sent["params"].as_array().unwrap().len(), 6, "version bits are the sixth parameter");
        assert_eq!(session.unanswered(), 1);
        let refusal = json!({ "id": sent["id"], "result": null, "error": [21, "Job not found", null] });
        session.handle(&refusal.to_string()).unwrap();
        assert!(
            matches!(session.poll_event(), Some(Event::Rejected(reason)) if reason == "21 Job not found")
        );
        assert_eq!(session.unanswered(), 0);
    }

    #[test]
    fn a_share_of_an_earlier_connection_is_not_sent() {
        let mut session = session(0);
        open(&mut session);
        session.handle(&notify("a")).unwrap();
        let mut find = find(&mut session);
        find.tag.connection = 0;
        assert!(!session.submit(&find));
        assert!(session.poll_send().is_none());
    }

    #[test]
    fn the_servers_own_questions_are_answered() {
        let mut session = session(0);
        open(&mut session);
        session.handle(r#"{"id":"q","method":"client.get_version","params":[]}"#).unwrap();
        assert!(session.poll_send().unwrap().contains("sluice-cpu"));
        session.handle(r#"{"id":null,"method":"client.reconnect","params":["h","3333",2]}"#).unwrap();
        assert!(matches!(session.poll_event(), Some(Event::Reconnect { port: 3333, wait: 2, .. })));
        assert!(session.handle("not json").is_err());
    }

    use crate::cpu::Coinbase;
}
