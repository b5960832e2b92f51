//! Segments: the plaintext between two seek points, the unit that is inflated, cached and read ahead.
//!
//! Invariant: `starts` is strictly increasing and begins with 0; every byte below `decoded` lies in exactly one
//! segment, whose text follows from the seek point at its start and the ciphertext up to the next one.

use std::ops::Range;
use std::sync::Arc;

use super::proof::Kept;
use crate::gunzip::SeekPoint;

#[derive(Default)]
pub struct Segments {
    starts: Vec<Start>,
    /// End of the last published segment.
    decoded: u64,
    /// Segments whose points somebody has taken to pack them.
    packed: usize,
    /// Where in the gzip stream it ends, if that is not where the stream does.
    end: Option<u64>,
}

struct Start {
    out: u64,
    entry: Entry,
}

/// Where decoding of a segment begins.
#[derive(Clone)]
pub enum Entry {
    /// At the very start of the stream.
    Begin,
    Point(Arc<SeekPoint>),
    /// At a point that is in the cache folder.
    Kept(Kept),
}

impl Entry {
    fn input(&self) -> u64 {
        match self {
            Entry::Begin => 0,
            Entry::Point(point) => point.input,
            Entry::Kept(kept) => kept.input,
        }
    }

    fn cost(&self) -> usize {
        if let Entry::Point(point) = self { point.cost() } else { 0 }
    }
}

/// What it takes to inflate one segment.
#[derive(Clone)]
pub struct Recipe {
    pub text: Range<u64>,
    pub entry: Entry,
    /// Bytes of the gzip stream that are needed.
    pub gzip: Range<u64>,
}

impl Recipe {
    /// Bytes that are at work while it is followed.
    pub fn cost(&self) -> u64 {
        (self.text.end - self.text.start) + (self.gzip.end - self.gzip.start)
    }
}

impl Segments {
    /// Appends the segment `text` that starts at `point`; `end` is where the point behind it has its input (None at the end
    /// of the file). Returns the memory that its seek point takes.
    pub fn publish(&mut self, text: Range<u64>, point: Option<Arc<SeekPoint>>, end: Option<u64>) -> usize {
        self.end = end;
        let entry = point.map_or(Entry::Begin, Entry::Point);
        let cost = size_of::<Start>() + entry.cost();
        self.decoded = text.end;
        self.starts.push(Start { out: text.start, entry });
        cost
    }

    /// Those of a whole file of `size` bytes, from its proof.
    pub fn recalled(points: &[Kept], size: u64) -> Segments {
        let begin = (size > 0).then_some(Start { out: 0, entry: Entry::Begin });
        let points = points.iter().map(|p| Start { out: p.out, entry: Entry::Kept(*p) });
        Segments { starts: begin.into_iter().chain(points).collect(), decoded: size, packed: 0, end: None }
    }

    /// Bytes of memory that they take.
    pub fn cost(&self) -> usize {
        self.starts.iter().map(|s| size_of::<Start>() + s.entry.cost()).sum()
    }

    /// The points behind the beginning; None if one of them is not in memory.
    pub fn points(&self) -> Option<Vec<Arc<SeekPoint>>> {
        let point = |s: &Start| if let Entry::Point(point) = &s.entry { Some(Arc::clone(point)) } else { None };
        self.starts.iter().skip(1).map(point).collect()
    }

    /// The points published since the last call, with their segments' numbers.
    pub fn take_unpacked(&mut self) -> Vec<(usize, Arc<SeekPoint>)> {
        let new = self.starts.iter().enumerate().skip(self.packed);
        let point =
            |(n, s): (usize, &Start)| if let Entry::Point(p) = &s.entry { Some((n, Arc::clone(p))) } else { None };
        let points = new.filter_map(point).collect();
        self.packed = self.starts.len();
        points
    }

    /// Puts the same point in another shape in its place.
    pub fn replace(&mut self, index: usize, point: SeekPoint) {
        if let Some(start) = self.starts.get_mut(index) {
            start.entry = Entry::Point(Arc::new(point));
        }
    }

    pub fn decoded(&self) -> u64 {
        self.decoded
    }

    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// The segment that holds the byte at `offset`.
    pub fn find(&self, offset: u64) -> Option<usize> {
        if offset >= self.decoded {
            return None;
        }
        self.starts.partition_point(|s| s.out <= offset).checked_sub(1)
    }

    pub fn start_of(&self, index: usize) -> Option<u64> {
        self.starts.get(index).map(|s| s.out)
    }

    /// `gzip_len` bounds the last segment.
    pub fn recipe(&self, index: usize, gzip_len: u64) -> Option<Recipe> {
        let start = self.starts.get(index)?;
        let next = self.starts.get(index + 1);
        // The byte at the next point may hold bits of both segments.
        let to = next.map_or(self.end, |s| Some(s.entry.input()));
        let to = to.map_or(gzip_len, |input| (input + 1).min(gzip_len));
        Some(Recipe {
            text: start.out..next.map_or(self.decoded, |s| s.out),
            entry: start.entry.clone(),
            gzip: start.entry.input()..to,
        })
    }
}
