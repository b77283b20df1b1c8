//! The server's end: one [`Server`] per client, which has its own constraints and its own templates.
//!
//! A client is sent nothing before its first CoinbaseOutputConstraints. From then on each published template goes
//! to it at once: on a new tip as a future template with the SetNewPrevHash that puts it in force, under the same
//! tip as one in force. What it was sent stays solvable within [`Retention`].
//!
//! A template may come before its transactions. A client for whom it leaves room has it then; any other, and whoever asks
//! for its transaction data, waits for them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use link::{Frame, Received};
use stratum_core::parsers_sv2::{AnyMessage, TemplateDistribution, TemplateDistributionOwned};
use stratum_core::template_distribution_sv2::{
    ERROR_CODE_REQUEST_TRANSACTION_DATA_STALE_TEMPLATE_ID as STALE,
    ERROR_CODE_REQUEST_TRANSACTION_DATA_TEMPLATE_ID_NOT_FOUND as NOT_FOUND, RequestTransactionDataErrorOwned,
    SubmitSolution,
};

use crate::block_template::Tip;
use crate::template::EncodeError;
use crate::{BlockTemplate, Constraints, Solution, SolutionError, Template, Unfit};

/// Most requests for transaction data that wait for an answer; each answer may have 4 MB.
const MAX_REQUESTS: usize = 16;
/// Most changes of constraints under one template.
const MAX_CHANGES: u32 = 16;

/// How long templates stay solvable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Most templates kept for one client.
    pub templates: usize,
    /// How long a template is kept under its tip, once another has followed it.
    pub replaced: Duration,
    /// How long a template is kept under another tip: a late solution may still win the race.
    pub stale: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { templates: 64, replaced: Duration::from_secs(30 * 60), stale: Duration::from_secs(60) }
    }
}

/// What a client did.
#[derive(Clone, Debug)]
pub enum Event {
    /// It said how much it adds to the coinbase.
    Constraints(Constraints),
    /// It asked for a template's transactions.
    TransactionDataRequested {
        /// The template asked for.
        template_id: u64,
        /// Whether it gets them, now or when they come.
        found: bool,
    },
    /// It found a block.
    Solution(Box<Solution>),
    /// It sent a solution that makes no block.
    SolutionRefused(SolutionError),
    /// It sent a message of this extension, which is not spoken here.
    UnknownExtension(u16),
}

/// A client's fault that costs it the connection.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// A message of another protocol or direction.
    #[error("message {0:#04x} is not a template client's")]
    Unexpected(u8),
    /// A message that does not parse.
    #[error("message {message_type:#04x} does not parse: {reason}")]
    Malformed {
        /// Its type.
        message_type: u8,
        /// What is wrong.
        reason: String,
    },
    /// Nothing can be mined under its constraints.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// It asks for more than it takes.
    #[error("more than {MAX_REQUESTS} requests for transaction data at once")]
    TooManyRequests,
    /// It changes its constraints all the time.
    #[error("more than {MAX_CHANGES} changes of CoinbaseOutputConstraints under one template")]
    TooManyChanges,
    /// An answer of ours does not fit a frame.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// One client's session.
#[derive(Debug)]
pub struct Server {
    retention: Retention,
    constraints: Option<Constraints>,
    /// Changes of constraints since the last published template.
    changes: u32,
    published: Option<Arc<BlockTemplate>>,
    /// What this client may mine of `published` is not known before its transactions are there.
    is_held_back: bool,
    /// The tip of the last SetNewPrevHash.
    tip: Option<Tip>,
    /// Templates that may still be solved, oldest first; the last one is in force.
    sent: VecDeque<Sent>,
    outgoing: VecDeque<Outgoing>,
    events: VecDeque<Event>,
}

#[derive(Debug)]
struct Sent {
    template: Arc<Template>,
    /// Forgotten then; none while it is in force.
    until: Option<Instant>,
}

/// A frame to send, or the template whose transaction data makes one: those are large, so they are made last, and all
/// frames go before them.
#[derive(Debug)]
enum Outgoing {
    Frame(Frame),
    TransactionData(Arc<Template>),
}

