//! Whether a database is still where it was opened. SQLite writes on into files that were moved or deleted, and says nothing; what is
//! opened next time is what lies at the path.
//!
//! SQLite never puts another file in the place of the database, nor in that of its log while a connection is open: a log that
//! begins anew, or is cut, is the same file.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A database and its log, as they were when they were opened.
#[derive(Debug)]
pub(crate) struct Place {
    database: Placed,
    log: Option<Placed>,
}

#[derive(Debug)]
struct Placed {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl Place {
    /// Of a database that is open.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { database: Placed::at(path.to_owned())?, log: Placed::at(log(path)).ok() })
    }

    /// Costs two looks at a path, some microseconds: cheap beside a commit.
    ///
    /// # Errors
    /// Which file is gone, and what to do.
    pub(crate) fn check(&self) -> Result<(), String> {
        let gone =
            [Some(&self.database), self.log.as_ref()].into_iter().flatten().find(|file| file.is_gone());
        gone.map_or(Ok(()), |file| {
            Err(format!(
                "the file {} was moved or deleted while this program runs; put that same file back, or, to go on with another, end this \
                 program and move its -wal and -shm away first: they belong to the file that is gone",
                file.path.display()
            ))
        })
    }
}

impl Placed {
    fn at(path: PathBuf) -> io::Result<Self> {
        let identity = identity(&path)?;
        Ok(Self { path, identity })
    }

    /// Where nothing can be said, as of a directory that may not be searched any more, it is taken to be there.
    fn is_gone(&self) -> bool {
        match identity(&self.path) {
            Ok(found) => found != self.identity,
            Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = std::fs::metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// SQLite's log of the database: beside the file itself, where the path is a link.
pub(crate) fn log(path: &Path) -> PathBuf {
    let file = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut log = OsString::from(file);
    log.push("-wal");
    log.into()
}
