//! One log object as the tree keeps it: what the listing said, packed, and the same as a file with a name.
//!
//! Invariants: [`Item::key`] gives the listed key and [`Item::etag`] the listed tag to the byte, for any key and any tag:
//! what the packed form would not give back exactly is kept whole ([`Odd`]). An item stands alone: it holds no tree, so
//! what the kernel remembers never keeps an old listing in memory.

use std::cmp::Ordering;
use std::sync::Arc;

use super::names::{self, Day};
use crate::key::{LogKey, Span, Time};
use crate::store::Entry;

/// Stands for a time that the key does not tell; sorts behind all others, as `unknown` does behind digits.
const UNKNOWN: i64 = i64::MAX;

/// A listed object in 72 bytes. The key is `folder` + `container` + what [`Row::write_tail`] makes of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Sixteen bytes of an MD5 and, for a multipart upload, how many parts there were (else 0).
    etag: [u8; 16],
    parts: u32,
    pub size: u64,
    modified: (i64, u32),
    form: Form,
    /// Unix seconds or [`UNKNOWN`]; of v2 the upload is `start`.
    start: i64,
    end: i64,
    /// Plus one; 0 is none.
    rotation: u32,
    /// Places in the tables of whoever keeps the row.
    pub folder: u32,
    pub container: u32,
    /// Plus one; 0 is none.
    pub class: u8,
    /// How many hex digits of its key's hash the name shows.
    pub digits: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    V3,
    V2,
    /// `start` is the place of an [`Odd`].
    Odd,
}

/// A key or an entity tag that the packed form would not give back exactly: a fraction of a second, an impossible date, a
/// rotation in an unusual place, a tag that is no MD5.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Odd {
    key: Box<str>,
    etag: Box<str>,
}

impl Row {
    /// `key` is the entry's, `log` what it means, `tail` what follows the container's id in it; the places and names are
    /// the caller's to fill in. `odd` takes what does not fit.
    pub fn new(entry: &Entry, key: &str, log: &LogKey, tail: &str, odd: &mut Vec<Arc<Odd>>) -> Row {
        let (form, start, end) = match log.span {
            Span::Range { start, end } => (Form::V3, start, end),
            Span::Uploaded(at) => (Form::V2, at, None),
        };
        let seconds = |t: Option<Time>| t.map_or(UNKNOWN, |t| t.unix().0);
        let rotation = log.rotation.map_or(Some(0), |n| u32::try_from(n).ok()?.checked_add(1));
        let tag = parse_etag(&entry.etag);
        let mut row = Row {
            etag: [0; 16],
            parts: 0,
            size: entry.size,
            modified: entry.last_modified,
            form,
            start: seconds(start),
            end: seconds(end),
            rotation: rotation.unwrap_or(0),
            folder: 0,
            container: 0,
            class: 0,
            digits: 0,
        };
        let mut again = String::with_capacity(96);
        row.write_tail(&mut again);
        match tag {
            Some((etag, parts)) if rotation.is_some() && again == tail => (row.etag, row.parts) = (etag, parts),
            _ => {
                row.form = Form::Odd;
                row.start = odd.len() as i64;
                odd.push(Arc::new(Odd { key: key.into(), etag: entry.etag.as_str().into() }));
            }
        }
        row
    }

