//! One channel as a client knows it.

use super::event::OpenedChannel;
use super::job::{Job, Parts};
use super::outstanding::Outstanding;
use crate::tip::Tip;
use bitcoin::Target;
use std::collections::VecDeque;
use std::sync::Arc;

/// Most future jobs that are kept.
const MAX_FUTURE: usize = 16;

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: u32,
    pub(super) group_id: u32,
    pub(super) target: Target,
    pub(super) prefix: Arc<[u8]>,
    pub(super) outstanding: Outstanding,
    /// Bytes to roll; `None` on a standard channel.
    extranonce_size: Option<usize>,
    tip: Option<Arc<Tip>>,
    future: VecDeque<Parts>,
    /// The job at hand, for a server that names it again for a new tip.
    last: Option<Parts>,
}

impl Channel {
    pub(super) fn new(opened: &OpenedChannel, group_id: u32, is_extended: bool) -> Self {
        Self {
            id: opened.channel_id,
            group_id,
            target: opened.target,
            prefix: opened.extranonce_prefix.clone().into(),
            outstanding: Outstanding::default(),
            extranonce_size: is_extended.then_some(opened.extranonce_size),
            tip: None,
            future: VecDeque::new(),
            last: None,
        }
    }

    pub(super) const fn is_extended(&self) -> bool {
        self.extranonce_size.is_some()
    }

    pub(super) fn rollable_size(&self) -> usize {
        self.extranonce_size.unwrap_or(0)
    }

    /// Keeps a job until its tip comes.
    pub(super) fn add_future(&mut self, parts: Parts) {
        if self.future.len() == MAX_FUTURE {
            self.future.pop_front();
        }
        self.future.push_back(parts);
    }

    /// A job of the tip at hand. Without one it waits for the first, as servers may send their two messages in either order.
    pub(super) fn add_current(
        &mut self,
        parts: Parts,
        min_ntime: u32,
        now: std::time::Instant,
    ) -> Option<Job> {
        let Some(tip) = &self.tip else {
            self.add_future(parts);
            return None;
        };
        let tip = match tip.min_ntime() == min_ntime {
            true => Arc::clone(tip),
            false => Arc::new(Tip::new(*tip.prev_hash(), tip.nbits(), min_ntime, now)),
        };
        self.last = Some(parts.clone());
        Some(Job { channel_id: self.id, parts, tip, target: self.target, is_new_block: false })
    }

    /// The job of a new tip; `None` if it never came. All other future jobs are void.
    pub(super) fn activate(&mut self, tip: &Arc<Tip>, job_id: u32) -> Option<Job> {
        let is_new_block = self.tip.as_ref().is_none_or(|old| old.prev_hash() != tip.prev_hash());
        self.tip = Some(Arc::clone(tip));
        let last = self.last.take();
        let parts = self.future.drain(..).chain(last).find(|parts| parts.id == job_id)?;
        self.last = Some(parts.clone());
        Some(Job { channel_id: self.id, parts, tip: Arc::clone(tip), target: self.target, is_new_block })
    }
}
