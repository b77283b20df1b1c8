//! A miner of the previous generation: it proves that deployed firmware and proxies can mine at a hub of today.
//!
//! It is built on `roles_logic_sv2` 5.0.0 with `codec_sv2` 3 and `noise_sv2` 1.4. It shakes hands, opens one channel,
//! grinds real shares at the channel's target until enough are accepted, prints one line of JSON and ends with status 0.
//! It knows no group channels and no extensions: it takes only jobs addressed to its own channel id.

mod grind;
mod job;
mod session;
mod wire;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use grind::{hashes_per_second, Grinder};
use session::{Kind, Session};
use wire::Wire;

/// Hashes between two looks at the connection: a few milliseconds.
const BATCH: u32 = 20_000;

const USAGE: &str =
    "usage: previous-generation --address HOST:PORT --authority-key BASE58 --user NAME --shares N \
                     --timeout SECONDS [--kind standard|extended]";

struct Options {
    address: String,
    authority_key: String,
    user: String,
    shares: u32,
    timeout: Duration,
    kind: Kind,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("previous-generation: {problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match mine(&options) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("previous-generation: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// The whole run: connects, opens the channel, grinds and submits until enough shares are accepted.
/// Returns the line of JSON.
fn mine(options: &Options) -> Result<String, String> {
    let deadline = Instant::now() + options.timeout;
    let mut wire = Wire::connect(&options.address, &options.authority_key, deadline)?;
    let mut session = Session::new(options.kind, &options.user, hashes_per_second());

    wire.send(session.setup_connection(&options.address)?)?;
    let mut grinder = Grinder::default();
    while session.accepted() < options.shares {
        if Instant::now() >= deadline {
            return Err(format!("out of time; {}", session.describe()));
        }
        // Without work there is nothing to do but wait; with work the connection is only looked at between batches.
        let patience = if session.has_work() { Duration::ZERO } else { Duration::from_millis(100) };
        let mut received = wire.receive(patience)?;
        while let Some((message_type, payload)) = received {
            session.handle(message_type, payload)?;
            received = wire.receive(Duration::ZERO)?;
        }
        while let Some(message) = session.poll_send() {
            wire.send(message)?;
        }
        if let Some(work) = session.work() {
            if let Some(found) = grinder.grind(&work, BATCH) {
                wire.send(session.submit(&work, found)?)?;
            }
        }
    }
    Ok(session.summary())
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut address, mut authority_key, mut user, mut shares, mut timeout) = (None, None, None, None, None);
    let mut kind = Kind::Standard;
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--address" => address = Some(value),
            "--authority-key" => authority_key = Some(value),
            "--user" => user = Some(value),
            "--shares" => shares = Some(number(&name, &value)?),
            "--timeout" => timeout = Some(Duration::from_secs(u64::from(number(&name, &value)?))),
            "--kind" => {
                kind = match value.as_str() {
                    "standard" => Kind::Standard,
                    "extended" => Kind::Extended,
                    _ => return Err(format!("--kind {value}: neither standard nor extended")),
                }
            }
            _ => return Err(format!("unknown option {name}")),
        }
    }
    let missing = |name: &str| format!("{name} is missing");
    Ok(Options {
        address: address.ok_or_else(|| missing("--address"))?,
        authority_key: authority_key.ok_or_else(|| missing("--authority-key"))?,
        user: user.ok_or_else(|| missing("--user"))?,
        shares: shares.ok_or_else(|| missing("--shares"))?,
        timeout: timeout.ok_or_else(|| missing("--timeout"))?,
        kind,
    })
}

fn number(name: &str, value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| format!("{name} {value}: not a whole number"))
}
