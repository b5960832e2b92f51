//! One file, line by line, as a lens shows it.

use std::sync::Arc;

use bytes::Bytes;

use super::files::File;
use super::lens::{Lens, Shown, View};
use super::lines::Lines;
use super::page::Page;
use super::queue::Open;
use super::room::Room;
use super::seek::seek;
use crate::error::Result;
use crate::object::Sequence;
use crate::record::Stamp;

/// Objects above this (bytes in the store) are worth seeking in; smaller ones are read whole, whatever their times.
const LARGE: u64 = 2 << 20;

/// Files that are read ahead of their readers while this many are open at most: their text has room in the cache.
const FEW: usize = 8;

pub struct Reader {
    file: Open,
    source: Source,
    lines: Lines,
    lens: Lens,
    large: bool,
    /// Its key does not tell its span.
    untold: bool,
    /// See [`Reader::new`].
    proven_first: bool,
    ended: bool,
    /// The line that is next in the merge.
    unit: Page,
    room: Arc<Room>,
    /// What of the room is taken.
    held: usize,
}

enum Source {
    /// Whole segments.
    InOrder(Sequence),
    /// One of many: copies of small parts from this offset on, so that no reader keeps a segment to itself.
    Small(u64),
}

/// What the user should know in the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notes {
    /// Lines that are no records.
    pub odd: u64,
    /// It was read because its key does not tell from when to when it is.
    pub untold: bool,
    /// Seeking may have missed records.
    pub unsure: bool,
    /// Reading stopped before the end was authenticated.
    pub unproven: bool,
}

impl Reader {
    /// `proven_first`: nothing is readable before the tag has held (`--verify full`).
    pub async fn new(
        file: Open,
        job: &File,
        view: View,
        proven_first: bool,
        merged: bool,
        room: Arc<Room>,
    ) -> Result<Reader> {
        let large = job.listed.size > LARGE;
        let seekable = large && view.window.since > Stamp::MIN && (proven_first || file.proven_size().is_some());
        let offset = if seekable { seek(&file, view.window.since).await? } else { 0 };
        let source = if merged { Source::Small(offset) } else { Source::InOrder(file.sequence(offset).await?) };
        Ok(Reader {
            file,
            source,
            lines: Lines::new(offset == 0),
            lens: Lens::new(view, job.start),
            large,
            untold: job.untold,
            ended: false,
            unit: Page::default(),
            proven_first,
            room,
            held: 0,
        })
    }

    /// Puts a piece of the file on the page; false at the end.
    pub async fn page(&mut self, page: &mut Page) -> Result<bool> {
        self.fill(usize::MAX, 1).await?;
        self.fit();
        while let Some(line) = self.lines.next() {
            self.lens.look(line, page);
        }
        let more = !self.ended && !self.is_past();
        if !more {
            self.lens.finish(page);
        }
        Ok(more)
    }

    /// Makes the next line of the merge ready; `None` at the end. `part`: bytes to read at a time; `open`: readers.
    pub async fn advance(&mut self, part: usize, open: usize) -> Result<Option<Shown>> {
        self.unit = Page::default();
        loop {
            self.fit();
            while let Some(line) = self.lines.next() {
                if let Some(shown) = self.lens.look(line, &mut self.unit) {
                    self.take();
                    return Ok(Some(shown));
                }
            }
            if self.ended || self.is_past() {
                let last = self.lens.finish(&mut self.unit);
                self.take();
                return Ok(last);
            }
            self.fill(part, open).await?;
        }
    }

    /// Takes the room that it needs, and keeps to what is left.
    fn fit(&mut self) {
        self.take();
        let left = self.room.left(self.held);
        self.lens.set_room(left);
        self.lines.set_longest(left / 4);
    }

    fn take(&mut self) {
        let held = self.lens.held() + self.lines.held() + self.unit.bytes().len();
        self.room.change(self.held, held);
        self.held = held;
    }

    /// What [`Reader::advance`] has made ready.
    pub fn unit(&self) -> &[u8] {
        self.unit.bytes()
    }

    pub fn notes(&self) -> Notes {
        let unproven = !self.ended && !self.proven_first && self.file.proven_size().is_none();
        Notes { odd: self.lens.odd, untold: self.untold, unsure: self.large && self.lens.backwards, unproven }
    }

    /// Reading on is a waste. Only where there is much to save: times may go back.
    fn is_past(&self) -> bool {
        self.large && self.lens.is_past()
    }

    async fn fill(&mut self, part: usize, open: usize) -> Result<()> {
        let piece = match &mut self.source {
            Source::InOrder(sequence) => sequence.next().await?,
            Source::Small(at) => {
                let piece = self.file.read_at(*at, part).await?;
                let from = *at;
                *at += piece.len() as u64;
                if open <= FEW && !piece.is_empty() {
                    self.file.read_ahead(from..*at).await?;
                }
                Bytes::copy_from_slice(&piece)
            }
        };
        self.ended = piece.is_empty();
        self.lines.add(piece);
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.room.change(self.held, 0);
    }
}
