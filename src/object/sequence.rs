//! Reading one file in order, for commands: whole segments, without a copy, made ahead where that helps.
//!
//! Invariant: as with [`LogFile::read_at`], only released text leaves, and the end of the text is the end of the file: an
//! empty piece is never damage.

use std::sync::Arc;

use bytes::Bytes;

use super::LogFile;
use super::scan::{Following, Scan};
use super::segment::Segments;
use crate::error::Result;

/// Where no segment says how much there is to read.
const PIECE: u64 = 512 << 10;

/// See [`LogFile::sequence`].
pub struct Sequence {
    scan: Arc<Scan>,
    /// The scan is at work: it waits for this reader rather than drop text.
    following: Option<Following>,
    at: u64,
}

impl LogFile {
    /// The text from `offset` on. The file stays open meanwhile.
    pub async fn sequence(&self, offset: u64) -> Result<Sequence> {
        let scan = self.scan().await?;
        let following = scan.done().is_none().then(|| scan.following());
        Ok(Sequence { scan, following, at: offset })
    }

    /// Where segments begin, once the whole file is proven: reading from one of them inflates nothing in vain.
    pub async fn segment_starts(&self) -> Result<Vec<u64>> {
        let scan = self.scan().await?;
        scan.size().await?;
        Ok(scan.read_segments(|s| (0..s.len()).filter_map(|n| s.start_of(n)).collect()))
    }
}

impl Sequence {
    /// The next piece; empty at the end of the file.
    pub async fn next(&mut self) -> Result<Bytes> {
        let from = self.at;
        if self.following.is_some() {
            // Asking for more is to be through with what came before.
            if from > 0 {
                self.scan.handed_on(from, false);
            }
            if let Some(text) = self.scan.next_released(from).await {
                self.at += text.len() as u64;
                return Ok(text);
            }
            self.following = None;
        }
        let rest = |s: &Segments| Some(s.start_of(s.find(from)? + 1)? - from);
        let len = self.scan.read_segments(rest).unwrap_or(PIECE);
        let text = self.scan.read(from, len as usize).await?;
        self.at += text.len() as u64;
        if !text.is_empty() {
            self.scan.read_ahead(from..self.at);
        }
        Ok(text)
    }
}
