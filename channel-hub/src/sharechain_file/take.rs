//! An exported chain into a hub's store, where a node of it begins (`channel-hub/sharechain/SYNC.md`, *A new node*).

use std::path::Path;

use bitcoin::secp256k1::Secp256k1;
use sharechain::import::{Imported, NotImported, import};
use sharechain::{Params, ShareId};
use store::{Options, SqliteStore, Store as _};

use super::examine;
use super::report::{Import, Report};
use crate::hub::STORE;

/// Why a chain that is valid was not taken, and what to do.
struct NotTaken {
    why: String,
    advice: &'static str,
}

/// Examines a file, and stores its chain in the data directory if nothing is wrong with it. The store must hold no chain, unless it is
/// to be replaced.
pub fn file(path: &Path, genesis: ShareId, data_dir: &Path, replaces: bool) -> Report {
    let mut report = examine::file(path, Some(genesis));
    let store = data_dir.join(STORE);
    if report.valid {
        let taken = take(path, genesis, (data_dir, &store), replaces);
        let (why, advice) = taken.err().map(|not| (not.why, not.advice.to_owned())).unzip();
        report.import = Some(Import { store: store.display().to_string(), done: why.is_none(), why, advice });
    }
    report
}

fn take(path: &Path, genesis: ShareId, to: (&Path, &Path), replaces: bool) -> Result<(), NotTaken> {
    let file = examine::open(path).map_err(|wrong| changed(&wrong.why))?;
    let params: Params = file.params().clone();
    if params.genesis() != genesis {
        return Err(changed(&"its network is another now"));
    }
    let imported = import(file, &params, &Secp256k1::verification_only()).map_err(|why| match why {
        NotImported::TooShort { .. } => not_taken(
            &why,
            "get a file from a node that has been in sync; this one's begins too near its tip for a new node to go on from",
        ),
        why => changed(&why),
    })?;
    keep(imported, to, replaces)
}

fn keep(imported: Imported, (data_dir, path): (&Path, &Path), replaces: bool) -> Result<(), NotTaken> {
    let to_disk =
        |why: &dyn std::fmt::Display| not_taken(why, "mend the directory or its disk, and import again");
    std::fs::create_dir_all(data_dir)
        .map_err(|why| to_disk(&format!("{} cannot be made: {why}", data_dir.display())))?;
    let store = SqliteStore::open(path, Options::default())
        .map_err(|why| not_taken(&why, "nothing was changed; import again then"))?;
    if !replaces {
        let stored = store.sharechain().map_err(|why| not_taken(&why, REPLACE))?;
        if !stored.is_empty() {
            let shares = stored.shares.len();
            return Err(not_taken(&format!("the store holds a chain of {shares} shares already"), REPLACE));
        }
    }
    let last = store.replace_sharechain(imported.updates).map_err(|why| to_disk(&why))?;
    store.close();
    let committed = store.committed();
    if committed.now() < last {
        return Err(to_disk(&committed.failing().unwrap_or_else(|| "it was not written".to_owned())));
    }
    Ok(())
}

const REPLACE: &str = "start the hub with the chain that is there; or, if that one has fallen behind all others or is damaged, import with \
                       --replace, which puts the file's chain in its place";

fn changed(why: &dyn std::fmt::Display) -> NotTaken {
    not_taken(why, "the file was changed while it was read: import again")
}

fn not_taken(why: &dyn std::fmt::Display, advice: &'static str) -> NotTaken {
    NotTaken { why: why.to_string(), advice }
}
