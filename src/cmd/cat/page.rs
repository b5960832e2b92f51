//! What is about to be printed. Pure.
//!
//! Invariant: a line begins at the start of a line: if what was printed before it (the end of another file) had no line feed,
//! it gets one. Otherwise nothing is added to the bytes that are put.

/// Memory that a page keeps for what comes next: a segment of text.
const KEPT: usize = 1 << 20;
/// And a line, of which there are many.
const KEPT_LINE: usize = 16 << 10;

#[derive(Debug, Default)]
pub struct Page {
    bytes: Vec<u8>,
    /// The last byte that was put is no line feed.
    broken: bool,
}

impl Page {
    pub fn begin_line(&mut self) {
        if std::mem::take(&mut self.broken) {
            self.bytes.push(b'\n');
        }
    }

    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.note(bytes);
    }

    /// The same, leaving nothing behind. What is large is not copied where that can be helped, and its memory not kept by who
    /// has no use for it.
    pub fn take(&mut self, bytes: &mut Vec<u8>) {
        self.note(bytes);
        if self.bytes.is_empty() {
            std::mem::swap(&mut self.bytes, bytes);
        } else {
            self.bytes.append(bytes);
        }
        bytes.clear();
        bytes.shrink_to(KEPT_LINE);
    }

    /// Somebody printed this past the page.
    pub fn note(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last() {
            self.broken = *last != b'\n';
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// It was printed; what comes is a continuation.
    pub fn turn(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
    }
}
