//! A chain from a file as a node's own: how a new node begins where all its peers have forgotten the genesis share (SYNC.md).
//!
//! The file is [`crate::export`]'s, of any node of the network. Its lowest share is believed: height and total work are as it
//! states them, and the shares above it that no rule can judge in full are checked for their proof of work, commitments, links,
//! targets and work, as after a restart; all others by every rule. So a file comes from somebody whom the operator trusts, or
//! its lowest share's id is compared with other nodes'.

use bitcoin::io::Read;
use bitcoin::secp256k1::{Secp256k1, Verification};

use crate::chain::{Chain, Change, Refused};
use crate::check::BadShare;
use crate::export::{BadFile, Reader};
use crate::full::{BadBody, FullShare};
use crate::id::ShareId;
use crate::params::Params;
use crate::storage::Update;

/// A chain in the making, from the shares of a file in their order.
#[derive(Debug)]
pub struct Beginning {
    params: Params,
    chain: Option<Chain>,
    judged: usize,
}

impl Beginning {
    /// Without a share.
    pub fn new(params: Params) -> Self {
        Self { params, chain: None, judged: 0 }
    }

    /// Takes the next share. The first is a child of the genesis share, or, where the file's node has pruned, any other, which is
    /// believed.
    ///
    /// # Errors
    /// It breaks a rule, or stands before what it stands on.
    pub fn take(&mut self, share: &FullShare) -> Result<Change, Refused> {
        let data = &share.checked().share().data;
        let begins_anywhere = data.parent != self.params.genesis() && data.height > 1;
        if self.chain.is_none() && begins_anywhere {
            self.chain = Some(Chain::restored(self.params.clone(), share));
            return Ok(Change::only(share.checked().id()));
        }
        let chain = self.chain.get_or_insert_with(|| Chain::new(self.params.clone()));
        let (change, is_judged) = chain.insert_or_restore(share)?;
        self.judged += usize::from(is_judged);
        Ok(change)
    }

    /// Shares that were checked by every rule.
    pub fn judged(&self) -> usize {
        self.judged
    }

    /// With what came.
    pub fn into_chain(self) -> Chain {
        self.chain.unwrap_or_else(|| Chain::new(self.params))
    }
}

/// A whole file, checked. What a node stores before it goes on with the chain: all or nothing, in a store that holds no other.
#[derive(Debug)]
#[must_use]
pub struct Imported {
    /// The tree.
    pub chain: Chain,
    /// The same for a store, in order.
    pub updates: Vec<Update>,
}

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotImported {
    /// It cannot be read to its end.
    #[error(transparent)]
    File(#[from] BadFile),
    /// Its rules are others.
    #[error("the file is of network {file}, this is {own}")]
    OtherNetwork {
        /// The file's genesis.
        file: ShareId,
        /// This network's.
        own: ShareId,
    },
    /// A share that is none.
    #[error("share number {number}: {why}")]
    Share {
        /// Which, from 1.
        number: u32,
        /// What is wrong with it.
        why: BadOne,
    },
    /// Above its lowest share there is not all that a share's validity may depend on.
    #[error("the file has {has} heights above its lowest share; {needed} are needed to judge the next")]
    TooShort {
        /// Heights.
        has: u32,
        /// As the horizon says.
        needed: u32,
    },
}

/// What is wrong with a share of a file.
#[derive(Debug, thiserror::Error)]
pub enum BadOne {
    /// Alone.
    #[error(transparent)]
    Alone(#[from] BadShare),
    /// With its body.
    #[error(transparent)]
    Body(#[from] BadBody),
    /// With the shares before it.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Reads a whole file. `params` are the node's own.
///
/// # Errors
/// See [`NotImported`].
pub fn import<R: Read, C: Verification>(
    mut file: Reader<R>,
    params: &Params,
    secp: &Secp256k1<C>,
) -> Result<Imported, NotImported> {
    let (theirs, own) = (file.params().genesis(), params.genesis());
    if theirs != own {
        return Err(NotImported::OtherNetwork { file: theirs, own });
    }
    let mut beginning = Beginning::new(params.clone());
    let mut updates = Vec::new();
    while let Some((share, body)) = file.next_share()? {
        let number = file.count();
        let bad = |why: BadOne| NotImported::Share { number, why };
        let checked = share.check(params, secp).map_err(|why| bad(why.into()))?;
        let full = checked.with_body(body, params).map_err(|why| bad(why.into()))?;
        let change = beginning.take(&full).map_err(|why| bad(why.into()))?;
        updates.extend(beginning.chain.as_ref().map(|chain| chain.update(&change)));
    }
    let chain = beginning.into_chain();
    check_length(&chain)?;
    Ok(Imported { chain, updates })
}

fn check_length(chain: &Chain) -> Result<(), NotImported> {
    let top = chain.standing(&chain.tip()).map_or(0, |standing| standing.height);
    let (has, needed) = (top.saturating_sub(chain.lowest()), chain.params().horizon());
    if chain.lowest() > 0 && has < needed {
        return Err(NotImported::TooShort { has, needed });
    }
    Ok(())
}
