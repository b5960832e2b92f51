//! The sorted index of a sealed copy, and pages from it as S3 makes them.
//!
//! A token names the last key or common prefix given, so a listing can go on with another index too. It is not secret
//! and not trusted: a forged one lists from where it says, below the prefix asked for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::meta::Meta;
use super::{io_error, name};
use crate::err;
use crate::error::{Error, Kind, Result, escape};
use crate::store::{Entry, ListRequest, Page, Timestamp, bare_etag};

const MOST_IN_PAGE: i32 = 1000;
/// Times of folders are as coarse as the kernel's clock ticks: a change that soon before the scan may not show.
const SETTLED: Duration = Duration::from_secs(1);

pub(super) struct Index {
    /// By key.
    entries: Vec<Entry>,
    /// Each folder that was read, with its time before.
    folders: Vec<(PathBuf, SystemTime)>,
    scanned: SystemTime,
}

impl Index {
    pub fn scan(objects: &Path) -> Result<Index> {
        let mut index = Index { entries: Vec::new(), folders: Vec::new(), scanned: SystemTime::now() };
        let mut foreign = (0, String::new());
        let mut todo = vec![(objects.to_path_buf(), String::new())];
        while let Some((folder, above)) = todo.pop() {
            let time = changed(&folder).map_err(|e| failed(&e))?;
            for item in fs::read_dir(&folder).map_err(|e| failed(&e))? {
                let item = item.map_err(|e| failed(&e))?;
                let kind = item.file_type().map_err(|e| failed(&e))?;
                let os_name = item.file_name();
                let known = os_name.to_str().and_then(|text| {
                    if text.starts_with('.') || kind.is_file() && text.ends_with(name::META) {
                        return Some(None);
                    }
                    if kind.is_dir() {
                        let below = format!("{above}{}", name::folder(text)?);
                        (below.len() < 3 * name::LONGEST_KEY).then(|| todo.push((item.path(), below)))?;
                        return Some(None);
                    }
                    name::body(&above, text).filter(|_| kind.is_file()).map(Some)
                });
                match known {
                    None if foreign.0 == 0 => foreign = (1, escape(os_name.as_encoded_bytes())),
                    None => foreign.0 += 1,
                    Some(None) => {}
                    // A body that has just been removed is no error.
                    Some(Some(key)) => index.entries.extend(item.metadata().ok().map(|m| entry(key, &item.path(), &m))),
                }
            }
            index.folders.push((folder, time));
        }
        if foreign.0 > 0 {
            log::warn!("sealed copy: {} names that are no objects' are left out, for example {}", foreign.0, foreign.1);
        }
        index.entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(index)
    }

    /// Nothing has been added, removed or replaced since.
    pub fn is_fresh(&self) -> bool {
        let settled = |time: &SystemTime| time.checked_add(SETTLED).is_some_and(|t| t < self.scanned);
        self.folders.iter().all(|(folder, time)| settled(time) && changed(folder).is_ok_and(|now| now == *time))
    }

    pub fn page(&self, below: &str, req: &ListRequest) -> Result<Page> {
        let full = |s: &str| format!("{below}{s}").into_bytes();
        let prefix = full(&req.prefix);
        let max = usize::try_from(req.max_keys.unwrap_or(MOST_IN_PAGE).clamp(1, MOST_IN_PAGE)).unwrap_or(1);
        let mut at = self.entries.partition_point(|e| e.key < prefix);
        if let Some(token) = &req.token {
            let (folded, last) = token_read(token)?;
            at = at.max(self.entries.partition_point(|e| e.key <= last || folded && e.key.starts_with(&last)));
        } else if let Some(start) = req.start_after.as_deref().map(full) {
            at = at.max(self.entries.partition_point(|e| e.key <= start));
        }

        let mut page = Page::default();
        let mut last = (false, &b""[..]);
        while let Some(entry) = self.entries.get(at).filter(|e| e.key.starts_with(&prefix)) {
            if page.objects.len() + page.prefixes.len() == max {
                page.next = Some(token_write(last));
                break;
            }
            let tail = &entry.key[prefix.len()..];
            match tail.iter().position(|b| req.delimiter && *b == b'/') {
                Some(slash) => {
                    let common = &entry.key[..=prefix.len() + slash];
                    page.prefixes.push(common[below.len()..].to_vec());
                    at += self.entries[at..].partition_point(|e| e.key.starts_with(common));
                    last = (true, common);
                }
                None => {
                    page.objects.push(Entry { key: entry.key[below.len()..].to_vec(), ..entry.clone() });
                    at += 1;
                    last = (false, &entry.key);
                }
            }
        }
        Ok(page)
    }
}

fn failed(e: &io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::NotFound => err!(Kind::Storage, "sealed copy: a folder vanished while it was listed"),
        _ => io_error(e),
    }
}

fn entry(key: Vec<u8>, path: &Path, stat: &fs::Metadata) -> Entry {
    let described = std::str::from_utf8(&key).ok().and_then(|key| Meta::read(path, key).ok());
    let time = described.as_ref().and_then(|m| m.time().ok());
    let etag = described.map(|m| bare_etag(&m.etag).to_owned()).unwrap_or_default();
    let last_modified = time.unwrap_or_else(|| stat.modified().map_or((0, 0), timestamp));
    Entry { key, size: stat.len(), etag, last_modified, storage_class: None }
}

fn changed(folder: &Path) -> io::Result<SystemTime> {
    fs::symlink_metadata(folder)?.modified()
}

fn timestamp(at: SystemTime) -> Timestamp {
    match at.duration_since(UNIX_EPOCH) {
        Ok(d) => (i64::try_from(d.as_secs()).unwrap_or(i64::MAX), d.subsec_nanos()),
        Err(_) => (0, 0),
    }
}

fn token_write((folded, last): (bool, &[u8])) -> String {
    format!("{}{}", if folded { 'p' } else { 'k' }, name::encode(last))
}

fn token_read(token: &str) -> Result<(bool, Vec<u8>)> {
    let read = |text: Option<&str>| text.and_then(name::decode);
    let found = match token.chars().next() {
        Some('p') => read(token.get(1..)).map(|key| (true, key)),
        Some('k') => read(token.get(1..)).map(|key| (false, key)),
        _ => None,
    };
    found.ok_or_else(|| err!(Kind::Invalid, "not a continuation token of this store"))
}
