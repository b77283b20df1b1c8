//! The template that all clients mine on, and how the source of templates is doing.

use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bitcoin::Amount;
use distribution::{BlockTemplate, Parts, TemplateIds};
use node::NodeInfo;
use service::{Counter, Counters};
use tokio::sync::watch;

/// What a client's task waits on: a slow one sees the latest template and misses those between, so nothing queues.
pub type Templates = watch::Receiver<Option<Arc<BlockTemplate>>>;

/// Where a source puts its templates.
#[derive(Debug)]
pub struct Feed {
    ids: TemplateIds,
    current: watch::Sender<Option<Arc<BlockTemplate>>>,
    health: Arc<Health>,
    /// How often the node was reached.
    reached: watch::Sender<u64>,
    /// New templates for a new tip, and for higher fees.
    counted: [Counter; 2],
}

/// How the source is doing; for the status page.
#[derive(Debug, Default)]
pub struct Health(Mutex<View>);

/// What is known of the source.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The node, as last seen.
    pub node: Option<NodeInfo>,
    /// What is wrong, and since when.
    pub problem: Option<(String, Instant)>,
    /// When the last template came.
    pub published: Option<Instant>,
}

impl Feed {
    /// A feed without a template yet, started at this time.
    pub fn new(started: SystemTime, counters: &Counters) -> Self {
        counters.describe("templates", "Templates sent to the clients, by what was new");
        let counter = |new| counters.counter("templates", &[("new", new)]);
        let since = started.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            ids: TemplateIds::starting(u64::try_from(since.as_millis()).unwrap_or_default()),
            current: watch::channel(None).0,
            health: Arc::default(),
            reached: watch::channel(0).0,
            counted: [counter("tip"), counter("fees")],
        }
    }

    /// The clients' end.
    pub fn templates(&self) -> Templates {
        self.current.subscribe()
    }

    /// The status page's end.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// The source's node answers, can be used, and gives templates.
    pub fn reached(&self, node: NodeInfo) {
        self.health.change(|view| {
            view.node = Some(node);
            view.problem = None;
        });
        self.reached.send_modify(|count| *count += 1);
    }

    /// Changes each time that the node is reached after it was away.
    pub fn reaches(&self) -> watch::Receiver<u64> {
        self.reached.subscribe()
    }

    /// The source fails; clients keep what they have. Whether this is news.
    pub fn away(&self, reason: String) -> bool {
        self.health.change(|view| {
            let news = view.problem.as_ref().is_none_or(|(known, _)| *known != reason);
            let since = view.problem.as_ref().map_or_else(Instant::now, |(_, since)| *since);
            view.problem = Some((reason, since));
            news
        })
    }

    /// Sends a template to every client if it has a new tip or pays at least `threshold` more than the last one.
    pub fn offer(&mut self, parts: Parts, threshold: Amount) -> Offer {
        let offer = self.judge(&parts, threshold);
        if offer != Offer::Kept {
            self.counted[usize::from(offer == Offer::HigherFees)].add(1);
            let template = BlockTemplate::new(self.ids.allocate(), parts);
            self.health.change(|view| view.published = Some(Instant::now()));
            self.current.send_replace(Some(Arc::new(template)));
        }
        offer
    }

    fn judge(&self, parts: &Parts, threshold: Amount) -> Offer {
        let current = self.current.borrow();
        let Some(current) = current.as_ref().map(|template| template.parts()) else {
            return Offer::NewTip;
        };
        if (current.prev_hash, current.bits) != (parts.prev_hash, parts.bits) {
            return Offer::NewTip;
        }
        let wanted = current.coinbase.value.checked_add(threshold.max(Amount::ONE_SAT));
        if wanted.is_some_and(|wanted| parts.coinbase.value >= wanted) {
            Offer::HigherFees
        } else {
            Offer::Kept
        }
    }
}

/// What became of an offered template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Sent: it has another tip.
    NewTip,
    /// Sent: it pays enough more.
    HigherFees,
    /// Not sent: the last one stays.
    Kept,
}

impl Health {
    /// What is known now.
    pub fn view(&self) -> View {
        self.change(|view| view.clone())
    }

    fn change<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
