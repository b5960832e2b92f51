//! A listed object, packed.
//!
//! Invariant: what the packed form would not give back to the byte, key or tag, is kept whole ([`Odd`]).

use std::sync::Arc;

use crate::key::{FileName, Span, Time};
use crate::store::Entry;

/// Stands for a time that the key does not tell; sorts behind all others, as `unknown` does behind digits.
pub(super) const UNKNOWN: i64 = i64::MAX;

/// In place of a number of parts: the tag is kept whole, and the first bytes of `etag` are the place of its [`Odd`].
const ODD_TAG: u32 = u32::MAX;

/// A listed object in 80 bytes. The key is `folder` + `container` + what [`Row::write_tail`] makes of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Sixteen bytes of an MD5 and, for a multipart upload, how many parts there were (else 0).
    pub etag: [u8; 16],
    pub parts: u32,
    pub size: u64,
    /// Seconds and nanoseconds.
    pub modified: i64,
    pub modified_nanos: u32,
    pub form: Form,
    /// Unix seconds or [`UNKNOWN`]; of v2 the upload is `start`.
    pub start: i64,
    pub end: i64,
    /// Of the inode. Made with the row, when key and tag are at hand: to make them again for each look at a folder would
    /// take longer than all else there.
    pub number: u64,
    /// Plus one; 0 is none.
    pub rotation: u32,
    /// Places in the tables of whoever keeps the row.
    pub folder: u32,
    pub container: u32,
    /// Plus one; 0 is none.
    pub class: u8,
    /// How many hex digits of its key's hash the name shows.
    pub digits: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    V3,
    V2,
    /// `start` is the place of an [`Odd`] that has the key and the tag.
    Odd,
}

/// A key or an entity tag that the packed form would not give back exactly: a fraction of a second, an impossible date, a
/// rotation in an unusual place, a tag that is no MD5.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Odd {
    /// `None` where the row tells it.
    pub key: Option<Box<str>>,
    pub etag: Box<str>,
}

impl Row {
    /// `key` is the entry's, `name` what its file name means, `tail` what follows the container's id in it; the number, the
    /// places and the digits are the caller's to fill in. `odd` takes what does not fit; `scratch` is room to work in.
    pub fn new(
        entry: &Entry,
        key: &str,
        name: &FileName<'_>,
        tail: &str,
        odd: &mut Vec<Arc<Odd>>,
        scratch: &mut String,
    ) -> Row {
        let (form, start, end) = match name.span {
            Span::Range { start, end } => (Form::V3, start, end),
            Span::Uploaded(at) => (Form::V2, at, None),
        };
        let seconds = |t: Option<Time>| t.map_or(UNKNOWN, |t| t.unix().0);
        let rotation = name.rotation.map_or(Some(0), |n| u32::try_from(n).ok()?.checked_add(1));
        let tag = parse_etag(&entry.etag);
        let mut row = Row {
            etag: [0; 16],
            parts: 0,
            size: entry.size,
            modified: entry.last_modified.0,
            modified_nanos: entry.last_modified.1,
            form,
            start: seconds(start),
            end: seconds(end),
            number: 0,
            rotation: rotation.unwrap_or(0),
            folder: 0,
            container: 0,
            class: 0,
            digits: 0,
        };
        scratch.clear();
        row.write_tail(scratch);
        let place = odd.len();
        let mut keep = |key| odd.push(Arc::new(Odd { key, etag: entry.etag.as_str().into() }));
        match (tag, rotation.is_some() && scratch == tail) {
            (Some((etag, parts)), true) => (row.etag, row.parts) = (etag, parts),
            (None, true) => {
                row.parts = ODD_TAG;
                row.etag[..4].copy_from_slice(&(place as u32).to_le_bytes());
                keep(None);
            }
            (_, false) => {
                row.form = Form::Odd;
                row.start = place as i64;
                keep(Some(key.into()));
            }
        }
        row
    }

    /// The place of what is kept whole of it.
    pub fn odd(&self) -> Option<usize> {
        match (self.form, self.parts) {
            (Form::Odd, _) => usize::try_from(self.start).ok(),
            (_, ODD_TAG) => Some(u32::from_le_bytes([self.etag[0], self.etag[1], self.etag[2], self.etag[3]]) as usize),
            _ => None,
        }
    }

    /// What follows the container's id in the key.
    pub fn write_tail(&self, out: &mut String) {
        let time = |out: &mut String, at: i64| match time(at) {
            Some(t) => t.write_in_key(out),
            None => out.push_str("unknown"),
        };
        let rotation = |out: &mut String| {
            if let Some(n) = self.rotation.checked_sub(1) {
                out.push('.');
                out.push_str(&n.to_string());
            }
        };
        out.push_str("-json");
        if self.form == Form::V2 {
            rotation(out);
        }
        out.push_str(".log");
        if self.form == Form::V3 {
            rotation(out);
        }
        out.push('.');
        time(out, self.start);
        if self.form == Form::V3 {
            out.push('.');
            time(out, self.end);
        }
        out.push_str(if self.form == Form::V3 { ".archived.gz" } else { ".bck.gz" });
    }
}

pub(super) fn time(at: i64) -> Option<Time> {
    Time::from_unix(at, 0)
}

/// 32 lower-case hex digits, with `-` and a number behind them for a multipart upload.
fn parse_etag(etag: &str) -> Option<([u8; 16], u32)> {
    let (hex, parts) = match etag.split_once('-') {
        Some((hex, parts)) => {
            (hex, parts.parse::<u32>().ok().filter(|n| (1..ODD_TAG).contains(n) && n.to_string() == parts)?)
        }
        None => (etag, 0),
    };
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 16];
    if hex.len() != 32 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some((bytes, parts))
}
