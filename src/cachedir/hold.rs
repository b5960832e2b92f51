//! Writing, and the bound.
//!
//! Invariants:
//! * Only who holds the lock of the marker writes or evicts, so there is one temporary file at most.
//! * The number in the marker is at least what the files take: it is raised before a file is written and lowered after one
//!   is gone. A writer that dies leaves it too high at worst, and who finds the folder full counts again before evicting.
//! * Files are evicted by their last use, oldest first; an object's proof after its chunks, which are worth nothing alone.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Stat, renameat};

use super::{Folder, MINUTE, Name, Part};

/// What a file takes beside its blocks: its name in the folder, its inode.
const ENTRY: u64 = 512;
const BLOCK: u64 = 4096;
/// The folder itself, the marker and the tag.
const BASE: u64 = 64 << 10;

/// Digits of the number in the marker.
const DIGITS: usize = 20;

/// A file that is not complete.
const TEMPORARY: &str = "new";

/// So long nothing is written after something could not be.
const PAUSE: Duration = MINUTE;

#[derive(Default)]
pub(super) struct Turn {
    /// This process has counted what is there: who lost power may have left a number that is too low.
    counted: bool,
    paused: Option<Instant>,
    warned: bool,
}

/// The right to write, until it is dropped.
pub struct Hold<'a> {
    folder: &'a Folder,
    marker: File,
    /// What the files take, at most.
    used: u64,
    /// The number in the marker.
    recorded: u64,
}

impl Folder {
    /// Lets `write` write, unless something could not be written a moment ago. What goes wrong is logged, once.
    pub fn write(&self, write: impl FnOnce(&mut Hold<'_>) -> io::Result<()>) {
        let mut turn = self.turn();
        if turn.paused.is_some_and(|since| since.elapsed() < PAUSE) {
            return;
        }
        let result = self.hold(&mut turn).and_then(|mut hold| write(&mut hold));
        drop(turn);
        if let Err(e) = result {
            self.give_up(&e);
        }
    }

    /// For a while.
    pub(super) fn give_up(&self, e: &io::Error) {
        let mut turn = self.turn();
        turn.paused = Some(Instant::now());
        let level = if turn.warned { log::Level::Debug } else { log::Level::Warn };
        turn.warned = true;
        log::log!(level, "--cache-dir {}: {e}: going on without; tried again now and then", self.shown);
    }

    /// Evicts what is beyond the bound.
    pub(super) fn shrink(&self) -> io::Result<()> {
        // The next writer counts again, whatever the marker says; a start has no time for that.
        let mut hold = Hold::new(self, self.lock_marker()?)?;
        hold.room(0)
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, turn: &mut Turn) -> io::Result<Hold<'_>> {
        let mut hold = Hold::new(self, self.lock_marker()?)?;
        if !turn.counted {
            hold.count()?;
            turn.counted = true;
        }
        Ok(hold)
    }
}

