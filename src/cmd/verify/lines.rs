//! The text of one log, line by line: how many, which are no records, the times of the first and the last.
//!
//! Invariant: memory is one line of at most [`LONGEST`] bytes, however the text is cut into pieces and whatever it holds.

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::key::Time;
use crate::object::Text;
use crate::record;

/// A longer line is no record: Docker cuts at 16 KiB, which escapes make six times as long, and attributes are short.
const LONGEST: usize = 1 << 20;

#[derive(Default)]
pub struct Lines {
    /// Lines that end: what `wc -l` counts.
    pub count: u64,
    pub invalid: u64,
    /// The number, from 1, of the first line that is no record.
    pub first_invalid: Option<u64>,
    /// Times of the first and of the last record.
    first: Option<record::Stamp>,
    last: Option<record::Stamp>,
    /// The text does not end with a line feed.
    pub unfinished: bool,
    /// The beginning of a line whose end is in the next piece.
    begun: Vec<u8>,
    /// More of that line has come than is kept.
    too_long: bool,
    docker: record::Docker,
    /// Of the whole text, if it is wanted.
    sum: Option<Sha256>,
}

impl Lines {
    pub fn new(with_sum: bool) -> Lines {
        Lines { sum: with_sum.then(Sha256::new), ..Lines::default() }
    }

    /// To be called at the end of the text. Returns its SHA-256, if that was wanted.
    pub fn finish(&mut self) -> Option<[u8; 32]> {
        self.unfinished = self.too_long || !self.begun.is_empty();
        if self.unfinished {
            let line = std::mem::take(&mut self.begun);
            match record::check(&line) {
                Ok(stamp) => self.stamp(stamp),
                // A container that was killed, or a live file that was copied: the front of a record is no fault.
                Err(_) if !self.too_long && could_become_a_record(&line) => {}
                Err(_) => self.fault(self.count + 1),
            }
        }
        self.sum.take().map(|sum| sum.finalize().into())
    }

    pub fn first_time(&self) -> Option<Time> {
        time(self.first?)
    }

    pub fn last_time(&self) -> Option<Time> {
        time(self.last?)
    }

    fn line(&mut self, line: &[u8]) {
        self.count += 1;
        match record::check(line) {
            Ok(stamp) => self.stamp(stamp),
            Err(_) => self.fault(self.count),
        }
    }

    fn stamp(&mut self, stamp: record::Stamp) {
        self.first.get_or_insert(stamp);
        self.last = Some(stamp);
    }

    fn fault(&mut self, line: u64) {
        self.invalid += 1;
        self.first_invalid.get_or_insert(line);
    }

    /// Takes what `text` has of the line that was begun before it: what is left.
    fn end_of_begun<'a>(&mut self, text: &'a [u8]) -> &'a [u8] {
        if self.begun.is_empty() && !self.too_long {
            return text;
        }
        let (end, rest) = text.split_at(memchr::memchr(b'\n', text).map_or(text.len(), |end| end + 1));
        self.keep(end);
        if !end.ends_with(b"\n") {
            return rest;
        }
        if self.too_long {
            self.count += 1;
            self.fault(self.count);
        } else {
            let mut line = std::mem::take(&mut self.begun);
            self.line(&line);
            line.clear();
            self.begun = line;
        }
        self.too_long = false;
        rest
    }

    fn keep(&mut self, part: &[u8]) {
        if self.begun.len() + part.len() > LONGEST {
            self.too_long = true;
            self.begun = Vec::new();
        }
        if !self.too_long {
            self.begun.extend_from_slice(part);
        }
    }
}

impl Text for Lines {
    fn text(&mut self, text: &[u8]) -> Result<()> {
        if let Some(sum) = &mut self.sum {
            sum.update(text);
        }
        let mut rest = self.end_of_begun(text);
        loop {
            let records = self.docker.records(rest);
            self.count += records.count;
            if let Some((first, last)) = records.times {
                self.first.get_or_insert(first);
                self.last = Some(last);
            }
            rest = &rest[records.len..];
            // A line that is of another form, or cut off here.
            let Some(end) = memchr::memchr(b'\n', rest) else { break };
            self.line(&rest[..=end]);
            rest = &rest[end + 1..];
        }
        self.keep(rest);
        Ok(())
    }
}

/// As far as that can be told from how Docker begins each of its records.
fn could_become_a_record(front: &[u8]) -> bool {
    let starts: [&[u8]; 3] = [b"{\"log\":\"", b"{\"stream\":\"", b"{\"time\":\""];
    starts.iter().any(|start| front.starts_with(start) || start.starts_with(front))
}

fn time(stamp: record::Stamp) -> Option<Time> {
    let (secs, nanos) = stamp.unix();
    Time::from_unix(secs, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"2022-08-24T21:12:33.5Z\"}\n";

    fn lines(text: &[u8], piece: usize) -> Lines {
        let mut lines = Lines::new(true);
        text.chunks(piece.max(1)).for_each(|piece| lines.text(piece).unwrap());
        assert_eq!(lines.finish(), Some(Sha256::digest(text).into()));
        lines
    }

    #[test]
    fn the_cuts_make_no_difference() {
        let later = RECORD.replace("21:12:33.5", "22:00:00");
        let text = format!("{RECORD}no record\n\n{RECORD}{later}");
        for piece in 1..text.len() {
            let lines = lines(text.as_bytes(), piece);
            assert_eq!((lines.count, lines.invalid, lines.first_invalid), (5, 2, Some(2)), "pieces of {piece}");
            assert_eq!(lines.first_time().unwrap().to_string(), "2022-08-24T21:12:33.5Z");
            assert_eq!(lines.last_time().unwrap().to_string(), "2022-08-24T22:00:00Z");
            assert!(!lines.unfinished);
        }
    }

    #[test]
    fn the_front_of_a_record_at_the_end_is_no_fault() {
        for cut in 1..RECORD.len() {
            let lines = lines(format!("{RECORD}{}", &RECORD[..cut]).as_bytes(), 7);
            assert_eq!((lines.count, lines.invalid, lines.unfinished), (1, 0, true), "cut at {cut}");
        }
        for other in ["x", "{\"log\":\"a\"}{\"log\"", "[1", " "] {
            let cut = lines(other.as_bytes(), 3);
            let expected = u64::from(!could_become_a_record(other.as_bytes()));
            assert_eq!((cut.count, cut.invalid, cut.unfinished), (0, expected, true), "{other}");
        }
        let nothing = lines(b"", 1);
        assert_eq!((nothing.count, nothing.invalid, nothing.unfinished), (0, 0, false));
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let mut text = vec![b'x'; 3 * LONGEST];
        assert_eq!(lines(&text, 100_000).first_invalid, Some(1));
        text.push(b'\n');
        text.extend_from_slice(RECORD.as_bytes());
        let mut long = lines(&text, 100_000);
        assert_eq!((long.count, long.invalid, long.unfinished), (2, 1, false));
        assert!(long.first_time().is_some());
        long.text(&vec![b'x'; 2 * LONGEST]).unwrap();
        assert!(long.begun.capacity() <= LONGEST);
    }
}
