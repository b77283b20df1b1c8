//! A share with the lock sheet that it announces, if it announces one.

use lock::LockSheet;
use lock::sheet::BadSheet;
use std::sync::Arc;

use crate::check::CheckedShare;
use crate::params::Params;
use crate::share::Body;

/// A share that was checked alone, with its body.
#[derive(Clone, Debug)]
pub struct FullShare {
    checked: CheckedShare,
    sheet: Option<Arc<LockSheet>>,
}

/// Why a body does not belong to a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// Locks where the share announces no sheet, or none where it does. Whoever sent it is at fault.
    #[error("the share announces {}, the body has {locks} locks", if *.announced { "a sheet" } else { "no sheet" })]
    Presence {
        /// Whether it announces a sheet.
        announced: bool,
        /// Locks that came.
        locks: usize,
    },
    /// Not the announced root, or not as many locks as a period has. Whoever sent it is at fault.
    #[error("the locks are not those that the share announces")]
    OtherLocks,
    /// These are the announced locks, and two of them are the same: no valid share announces them.
    #[error("the announced locks of heights {0} and {1} are the same")]
    SameLock(u32, u32),
}

impl CheckedShare {
    /// Joins it with its body.
    ///
    /// # Errors
    /// The body does not belong to it, or shows that the share is invalid ([`BadBody::SameLock`]).
    pub fn with_body(self, body: Body, params: &Params) -> Result<FullShare, BadBody> {
        let locks = body.locks.len();
        let sheet = match self.share().data.promise {
            None if locks == 0 => None,
            Some(promise) if locks > 0 => {
                Some(promise.with_locks(&params.locks, body.locks).map_err(|why| match why {
                    BadSheet::SameLock(one, other) => BadBody::SameLock(one, other),
                    _ => BadBody::OtherLocks,
                })?)
            }
            promise => return Err(BadBody::Presence { announced: promise.is_some(), locks }),
        };
        Ok(FullShare { checked: self, sheet: sheet.map(Arc::new) })
    }

    /// Joins it with a sheet that this node holds already, or with none.
    ///
    /// # Errors
    /// [`BadBody::Presence`] or [`BadBody::OtherLocks`].
    pub fn with_sheet(self, sheet: Option<Arc<LockSheet>>) -> Result<FullShare, BadBody> {
        match (&self.share().data.promise, &sheet) {
            (None, None) => Ok(FullShare { checked: self, sheet }),
            (Some(promise), Some(held)) if held.promise().is_same_sheet(promise) => {
                Ok(FullShare { checked: self, sheet })
            }
            (Some(_), Some(_)) => Err(BadBody::OtherLocks),
            (promise, held) => Err(BadBody::Presence {
                announced: promise.is_some(),
                locks: held.as_ref().map_or(0, |sheet| sheet.locks().len()),
            }),
        }
    }
}

impl FullShare {
    /// The share.
    pub fn checked(&self) -> &CheckedShare {
        &self.checked
    }

    /// The sheet of its body.
    pub fn sheet(&self) -> Option<&Arc<LockSheet>> {
        self.sheet.as_ref()
    }

    /// Its body, as it travels.
    pub fn body(&self) -> Body {
        Body { locks: self.sheet.as_ref().map(|sheet| sheet.locks().to_vec()).unwrap_or_default() }
    }
}
