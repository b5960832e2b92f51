//! Several files as one sequence, by the time of their records.
//!
//! Invariants:
//! * Every line of every file comes once, and the lines of one file in their own order. Of the files that are open, the
//!   one whose next record is the oldest is next; among equals, the one that comes first without `--merge`.
//! * A file is opened when the merge comes to its start as its key tells it ([`EARLY`] seconds before), one without a
//!   start at the beginning. What a key says wrongly can put a record in a wrong place, but not lose it.
//! * Each open file holds one line, within what [`Room`](super::room::Room) leaves it, and `IN_PARTS` divided by the number
//!   of them; its text is in the shared cache.
//! * What is known to come next is printed before anything is waited for.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use futures::poll;

use super::lens::Shown;
use super::queue::Queue;
use super::reader::Reader;
use super::{Cat, End};
use crate::error::Error;
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
                if let Some(head) = self.open(queue, heads.len() + 1).await? {
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
    async fn open(&mut self, queue: &mut Queue, open: usize) -> Result<Option<Head>, End> {
        let (view, proven_first, room) = (self.view, self.proven_first, Arc::clone(&self.room));
        let start = async {
            let (file, opened) = queue.next().await?;
            let start = async {
                let mut reader = Reader::new(opened?, &file, view, proven_first, true, room).await?;
                let next = reader.advance(part(open), open).await?;
                Ok::<_, Error>((reader, next))
            };
            Some((file.order, start.await))
        };
        match self.flushed(pin!(start)).await? {
            Some((order, Ok((reader, Some(next))))) => return Ok(Some(Head { next, order, reader })),
            Some((_, Ok((reader, None)))) => self.ended(&reader),
            Some((_, Err(e))) => self.tally.failed(&e),
            None => {}
        }
        Ok(None)
    }

    /// What comes of `work`. If that takes a while, what is on the page is seen meanwhile.
    async fn flushed<T>(&mut self, mut work: Pin<&mut impl Future<Output = T>>) -> Result<T, End> {
        if let Poll::Ready(done) = poll!(work.as_mut()) {
            return Ok(done);
        }
        self.print()?;
        self.flush()?;
        Ok(work.await)
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
            let next = {
                let work = pin!(head.reader.advance(part(open), open));
                self.flushed(work).await?
            };
            match next {
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
