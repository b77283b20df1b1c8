//! A session as it goes from this process to its successor: all that the miner has been told, so that it need not be told
//! anything but the next job.
//!
//! Shares that wait for the upstream are none: the session stands still before. Jobs do not go along; the successor's upstream
//! gives others.

use super::{Event, Now, Session, Settings, Worker};
use crate::session::pace::Terms;
use crate::slices::MOST;
use crate::work::Layout;
use bitcoin::hex::{DisplayHex, FromHex};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Changes when an older or newer program could not read it.
const VERSION: u32 = 1;

/// What a successor must know.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Passport {
    version: u32,
    slice: u32,
    /// Sizes of extranonce1 and extranonce2 as the miner knows them, in bytes.
    extranonces: [usize; 2],
    subscribed: bool,
    takes_set_extranonce: bool,
    firmware: Option<String>,
    /// User names, in the order in which they were authorised.
    users: Vec<String>,
    wanted_mask: Option<u32>,
    upstream_mask: u32,
    bad_lines: u32,
    terms: Terms,
    /// What the miner has not been sent yet, hex.
    unsent: String,
    /// What it has sent and nobody has read, hex.
    unread: String,
    /// A predecessor may say nothing of it.
    #[serde(default)]
    past: Past,
}

/// What is shown of a connection, as far as it has come.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Past {
    /// How long it has lasted.
    pub connected_seconds: u64,
    /// Shares that were answered with true.
    pub accepted: u64,
    /// Shares that were refused.
    pub rejected: u64,
    /// Shares that the upstream acknowledged.
    pub credited: u64,
    /// Expected hashes of its best share's own hash, in decimal: they may be more than a number of JSON has.
    pub best: String,
    /// How long ago it found a share.
    pub last_share_seconds: Option<u64>,
}

impl Passport {
    /// The same, of a connection with this past.
    #[must_use]
    pub fn with_past(self, past: Past) -> Self {
        Self { past, ..self }
    }

    /// What was seen of the connection.
    pub fn past(&self) -> &Past {
        &self.past
    }

    /// Reads what [`Session::passport`] wrote.
    ///
    /// # Errors
    /// It is of another version, or no passport; in words.
    pub fn read(state: serde_json::Value) -> Result<Self, String> {
        let passport: Self = serde_json::from_value(state).map_err(|error| error.to_string())?;
        match passport.version {
            VERSION if passport.slice < MOST => Ok(passport),
            VERSION => Err("its slice cannot be".into()),
            other => Err(format!("it is of version {other}, and this program knows version {VERSION}")),
        }
    }

    /// The connection's slice.
    pub fn slice(&self) -> u32 {
        self.slice
    }

    /// What the miner has sent and nobody has read.
    pub fn unread(&self) -> Vec<u8> {
        Vec::from_hex(&self.unread).unwrap_or_default()
    }
}

impl Session {
    /// The session for a successor. `unread`: what came from the miner and was not given to the session.
    pub fn passport(&self, unread: &[u8]) -> Passport {
        Passport {
            version: VERSION,
            slice: self.slice,
            extranonces: [self.layout.slice, self.layout.extranonce2],
            subscribed: self.subscribed,
            takes_set_extranonce: self.takes_set_extranonce,
            firmware: self.firmware.clone(),
            users: self.workers.iter().map(|worker| worker.user.to_string()).collect(),
            wanted_mask: self.wanted_mask,
            upstream_mask: self.upstream_mask,
            bad_lines: self.bad_lines,
            terms: self.pace.terms(),
            unsent: self.out.as_bytes().to_lower_hex_string(),
            unread: unread.to_lower_hex_string(),
            past: Past::default(),
        }
    }

    /// The session goes on where the predecessor stopped. There is no work until [`Self::apply`] brings some.
    ///
    /// # Errors
    /// It cannot be what this program wrote; in words.
    pub fn resumed(now: Now, settings: Arc<Settings>, passport: &Passport) -> Result<Self, String> {
        let [slice, extranonce2] = passport.extranonces;
        let layout = Layout { padding: 0, slice, extranonce2 };
        let extranonce1 = layout.is_possible().then(|| layout.extranonce1(passport.slice)).flatten();
        let extranonce1 = extranonce1.ok_or("its extranonce cannot be")?;
        let mut session = Self::new(now, settings, passport.slice);
        (session.layout, session.extranonce1) = (layout, extranonce1);
        (session.subscribed, session.takes_set_extranonce) =
            (passport.subscribed, passport.takes_set_extranonce);
        session.firmware.clone_from(&passport.firmware);
        session.workers = passport.users.iter().map(|user| Worker::new(user)).collect();
        session.events.extend(session.workers.iter().cloned().map(Event::Authorized));
        (session.wanted_mask, session.upstream_mask) = (passport.wanted_mask, passport.upstream_mask);
        session.bad_lines = passport.bad_lines;
        session.pace.resume_with(now, &passport.terms)?;
        let unsent = Vec::from_hex(&passport.unsent).map_err(|error| error.to_string())?;
        session.out.unsent(&unsent);
        Ok(session)
    }
}
