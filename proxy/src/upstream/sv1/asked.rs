//! What is said to an SV1 pool: requests, and answers to its questions, as lines of JSON.

use crate::sv1::notify::push_hex;
use crate::sv1::{Difficulty, VERSION_ROLLING_MASK};
use crate::work::Rolled;
use serde_json::{Value, json};

/// What we call ourselves.
const AGENT: &str = concat!("sluice-proxy/", env!("CARGO_PKG_VERSION"));

/// Ids of what is asked once.
pub const CONFIGURE: u64 = 1;
/// As [`CONFIGURE`].
pub const SUBSCRIBE: u64 = 2;
/// As [`CONFIGURE`].
pub const AUTHORIZE: u64 = 3;
/// As [`CONFIGURE`]; the answer does not matter.
pub const EXTRANONCE: u64 = 4;
/// As [`CONFIGURE`]; the answer does not matter.
pub const SUGGEST: u64 = 5;
/// Shares have this id and those above.
pub const FIRST_SHARE: u64 = 100;

/// Lines on their way to the pool.
#[derive(Debug, Default)]
pub struct Asked(Vec<u8>);

impl Asked {
    /// BIP310, before anything else.
    pub fn configure(&mut self) {
        let mask = format!("{VERSION_ROLLING_MASK:08x}");
        let options = json!({"version-rolling.mask": mask, "version-rolling.min-bit-count": 2});
        self.request(CONFIGURE, "mining.configure", &json!([["version-rolling"], options]));
    }

    /// Asks for jobs.
    pub fn subscribe(&mut self) {
        self.request(SUBSCRIBE, "mining.subscribe", &json!([AGENT]));
    }

    /// Says who we are.
    pub fn authorize(&mut self, user: &str, password: &str) {
        self.request(AUTHORIZE, "mining.authorize", &json!([user, password]));
    }

    /// Allows the pool to change extranonce1.
    pub fn extranonce_subscribe(&mut self) {
        self.request(EXTRANONCE, "mining.extranonce.subscribe", &json!([]));
    }

    /// Says at which difficulty shares would come as often as is good. Whole numbers have no fraction: ckpool takes no other.
    pub fn suggest_difficulty(&mut self, difficulty: Difficulty) {
        let params = format!("[{difficulty}]");
        self.line(&format!(
            "{{\"id\":{SUGGEST},\"method\":\"mining.suggest_difficulty\",\"params\":{params}}}"
        ));
    }

    /// Hands in a share. `bits` are the version bits that were rolled, where rolling was agreed on.
    pub fn submit(&mut self, id: u64, user: &str, job_id: &str, rolled: &Rolled, bits: Option<u32>) {
        let mut extranonce2 = String::new();
        push_hex(&mut extranonce2, rolled.extranonce.as_bytes());
        let (ntime, nonce) = (format!("{:08x}", rolled.ntime), format!("{:08x}", rolled.nonce));
        let mut params = vec![user.into(), job_id.into(), extranonce2.into(), ntime.into(), nonce.into()];
        params.extend(bits.map(|bits| Value::from(format!("{bits:08x}"))));
        self.request(id, "mining.submit", &Value::Array(params));
    }

    /// Answers a question of the pool; `id` is JSON text.
    pub fn answer(&mut self, id: &str, method: &str) {
        match method {
            "client.get_version" => {
                self.line(&format!("{{\"id\":{id},\"result\":\"{AGENT}\",\"error\":null}}"))
            }
            "mining.ping" | "client.ping" => {
                self.line(&format!("{{\"id\":{id},\"result\":\"pong\",\"error\":null}}"));
            }
            _ => {
                self.line(&format!("{{\"id\":{id},\"result\":null,\"error\":[20,\"Unknown method\",null]}}"))
            }
        }
    }

    /// Takes the lines that wait.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    fn request(&mut self, id: u64, method: &str, params: &Value) {
        self.line(&format!("{{\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}"));
    }

    fn line(&mut self, line: &str) {
        self.0.extend_from_slice(line.as_bytes());
        self.0.push(b'\n');
    }
}
