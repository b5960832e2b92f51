//! Several files as one sequence, by the time of their records.
//!
//! Invariants:
//! * Every line of every file comes once, and the lines of one file in their own order. Of the files that are open, the
//!   one whose next record is the oldest is next; among equals, the one that comes first without `--merge`.
//! * A file is opened when the merge comes to its start as its key tells it ([`EARLY`] seconds before), one without a
//!   start at the beginning. What a key says wrongly can put a record in a wrong place, but not lose it.
//! * Each open file holds one line and `IN_PARTS` divided by the number of them; its text is in the shared cache.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::lens::Shown;
use super::queue::Queue;
use super::reader::Reader;
use super::{Cat, End};
use crate::record::Stamp;

/// Seconds. Keys may tell times in whole ones.
const EARLY: i64 = 2;

/// What all readers together hold, and what one of them reads at a time.
const IN_PARTS: usize = 16 << 20;
const PART: std::ops::RangeInclusive<usize> = 4 << 10..=256 << 10;

/// What a page holds before it is printed.
const PAGE: usize = 64 << 10;

/// A file with the line that it has ready.
struct Head {
    next: Shown,
    order: u64,
    reader: Reader,
}

impl Head {
    fn place(&self) -> (Stamp, u64) {
        (self.next.time, self.order)
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Head) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Head) -> bool {
        self.place() == other.place()
    }
}

impl Eq for Head {}

impl Cat {
    pub async fn merge(&mut self, queue: &mut Queue) -> Result<(), End> {
        queue.sort_all(|file| (file.start, file.order)).await;
        let mut heads: BinaryHeap<Reverse<Head>> = BinaryHeap::new();
        loop {
            while let Some(file) = queue.peek() {
                let now = heads.peek().map(|Reverse(head)| head.next.time);
                let waits = now.is_some_and(|now| file.start.is_some_and(|start| start.plus(-EARLY) > now));
                if waits {
                    break;
                }
                if let Some(head) = self.open(queue, heads.len() + 1).await {
                    heads.push(Reverse(head));
                }
            }
            let open = heads.len();
            let Some(mut top) = heads.peek_mut() else { break };
            if !self.line(&mut top.0, open).await? {
                PeekMut::pop(top);
            }
        }
        self.print()
    }

    /// The next file with its first line; none if it has none, or fails.
    async fn open(&mut self, queue: &mut Queue, open: usize) -> Option<Head> {
        let (file, opened) = queue.next().await?;
        let start = async {
            let mut reader = Reader::new(opened?, &file, self.view, self.proven_first, true).await?;
            let next = reader.advance(part(open), open).await?;
            Ok((reader, next))
        };
        match start.await {
            Ok((reader, Some(next))) => return Some(Head { next, order: file.order, reader }),
            Ok((reader, None)) => self.ended(&reader),
            Err(e) => self.tally.failed(&e),
        }
        None
    }

    /// Prints the line that is ready, with the lines behind it that are no records, and makes the next one ready. False if
    /// the file is at its end, or has failed.
    async fn line(&mut self, head: &mut Head, open: usize) -> Result<bool, End> {
        loop {
            if head.next.starts {
                self.page.begin_line();
            }
            self.page.put(head.reader.unit());
            if self.page.bytes().len() >= PAGE {
                self.print()?;
            }
            match head.reader.advance(part(open), open).await {
                Ok(Some(next)) => head.next = next,
                Ok(None) => {
                    self.ended(&head.reader);
                    return Ok(false);
                }
                Err(e) => {
                    self.tally.failed(&e);
                    return Ok(false);
                }
            }
            if head.next.record {
                return Ok(true);
            }
        }
    }
}

fn part(open: usize) -> usize {
    (IN_PARTS / open.max(1)).clamp(*PART.start(), *PART.end())
}
