//! Found blocks on disk: `<hash>.block` in the directory until a node has it, then in `done/`; in `rejected/` if no
//! node wants it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bitcoin::consensus::encode::deserialize;
use bitcoin::{Block, BlockHash};
use tracing::warn;

/// Most blocks kept in `done/` and in `rejected/`, each; the oldest go.
const KEPT: usize = 100;

/// The directory.
#[derive(Clone, Debug)]
pub struct SolutionStore {
    directory: PathBuf,
}

/// Why a block need not be submitted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// A node has it.
    Done,
    /// No node wants it.
    Rejected,
}

/// A block that no node has, as far as we know.
#[derive(Debug)]
pub struct Pending {
    /// The block.
    pub block: Block,
    /// The same, serialised.
    pub bytes: Vec<u8>,
    /// When it was found.
    pub found: SystemTime,
}

impl SolutionStore {
    /// Makes the directory and those in it. What a kill left half written goes.
    ///
    /// # Errors
    /// A directory cannot be made or read, or what was left half written cannot be removed.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        for settled in [Settled::Done, Settled::Rejected] {
            fs::create_dir_all(directory.join(settled.folder()))?;
        }
        for path in files_in(&directory, "part")? {
            fs::remove_file(path)?;
        }
        Ok(Self { directory })
    }

    /// Writes a block, whole or not at all, so that it outlives this process. It outlives a power cut once
    /// [`Self::sync`] has returned.
    ///
    /// # Errors
    /// The disk is full, or does not work: nothing of the block is left.
    pub fn write(&self, hash: BlockHash, block: &[u8]) -> io::Result<File> {
        let unfinished = self.directory.join(format!("{hash}.part"));
        let written = File::create(&unfinished).and_then(|mut file| {
            file.write_all(block)?;
            fs::rename(&unfinished, self.path(hash))?;
            Ok(file)
        });
        if written.is_err() {
            // On a full disk it would take the room of what can be written.
            let _ = fs::remove_file(&unfinished);
        }
        written
    }

    /// Waits until what [`Self::write`] wrote is on the disk.
    ///
    /// # Errors
    /// The disk does not work: whether a power cut spares the block is not known.
    pub fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()?;
        File::open(&self.directory)?.sync_all()
    }

    /// Puts a block away; also one that was put away as rejected and that a node has after all.
    ///
    /// # Errors
    /// The block is not there, or cannot be moved; or, after it was moved, the oldest ones cannot be removed.
    pub fn settle(&self, hash: BlockHash, settled: Settled) -> io::Result<()> {
        let put_away = |settled: Settled| self.directory.join(settled.folder()).join(format!("{hash}.block"));
        let pending = self.path(hash);
        let from = if pending.exists() { pending } else { put_away(Settled::Rejected) };
        fs::rename(from, put_away(settled))?;
        keep_newest(&self.directory.join(settled.folder()))
    }

    /// Blocks that wait for a node. One that was cut off by a power cut is put away as rejected, one that cannot be read is
    /// left where it is: neither keeps the others from being found.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn pending(&self) -> io::Result<Vec<Pending>> {
        let mut pending = Vec::new();
        for path in blocks_in(&self.directory)? {
            match self.read(&path) {
                Ok(block) => pending.extend(block),
                Err(error) => warn!("a block found earlier is passed over: {}: {error}", path.display()),
            }
        }
        Ok(pending)
    }

    /// The block in a file; none, and the file is put away, if it is not whole.
    fn read(&self, path: &Path) -> io::Result<Option<Pending>> {
        let bytes = fs::read(path)?;
        let found = fs::metadata(path)?.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        match deserialize(&bytes) {
            Ok(block) => Ok(Some(Pending { block, bytes, found })),
            Err(error) => {
                warn!("{} is no whole block, put away: {error}", path.display());
                let name = path.file_name().unwrap_or_default();
                fs::rename(path, self.directory.join(Settled::Rejected.folder()).join(name))?;
                Ok(None)
            }
        }
    }

    /// Blocks that a node took and that were found not longer than `age` ago, roughly the oldest first, as their files.
    ///
    /// # Errors
    /// The directory or a file of it cannot be read.
    pub fn done_within(&self, age: Duration) -> io::Result<Vec<(BlockHash, PathBuf)>> {
        let mut done = Vec::new();
        for path in blocks_in(&self.directory.join(Settled::Done.folder()))? {
            let hash = path.file_stem().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let found = fs::metadata(&path)?.modified()?;
            if let Some(hash) = hash.filter(|_| found.elapsed().unwrap_or_default() <= age) {
                done.push((found, hash, path));
            }
        }
        done.sort();
        Ok(done.into_iter().map(|(_, hash, path)| (hash, path)).collect())
    }

    fn path(&self, hash: BlockHash) -> PathBuf {
        self.directory.join(format!("{hash}.block"))
    }
}

