//! Where to cut a range of keys that turned out to be long, so that its parts can be listed at once. Pure.
//!
//! Invariant: a cut lies strictly between the last key that was listed and the end of the range; any such cut is right,
//! only how even the parts are depends on the guesses here. These are: what has been listed has a common beginning, and
//! behind all that begins so there may be more; container ids are random hex, and other names are numbered, so the
//! next ones are as dense as the last; within one container logs follow each other in time as they did.

use std::ops::Range;

use crate::key::{LogKey, Span, Time};

/// What a range has shown so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The first and the last key of the last page.
    first: String,
    last: String,
    /// Of the range, by its folders.
    folders: Names,
    /// Of the folder of `last`, by its containers.
    containers: Names,
}

/// Names in order.
#[derive(Clone, Debug, Default)]
struct Names {
    /// The key of the first.
    begin: String,
    different: usize,
    keys: usize,
}

/// Fewer different names say nothing about how many are to come.
const ENOUGH: usize = 8;
/// Parts of fewer pages of one container's logs are not worth it.
const WORTH: f64 = 2.0;
/// Where nothing says how long a container's logs go on: a cut so many pages ahead at least.
const AHEAD: f64 = 4.0;

impl Seen {
    /// Takes note of a page's keys, which are in order.
    pub fn page<'a>(&mut self, keys: impl Iterator<Item = &'a str>) {
        let before = std::mem::take(&mut self.last);
        let (mut first, mut last, mut at) = (None, before.as_str(), place(&before));
        for key in keys {
            let next = place(key);
            if self.folders.keys == 0 {
                self.folders.begin = key.to_owned();
            }
            if next.0 != at.0 {
                self.folders.different += 1;
                self.containers = Names { begin: key.to_owned(), different: 1, keys: 0 };
            } else if next.1 != at.1 {
                self.containers.different += 1;
            }
            self.folders.keys += 1;
            self.containers.keys += 1;
            first.get_or_insert(key);
            (last, at) = (key, next);
        }
        if let Some(first) = first {
            self.first = first.to_owned();
        }
        self.last = last.to_owned();
    }

    /// About how many keys are left of those that begin as the listed ones do, up to `stop`, if enough was seen to say so.
    pub fn left(&self, stop: Option<&str>) -> Option<f64> {
        let (names, scale) = self.scale()?;
        let (from, to) = (scale.value(&names.begin), scale.value(&self.last));
        if names.different < ENOUGH || to <= from || scale.letters.len() != 16 {
            return None;
        }
        let density = names.keys as f64 / (to - from) as f64;
        Some(density * scale.end(stop).saturating_sub(to) as f64)
    }

    /// At most `most` cuts, in order, of what is left of the range below `prefix` up to `stop`; `pages` came of all ranges.
    pub fn cuts(&self, prefix: &str, stop: Option<&str>, most: usize, pages: f64, alone: bool) -> Vec<String> {
        let (folder, container) = place(&self.last);
        let scale = self.scale();
        let base = scale.as_ref().map_or_else(|| format!("{folder}{container}-json"), |(_, scale)| scale.base.clone());
        let mut cuts = Vec::new();
        if base.len() > prefix.len() && !stop.is_some_and(|stop| stop.starts_with(&base)) {
            cuts.push(format!("{base}~"));
        }
        let room = most.saturating_sub(cuts.len());
        match scale {
            Some((_, scale)) => {
                let (from, to) = (scale.value(&self.last), scale.end(stop));
                let step = to.saturating_sub(from) / (room as u64 + 1);
                cuts.extend((1..=room as u64).map(|n| scale.text(from + n * step)));
            }
            None => cuts.extend(self.cut_time(&base, stop, room, pages, alone)),
        }
        cuts.retain(|cut| *self.last < **cut && stop.is_none_or(|stop| **cut < *stop));
        cuts.sort_unstable();
        cuts.dedup();
        cuts.truncate(most);
        cuts
    }

    /// What tells the keys of the last page apart: folders, containers, or only times.
    fn scale(&self) -> Option<(&Names, Scale)> {
        let (first, last) = (place(&self.first), place(&self.last));
        let (names, beginning, at) = if first.0 != last.0 {
            let common = common(&self.folders.begin, &self.last);
            (&self.folders, "", self.last.get(..common)?.rfind('/').map_or(0, |slash| slash + 1))
        } else if first.1 != last.1 {
            (&self.containers, last.1, last.0.len())
        } else {
            return None;
        };
        let is_hex = beginning.len() >= 12 && beginning.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        // Hex is random from its first digit; of other names, what the listed ones have in common is no part of the number.
        let base = if is_hex { at } else { common(&names.begin, &self.last).max(at) };
        let next = |key: &str| key.as_bytes().get(base).copied().unwrap_or(b'0');
        let (digits, letters) = match is_hex {
            true => (12, b"0123456789abcdef".to_vec()),
            false if next(&names.begin).is_ascii_digit() && next(&self.last).is_ascii_digit() => {
                (12, (b'0'..=b'9').collect())
            }
            false => (8, (b'!'..=b'}').collect()),
        };
        Some((names, Scale { base: self.last.get(..base)?.to_owned(), digits, letters }))
    }

    /// Cuts between two times of one container; `this` is the common beginning of its keys.
    fn cut_time(&self, this: &str, stop: Option<&str>, most: usize, pages: f64, alone: bool) -> Vec<String> {
        let start = |key: &str| match LogKey::parse(key.as_bytes()).ok()?.span {
            Span::Range { start: Some(at), .. } | Span::Uploaded(Some(at)) => Some(at.unix().0),
            _ => None,
        };
        let (Some(from), Some(to)) = (start(&self.first), start(&self.last)) else { return Vec::new() };
        // What stands before the time: `.log.`, perhaps with a rotation.
        let Some(text) = Time::from_unix(to, 0).map(Time::in_key) else { return Vec::new() };
        let Some(at) = self.last.get(this.len()..).and_then(|tail| tail.find(&text)) else { return Vec::new() };
        let before = self.last.get(..this.len() + at).unwrap_or_default();
        let page = (to - from).max(1) as f64;
        let end = stop.and_then(|stop| Time::parse(stop.strip_prefix(before)?)).map(|t| t.unix().0);
        let parts: Range<usize> = match end {
            Some(end) => 1..most.min(((end - to) as f64 / page / WORTH) as usize) + 1,
            None => 1..most.min(usize::from(alone)) + 1,
        };
        let step = match end {
            Some(end) => (end - to) as f64 / parts.end as f64,
            // Nothing is known, so there may be as much again as there was.
            None => page * pages.max(AHEAD),
        };
        let cut = |n: usize| Some(format!("{before}{}", Time::from_unix(to + (step * n as f64) as i64, 0)?.in_key()));
        parts.filter_map(cut).collect()
    }
}