impl Server {
    /// A session with a client that has just set up its connection; `published` is the last published template.
    pub fn new(retention: Retention, published: Option<Arc<BlockTemplate>>) -> Self {
        Self {
            retention,
            constraints: None,
            changes: 0,
            published,
            is_held_back: false,
            tip: None,
            sent: VecDeque::new(),
            outgoing: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes a frame. Frames of extensions are told of and else ignored (SV2 spec §3.4).
    ///
    /// # Errors
    /// The client broke the protocol: the connection ends.
    pub fn handle(&mut self, now: Instant, received: &mut Received) -> Result<(), Fatal> {
        if received.extension_type() != 0 {
            self.events.push_back(Event::UnknownExtension(received.extension_type()));
            return Ok(());
        }
        let message_type = received.message_type();
        let malformed = |e| Fatal::Malformed { message_type, reason: format!("{e:?}") };
        let AnyMessage::TemplateDistribution(message) = received.parse().map_err(malformed)? else {
            return Err(Fatal::Unexpected(message_type));
        };
        match message {
            TemplateDistribution::CoinbaseOutputConstraints(m) => self.constrain(now, m.into()),
            TemplateDistribution::RequestTransactionData(m) => self.request_data(m.template_id),
            TemplateDistribution::SubmitSolution(m) => {
                self.solve(&m);
                Ok(())
            }
            _ => Err(Fatal::Unexpected(message_type)),
        }
    }

    /// A new template of the source, which this client is sent if it has said its constraints.
    ///
    /// # Errors
    /// The client's constraints fit no block of this template: the connection ends.
    pub fn publish(&mut self, now: Instant, template: Arc<BlockTemplate>) -> Result<(), Fatal> {
        self.changes = 0;
        self.published = Some(template);
        self.send_template(now)
    }

    /// The source's template for the constraints that this client has just named, where it is another one than that
    /// of its constraints before. Unlike [`Self::publish`] it leaves the count of changes of constraints as it is.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn switch(&mut self, now: Instant, template: Arc<BlockTemplate>) -> Result<(), Fatal> {
        self.published = Some(template);
        self.send_template(now)
    }

    /// Whether anything waits for the transactions of a template: see [`Self::handle_arrival`].
    pub fn is_waiting(&self) -> bool {
        self.is_held_back || self.outgoing.iter().any(|outgoing| !outgoing.is_ready())
    }

    /// Transactions of some template have come, or are given up.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn handle_arrival(&mut self, now: Instant) -> Result<(), Fatal> {
        if self.is_held_back { self.send_template(now) } else { Ok(()) }
    }

