//! Templates that the node still holds for us, so that their solutions can be handed in.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use distribution::Tip;

use super::wire::Template;

/// Most templates of one set: as many as a client may solve, unless it was given more (`limits.templates`). Each keeps its
/// transactions in the node's memory, where templates mostly share them.
const MOST_OF_A_SET: usize = 64;

/// The templates that clients may still solve.
pub(super) struct Kept {
    /// How long one is held under another tip.
    stale: Duration,
    /// Most of all sets together, which come and go with the clients.
    most: usize,
    templates: VecDeque<Held>,
}

struct Held {
    id: u64,
    set: u64,
    tip: Tip,
    until: Option<Instant>,
    template: Rc<dyn Template>,
}

impl Kept {
    /// For so many sets at a time.
    pub(super) fn new(stale: Duration, sets: usize) -> Self {
        Self { stale, most: MOST_OF_A_SET * sets.max(1), templates: VecDeque::new() }
    }

    /// Holds a template of this set that was sent to clients with this id.
    pub(super) fn keep(&mut self, set: u64, id: u64, tip: Tip, template: Rc<dyn Template>) {
        let until = Instant::now() + self.stale;
        for held in self.templates.iter_mut().filter(|held| held.tip != tip) {
            held.until.get_or_insert(until);
        }
        let mut of_this_set = self.templates.iter().enumerate().filter(|(_, held)| held.set == set);
        if let Some((oldest, _)) = of_this_set.next()
            && of_this_set.count() + 1 >= MOST_OF_A_SET
        {
            self.templates.remove(oldest);
        }
        self.templates.push_back(Held { id, set, tip, until: None, template });
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
        while self.templates.len() > self.most {
            self.templates.pop_front();
        }
    }

    /// Lets the node forget all of them.
    pub(super) fn clear(&mut self) {
        self.templates.clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bitcoin::CompactTarget;
    use tokio::task::LocalSet;

    use super::super::fake::{Node, hash};
    use super::*;

    fn held(kept: &Kept, ids: std::ops::Range<u64>) -> usize {
        ids.filter(|id| kept.find(*id).is_some()).count()
    }

    #[tokio::test]
    async fn a_busy_set_takes_no_place_of_another() {
        let body = async {
            let node = Node::new([]);
            let tip = Tip { prev_hash: hash(1), bits: CompactTarget::from_consensus(0x207f_ffff) };
            let mut kept = Kept::new(Duration::from_secs(60), 3);
            kept.keep(1, 0, tip, node.template());
            (1000..1100).for_each(|id| kept.keep(2, id, tip, node.template()));
            assert!(kept.find(0).is_some());
            assert_eq!((held(&kept, 1000..1036), held(&kept, 1036..1100)), (0, MOST_OF_A_SET));
            (3..2000).for_each(|set| kept.keep(set, 2000 + set, tip, node.template()));
            assert_eq!(kept.templates.len(), 3 * MOST_OF_A_SET);
            assert!(kept.find(0).is_none());
        };
        LocalSet::new().run_until(body).await;
    }
}