impl Settled {
    fn folder(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Rejected => "rejected",
        }
    }
}

fn blocks_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    files_in(folder, "block")
}

fn files_in(folder: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let is_one = |path: &PathBuf| path.extension().is_some_and(|of| of == extension);
    paths.filter(|path| path.as_ref().map_or(true, is_one)).collect()
}

fn keep_newest(folder: &Path) -> io::Result<()> {
    let mut blocks = Vec::new();
    for path in blocks_in(folder)? {
        blocks.push((fs::metadata(&path)?.modified()?, path));
    }
    blocks.sort();
    let excess = blocks.len().saturating_sub(KEPT);
    blocks.iter().take(excess).try_for_each(|(_, path)| fs::remove_file(path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bitcoin::Network;
    use bitcoin::consensus::encode::serialize;
    use bitcoin::constants::genesis_block;

    fn store() -> (tempfile::TempDir, SolutionStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = SolutionStore::open(directory.path().join("solutions")).unwrap();
        (directory, store)
    }

    #[test]
    fn a_block_is_pending_until_it_is_settled_and_stays_so_over_a_restart() {
        let (directory, store) = store();
        let block = genesis_block(Network::Regtest);
        let file = store.write(block.block_hash(), &serialize(&block)).unwrap();
        store.sync(&file).unwrap();
        let reopened = SolutionStore::open(directory.path().join("solutions")).unwrap();
        assert_eq!(reopened.pending().unwrap()[0].block, block);
        reopened.settle(block.block_hash(), Settled::Done).unwrap();
        assert!(store.pending().unwrap().is_empty());
    }

    #[test]
    fn a_block_that_was_rejected_and_that_a_node_has_after_all_is_done() {
        let (directory, store) = store();
        let hash = bitcoin::hashes::Hash::from_byte_array([7; 32]);
        store.write(hash, b"block").unwrap();
        store.settle(hash, Settled::Rejected).unwrap();
        store.settle(hash, Settled::Done).unwrap();
        assert!(directory.path().join(format!("solutions/done/{hash}.block")).exists());
        assert!(!directory.path().join(format!("solutions/rejected/{hash}.block")).exists());
    }

    #[test]
    fn what_cannot_be_written_whole_leaves_nothing_behind() {
        let (directory, store) = store();
        let hash: BlockHash = bitcoin::hashes::Hash::from_byte_array([7; 32]);
        let part = directory.path().join(format!("solutions/{hash}.part"));
        // In its way, as a disk that fills at the very end is.
        fs::create_dir_all(directory.path().join(format!("solutions/{hash}.block/x"))).unwrap();
        store.write(hash, b"block").unwrap_err();
        assert!(!part.exists());
        fs::write(&part, b"bl").unwrap();
        SolutionStore::open(directory.path().join("solutions")).unwrap();
        assert!(!part.exists());
    }

    #[test]
    fn half_a_block_is_put_away_and_does_not_keep_the_others_from_being_found() {
        let (directory, store) = store();
        let block = genesis_block(Network::Regtest);
        fs::write(directory.path().join("solutions/00.block"), &serialize(&block)[..100]).unwrap();
        store.write(block.block_hash(), &serialize(&block)).unwrap();
        assert_eq!(store.pending().unwrap().len(), 1);
        assert!(directory.path().join("solutions/rejected/00.block").exists());
    }

    #[test]
    fn what_cannot_be_read_does_not_keep_the_others_from_being_found() {
        let (directory, store) = store();
        let block = genesis_block(Network::Regtest);
        store.write(block.block_hash(), &serialize(&block)).unwrap();
        for name in ["00.block", "x.block"] {
            fs::create_dir(directory.path().join("solutions").join(name)).unwrap();
        }
        assert_eq!(store.pending().unwrap().len(), 1);
    }

    #[test]
    fn only_the_newest_hundred_settled_blocks_are_kept() {
        let (directory, store) = store();
        for nonce in 0..110u8 {
            let hash = bitcoin::hashes::Hash::from_byte_array([nonce; 32]);
            store.write(hash, b"block").unwrap();
            store.settle(hash, Settled::Done).unwrap();
        }
        let kept = fs::read_dir(directory.path().join("solutions/done")).unwrap().count();
        assert_eq!(kept, KEPT);
    }
}