    /// Forgets templates whose time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.sent.retain(|sent| sent.until.is_none_or(|until| now < until));
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sent.iter().filter_map(|sent| sent.until).min()
    }

    /// What the client did, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether the next frame to send is transaction data, up to 4 MB, which [`Self::poll_send`] then makes. All else goes
    /// before, so the caller may let it wait.
    pub fn data_is_next(&self) -> bool {
        self.next().is_some_and(|next| matches!(self.outgoing[next], Outgoing::TransactionData(_)))
    }

    /// The next frame to send.
    ///
    /// # Errors
    /// It does not fit a frame: the connection ends.
    pub fn poll_send(&mut self) -> Result<Option<Frame>, Fatal> {
        match self.next().and_then(|next| self.outgoing.remove(next)) {
            None => Ok(None),
            Some(Outgoing::Frame(frame)) => Ok(Some(frame)),
            Some(Outgoing::TransactionData(template)) => match template.transaction_data_frame()? {
                Some(frame) => Ok(Some(frame)),
                None => refusal(template.id(), NOT_FOUND).map(Some),
            },
        }
    }

    /// The client's constraints, once it has said them.
    pub fn constraints(&self) -> Option<Constraints> {
        self.constraints
    }

    /// The source's template that it was given last.
    pub fn published(&self) -> Option<&Arc<BlockTemplate>> {
        self.published.as_ref()
    }

    /// The template it mines on.
    pub fn current(&self) -> Option<&Arc<Template>> {
        self.sent.back().map(|sent| &sent.template)
    }

    /// Where the next frame to send is among those that wait.
    fn next(&self) -> Option<usize> {
        let is_frame = |outgoing: &Outgoing| matches!(outgoing, Outgoing::Frame(_));
        let frame = self.outgoing.iter().position(is_frame);
        frame.or_else(|| self.outgoing.iter().position(Outgoing::is_ready))
    }

    fn constrain(&mut self, now: Instant, constraints: Constraints) -> Result<(), Fatal> {
        self.changes += 1;
        if self.changes > MAX_CHANGES {
            return Err(Fatal::TooManyChanges);
        }
        self.constraints = Some(constraints);
        self.events.push_back(Event::Constraints(constraints));
        self.send_template(now)
    }

    fn send_template(&mut self, now: Instant) -> Result<(), Fatal> {
        let (Some(constraints), Some(published)) = (self.constraints, &self.published) else {
            return Ok(());
        };
        let fitted = published.fit(constraints, self.current().map(|template| template.id()))?;
        self.is_held_back = fitted.is_none() && !published.parts().transactions.are_lost();
        let Some(template) = fitted else { return Ok(()) };
        let new_tip = self.tip != Some(published.tip());
        self.tip = Some(published.tip());
        self.outgoing.push_back(Outgoing::Frame(template.new_template_frame(new_tip)?));
        if new_tip {
            self.outgoing.push_back(Outgoing::Frame(template.prev_hash_frame()?));
        }
        self.retire(now, new_tip);
        self.sent.push_back(Sent { template, until: None });
        Ok(())
    }

    /// Makes room for a template that replaces those sent before.
    fn retire(&mut self, now: Instant, new_tip: bool) {
        self.handle_timeout(now);
        let age = if new_tip { self.retention.stale } else { self.retention.replaced };
        for sent in &mut self.sent {
            let until = now + age;
            sent.until = Some(sent.until.map_or(until, |earlier| earlier.min(until)));
        }
        while self.sent.len() >= self.retention.templates.max(1) {
            self.sent.pop_front();
        }
    }

    fn request_data(&mut self, template_id: u64) -> Result<(), Fatal> {
        let waiting = self.outgoing.iter().filter(|o| matches!(o, Outgoing::TransactionData(_))).count();
        if waiting >= MAX_REQUESTS {
            return Err(Fatal::TooManyRequests);
        }
        let answer = match self.template(template_id) {
            None => Err(NOT_FOUND),
            Some(template) if Some(template.source().tip()) != self.tip => Err(STALE),
            Some(template) => Ok(Arc::clone(template)),
        };
        self.events.push_back(Event::TransactionDataRequested { template_id, found: answer.is_ok() });
        self.outgoing.push_back(match answer {
            Ok(template) => Outgoing::TransactionData(template),
            Err(code) => Outgoing::Frame(refusal(template_id, code)?),
        });
        Ok(())
    }

    fn solve(&mut self, solution: &SubmitSolution<'_>) {
        let solved = match self.template(solution.template_id) {
            Some(template) => template.solve(solution),
            None => Err(SolutionError::UnknownTemplate(solution.template_id)),
        };
        self.events.push_back(match solved {
            Ok(solution) => Event::Solution(Box::new(solution)),
            Err(error) => Event::SolutionRefused(error),
        });
    }

    fn template(&self, id: u64) -> Option<&Arc<Template>> {
        self.sent.iter().map(|sent| &sent.template).find(|template| template.id() == id)
    }
}

impl Outgoing {
    fn is_ready(&self) -> bool {
        match self {
            Self::Frame(_) => true,
            Self::TransactionData(template) => !template.is_awaited(),
        }
    }
}

fn refusal(template_id: u64, code: &str) -> Result<Frame, Fatal> {
    let error_code =
        code.to_owned().into_bytes().try_into().unwrap_or_else(|_| unreachable!("codes are short"));
    let message = RequestTransactionDataErrorOwned { template_id, error_code };
    let frame = Frame::message(TemplateDistributionOwned::RequestTransactionDataError(message));
    Ok(frame.map_err(EncodeError::from)?)
}
