//! Where in a file to begin, for records since some instant: a search over its segments by the time of their first record.
//!
//! What is relied on: within a file times go back by less than [`SLACK`] seconds. Reading begins that much early; if the
//! segments that were looked at are out of order by more, the file is read from its start. Who reads on sees the rest
//! (`Lens::backwards`).

use bytes::Bytes;

use super::lines::{LONGEST, Line, Lines};
use super::window::SLACK;
use crate::error::{Result, escape};
use crate::object::LogFile;
use crate::record::{self, Stamp};

/// Read at a time, to find a record.
const PROBE: usize = 64 << 10;

/// The offset to read from. Waits until the whole file is proven.
pub async fn seek(file: &LogFile, since: Stamp) -> Result<u64> {
    let starts = file.segment_starts().await?;
    let wanted = since.plus(-SLACK);
    // Segments before `low` begin early enough, those from `high` on too late.
    let (mut low, mut high) = (0, starts.len());
    let mut probes: Vec<(usize, Stamp)> = Vec::new();
    while low < high {
        let middle = low + (high - low) / 2;
        let time = probe(file, starts[middle]).await?;
        probes.extend(time.map(|time| (middle, time)));
        // A segment without a record is none to begin with: earlier is never wrong.
        if time.is_some_and(|time| time <= wanted) { low = middle + 1 } else { high = middle }
    }
    probes.sort_unstable();
    let ordered = probes.windows(2).all(|pair| pair[0].1.plus(-SLACK) <= pair[1].1);
    let begin = low.saturating_sub(1);
    let offset = if ordered { starts.get(begin).copied().unwrap_or(0) } else { 0 };
    log::info!("{}: read from byte {offset} on", escape(file.object().key.as_bytes()));
    Ok(offset)
}

/// The time of the first record that begins behind `offset`.
async fn probe(file: &LogFile, offset: u64) -> Result<Option<Stamp>> {
    let mut lines = Lines::new(offset == 0);
    let mut at = offset;
    while at < offset + 2 * LONGEST as u64 {
        let piece: Bytes = file.read_at(at, PROBE).await?;
        at += piece.len() as u64;
        let end = piece.is_empty();
        lines.add(piece);
        while let Some(Line { text, starts }) = lines.next() {
            if let Some(time) = record::time(text).filter(|_| starts) {
                return Ok(Some(time));
            }
        }
        if end {
            break;
        }
    }
    Ok(None)
}
