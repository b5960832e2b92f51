//! Following a scan for the kernel's page cache.
//!
//! Invariant: what is handed on are whole pages; half a page only where the file is known to end. The kernel fills up a
//! page that ends its file with zeros, so half a page anywhere else could show them as text.
//!
//! Nor is anything handed on that somebody is reading: the kernel has locked the pages of a read until it is answered, and
//! whoever hands on waits for them in a way that not even SIGKILL ends. Should the process be killed then, it would stay, with
//! the mount and all its readers, for ever.

use std::sync::Arc;

use bytes::Bytes;

use super::LogFile;

/// No page of any machine is larger, and all divide it.
const PAGE: usize = 64 << 10;

impl LogFile {
    /// Hands the text to `sink`, piece by piece in order, as the running scan releases it; ends with the scan, with the
    /// last handle, when `sink` says false, and where text is no longer at hand. One follower at a time.
    pub async fn follow<F>(self: &Arc<Self>, mut sink: F)
    where
        F: FnMut(u64, Bytes) -> bool + Send + 'static,
    {
        let Some(_only) = self.follower() else { return };
        let Ok(scan) = self.scan().await else { return };
        let _following = scan.following();
        let mut pages = Pages::default();
        let mut more = true;
        while more && self.is_open() {
            let pieces = match scan.next_released(pages.end).await {
                Some(text) => pages.add(text),
                None => {
                    more = false;
                    // Where the kernel believes in a later end, it would not take it for whole either.
                    let whole = matches!(scan.done(), Some(Ok(size)) if size == pages.end && !self.overstated(size));
                    pages.rest().filter(|_| whole).into_iter().collect()
                }
            };
            // The kernel may have to wait for one of its own pages: not on a thread of the runtime.
            let file = Arc::clone(self);
            let stored = tokio::task::spawn_blocking(move || {
                let mut left_out = false;
                let all = pieces.into_iter().all(|(offset, piece)| {
                    let awaited = file.is_awaited(&(offset..offset + piece.len() as u64));
                    left_out |= awaited;
                    awaited || sink(offset, piece)
                });
                (all, left_out, sink)
            });
            let Ok((all, left_out, back)) = stored.await else { return };
            sink = back;
            more &= all;
            if more {
                // The kernel has it now: once is enough.
                scan.handed_on(pages.end, left_out);
            }
        }
    }
}

/// Cuts a text that comes in pieces of any size where pages end.
#[derive(Default)]
struct Pages {
    /// Bytes taken in.
    end: u64,
    /// The last of them that fill no page yet.
    half: Vec<u8>,
}

impl Pages {
    fn add(&mut self, mut text: Bytes) -> Vec<(u64, Bytes)> {
        let mut pieces = Vec::new();
        let mut at = self.end - self.half.len() as u64;
        self.end += text.len() as u64;
        if !self.half.is_empty() {
            self.half.extend_from_slice(&text.split_to(text.len().min(PAGE - self.half.len())));
            if self.half.len() < PAGE {
                return pieces;
            }
            pieces.push((at, std::mem::take(&mut self.half).into()));
            at += PAGE as u64;
        }
        self.half.extend_from_slice(&text.split_off(text.len() - text.len() % PAGE));
        if !text.is_empty() {
            pieces.push((at, text));
        }
        pieces
    }

    fn rest(&mut self) -> Option<(u64, Bytes)> {
        let half = std::mem::take(&mut self.half);
        (!half.is_empty()).then(|| (self.end - half.len() as u64, half.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_become_whole_pages_and_a_rest() {
        for sizes in [&[1][..], &[PAGE], &[PAGE - 1, 1, 1], &[10, 20, 3 * PAGE, 5], &[PAGE + 7, 2 * PAGE - 7, 4]] {
            let text: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|n| (n / 251 + n) as u8).collect();
            let mut pages = Pages::default();
            let mut got = Vec::new();
            let mut from = 0;
            for size in sizes {
                for (offset, piece) in pages.add(Bytes::copy_from_slice(&text[from..from + size])) {
                    assert!(offset == got.len() as u64 && piece.len() % PAGE == 0 && !piece.is_empty());
                    got.extend_from_slice(&piece);
                }
                from += size;
            }
            assert_eq!(pages.end, text.len() as u64);
            if let Some((offset, piece)) = pages.rest() {
                assert!(offset == got.len() as u64 && piece.len() < PAGE);
                got.extend_from_slice(&piece);
            }
            assert!(got == text, "{sizes:?}");
        }
    }
}
