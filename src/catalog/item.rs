//! One log object as the tree keeps it: a row with the texts that it points to, and the same as a file with a name.
//!
//! Invariants: [`Item::key`] gives the listed key and [`Item::etag`] the listed tag to the byte, for any key and any tag:
//! what the packed form would not give back exactly is kept whole ([`Odd`]). An item stands alone: it holds no tree, so
//! what the kernel remembers never keeps an old listing in memory.

use std::cmp::Ordering;
use std::sync::Arc;

use super::names::{self, Day};
use super::row::{Form, Odd, Row, UNKNOWN, time};
use crate::key::{LogKey, Span, Time};

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
        let odd = row.odd().and_then(|at| odd.get(at));
        let class = usize::from(row.class).checked_sub(1).and_then(|at| classes.get(at));
        ItemRef { row, folder: folders.get(row.folder as usize), container, odd, class, place }
    }

    /// Puts the object's key behind what is in `out`.
    pub fn write_key(&self, out: &mut String) {
        match self.odd.and_then(|odd| odd.key.as_deref()) {
            Some(key) => out.push_str(key),
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
        let mut name = String::with_capacity(64);
        self.write_name(&mut name);
        name
    }

    /// Puts the file's name behind what is in `out`.
    pub fn write_name(&self, out: &mut String) {
        let (span, rotation) = self.span();
        match usize::from(self.row.digits) {
            0 => names::write_plain(out, &span, rotation),
            digits => out.push_str(&names::hashed(&span, rotation, &self.key(), digits)),
        }
    }

    /// Of its inode, if no other node has it already.
    pub fn number(&self) -> u64 {
        self.row.number
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
        Time::from_unix(self.row.modified, self.row.modified_nanos).unwrap_or(Time::EPOCH)
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
        let (a, b) = (&self.row, &other.row);
        let same_key = a.form == b.form
            && (a.form == Form::Odd
                || (a.start, a.end, a.rotation) == (b.start, b.end, b.rotation)
                    && (&self.folder, &self.container) == (&other.folder, &other.container));
        let same_rest = match (&self.odd, &other.odd) {
            (None, None) => (a.etag, a.parts) == (b.etag, b.parts),
            (a, b) => a == b,
        };
        same_key && same_rest && a.digits == b.digits
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

    /// Of its inode, if no other node has it already.
    pub fn number(&self) -> u64 {
        self.row.number
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
