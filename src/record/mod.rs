//! A line of a Docker json-file log as a record (FORMAT.md section 7). Pure.
//!
//! ```text
//! {"log":"text\n","stream":"stdout","attrs":{…},"time":"2022-08-24T21:12:33.534988517Z"}
//! ```
//!
//! Invariant: [`parse`] is total and strict. It gives a [`Record`] for exactly those lines that are one JSON object
//! (RFC 8259, UTF-8) in which `time` is a time, `log` and `stream` are strings if they are there, and none of the three
//! is there twice; members may stand in any order and others may be among them. For any other line it says [`Why`] not.
//! Nothing is copied, and each byte is looked at about twice.

mod docker;
mod json;
#[allow(unsafe_code)]
mod masks;
mod stamp;

use std::borrow::Cow;
use std::fmt;

pub use docker::{Docker, Records};
use json::Cursor;
pub use stamp::Stamp;

/// A line that is a record. The text of its log is unescaped only when asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub time: Stamp,
    pub stream: Stream,
    /// As it stands between the quotes.
    escaped: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    Stdout,
    Stderr,
    /// Another name, or none.
    Other,
}

/// Why a line is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Nothing in it but white space.
    Blank,
    /// Not UTF-8.
    Utf8,
    /// Not one JSON object: cut off, or something else altogether.
    Json,
    /// `log` or `stream` is not a string, or a member is there twice.
    Member,
    /// `time` is missing, or not an RFC 3339 time.
    Time,
}

/// Reads one line, with or without the line feed at its end.
pub fn parse(line: &[u8]) -> Result<Record<'_>, Why> {
    // Validity once for the whole line: what follows need not think of it.
    std::str::from_utf8(line).map_err(|_| Why::Utf8)?;
    let mut cursor = Cursor::new(line);
    cursor.space();
    if cursor.is_at_end() {
        return Err(Why::Blank);
    }
    let mut members = Members::default();
    members.read(&mut cursor).ok_or(Why::Json)?;
    members.record()
}

/// Whether the line is a record, and of what time.
pub fn check(line: &[u8]) -> Result<Stamp, Why> {
    parse(line).map(|record| record.time)
}

/// The time of the line, if it is a record.
pub fn time(line: &[u8]) -> Option<Stamp> {
    check(line).ok()
}

impl<'a> Record<'a> {
    /// The text that the container wrote. Escapes that name no character (half a surrogate pair) become U+FFFD.
    pub fn log(&self) -> Cow<'a, [u8]> {
        if !self.escaped.contains(&b'\\') {
            return Cow::Borrowed(self.escaped);
        }
        let mut text = Vec::with_capacity(self.escaped.len());
        self.write_log(&mut text);
        Cow::Owned(text)
    }

    /// Appends the text that the container wrote.
    pub fn write_log(&self, into: &mut Vec<u8>) {
        json::unescape(self.escaped, into);
    }
}

impl Why {
    pub const ALL: [Why; 5] = [Why::Blank, Why::Utf8, Why::Json, Why::Member, Why::Time];
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Blank => "blank",
            Why::Utf8 => "not UTF-8",
            Why::Json => "not a JSON object",
            Why::Member => "log or stream is not one string",
            Why::Time => "no valid time",
        })
    }
}

/// What is found between the braces; the inner `None` is a member that is there and not one string.
#[derive(Default)]
struct Members<'a> {
    log: Option<Option<&'a [u8]>>,
    stream: Option<Option<&'a [u8]>>,
    time: Option<Option<&'a [u8]>>,
}

impl<'a> Members<'a> {
    /// From brace to brace, with nothing behind; `None` if this is not JSON.
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Option<()> {
        cursor.take(b'{')?;
        cursor.space();
        if !cursor.skip(b'}') {
            loop {
                self.member(cursor)?;
                cursor.space();
                if !cursor.skip(b',') {
                    break;
                }
                cursor.space();
            }
            cursor.take(b'}')?;
        }
        cursor.space();
        cursor.is_at_end().then_some(())
    }

    fn member(&mut self, cursor: &mut Cursor<'a>) -> Option<()> {
        let name = unescaped(cursor.string()?);
        cursor.space();
        cursor.take(b':')?;
        cursor.space();
        let slot = match &*name {
            b"log" => &mut self.log,
            b"stream" => &mut self.stream,
            b"time" => &mut self.time,
            _ => return cursor.value(),
        };
        let value = if cursor.peek() == Some(b'"') {
            Some(cursor.string()?)
        } else {
            cursor.value()?;
            None
        };
        *slot = Some(if slot.is_some() { None } else { value });
        Some(())
    }

    fn record(&self) -> Result<Record<'a>, Why> {
        let text = |member: Option<Option<&'a [u8]>>| member.unwrap_or(Some(b"")).ok_or(Why::Member);
        let (escaped, stream) = (text(self.log)?, text(self.stream)?);
        let stream = match &*unescaped(stream) {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => Stream::Other,
        };
        let time = self.time.flatten().and_then(|time| Stamp::parse(&unescaped(time))).ok_or(Why::Time)?;
        Ok(Record { time, stream, escaped })
    }
}

/// Names, streams and times are short and have no escapes but in a test of us.
fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::new();
    json::unescape(text, &mut plain);
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests;
