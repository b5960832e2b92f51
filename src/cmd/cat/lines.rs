//! Lines out of pieces of any size. Pure.
//!
//! Invariants: what comes out, put together, is what went in; memory is a piece and [`LONGEST`] (or less: see
//! [`Lines::set_longest`]), whatever the text. A longer line comes in several parts, of which the first alone `starts`.

use bytes::Bytes;

/// A json-file record is a sixth of this at most: 16 KiB of text, escaped, and a few labels.
pub const LONGEST: usize = 1 << 20;
/// No record is longer than this, whatever its labels are.
pub const SHORTEST: usize = 128 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// With its line feed, if it has one.
    pub text: &'a [u8],
    /// False: it goes on where the last one stopped.
    pub starts: bool,
}

pub struct Lines {
    piece: Bytes,
    /// What is passed of `piece`.
    at: usize,
    /// A line that began in an earlier piece.
    half: Vec<u8>,
    /// `half` was handed out.
    spent: bool,
    /// The next byte begins a line.
    fresh: bool,
    ended: bool,
    longest: usize,
}

impl Lines {
    /// `fresh`: the text starts with a line; else with the rest of one.
    pub fn new(fresh: bool) -> Lines {
        Lines { piece: Bytes::new(), at: 0, half: Vec::new(), spent: false, fresh, ended: false, longest: LONGEST }
    }

    /// Parts of long lines are no longer than this from now on, within [`SHORTEST`] and [`LONGEST`].
    pub fn set_longest(&mut self, longest: usize) {
        self.longest = longest.clamp(SHORTEST, LONGEST);
    }

    /// Bytes that are kept of a line that began in an earlier piece.
    pub fn held(&self) -> usize {
        self.half.len()
    }

    /// To be called when there are no more lines; an empty piece is the end.
    pub fn add(&mut self, piece: Bytes) {
        self.ended = piece.is_empty();
        (self.piece, self.at) = (piece, 0);
    }

    /// `None`: the next piece is needed, or this is the end.
    pub fn next(&mut self) -> Option<Line<'_>> {
        if std::mem::take(&mut self.spent) {
            self.half.clear();
            self.half.shrink_to(SHORTEST);
        }
        let start = self.at;
        let new = self.piece.get(start..)?;
        // What is there already may be more than is wanted by now.
        let room = new.len().min(self.longest.saturating_sub(self.half.len()));
        let end = memchr::memchr(b'\n', &new[..room]);
        let whole = end.is_some() || self.half.len() + room >= self.longest || (self.ended && !self.half.is_empty());
        let part = &new[..end.map_or(room, |end| end + 1)];
        self.at += part.len();
        if !whole || !self.half.is_empty() {
            self.half.extend_from_slice(part);
        }
        if !whole {
            return None;
        }
        let starts = std::mem::replace(&mut self.fresh, end.is_some());
        self.spent = !self.half.is_empty();
        let text = if self.spent { &self.half[..] } else { &self.piece[start..self.at] };
        Some(Line { text, starts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything that comes out of these pieces.
    fn cut(pieces: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let mut lines = Lines::new(true);
        let mut out = Vec::new();
        for piece in pieces.iter().filter(|p| !p.is_empty()).chain([&&b""[..]]) {
            lines.add(Bytes::copy_from_slice(piece));
            while let Some(Line { text, starts }) = lines.next() {
                out.push((text.to_vec(), starts));
            }
        }
        out
    }

    #[test]
    fn a_line_without_end_comes_in_parts() {
        let long = vec![b'x'; 2 * LONGEST + 7];
        for size in [1000, LONGEST - 1, LONGEST, LONGEST + 1, 3 * LONGEST] {
            let text = [b"a\n", &long[..], b"\nb"].concat();
            let got = cut(&text.chunks(size).collect::<Vec<_>>());
            assert_eq!(got.iter().flat_map(|(text, _)| text.clone()).collect::<Vec<_>>(), text);
            assert_eq!(got.iter().map(|l| l.1).collect::<Vec<_>>(), [true, true, false, false, true], "{size}");
            assert!(got.iter().all(|l| l.0.len() <= LONGEST));
        }
    }

    /// Less room in the midst of a line: what is kept goes out as it is, and nothing is lost.
    #[test]
    fn parts_are_shorter_where_there_is_less_room() {
        let text = [vec![b'x'; 3 * SHORTEST], b"\n".to_vec(), vec![b'y'; SHORTEST - 1], b"\n".to_vec()].concat();
        let mut lines = Lines::new(true);
        let mut out = Vec::new();
        for (n, piece) in text.chunks(2 * SHORTEST - 7).chain([&b""[..]]).enumerate() {
            lines.set_longest(if n == 0 { usize::MAX } else { 0 });
            lines.add(Bytes::copy_from_slice(piece));
            while let Some(Line { text, starts }) = lines.next() {
                out.push((text.to_vec(), starts));
            }
        }
        assert_eq!(out.iter().flat_map(|(text, _)| text.clone()).collect::<Vec<_>>(), text);
        let lens: Vec<_> = out.iter().map(|(text, starts)| (text.len(), *starts)).collect();
        assert_eq!(lens, [(2 * SHORTEST - 7, true), (SHORTEST, false), (8, false), (SHORTEST, true)]);
    }

    #[test]
    fn the_rest_of_a_line_does_not_start() {
        let mut lines = Lines::new(false);
        lines.add(Bytes::from_static(b"rest\nnext\n"));
        assert_eq!(lines.next(), Some(Line { text: b"rest\n", starts: false }));
        assert_eq!(lines.next(), Some(Line { text: b"next\n", starts: true }));
        assert_eq!(lines.next(), None);
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_pieces(text in "[ab\n\0]{0,60}", cuts in prop::collection::vec(0usize..60, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &text.as_bytes()[w[0]..w[1]]).collect();
            let want: Vec<_> = text.as_bytes().split_inclusive(|b| *b == b'\n').map(|l| (l.to_vec(), true)).collect();
            prop_assert_eq!(cut(&pieces), want);
        }
    }
}