    /// What follows the container's id in the key.
    fn write_tail(&self, out: &mut String) {
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

fn time(at: i64) -> Option<Time> {
    Time::from_unix(at, 0)
}

/// 32 lower-case hex digits, with `-` and a number behind them for a multipart upload.
fn parse_etag(etag: &str) -> Option<([u8; 16], u32)> {
    let (hex, parts) = match etag.split_once('-') {
        Some((hex, parts)) => (hex, parts.parse::<u32>().ok().filter(|n| *n > 0 && n.to_string() == parts)?),
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

/// A row with the texts that it points to.
#[derive(Clone, Copy)]
pub struct ItemRef<'a> {
    row: &'a Row,
    folder: Option<&'a Arc<str>>,
    pub(super) container: &'a str,
    odd: Option<&'a Arc<Odd>>,
    class: Option<&'a Arc<str>>,
    place: usize,
}

impl<'a> ItemRef<'a> {
    pub(super) fn new(
        row: &'a Row,
        container: &'a str,
        place: usize,
        odd: &'a [Arc<Odd>],
        folders: &'a [Arc<str>],
        classes: &'a [Arc<str>],
    ) -> Self {
        let odd = if row.form == Form::Odd { usize::try_from(row.start).ok().and_then(|at| odd.get(at)) } else { None };
        let class = usize::from(row.class).checked_sub(1).and_then(|at| classes.get(at));
        ItemRef { row, folder: folders.get(row.folder as usize), container, odd, class, place }
    }

    /// Puts the object's key behind what is in `out`.
    pub fn write_key(&self, out: &mut String) {
        match self.odd {
            Some(odd) => out.push_str(&odd.key),
            None => {
                out.push_str(self.folder.map_or("", |folder| folder));
                out.push_str(self.container);
                self.row.write_tail(out);
            }
        }
    }

    pub fn key(&self) -> String {
        let mut key = String::with_capacity(256);
        self.write_key(&mut key);
        key
    }

    /// Puts the entity tag behind what is in `out`.
    pub fn write_etag(&self, out: &mut String) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        if let Some(odd) = self.odd {
            return out.push_str(&odd.etag);
        }
        for byte in self.row.etag {
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
        if self.row.parts > 0 {
            out.push_str(&format!("-{}", self.row.parts));
        }
    }

    pub fn etag(&self) -> String {
        let mut etag = String::with_capacity(40);
        self.write_etag(&mut etag);
        etag
    }

    /// What the key says of time, and Docker's rotation number.
    pub fn span(&self) -> (Span, Option<u64>) {
        let rotation = self.row.rotation.checked_sub(1).map(u64::from);
        match self.row.form {
            Form::V3 => (Span::Range { start: time(self.row.start), end: time(self.row.end) }, rotation),
            Form::V2 => (Span::Uploaded(time(self.row.start)), rotation),
            // Only keys that parse become rows.
            Form::Odd => self.log_key().map_or((Span::Uploaded(None), None), |log| (log.span, log.rotation)),
        }
    }

    pub fn name(&self) -> String {
        let (span, rotation) = self.span();
        match usize::from(self.row.digits) {
            0 => names::plain(&span, rotation),
            digits => names::hashed(&span, rotation, &self.key(), digits),
        }
    }

    pub fn day(&self) -> Day {
        names::day(&self.span().0)
    }

    /// The same as a number, in the order of the days.
    pub(super) fn day_number(&self) -> i64 {
        match (self.row.form, self.row.start) {
            (Form::Odd, _) => match self.day() {
                Day::Dated(date) => i64::from(date.day()),
                Day::Undated => i64::MAX,
            },
            (_, UNKNOWN) => i64::MAX,
            (_, start) => start.div_euclid(86_400),
        }
    }

    pub fn log_key(&self) -> Option<LogKey> {
        LogKey::parse(self.key().as_bytes()).ok()
    }

    pub fn modified(&self) -> Time {
        let (seconds, nanos) = self.row.modified;
        Time::from_unix(seconds, nanos).unwrap_or(Time::EPOCH)
    }

    pub fn size(&self) -> u64 {
        self.row.size
    }

    /// Where it is among its resource's items, in the order of the folders.
    pub(super) fn place(&self) -> u32 {
        self.place as u32
    }

    /// The order of the names, without making them where the times decide.
    pub(super) fn cmp_name(&self, other: &ItemRef<'_>) -> Ordering {
        let (a, b) = (self.row, other.row);
        if a.form == b.form && a.form != Form::Odd && (a.start, a.end) != (b.start, b.end) {
            // Times are of one width, and `unknown` is behind every digit.
            return (a.start, a.end).cmp(&(b.start, b.end));
        }
        self.name().cmp(&other.name())
    }

    pub fn to_item(&self) -> Item {
        Item {
            row: *self.row,
            place: self.place,
            folder: self.folder.cloned(),
            container: self.container.into(),
            odd: self.odd.cloned(),
            class: self.class.cloned(),
        }
    }
}

/// A log object as a file of the tree.
#[derive(Clone, Debug)]
pub struct Item {
    row: Row,
    place: usize,
    /// None cannot be; it only saves an invented one.
    folder: Option<Arc<str>>,
    container: Box<str>,
    odd: Option<Arc<Odd>>,
    class: Option<Arc<str>>,
}

impl PartialEq for Item {
    /// The same version of the same object under the same name, wherever the listing has it.
    fn eq(&self, other: &Item) -> bool {
        let same_key = match (&self.odd, &other.odd) {
            (None, None) => {
                let (a, b) = (&self.row, &other.row);
                (a.etag, a.parts, a.form, a.start, a.end, a.rotation)
                    == (b.etag, b.parts, b.form, b.start, b.end, b.rotation)
                    && (&self.folder, &self.container) == (&other.folder, &other.container)
            }
            (a, b) => a == b,
        };
        same_key && self.row.digits == other.row.digits
    }
}

impl Eq for Item {}

impl Item {
    pub fn view(&self) -> ItemRef<'_> {
        ItemRef {
            row: &self.row,
            folder: self.folder.as_ref(),
            container: &self.container,
            odd: self.odd.as_ref(),
            class: self.class.as_ref(),
            place: self.place,
        }
    }

    /// Where it is among its resource's items, in the order of the folders.
    pub fn place(&self) -> usize {
        self.place
    }

    pub fn key(&self) -> String {
        self.view().key()
    }

    /// The file's name in its day folder.
    pub fn name(&self) -> String {
        self.view().name()
    }

    /// The day of the folder that holds the file itself.
    pub fn day(&self) -> Day {
        self.view().day()
    }

    pub fn container(&self) -> &str {
        &self.container
    }

    /// Bytes in the store.
    pub fn size(&self) -> u64 {
        self.row.size
    }

    pub fn etag(&self) -> String {
        self.view().etag()
    }

    pub fn span(&self) -> Span {
        self.view().span().0
    }

    /// When it was uploaded.
    pub fn modified(&self) -> Time {
        self.view().modified()
    }

    pub fn storage_class(&self) -> Option<&str> {
        self.class.as_deref()
    }

    /// The parsed key. `None` cannot be: only keys that parse become items.
    pub fn log_key(&self) -> Option<LogKey> {
        self.view().log_key()
    }
}
