//! For who is going to open a file: its text in memory before it is asked for.
//!
//! Only small objects, which are most of an archive: of a large one it is the head, since its scan is many requests at once.

use std::ops::Range;
use std::sync::Arc;

use super::file::{LogFile, Size};
use super::scan::Scan;
use super::segment::Segments;
use crate::error::Result;

/// Segments fetched ahead of a reader, who has more fetched himself: some 2 MiB of text.
const FIRST: usize = 4;

impl LogFile {
    /// An open, and a read from the start, would ask the store for nothing, or for what is on its way.
    pub fn is_warm(&self) -> bool {
        match self.known_head() {
            None => false,
            Some(Ok(head)) if head.is_small() => self.known_scan().is_some_and(|scan| match scan.done() {
                Some(Ok(_)) => scan.first_segments().all(|index| scan.is_at_hand(index)),
                _ => true,
            }),
            Some(_) => true,
        }
    }

    /// Makes it so. A failure is found again by who opens the file.
    pub async fn warm(&self) {
        if let Ok(head) = self.head().await
            && head.is_small()
            && let Ok(Size::Exact(_)) = self.size().await
            && let Some(scan) = self.known_scan()
        {
            // The same.
            let _ = load(&scan).await;
        }
    }
}

async fn load(scan: &Arc<Scan>) -> Result<()> {
    for index in scan.first_segments() {
        scan.segment(index, None)?.1.text().await?;
    }
    Ok(())
}

impl Scan {
    fn first_segments(&self) -> Range<usize> {
        0..self.read_segments(Segments::len).min(FIRST)
    }
}
