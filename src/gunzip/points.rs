//! Seek points: where they are taken, what they hold, how one is found.
//!
//! A point is taken at the first deflate block boundary at least [`SPACING`] after the one before, or at the start of
//! a member, whichever comes first. It holds the bit position and the 32 KiB before it (LZ4-compressed, since log
//! text packs well and a point must be cheap to resume). A stream that shows no boundary for [`LONGEST_SEGMENT`] (one
//! huge block: igzip -0, zlib-ng -1, some bombs) gets a copy of the inflate state itself instead.
//!
//! Invariant: `out` grows strictly from point to point, by at most [`LONGEST_SEGMENT`]; and a point never depends on
//! another, nor on bytes of an earlier member.

use std::sync::Arc;

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

use super::raw::{RawInflate, STATE_COST};
use super::window::WINDOW;
use crate::err;
use crate::error::{Kind, Result};

/// Bytes of plaintext after which the next block boundary becomes a point.
///
/// Measured on 500 MB of Docker JSON (gzip -6, one core; time over inflate with CRC-32 when the windows are packed on the
/// same thread, memory of the points, p50 of inflating up to a 4 KiB read): 512 KiB +8 %, 17 MB/GB, 0.24 ms; 1 MiB +5 %,
/// 8.8 MB/GB, 0.44 ms; 2 MiB +2 %, 4.4 MB/GB, 0.90 ms. Random reads wait for nothing longer than for this.
pub const SPACING: u64 = 1 << 19;

/// Where memory is short, points are up to this far apart. Not further: segments would seldom end with a block in time.
pub const WIDEST_SPACING: u64 = 4 * SPACING;

/// The most plaintext between two points, in bytes. Just above the 4,226,814 bytes (16,383 symbols of 258) that one
/// block of zlib can hold at its default memory level, so that its streams never need a copy of the state.
pub const LONGEST_SEGMENT: u64 = 17 << 18;

/// A place where decoding can start: plaintext offset `out`, compressed offset `input`, and what is needed there.
pub struct SeekPoint {
    /// Offset in the plaintext, in bytes, of the first byte that decoding from here gives.
    pub out: u64,
    /// Offset in the compressed stream, in bytes, where the input to [`super::Resumed`] has to start: the byte that
    /// holds the first unused bits, even if some of its bits are used.
    pub input: u64,
    pub(super) entry: Entry,
}

/// The decoder's state at a point.
pub(super) enum Entry {
    /// The start of the stream: a member header comes next.
    Start,
    /// A deflate block comes next, after skipping the low `skip` bits (0 to 7) of the first byte.
    Block { skip: u8, window: Window },
    /// Inside a block.
    Inside(Box<RawInflate>),
}

/// The text before a block, at most 32 KiB of it.
pub(super) enum Window {
    Plain(Box<[u8]>),
    /// LZ4, and the length of the text.
    Packed(Box<[u8]>, u16),
}

impl SeekPoint {
    /// The point that every stream has: offset 0 of everything.
    pub fn start() -> Self {
        SeekPoint { out: 0, input: 0, entry: Entry::Start }
    }

    /// Bytes of memory that this point holds, itself included.
    pub fn cost(&self) -> usize {
        size_of::<Self>()
            + match &self.entry {
                Entry::Start => 0,
                Entry::Block { window: Window::Plain(bytes) | Window::Packed(bytes, _), .. } => bytes.len(),
                Entry::Inside(_) => STATE_COST,
            }
    }

    /// Packs the window, which the decoder leaves plain: it is a fourth then, and costs about 40 us, which need not be spent
    /// on the thread that inflates.
    pub fn pack(&mut self) -> Result<()> {
        if let Entry::Block { window, .. } = &mut self.entry {
            window.pack()?;
        }
        Ok(())
    }

    /// The same point with a packed window; `None` if there is nothing to pack.
    pub fn packed(&self) -> Result<Option<SeekPoint>> {
        let Entry::Block { skip, window: Window::Plain(text) } = &self.entry else { return Ok(None) };
        let mut window = Window::Plain(text.clone());
        window.pack()?;
        if matches!(window, Window::Plain(_)) {
            return Ok(None);
        }
        Ok(Some(SeekPoint { out: self.out, input: self.input, entry: Entry::Block { skip: *skip, window } }))
    }

    /// What [`SeekPoint::from_block`] needs beside the offsets: bits to skip, the window as it is held, and the length of
    /// its text if that is packed. None for the start, and for a copy of the inflate state, which cannot be written down.
    pub fn block(&self) -> Option<(u8, &[u8], Option<u16>)> {
        match &self.entry {
            Entry::Block { skip, window: Window::Plain(text) } => Some((*skip, text, None)),
            Entry::Block { skip, window: Window::Packed(bytes, len) } => Some((*skip, bytes, Some(*len))),
            Entry::Start | Entry::Inside(_) => None,
        }
    }

