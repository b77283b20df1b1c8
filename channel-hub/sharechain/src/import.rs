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
use crate::storage::Storage;

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotImported<E> {
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
    /// The store.
    #[error("the store did not take it: {0}")]
    Store(E),
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

/// Reads a whole file, stores its shares one by one, and gives the chain that a node goes on with. `params` are the node's
/// own. The store must be empty; if this fails, empty it again.
///
/// # Errors
/// See [`NotImported`].
pub fn import<R: Read, C: Verification, S: Storage>(
    mut file: Reader<R>,
    params: Params,
    secp: &Secp256k1<C>,
    store: &mut S,
) -> Result<Chain, NotImported<S::Refused>> {
    let (theirs, own) = (file.params().genesis(), params.genesis());
    if theirs != own {
        return Err(NotImported::OtherNetwork { file: theirs, own });
    }
    let mut chain: Option<Chain> = None;
    while let Some((share, body)) = file.next_share()? {
        let number = file.count();
        let bad = |why: BadOne| NotImported::Share { number, why };
        let checked = share.check(&params, secp).map_err(|why| bad(why.into()))?;
        let full = checked.with_body(body, &params).map_err(|why| bad(why.into()))?;
        let change = match &mut chain {
            None => {
                let (begun, change) = begin(&params, &full).map_err(|why| bad(why.into()))?;
                chain = Some(begun);
                change
            }
            Some(chain) => chain.insert_or_restore(&full).map_err(|why| bad(why.into()))?,
        };
        let update = chain.as_ref().map(|chain| chain.update(&change));
        update.map_or(Ok(()), |update| store.apply(update).map(drop)).map_err(NotImported::Store)?;
    }
    let chain = chain.unwrap_or_else(|| Chain::new(params));
    check_length(&chain)?;
    Ok(chain)
}

fn begin(params: &Params, first: &FullShare) -> Result<(Chain, Change), Refused> {
    if first.checked().share().data.parent == params.genesis() {
        let mut chain = Chain::new(params.clone());
        let change = chain.insert(first)?;
        return Ok((chain, change));
    }
    let change = Change {
        added: first.checked().id(),
        disconnected: Vec::new(),
        connected: Vec::new(),
        pruned: Vec::new(),
        equivocation: None,
    };
    Ok((Chain::restored(params.clone(), first), change))
}

fn check_length<E>(chain: &Chain) -> Result<(), NotImported<E>> {
    let top = chain.standing(&chain.tip()).map_or(0, |standing| standing.height);
    let (has, needed) = (top.saturating_sub(chain.lowest()), chain.params().horizon());
    if chain.lowest() > 0 && has < needed {
        return Err(NotImported::TooShort { has, needed });
    }
    Ok(())
}
