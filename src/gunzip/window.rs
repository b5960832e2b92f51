//! The text that a stream can still refer to.
//!
//! Invariant: the last 32 KiB of all that was added, or all of it; `len` says how much, from the start of `text`.

/// The largest distance of a DEFLATE match, so the most history that decoding can need, in bytes (RFC 1951, 3.2.5).
pub(super) const WINDOW: usize = 32 * 1024;

/// Bytes behind the text that may be read, and mean nothing: what `fast` copies at a time.
pub(super) const SPARE: usize = 32;

#[derive(Clone)]
pub(super) struct Window {
    text: [u8; WINDOW + SPARE],
    len: usize,
}

impl Window {
    pub fn new() -> Window {
        Window { text: [0; WINDOW + SPARE], len: 0 }
    }

    pub fn text(&self) -> &[u8] {
        &self.text[..self.len]
    }

    /// From `distance` bytes before the end on, the spare bytes included. None if there is not so much.
    #[inline(always)]
    pub fn back(&self, distance: usize) -> Option<&[u8]> {
        self.text.get(self.len.checked_sub(distance)?..self.len + SPARE)
    }

    pub fn add(&mut self, text: &[u8]) {
        let text = &text[text.len().saturating_sub(WINDOW)..];
        let kept = self.len.min(WINDOW - text.len());
        self.text.copy_within(self.len - kept..self.len, 0);
        self.text[kept..kept + text.len()].copy_from_slice(text);
        self.len = kept + text.len();
    }

    pub fn clear(&mut self) {
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_the_last_of_what_was_added_however_that_is_cut() {
        let all: Vec<u8> = (0..100_000_u32).map(|n| ((n * 7919) >> 5) as u8).collect();
        for piece in [1, 1000, 32_767, 32_768, 32_769, 100_000] {
            let mut window = Window::new();
            let mut end = 0;
            for part in all.chunks(piece).take(70_000) {
                window.add(part);
                end += part.len();
                assert_eq!(window.text(), &all[end.saturating_sub(WINDOW)..end], "{piece} bytes at a time, at {end}");
            }
            let back = window.back(1000).unwrap();
            assert_eq!((back.len(), &back[..1000]), (1000 + SPARE, &all[end - 1000..end]));
            assert!(window.back(WINDOW).is_some() && window.back(WINDOW + 1).is_none());
            window.clear();
            assert!(window.text().is_empty() && window.back(1).is_none());
        }
    }
}
