//! Templates that the node still holds for us, so that their solutions can be handed in.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use distribution::Tip;

use super::wire::Template;

/// Most templates; each keeps its transactions in the node's memory, where templates mostly share them.
const MOST: usize = 64;

/// The templates that clients may still solve.
pub(super) struct Kept {
    /// How long one is held under another tip.
    stale: Duration,
    templates: VecDeque<Held>,
}

struct Held {
    id: u64,
    tip: Tip,
    until: Option<Instant>,
    template: Rc<dyn Template>,
}

impl Kept {
    pub(super) fn new(stale: Duration) -> Self {
        Self { stale, templates: VecDeque::new() }
    }

    /// Holds a template that was sent to clients with this id.
    pub(super) fn keep(&mut self, id: u64, tip: Tip, template: Rc<dyn Template>) {
        let until = Instant::now() + self.stale;
        for held in self.templates.iter_mut().filter(|held| held.tip != tip) {
            held.until.get_or_insert(until);
        }
        self.templates.push_back(Held { id, tip, until: None, template });
        self.tidy();
    }

    /// The template that was sent with this id.
    pub(super) fn find(&self, id: u64) -> Option<Rc<dyn Template>> {
        self.templates.iter().find(|held| held.id == id).map(|held| Rc::clone(&held.template))
    }

    /// Lets the node forget what nobody can solve in time.
    pub(super) fn tidy(&mut self) {
        let now = Instant::now();
        self.templates.retain(|held| held.until.is_none_or(|until| now < until));
        while self.templates.len() > MOST {
            self.templates.pop_front();
        }
    }

    /// Lets the node forget all of them.
    pub(super) fn clear(&mut self) {
        self.templates.clear();
    }
}
