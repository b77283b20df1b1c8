//! A small disk of its own: it fills up, becomes read-only, or fails while programs write to it. Only in a test that runs
//! [`apart`](super::apart()).

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// A file system, unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    /// The file that holds it; else it is in memory.
    image: Option<PathBuf>,
}

const FILLER: &str = "filler";

impl Disk {
    /// Mounts a disk of so many bytes in memory on `path`, which is made if missing.
    ///
    /// # Errors
    /// The system lets nobody mount here.
    pub fn mount(path: &Path, bytes: u64) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path)?;
        let options = format!("size={bytes},mode=0700");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path))?;
        Ok(Self { path: path.to_owned(), image: None })
    }

    /// Mounts a disk of so many bytes on `path`, which is made if missing; it is a file beside that, and can [fail](Self::fail).
    ///
    /// # Errors
    /// The system lets nobody mount here, or has no ext4 or no loop devices.
    pub fn mount_file(path: &Path, bytes: u64) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path)?;
        let image = path.with_extension("img");
        File::create(&image)?.set_len(bytes)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let disk = Self { path: path.to_owned(), image: Some(image) };
        disk.mount_image()?;
        Ok(disk)
    }

    fn mount_image(&self) -> anyhow::Result<()> {
        let image = self.image.as_ref().context("it is in memory")?;
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(image).arg(&self.path))
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes until nothing more fits.
    ///
    /// # Errors
    /// Anything but that the disk is full.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::options().create(true).append(true).open(self.path.join(FILLER))?;
        for size in [1 << 16, 1 << 12, 1] {
            let block = vec![0; size];
            loop {
                match file.write_all(&block) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// It was not full.
    pub fn free(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.path.join(FILLER))?)
    }

    /// Makes it read-only, or writable again. No program may hold a file open for writing then.
    ///
    /// # Errors
    /// One does.
    pub fn read_only(&self, read_only: bool) -> anyhow::Result<()> {
        self.remount(if read_only { "remount,ro" } else { "remount,rw" })
    }

    /// It turns read-only as a disk does on which the system met an error, also for files that are open. What was written
    /// before is on it.
    ///
    /// # Errors
    /// It is in memory.
    pub fn fail(&self) -> anyhow::Result<()> {
        run(Command::new("sync").arg("-f").arg(&self.path))?;
        self.remount("remount,abort")
    }

    /// It is mounted anew and takes writes again. No program may hold a file open.
    ///
    /// # Errors
    /// One does.
    pub fn repair(&self) -> anyhow::Result<()> {
        run(Command::new("umount").arg(&self.path))?;
        self.mount_image()
    }

    fn remount(&self, options: &str) -> anyhow::Result<()> {
        run(Command::new("mount").args(["-o", options]).arg(&self.path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(run(Command::new("umount").arg("--lazy").arg(&self.path))); // it goes with the namespace at the latest
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
