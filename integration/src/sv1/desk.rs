//! A miner done by hand: subscribed and authorised on a bare connection, its shares searched when a test asks.

use std::time::Duration;

use anyhow::Context;
use bitcoin::Target;
use bitcoin::hex::{DisplayHex, FromHex};
use serde_json::{Value, json};

use super::notify::Notify;
use super::wire::Wire;
use crate::cpu::{Find, Job, target_of_difficulty};

/// A connection with a job at hand.
#[derive(Debug)]
pub struct Desk {
    /// The connection.
    pub wire: Wire,
    /// The user it authorised.
    pub user: String,
    /// Difficulty that the server set.
    pub difficulty: f64,
    extranonce_1: Vec<u8>,
    extranonce_2_size: usize,
    job: Job<String>,
}

/// How much easier than allowed a share is that misses the target.
const SHORT: f64 = 16.0;

impl Desk {
    /// Subscribes, authorises, and takes the first job.
    ///
    /// # Errors
    /// The server does not answer as SV1 wants.
    pub async fn open(address: &str, user: &str) -> anyhow::Result<Self> {
        Self::sit_at(Wire::connect(address).await?, user).await
    }

    /// The same on a connection that is there.
    ///
    /// # Errors
    /// The server does not answer as SV1 wants.
    pub async fn sit_at(mut wire: Wire, user: &str) -> anyhow::Result<Self> {
        let subscribed = wire.call("mining.subscribe", json!(["desk/1"])).await?;
        let extranonce_1 = Vec::from_hex(subscribed["result"][1].as_str().context("no extranonce1")?)?;
        let extranonce_2_size =
            usize::try_from(subscribed["result"][2].as_u64().context("no extranonce2 size")?)?;
        let authorized = wire.call("mining.authorize", json!([user, "x"])).await?;
        anyhow::ensure!(authorized["result"] == json!(true), "{authorized}");
        let difficulty = wire.notification("mining.set_difficulty").await?;
        let difficulty = difficulty["params"][0].as_f64().context("no difficulty")?;
        let job = job(&mut wire, &extranonce_1, extranonce_2_size).await?;
        Ok(Self { wire, user: user.to_owned(), difficulty, extranonce_1, extranonce_2_size, job })
    }

    /// Waits for another job and takes it.
    ///
    /// # Errors
    /// None comes.
    pub async fn next_job(&mut self) -> anyhow::Result<()> {
        self.job = job(&mut self.wire, &self.extranonce_1, self.extranonce_2_size).await?;
        Ok(())
    }

    /// Searches a share that meets the difficulty.
    pub fn share(&self) -> Submission {
        let target = target_of_difficulty(self.difficulty);
        self.find(target, |_| true)
    }

    /// Searches a share that misses the difficulty by a little.
    pub fn light_share(&self) -> Submission {
        let target = target_of_difficulty(self.difficulty);
        self.find(target_of_difficulty(self.difficulty / SHORT), |find| !target.is_met_by(find.hash))
    }

    fn find(&self, target: Target, fits: impl Fn(&Find<String>) -> bool) -> Submission {
        loop {
            if let Some(find) = self.job.search(target, 1 << 14).into_iter().find(|find| fits(find)) {
                return Submission::new(&self.user, &find);
            }
        }
    }

    /// Submits, and returns the server's whole answer.
    ///
    /// # Errors
    /// No answer.
    pub async fn submit(&mut self, submission: &Submission) -> anyhow::Result<Value> {
        self.wire.call("mining.submit", json!(submission.0)).await
    }
}

/// The newest job: the server may have sent several.
async fn job(wire: &mut Wire, extranonce_1: &[u8], size: usize) -> anyhow::Result<Job<String>> {
    let message = wire.newest("mining.notify", Duration::from_secs(10)).await?;
    let params = message["params"].as_array().context("no params")?;
    let notify = Notify::parse(params).with_context(|| format!("malformed: {message}"))?;
    let coinbase = notify.coinbase(extranonce_1, size);
    let Notify { job_id, prev_hash, version, nbits, ntime, .. } = notify;
    Ok(Job::new(job_id, coinbase, version, 0, prev_hash, ntime, nbits))
}

/// The parameters of `mining.submit`: user, job id, extranonce2, ntime, nonce.
#[derive(Debug, Clone)]
pub struct Submission(Vec<String>);

impl Submission {
    fn new(user: &str, find: &Find<String>) -> Self {
        let (extranonce, ntime, nonce) = (
            find.extranonce.to_lower_hex_string(),
            format!("{:08x}", find.ntime),
            format!("{:08x}", find.nonce),
        );
        Self(vec![user.to_owned(), find.tag.clone(), extranonce, ntime, nonce])
    }

    /// The same with one parameter changed: 0 is the user, 1 the job id, 2 the extranonce2, 3 the time, 4 the nonce.
    #[must_use]
    pub fn with(mut self, place: usize, value: impl Into<String>) -> Self {
        self.0[place] = value.into();
        self
    }
}
