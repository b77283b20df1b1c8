//! SV1 requests → answers. An unknown method gets an error, never a disconnect.

use super::{Event, MAX_WORKERS, Session, Worker};
use crate::sv1::params::{self, ParamsError};
use crate::sv1::{Difficulty, Id, Rejection, Request, VERSION_ROLLING_MASK};
use mining::Now;
use serde_json::{Map, Value, json};

/// What we call ourselves to a miner that asks.
const VERSION: &str = concat!("sluice-proxy/", env!("CARGO_PKG_VERSION"));

/// In the user agent of hash power that is rented at NiceHash, in lower case.
const RENTED: &str = "nicehash";
/// NiceHash needs a high difficulty; what pools set for it is 500,000 or this (docs/firmware.md).
const RENTED_MINIMUM: Difficulty = Difficulty::whole(524_288);

impl Session {
    pub(super) fn request(&mut self, now: Now, request: &Request<'_>) {
        let (id, params) = (&request.id, request.params);
        let done = match request.method.as_ref() {
            "mining.submit" => return self.submit(now, id, params),
            "mining.subscribe" => {
                self.subscribe(now, id, params);
                Ok(())
            }
            "mining.authorize" => self.authorize(now, id, params),
            "mining.configure" => self.configure(now, id, params),
            "mining.extranonce.subscribe" => {
                self.takes_set_extranonce = true;
                self.out.accepted(id);
                Ok(())
            }
            "mining.suggest_difficulty" => self.suggest_difficulty(now, id, params),
            "mining.suggest_target" => self.suggest_target(now, id, params),
            "mining.ping" | "client.ping" => {
                self.out.result(id, &json!("pong"));
                Ok(())
            }
            "client.get_version" | "mining.get_version" => {
                self.out.result(id, &json!(VERSION));
                Ok(())
            }
            // bmminer says how many versions it may roll and then wants to hear no more of it.
            "mining.multi_version" => {
                self.noted(id);
                Ok(())
            }
            // ESP-Miner's answer to a ping, which it sends as a request.
            "pong" => Ok(()),
            "mining.get_transactions" => {
                let text = "Not available: the upstream keeps the transactions";
                return self.refuse(request, "not-available", text);
            }
            _ => return self.refuse(request, "unknown-method", "Unknown method"),
        };
        if let Err(ParamsError(text)) = done {
            self.refuse(request, "bad-parameters", text);
        }
    }

    fn refuse(&mut self, request: &Request<'_>, reason: &'static str, text: impl Into<String>) {
        if !(request.id.is_null() && is_notice(&request.method)) {
            self.out.rejected(&request.id, &Rejection::other(text));
        }
        self.events.push_back(Event::Refused { reason });
    }

    /// True to whoever asked, and nothing to whoever only told: BFGMiner suggests a target with a null id before it
    /// subscribes, and takes the next line, whatever it is, for the answer to its subscription.
    fn noted(&mut self, id: &Id) {
        if !id.is_null() {
            self.out.accepted(id);
        }
    }

    fn subscribe(&mut self, now: Now, id: &Id, params: &str) {
        if let Some(firmware) = params::subscribe(params) {
            if firmware.to_ascii_lowercase().contains(RENTED) {
                self.pace.minimum(RENTED_MINIMUM);
            }
            self.firmware = Some(firmware);
        }
        let session = format!("{:08x}", self.slice);
        let topics = json!([["mining.set_difficulty", session], ["mining.notify", session]]);
        self.out.result(id, &json!([topics, self.extranonce1_hex(), self.layout.extranonce2]));
        let first = !std::mem::replace(&mut self.subscribed, true);
        if first && self.ready() {
            self.begin(now);
        }
    }

    fn authorize(&mut self, now: Now, id: &Id, params: &str) -> Result<(), ParamsError> {
        let authorize = params::authorize(params)?;
        let was_ready = self.ready();
        if !self.workers.iter().any(|worker| *worker.user == *authorize.user) {
            if self.workers.len() == MAX_WORKERS {
                return Err(ParamsError("Too many workers on one connection".into()));
            }
            let worker = Worker::new(&authorize.user);
            self.workers.push(worker.clone());
            self.events.push_back(Event::Authorized(worker));
        }
        self.out.accepted(id);
        if let Some(difficulty) = authorize.difficulty {
            self.pace.fix(difficulty);
        }
        match (was_ready, self.ready()) {
            (false, true) => self.begin(now),
            (true, _) => self.settle_difficulty(now),
            _ => {}
        }
        Ok(())
    }

    /// The miner is subscribed and authorised: it gets its difficulty, and a job if there is one.
    fn begin(&mut self, now: Now) {
        if self.wanted_mask.is_some() && self.version_mask() == 0 {
            // ESP-Miner goes on rolling bits of its own when its wish is refused; this it obeys.
            self.out.set_version_mask(0);
        }
        self.pace.begin(now);
        self.send_difficulty();
        self.send_job(now);
    }

    fn settle_difficulty(&mut self, now: Now) {
        if self.ready() && self.pace.settle(now) {
            self.send_difficulty();
        }
    }

    /// BIP310.
    fn configure(&mut self, now: Now, id: &Id, params: &str) -> Result<(), ParamsError> {
        let asked = params::configure(params)?;
        let mut result = Map::new();
        for extension in &asked.extensions {
            let granted = match extension.as_str() {
                "version-rolling" => {
                    self.wanted_mask = Some(asked.version_mask & VERSION_ROLLING_MASK);
                    let mask = self.version_mask();
                    if mask != 0 {
                        result.insert("version-rolling.mask".into(), format!("{mask:08x}").into());
                    }
                    mask != 0
                }
                "minimum-difficulty" => {
                    asked.minimum_difficulty.inspect(|minimum| self.pace.minimum(*minimum)).is_some()
                }
                "subscribe-extranonce" => {
                    self.takes_set_extranonce = true;
                    true
                }
                "info" => {
                    self.firmware = asked.firmware.clone().or(self.firmware.take());
                    true
                }
                _ => false,
            };
            result.insert(extension.clone(), granted.into());
        }
        self.out.result(id, &Value::Object(result));
        self.settle_difficulty(now);
        Ok(())
    }

    fn suggest_difficulty(&mut self, now: Now, id: &Id, params: &str) -> Result<(), ParamsError> {
        let difficulty = params::suggest_difficulty(params)?;
        self.pace.suggest(now, difficulty.target());
        self.noted(id);
        self.settle_difficulty(now);
        Ok(())
    }

    fn suggest_target(&mut self, now: Now, id: &Id, params: &str) -> Result<(), ParamsError> {
        let target = params::suggest_target(params)?;
        self.pace.suggest(now, target);
        self.noted(id);
        self.settle_difficulty(now);
        Ok(())
    }
}

/// Whether nobody waits for an answer when this method comes with a null id. Those without which nothing is mined are always
/// answered: firmware that sends them without an id is confused, not silent.
fn is_notice(method: &str) -> bool {
    let awaited = ["mining.subscribe", "mining.authorize", "mining.configure", "mining.extranonce.subscribe"];
    !awaited.contains(&method)
}
