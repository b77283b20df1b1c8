//! A template's transactions. A source may let a template out before them: clients mine with its merkle path alone,
//! and what needs the transactions waits until they come or are given up.

use std::sync::{Arc, OnceLock};

use bitcoin::hashes::Hash;

use crate::block_template::TemplateTransaction;
use crate::fit::Constraints;
use crate::merkle;

/// All transactions of a template but the coinbase, in block order: each after those it depends on. Cheap to clone; all
/// clones see them come.
#[derive(Clone, Debug)]
pub struct Transactions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    merkle_path: OnceLock<Vec<merkle::Node>>,
    /// For whose coinbase the source left room; none if they were there from the beginning.
    room: Option<Constraints>,
    /// None inside: they never come.
    all: OnceLock<Option<Vec<TemplateTransaction>>>,
}

impl Transactions {
    /// They are on their way. `merkle_path`: the coinbase's in the block with all of them. `room`: they leave room for the
    /// coinbase of a client with these constraints.
    pub fn awaited(merkle_path: Vec<merkle::Node>, room: Constraints) -> Self {
        Self(Arc::new(Inner {
            merkle_path: OnceLock::from(merkle_path),
            room: Some(room),
            all: OnceLock::new(),
        }))
    }

    /// They have come, and lead to the merkle path; or they never come. Only the first word counts.
    pub fn settle(&self, all: Option<Vec<TemplateTransaction>>) {
        let _ = self.0.all.set(all);
    }

    /// They, if they are there.
    pub fn all(&self) -> Option<&[TemplateTransaction]> {
        self.0.all.get()?.as_deref()
    }

    /// Whether they may still come.
    pub fn are_awaited(&self) -> bool {
        self.0.all.get().is_none()
    }

    /// Whether they never come.
    pub fn are_lost(&self) -> bool {
        matches!(self.0.all.get(), Some(None))
    }

    /// Siblings of the coinbase in the merkle tree, deepest first.
    pub fn merkle_path(&self) -> &[merkle::Node] {
        self.0.merkle_path.get_or_init(|| {
            let all = self.all().unwrap_or_default().iter();
            merkle::path(all.map(|transaction| transaction.txid.to_byte_array()))
        })
    }

    /// For whose coinbase they leave room, as far as is known before they are there.
    pub fn room(&self) -> Option<Constraints> {
        self.0.room
    }
}

impl From<Vec<TemplateTransaction>> for Transactions {
    fn from(all: Vec<TemplateTransaction>) -> Self {
        let all = OnceLock::from(Some(all));
        Self(Arc::new(Inner { merkle_path: OnceLock::new(), room: None, all }))
    }
}
