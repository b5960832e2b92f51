//! A file that is there whole or not at all.
//!
//! Invariant: what is written goes to a temporary file in the same folder, of mode 0600; only [`NewFile::commit`] gives it its
//! name, once it is on the disk. A file of that name is replaced only with `--force`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::NamedTempFile;

use crate::err;
use crate::error::{Error, Kind, Result};

pub struct NewFile {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
    force: bool,
}

impl NewFile {
    pub fn create(path: &Path, force: bool) -> Result<NewFile> {
        if !force && path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        let file = NamedTempFile::new_in(folder(path)).map_err(|e| failed(path, &e))?;
        Ok(NewFile { path: path.to_owned(), file: BufWriter::new(file), force })
    }

    pub fn write(&mut self, text: &str) -> Result<()> {
        self.file.write_all(text.as_bytes()).map_err(|e| failed(&self.path, &e))
    }

    /// One line of JSON.
    pub fn json(&mut self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value).map_err(|e| err!(Kind::Internal, "cannot be written as JSON: {e}"))?;
        self.write(&text)?;
        self.write("\n")
    }

    pub fn commit(self) -> Result<()> {
        let NewFile { path, file, force } = self;
        let failed = |e: &io::Error| failed(&path, e);
        let file = file.into_inner().map_err(|e| failed(e.error()))?;
        file.as_file().sync_all().map_err(|e| failed(&e))?;
        let named = if force { file.persist(&path) } else { file.persist_noclobber(&path) };
        named.map_err(
            |e| if e.error.kind() == io::ErrorKind::AlreadyExists { exists(&path) } else { failed(&e.error) },
        )?;
        File::open(folder(&path)).and_then(|folder| folder.sync_all()).map_err(|e| failed(&e))
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn exists(path: &Path) -> Error {
    err!(Kind::Usage, "{}: exists; --force replaces it", path.display())
}

fn failed(path: &Path, e: &io::Error) -> Error {
    let e = e.to_string();
    // `tempfile` adds the name of its own file.
    let e = e.split(" at path ").next().unwrap_or_default();
    err!(Kind::Internal, "cannot write {}: {e}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let write = |text: &str, force| {
            let mut file = NewFile::create(&path, force)?;
            file.write(text)?;
            file.commit()
        };
        let mut dropped = NewFile::create(&path, false).unwrap();
        dropped.write("half").unwrap();
        drop(dropped);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        write("one", false).unwrap();
        assert_eq!(write("two", false).unwrap_err().kind(), Kind::Usage);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        write("three", true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three");
        // Somebody else made it meanwhile.
        std::fs::remove_file(&path).unwrap();
        let late = NewFile::create(&path, false).unwrap();
        std::fs::write(&path, "theirs").unwrap();
        assert_eq!(late.commit().unwrap_err().kind(), Kind::Usage);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    }
}
