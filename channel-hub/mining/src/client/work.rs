//! Work that comes in: jobs, tips, targets, extranonce prefixes.

use super::channel::Channel;
use super::event::Event;
use super::job::{ExtendedBody, Parts, Root};
use super::{Fatal, Session};
use crate::header::CoinbaseStart;
use crate::time::Now;
use crate::tip::Tip;
use bitcoin::Target;
use std::sync::Arc;
use stratum_core::channels_sv2::bip141::try_strip_bip141;
use stratum_core::mining_sv2::{
    MESSAGE_TYPE_NEW_EXTENDED_MINING_JOB, NewExtendedMiningJob, NewMiningJob, SetNewPrevHash,
};

/// Longest extranonce, in bytes.
const MAX_EXTRANONCE: usize = 32;

impl Session {
    /// A standard job, which means one channel. Version rolling is always allowed in it (SV2 spec §5.3.15).
    pub(super) fn standard_job(&mut self, now: Now, message: &NewMiningJob<'_>) {
        let Some(channel) = self.channels.get(&message.channel_id).filter(|channel| !channel.is_extended())
        else {
            return;
        };
        let parts = Parts {
            id: message.job_id,
            version: message.version,
            version_rolling: true,
            extranonce_prefix: Arc::clone(&channel.prefix),
            extranonce_size: 0,
            root: Root::Fixed(*message.merkle_root.as_array()),
        };
        self.add(now, message.channel_id, parts, message.min_ntime.as_ref().copied());
    }

    /// An extended job, which may mean a group.
    pub(super) fn extended_job(&mut self, now: Now, message: &NewExtendedMiningJob<'_>) -> Result<(), Fatal> {
        let malformed = Fatal::Malformed(MESSAGE_TYPE_NEW_EXTENDED_MINING_JOB);
        let body = Arc::new(body(message).ok_or(malformed)?);
        for channel_id in self.addressed(message.channel_id) {
            let Some(channel) = self.channels.get(&channel_id) else { continue };
            let parts = extended_parts(channel, message, &body);
            self.add(now, channel_id, parts, message.min_ntime.as_ref().copied());
        }
        Ok(())
    }

    fn add(&mut self, now: Now, channel_id: u32, parts: Parts, min_ntime: Option<u32>) {
        let Some(channel) = self.channels.get_mut(&channel_id) else { return };
        match min_ntime {
            None => channel.add_future(parts),
            Some(min_ntime) => {
                let job = channel.add_current(parts, min_ntime, now.instant);
                self.events.extend(job.map(|job| Event::Job(Arc::new(job))));
            }
        }
    }

    pub(super) fn tip(&mut self, now: Now, message: &SetNewPrevHash<'_>) {
        let prev_hash = *message.prev_hash.as_array();
        let tip = Arc::new(Tip::new(prev_hash, message.nbits, message.min_ntime, now.instant));
        for channel_id in self.addressed(message.channel_id) {
            let Some(channel) = self.channels.get_mut(&channel_id) else { continue };
            self.events.push_back(match channel.activate(&tip, message.job_id) {
                Some(job) => Event::Job(Arc::new(job)),
                None => Event::WorkLost { channel_id },
            });
        }
    }

    pub(super) fn set_target(&mut self, id: u32, target: Target) {
        for channel_id in self.addressed(id) {
            let Some(channel) = self.channels.get_mut(&channel_id) else { continue };
            channel.target = target;
            self.events.push_back(Event::Target { channel_id, target });
        }
    }

    /// One that would make the extranonce too long is ignored.
    pub(super) fn set_prefix(&mut self, channel_id: u32, prefix: &[u8]) {
        let Some(channel) = self.channels.get_mut(&channel_id) else { return };
        if prefix.len() + channel.rollable_size() <= MAX_EXTRANONCE {
            channel.prefix = prefix.into();
            self.events.push_back(Event::ExtranoncePrefix { channel_id, prefix: prefix.to_vec() });
        }
    }
}

/// Coinbase and path of a job; servers should strip the witness, but not all do.
fn body(message: &NewExtendedMiningJob<'_>) -> Option<ExtendedBody> {
    let (prefix, suffix) = (message.coinbase_tx_prefix.as_bytes(), message.coinbase_tx_suffix.as_bytes());
    let stripped = try_strip_bip141(prefix, suffix).ok()?;
    let (coinbase_prefix, coinbase_suffix) = stripped.unwrap_or_else(|| (prefix.to_vec(), suffix.to_vec()));
    let merkle_path = message.merkle_path.as_slice().iter().map(|hash| *hash.as_array()).collect();
    Some(ExtendedBody { coinbase_prefix, coinbase_suffix, merkle_path })
}

fn extended_parts(channel: &Channel, message: &NewExtendedMiningJob<'_>, body: &Arc<ExtendedBody>) -> Parts {
    let start = CoinbaseStart::new(&body.coinbase_prefix, &channel.prefix);
    Parts {
        id: message.job_id,
        version: message.version,
        version_rolling: message.version_rolling_allowed,
        extranonce_prefix: Arc::clone(&channel.prefix),
        extranonce_size: channel.rollable_size(),
        root: Root::Rolled(start, Arc::clone(body)),
    }
}