impl<'a> Hold<'a> {
    fn new(folder: &'a Folder, marker: File) -> io::Result<Hold<'a>> {
        let mut digits = [0; DIGITS];
        let known =
            marker.read_exact_at(&mut digits, 0).ok().and_then(|()| std::str::from_utf8(&digits).ok()?.parse().ok());
        let mut hold = Hold { folder, marker, used: known.unwrap_or(0), recorded: known.unwrap_or(0) };
        if known.is_none() {
            hold.count()?;
        }
        Ok(hold)
    }

    pub fn folder(&self) -> &Folder {
        self.folder
    }

    /// Puts the `len` bytes that `fill` writes in the place of the file `name`. What is larger than the bound is left out.
    pub fn put(&mut self, name: Name, len: u64, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let cost = cost(len);
        if cost > self.limit() {
            return Ok(());
        }
        self.room(cost)?;
        let old = self.folder.stat(name);
        if old.is_some_and(|s| !is_file(&s)) && !self.folder.unlink(&name.to_string()) {
            return Ok(()); // a folder with something in it is not ours
        }
        self.record(self.used + cost)?;
        self.folder.unlink(TEMPORARY);
        if let Err(e) = self.write(len, fill).and_then(|()| {
            let folder = &self.folder.folder;
            Ok(renameat(folder, TEMPORARY, folder, name.to_string())?)
        }) {
            self.folder.unlink(TEMPORARY);
            return Err(e);
        }
        self.used = (self.used + cost).saturating_sub(old.map_or(0, |s| cost_of(&s)));
        Ok(())
    }

    fn write(&self, len: u64, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut file = BufWriter::with_capacity(128 << 10, Limited { file: self.folder.create(TEMPORARY)?, left: len });
        fill(&mut file)?;
        file.flush()?;
        if file.get_ref().left > 0 { Err(io::Error::other("a file came out short")) } else { Ok(()) }
    }

    fn limit(&self) -> u64 {
        self.folder.limit.saturating_sub(BASE)
    }

    /// Sees to it that `cost` more bytes fit.
    fn room(&mut self, cost: u64) -> io::Result<()> {
        let limit = self.limit();
        if self.used.saturating_add(cost) <= limit {
            return Ok(());
        }
        let mut files = self.count()?;
        if self.used.saturating_add(cost) <= limit {
            return Ok(());
        }
        // A little more than asked for: a listing for each file would be too much.
        let goal = limit.saturating_sub(cost.max(limit / 16));
        let proof_after_chunks = |name: &Name| if name.part == Part::Proof { 2 * MINUTE.as_secs() as i64 } else { 0 };
        files.sort_by_key(|(name, s)| (s.st_mtime + proof_after_chunks(name), s.st_mtime_nsec, *name));
        for (name, stat) in &files {
            if self.used <= goal {
                break;
            }
            if self.folder.unlink(&name.to_string()) {
                self.used = self.used.saturating_sub(cost_of(stat));
            }
        }
        self.record(self.used)?;
        if self.used.saturating_add(cost) > limit { Err(io::Error::other("files cannot be removed")) } else { Ok(()) }
    }

    /// What there is now. Nobody else writes meanwhile, so a temporary file is nobody's.
    fn count(&mut self) -> io::Result<Vec<(Name, Stat)>> {
        self.folder.unlink(TEMPORARY);
        let files = self.folder.files()?;
        self.used = files.iter().map(|(_, s)| cost_of(s)).sum();
        self.record(self.used)?;
        Ok(files)
    }

    fn record(&mut self, used: u64) -> io::Result<()> {
        self.marker.write_all_at(format!("{used:0DIGITS$}\n").as_bytes(), 0)?;
        self.recorded = used;
        Ok(())
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.folder.used.store(self.used, Ordering::Relaxed);
        if self.used != self.recorded {
            // It stays too high then, which the next count puts right.
            self.record(self.used).ok();
        }
    }
}

fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

fn cost(len: u64) -> u64 {
    len.div_ceil(BLOCK).saturating_mul(BLOCK).saturating_add(ENTRY)
}

fn cost_of(stat: &Stat) -> u64 {
    cost(stat.st_size.max(0) as u64)
}

/// Refuses to write more than was said.
struct Limited {
    file: File,
    left: u64,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other("a file came out long"));
        }
        let n = self.file.write(bytes)?;
        self.left -= n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cachedir::MARKER;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    const LIMIT: u64 = 1 << 20;

    fn chunk(n: u32) -> Name {
        Name { id: [n as u8 % 5; 16], part: Part::Chunk(n) }
    }

    fn open(path: &Path) -> Folder {
        Folder::open(path, LIMIT).unwrap()
    }

    /// By `st_size` and by blocks, the folder itself included.
    fn taken(path: &Path) -> (u64, u64) {
        let entries = std::fs::read_dir(path).unwrap().map(|e| e.unwrap().metadata().unwrap());
        let all = entries.chain([path.metadata().unwrap()]);
        all.fold((0, 0), |sum, m| (sum.0 + m.len(), sum.1 + m.blocks() * 512))
    }

    fn put(folder: &Folder, name: Name, bytes: &[u8]) {
        folder.write(|hold| hold.put(name, bytes.len() as u64, |file| file.write_all(bytes)));
    }

    fn used(folder: &Folder) -> u64 {
        Hold::new(folder, folder.lock_marker().unwrap()).unwrap().used
    }

    #[test]
    fn the_bound_holds_while_a_file_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let folders = [open(&path), open(&path)];
        let mut evicted = 0;
        for n in 0..300u32 {
            let len = 1 + (n as usize * 7919) % 60_000;
            folders[n as usize % 2].write(|hold| {
                hold.put(chunk(n % 90), len as u64, |file| {
                    file.write_all(&vec![n as u8; len])?;
                    file.flush()?;
                    // The other one cannot write now, so this is all there is.
                    let (size, blocks) = taken(&path);
                    assert!(size <= LIMIT && blocks <= LIMIT, "{size} bytes, {blocks} in blocks, at file {n}");
                    Ok(())
                })
            });
            assert_eq!(folders[0].read(chunk(n % 90), 0, len), Some(vec![n as u8; len]));
            assert!(used(&folders[0]) + BASE >= taken(&path).0);
            evicted = evicted.max(90 - folders[0].files().unwrap().len());
        }
        assert!(taken(&path).0 > LIMIT / 2 && evicted > 20, "nothing had to be evicted");
    }

    #[test]
    fn what_was_not_used_for_long_goes_first_and_proofs_after_their_chunks() {
        let dir = tempfile::tempdir().unwrap();
        let folder = open(&dir.path().join("cache"));
        let proof = Name { id: [1; 16], part: Part::Proof };
        for name in [proof, chunk(1), chunk(2), chunk(3)] {
            put(&folder, name, &[0; 200_000]);
            let file = File::options().write(true).open(dir.path().join("cache").join(name.to_string())).unwrap();
            // An hour ago, the proof a little earlier than what goes with it.
            let ago = if name == proof { 3660 } else { 3600 };
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(ago)).unwrap();
        }
        assert!(folder.read(chunk(2), 5, 10).is_some(), "used now");
        put(&folder, chunk(4), &[0; 500_000]);
        let left: Vec<Name> = folder.files().unwrap().into_iter().map(|(name, _)| name).collect();
        assert!(left.contains(&chunk(2)) && left.contains(&chunk(4)), "{left:?}");
        assert!(!left.contains(&chunk(1)) && !left.contains(&chunk(3)), "{left:?}");
    }

    #[test]
    fn a_file_that_is_not_complete_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let folder = open(&path);
        put(&folder, chunk(1), b"old");
        let before = used(&folder);
        for bytes in [&b"short"[..], b"too long for that"] {
            folder.turn().paused = None;
            folder.write(|hold| hold.put(chunk(1), 8, |file| file.write_all(bytes)));
            assert!(!path.join(TEMPORARY).exists());
            assert_eq!(folder.read(chunk(1), 0, 3), Some(b"old".to_vec()));
            assert_eq!(used(&folder), before);
        }
        // And nothing more is tried at once.
        put(&folder, chunk(2), b"new");
        assert_eq!(folder.read(chunk(2), 0, 3), None);
        folder.turn().paused = None;
        put(&folder, chunk(2), b"new");
        assert_eq!(folder.read(chunk(2), 0, 3), Some(b"new".to_vec()));
        assert_eq!(folder.read(chunk(2), 1, 3), None, "beyond its end");
    }

    /// Whatever the number in the marker says, and whatever a writer left that died.
    #[test]
    fn the_first_writer_counts() {
        for marker in ["", "x", "00000000000000000001\n", "00000000000099999999\n", "99999999999999999999\n"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("cache");
            put(&open(&path), chunk(1), &[0; 300_000]);
            std::fs::write(path.join(TEMPORARY), [0; 300_000]).unwrap();
            std::fs::write(path.join(MARKER), marker).unwrap();
            let folder = open(&path);
            put(&folder, chunk(2), &[0; 300_000]);
            put(&folder, chunk(3), &[0; 10]);
            assert_eq!(used(&folder), 2 * cost(300_000) + cost(10), "{marker:?}");
            assert!(!path.join(TEMPORARY).exists());
        }
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let folder = open(&path);
        let others = ["notes", "00112233445566778899aabbccddeeff", "00112233445566778899aabbccddeeff.json"];
        for name in others {
            std::fs::write(path.join(name), [0; 1000]).unwrap();
        }
        let full = path.join(chunk(7).to_string());
        std::fs::create_dir_all(full.join("x")).unwrap();
        std::os::unix::fs::symlink(path.join("notes"), path.join(chunk(8).to_string())).unwrap();
        for n in 0..30 {
            put(&folder, chunk(n), &[0; 60_000]);
        }
        assert!(full.join("x").is_dir() && others.iter().all(|name| path.join(name).metadata().unwrap().len() == 1000));
        assert!(folder.read(chunk(29), 0, 60_000).is_some(), "a folder in the way stops nobody");
        put(&folder, chunk(8), b"mine");
        assert_eq!(folder.read(chunk(8), 0, 4), Some(b"mine".to_vec()), "the link is replaced, not followed");
    }
}