    /// A point that was written down, of which the caller knows that it is unchanged. `Internal` if it never was one.
    pub fn from_block(out: u64, input: u64, skip: u8, window: &[u8], packed: Option<u16>) -> Result<SeekPoint> {
        if skip > 7 || window.len().max(packed.unwrap_or(0).into()) > WINDOW {
            return Err(err!(Kind::Internal, "no seek point has {skip} bits and a window of {} bytes", window.len()));
        }
        let window = match packed {
            Some(len) => Window::Packed(window.into(), len),
            None => Window::Plain(window.into()),
        };
        Ok(SeekPoint { out, input, entry: Entry::Block { skip, window } })
    }

    /// Whether this is a copy of the inflate state (about 41 KiB, memory only), not a position and a window.
    pub fn is_snapshot(&self) -> bool {
        matches!(self.entry, Entry::Inside(_))
    }
}

impl std::fmt::Debug for SeekPoint {
    /// Positions only: a window is log text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SeekPoint(out {}, input {}, {} bytes)", self.out, self.input, self.cost())
    }
}

impl Window {
    /// Puts the text into `into`: its length.
    pub(super) fn unpack(&self, into: &mut [u8; WINDOW]) -> Result<usize> {
        let damaged = || err!(Kind::Internal, "the window of a seek point is damaged");
        match self {
            Window::Plain(text) => {
                into.get_mut(..text.len()).ok_or_else(damaged)?.copy_from_slice(text);
                Ok(text.len())
            }
            Window::Packed(bytes, len) => {
                let len = usize::from(*len);
                match into.get_mut(..len).map(|into| decompress_into(bytes, into)) {
                    Some(Ok(n)) if n == len => Ok(len),
                    _ => Err(damaged()),
                }
            }
        }
    }

    fn pack(&mut self) -> Result<()> {
        let Window::Plain(text) = self else { return Ok(()) };
        if text.is_empty() {
            return Ok(());
        }
        let mut packed = vec![0; get_maximum_output_size(text.len())];
        let len = compress_into_with_table(text, &mut packed, &mut CompressTable::small())
            .map_err(|e| err!(Kind::Internal, "a window does not pack: {e}"))?;
        // What does not pack stays as it is.
        if len < text.len() {
            *self = Window::Packed(packed[..len].into(), text.len() as u16);
        }
        Ok(())
    }
}

