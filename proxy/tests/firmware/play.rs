//! Plays an exchange against a session. One line each, in order:
//!
//! - `# …` says whose it is;
//! - `> line` is said by the miner; `$job`, `$ntime`, `$extranonce2` stand for what it was given, where `$job` remains if a new job
//!   differs in nothing but its id, as it does for cpuminer;
//! - `< json` or `< method params` is the next line that it must hear; `"*"` in it stands for anything;
//! - `nothing` means that it hears nothing more now, which every `>` and every directive implies as well;
//! - `job`, `tip`: the upstream has another job, or one on another block; `gone`: there is no upstream; `back`: a new connection to it brings the
//!   same job again;
//! - `upstream N`: jobs from here on ask for difficulty N of shares that are credited; `upstream any`, as at the beginning, takes
//!   every hash;
//! - `leaves 8`: jobs from here on leave us so many bytes of the extranonce; at the beginning it is 16, as our hub does;
//! - `mask 00006000`: jobs from here on let miners roll only these bits of the version;
//! - `wait N`: so many seconds pass;
//! - `firmware text`, `worker name`: what is known of the miner by now.
//!
//! Shares that go to the upstream are acknowledged at once.

use crate::pool::Pool;
use mining::Now;
use proxy::session::{Event, Outcome, PaceSettings, Session, Settings};
use proxy::sv1::Difficulty;
use serde_json::Value;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time of all exchanges, unix.
pub const TIME: u32 = 1_750_000_000;

struct Play {
    session: Session,
    pool: Pool,
    now: Now,
    heard: VecDeque<Value>,
    /// What `$…` stands for.
    given: Given,
}

#[derive(Default)]
struct Given {
    job: String,
    /// All of the job but its id.
    content: Vec<Value>,
    ntime: String,
    extranonce2: String,
}

pub fn play(exchange: &str) {
    let mut play = Play::new();
    for (number, line) in exchange.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            let number = number + 1;
            play.line(line).unwrap_or_else(|wrong| panic!("line {number}: {line}\n{wrong}"));
        }
    }
    play.silent().unwrap_or_else(|wrong| panic!("at the end: {wrong}"));
}

impl Play {
    fn new() -> Self {
        let now = Now { instant: Instant::now(), unix: TIME };
        let pace = PaceSettings {
            interval: Duration::from_secs(3),
            hash_rate: 1e12,
            minimum: Difficulty::new(1e-6).unwrap(),
        };
        let settings = Settings {
            extranonce2: 8,
            pace,
            authorize_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(900),
            unused_timeout: Duration::from_secs(86_400),
            answer_timeout: Duration::from_secs(2),
            hold: Duration::from_secs(120),
        };
        let mut session = Session::new(now, settings.into(), 5);
        let mut pool = Pool::default();
        session.apply(now, Some(pool.tip(now))).unwrap();
        Self { session, pool, now, heard: VecDeque::new(), given: Given::default() }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        match what {
            "<" => return self.hears(rest),
            "nothing" => return self.silent(),
            "firmware" => return same(self.session.firmware(), Some(rest)),
            "worker" => return same(self.session.workers().last().map(|worker| &*worker.name), Some(rest)),
            "upstream" => {
                self.pool.difficulty = rest.parse().ok();
                return Ok(());
            }
            "leaves" => {
                self.pool.rollable = rest.parse().map_err(|_| "no number of bytes")?;
                return Ok(());
            }
            "mask" => {
                self.pool.mask = u32::from_str_radix(rest, 16).map_err(|error| error.to_string())?;
                return Ok(());
            }
            _ => self.silent()?,
        }
        match what {
            ">" => self.says(rest),
            "job" => self.session.apply(self.now, Some(self.pool.job(self.now))),
            "tip" => self.session.apply(self.now, Some(self.pool.tip(self.now))),
            "back" => self.session.apply(self.now, Some(self.pool.back(self.now))),
            "gone" => self.session.apply(self.now, None),
            "wait" => {
                self.now = self.now.after(Duration::from_secs(rest.parse().unwrap()));
                self.session.handle_timeout(self.now)
            }
            _ => return Err("no such directive".into()),
        }
        .map_err(|end| format!("the session ends: {end}"))?;
        self.listen();
        Ok(())
    }

    fn says(&mut self, line: &str) -> Result<(), proxy::session::Disconnect> {
        let Given { job, ntime, extranonce2, .. } = &self.given;
        let line = line.replace("$job", job).replace("$ntime", ntime).replace("$extranonce2", extranonce2);
        self.session.handle_line(self.now, line.as_bytes())
    }

    /// Takes what the session has to say; shares are acknowledged.
    fn listen(&mut self) {
        while let Some(event) = self.session.poll_event() {
            if let Event::Upstream(share) = event {
                self.session.answer(share.tag, &Outcome::Accepted);
            }
        }
        let output = self.session.output();
        let text = String::from_utf8(output.as_bytes().to_vec()).unwrap();
        output.sent(text.len());
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            self.given.note(&line);
            self.heard.push_back(line);
        }
    }

    fn hears(&mut self, pattern: &str) -> Result<(), String> {
        let heard = self.heard.pop_front().ok_or("hears nothing")?;
        let pattern = match pattern.starts_with('{') {
            true => parsed(pattern)?,
            false => {
                let (method, params) = pattern.split_once(' ').ok_or("a method without parameters")?;
                serde_json::json!({"id": null, "method": method, "params": parsed(params)?})
            }
        };
        if fits(&heard, &pattern) { Ok(()) } else { Err(format!("hears {heard}")) }
    }

    fn silent(&mut self) -> Result<(), String> {
        self.heard.pop_front().map_or(Ok(()), |line| Err(format!("hears {line}")))
    }
}

impl Given {
    fn note(&mut self, line: &Value) {
        let params = &line["params"];
        if line["method"] == "mining.notify" {
            let content = &params.as_array().unwrap()[1..8];
            if content != self.content {
                self.content = content.to_vec();
                self.job = params[0].as_str().unwrap().to_owned();
            }
            self.ntime = params[7].as_str().unwrap().to_owned();
        }
        if let Some(size) = line["result"][2].as_u64() {
            self.extranonce2 = "00".repeat(usize::try_from(size).unwrap());
        }
    }
}

fn parsed(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("the exchange is wrong: {error}"))
}

fn same(left: Option<&str>, right: Option<&str>) -> Result<(), String> {
    if left == right { Ok(()) } else { Err(format!("{left:?}")) }
}

fn fits(value: &Value, pattern: &Value) -> bool {
    match (value, pattern) {
        (_, Value::String(any)) if any == "*" => true,
        (Value::Array(values), Value::Array(patterns)) => {
            values.len() == patterns.len()
                && values.iter().zip(patterns).all(|(value, pattern)| fits(value, pattern))
        }
        (Value::Object(values), Value::Object(patterns)) => {
            values.len() == patterns.len()
                && patterns
                    .iter()
                    .all(|(key, pattern)| values.get(key).is_some_and(|value| fits(value, pattern)))
        }
        _ => value == pattern,
    }
}
