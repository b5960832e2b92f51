//! What is shown of the lines of one file, and as what. Pure.
//!
//! Rules:
//! * A line that is no record belongs to the line before it: it has its time, and is shown if it is in the range. Lines
//!   before the first record have the time at which the file starts, as its key says.
//! * With one stream asked for, only records of that stream are shown.
//! * As text, a record whose log has no line feed at its end goes on with the next record *of the same stream*; the whole
//!   has the time of its first piece. Other lines are shown as they are.

use super::lines::Line;
use super::page::Page;
use super::window::{SLACK, Window};
use crate::record::{self, Record, Stamp, Stream};

/// A longer line of text is broken in two here: there has to be an end to what is kept for its line feed.
const LONGEST_TEXT: usize = 16 << 20;
/// And here, where there is no more room: four of Docker's pieces.
const SHORT_TEXT: usize = 64 << 10;

#[derive(Clone, Copy, Debug)]
pub struct View {
    pub window: Window,
    pub text: bool,
    pub stream: Option<Stream>,
}

impl View {
    /// Every byte as it is.
    pub fn is_everything(&self) -> bool {
        self.window.is_everything() && !self.text && self.stream.is_none()
    }
}

/// Something was put on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    pub time: Stamp,
    /// A record, or text of one; other lines belong right behind what was shown before them.
    pub record: bool,
    /// It begins a line.
    pub starts: bool,
}

#[derive(Debug)]
pub struct Lens {
    view: View,
    /// Of the last record.
    time: Stamp,
    latest: Stamp,
    /// What a continuation of the last line does too.
    shown: bool,
    /// Text whose line feed has not come, by stream.
    pending: [Pending; 3],
    /// Bytes that may be kept altogether.
    room: usize,
    /// Lines that are no records, or of no known stream where one was asked for.
    pub odd: u64,
    /// Times went back by more than seeking allows for.
    pub backwards: bool,
}

#[derive(Debug)]
struct Pending {
    text: Vec<u8>,
    time: Stamp,
}

impl Lens {
    /// `start`: when the file starts, if that is known.
    pub fn new(view: View, start: Option<Stamp>) -> Lens {
        let pending = || Pending { text: Vec::new(), time: Stamp::MIN };
        Lens {
            view,
            time: start.unwrap_or(Stamp::MIN),
            latest: Stamp::MIN,
            shown: false,
            pending: [pending(), pending(), pending()],
            room: usize::MAX,
            odd: 0,
            backwards: false,
        }
    }

    /// From now on no more than this is kept of lines that have no line feed yet, however many streams there are; but
    /// [`SHORT_TEXT`] of each in any case.
    pub fn set_room(&mut self, room: usize) {
        self.room = room;
    }

    /// Bytes that are kept.
    pub fn held(&self) -> usize {
        self.pending.iter().map(|p| p.text.len()).sum()
    }

    /// No record from here on is likely to be in the range.
    pub fn is_past(&self) -> bool {
        self.latest.plus(-SLACK) > self.view.window.until
    }

    pub fn look(&mut self, line: Line<'_>, page: &mut Page) -> Option<Shown> {
        if !line.starts {
            return self.raw(line, page);
        }
        let Ok(record) = record::parse(line.text) else {
            self.odd += 1;
            self.shown = self.view.stream.is_none() && self.view.window.contains(self.time);
            return self.raw(line, page);
        };
        self.time = record.time;
        self.latest = self.latest.max(record.time);
        self.backwards |= record.time.plus(SLACK) < self.latest;
        self.odd += u64::from(self.view.stream.is_some() && record.stream == Stream::Other);
        self.shown =
            self.view.window.contains(record.time) && self.view.stream.is_none_or(|stream| stream == record.stream);
        if !self.shown {
            return None;
        }
        if self.view.text {
            return self.text(&record, page);
        }
        page.begin_line();
        page.put(line.text);
        Some(Shown { time: self.time, record: true, starts: true })
    }

    fn raw(&mut self, line: Line<'_>, page: &mut Page) -> Option<Shown> {
        if !self.shown {
            return None;
        }
        if line.starts {
            page.begin_line();
        }
        page.put(line.text);
        Some(Shown { time: self.time, record: false, starts: line.starts })
    }

    fn text(&mut self, record: &Record<'_>, page: &mut Page) -> Option<Shown> {
        let room = self.room.saturating_sub(self.held());
        let Pending { text, time } = &mut self.pending[match record.stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
            Stream::Other => 2,
        }];
        if text.is_empty() {
            *time = record.time;
        }
        let before = text.len();
        record.write_log(text);
        let fits = text.len() < SHORT_TEXT || text.len() < LONGEST_TEXT && text.len() - before < room;
        if text.last() != Some(&b'\n') && fits {
            return None;
        }
        page.begin_line();
        page.take(text);
        Some(Shown { time: *time, record: true, starts: true })
    }

    /// The file is at its end: what still waits for a line feed.
    pub fn finish(&mut self, page: &mut Page) -> Option<Shown> {
        self.pending.sort_by_key(|p| p.time);
        let mut first = None;
        for Pending { text, time } in self.pending.iter_mut().filter(|p| !p.text.is_empty()) {
            page.begin_line();
            page.take(text);
            first = first.or(Some(Shown { time: *time, record: true, starts: true }));
        }
        first
    }
}

#[cfg(test)]
mod tests;