/// The points of one stream, in order. The first is always [`SeekPoint::start`].
#[derive(Debug)]
pub struct Index {
    points: Vec<Arc<SeekPoint>>,
    cost: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl Index {
    pub fn new() -> Self {
        let start = SeekPoint::start();
        Index { cost: start.cost(), points: vec![Arc::new(start)] }
    }

    /// Adds points as [`super::Decoder::take_points`] gives them. One that is not behind the last is left out.
    pub fn extend(&mut self, points: impl IntoIterator<Item = SeekPoint>) -> Result<()> {
        for mut point in points {
            point.pack()?;
            if self.points.last().is_none_or(|last| last.out < point.out) {
                self.cost += point.cost();
                self.points.push(Arc::new(point));
            }
        }
        Ok(())
    }

    /// The number of the last point at or before plaintext offset `out`. The segments are numbered alike: segment `i`
    /// goes from point `i` to point `i + 1`, or to the end.
    pub fn find(&self, out: u64) -> usize {
        self.points.partition_point(|p| p.out <= out).saturating_sub(1)
    }

    pub fn get(&self, number: usize) -> Option<&Arc<SeekPoint>> {
        self.points.get(number)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Arc<SeekPoint>> {
        self.points.iter()
    }

    /// How many points there are; at least 1.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Bytes of memory that all points hold.
    pub fn cost(&self) -> usize {
        self.cost + self.points.capacity() * size_of::<Arc<SeekPoint>>()
    }
}

impl<'a> IntoIterator for &'a Index {
    type Item = &'a Arc<SeekPoint>;
    type IntoIter = std::slice::Iter<'a, Arc<SeekPoint>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Takes the points of one pass.
pub(super) struct Recorder {
    /// Plaintext offset of the last point.
    last: u64,
    /// See [`super::Decoder::space`].
    pub spacing: u64,
    points: Vec<SeekPoint>,
}

impl Recorder {
    pub fn new() -> Self {
        Recorder { last: 0, spacing: SPACING, points: Vec::new() }
    }

    pub fn take(&mut self) -> Vec<SeekPoint> {
        std::mem::take(&mut self.points)
    }

    pub fn is_due(&self, out: u64) -> bool {
        out - self.last >= self.spacing
    }

    /// No boundary came in time.
    pub fn is_overdue(&self, out: u64) -> bool {
        out - self.last >= LONGEST_SEGMENT
    }

    /// How far to inflate next from plaintext offset `out`: at most so many bytes, and whether to stop at a block's
    /// end. Stopping at every block would cost 23 %, so it is asked for only when a point is due.
    pub fn plan(&self, out: u64) -> (usize, bool) {
        let due = self.is_due(out);
        let left = if due { LONGEST_SEGMENT } else { self.spacing } - (out - self.last).min(LONGEST_SEGMENT);
        (left as usize, due)
    }

    /// A block or a member's first block starts at `out`, and bit `skip` of the byte at `input`.
    pub fn block(&mut self, raw: &RawInflate, out: u64, input: u64, skip: u8) {
        self.push(out, input, Entry::Block { skip, window: Window::Plain(raw.dictionary().into()) });
    }

    /// The inflate state as it is, `input` being the next byte it wants.
    pub fn inside(&mut self, raw: &RawInflate, out: u64, input: u64) {
        self.push(out, input, Entry::Inside(raw.clone().into()));
    }

    fn push(&mut self, out: u64, input: u64, entry: Entry) {
        self.last = out;
        self.points.push(SeekPoint { out, input, entry });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(out: u64) -> SeekPoint {
        SeekPoint { out, input: out / 8, entry: Entry::Block { skip: 0, window: Window::Plain(Box::default()) } }
    }

    #[test]
    fn the_nearest_point_at_or_before() {
        let mut index = Index::new();
        assert_eq!((index.len(), index.find(0), index.find(u64::MAX)), (1, 0, 0));
        index.extend([point(10), point(20)]).unwrap();
        index.extend([point(20), point(5), point(30)]).unwrap();
        let outs: Vec<u64> = index.iter().map(|p| p.out).collect();
        assert_eq!(outs, [0, 10, 20, 30]);
        for (out, number) in [(0, 0), (9, 0), (10, 1), (19, 1), (20, 2), (29, 2), (30, 3), (u64::MAX, 3)] {
            assert_eq!(index.find(out), number);
        }
        assert!(index.get(4).is_none());
    }

    #[test]
    fn a_damaged_window_is_an_error() {
        let text = [7; 1000];
        let packed = lz4_flex::block::compress(&text);
        let unpack = |window: &[u8], len: u16| {
            let mut into = [0; WINDOW];
            Window::Packed(window.into(), len).unpack(&mut into).map(|n| into[..n].to_vec())
        };
        assert_eq!(unpack(&packed, 1000).unwrap(), text);
        for (window, len) in
            [(&packed[..], 999), (&packed[..], 1001), (&packed[..3], 1000), (&[][..], 1), (&packed[..], 65_535)]
        {
            assert_eq!(unpack(window, len).unwrap_err().kind(), Kind::Internal);
        }
    }

    #[test]
    fn cost_counts_the_window_and_the_state_and_debug_shows_no_text() {
        let mut recorder = Recorder::new();
        let mut raw = RawInflate::new();
        raw.set_dictionary(b"secret secret secret secret secret");
        recorder.block(&raw, SPACING, 5, 3);
        recorder.inside(&raw, 2 * SPACING, 9);
        let mut points = recorder.take();
        assert_eq!(points[0].packed().unwrap().map(|p| p.cost()), points[0].pack().map(|()| points[0].cost()).ok());
        assert!(points[0].packed().unwrap().is_none() && points[1].packed().unwrap().is_none());
        assert!(recorder.take().is_empty());
        assert!((40..100).contains(&points[0].cost()));
        assert!(points[1].cost() > STATE_COST && points[1].is_snapshot() && !points[0].is_snapshot());
        assert!(!format!("{points:?}").contains("secret"));
        let mut index = Index::new();
        let empty = index.cost();
        index.extend(points).unwrap();
        assert!(index.cost() > empty + STATE_COST);
    }

    #[test]
    fn a_point_that_was_written_down_is_the_same_point() {
        let mut recorder = Recorder::new();
        let mut raw = RawInflate::new();
        raw.set_dictionary(&[b"some text ".repeat(500), vec![1; 9]].concat());
        recorder.block(&raw, SPACING, 5, 3);
        recorder.inside(&raw, 2 * SPACING, 9);
        let points = recorder.take();
        let unpack = |point: &SeekPoint| {
            let Entry::Block { skip, window } = &point.entry else { panic!("another kind of point") };
            let mut text = [0; WINDOW];
            let len = window.unpack(&mut text).unwrap();
            (point.out, point.input, *skip, text[..len].to_vec())
        };
        for point in [&points[0], &points[0].packed().unwrap().unwrap()] {
            let (skip, window, packed) = point.block().unwrap();
            let again = SeekPoint::from_block(point.out, point.input, skip, window, packed).unwrap();
            assert_eq!(unpack(&again), unpack(point));
            assert_eq!(again.cost(), point.cost());
        }
        assert!(points[1].block().is_none() && SeekPoint::start().block().is_none());
        for (skip, len, packed) in [(8, 0, None), (0, WINDOW + 1, None), (0, 1, Some(WINDOW as u16 + 1))] {
            assert!(SeekPoint::from_block(1, 1, skip, &vec![0; len], packed).is_err());
        }
    }

    #[test]
    fn points_can_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Index>();
        shared::<super::super::Decoder>();
        shared::<super::super::Resumed>();
    }
}