/// Keys with a common beginning as numbers in their order.
struct Scale {
    base: String,
    digits: usize,
    letters: Vec<u8>,
}

impl Scale {
    fn value(&self, key: &str) -> u64 {
        let rank = |b: u8| self.letters.partition_point(|letter| *letter <= b).saturating_sub(1) as u64;
        let name = key.bytes().skip(self.base.len()).chain(std::iter::repeat(0)).take(self.digits);
        name.fold(0, |value, b| value * self.letters.len() as u64 + rank(b))
    }

    fn text(&self, mut value: u64) -> String {
        let mut name = vec![0; self.digits];
        for place in name.iter_mut().rev() {
            *place = self.letters[(value % self.letters.len() as u64) as usize];
            value /= self.letters.len() as u64;
        }
        format!("{}{}", self.base, String::from_utf8_lossy(&name))
    }

    /// Where a range ends: at `stop`, or with the last that begins so.
    fn end(&self, stop: Option<&str>) -> u64 {
        match stop.filter(|stop| stop.starts_with(&self.base)) {
            Some(stop) => self.value(stop),
            None => (self.letters.len() as u64).pow(self.digits as u32),
        }
    }
}

/// The folder with its slash, and the container's id, or what is in its place.
fn place(key: &str) -> (&str, &str) {
    let (folder, file) = key.split_at(memchr::memrchr(b'/', key.as_bytes()).map_or(0, |slash| slash + 1));
    (folder, memchr::memmem::rfind(file.as_bytes(), b"-json").and_then(|at| file.get(..at)).unwrap_or(file))
}

/// How many bytes two keys begin alike with.
fn common(a: &str, b: &str) -> usize {
    let bytes = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    (0..=bytes).rev().find(|at| b.is_char_boundary(*at)).unwrap_or(0)
}
