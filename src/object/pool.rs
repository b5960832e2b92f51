//! Buffers, used again: a fresh mebibyte for each segment or run costs page faults and, on many threads, an unmapping
//! that interrupts every core. A buffer comes back when the last reader of its bytes lets go.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Idle buffers that may be kept, whatever they take, and that are worth keeping.
const FEWEST: usize = 2;
const MOST: usize = 64;

/// Buffers of one size.
pub struct Pool {
    size: usize,
    /// Idle buffers kept at most; what comes back beyond it is freed. When other texts take the place of large ones in the
    /// cache, all of their buffers come back.
    most: usize,
    idle: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    /// Idle ones take so many bytes at most, but for a few.
    pub fn new(size: usize, idle: usize) -> Arc<Self> {
        let most = (idle / size).clamp(FEWEST, MOST);
        Arc::new(Pool { size, most, idle: Mutex::default() })
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// An empty buffer of at least [`Pool::size`] bytes.
    pub fn take(&self) -> Vec<u8> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| Vec::with_capacity(self.size))
    }

    /// Sees to it that `n` buffers are ready, each of their pages in memory: whoever takes one then need not wait for
    /// the kernel to find them.
    pub fn prepare(&self, n: usize) {
        while self.idle.lock().unwrap_or_else(PoisonError::into_inner).len() < n.min(self.most) {
            let mut buffer = Vec::with_capacity(self.size);
            buffer.resize(self.size, 1);
            self.give(buffer);
        }
    }

    /// Frees idle buffers beyond `n`.
    pub fn trim(&self, n: usize) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = n.min(idle.len());
        let rest = idle.split_off(at);
        drop(idle);
        drop(rest);
    }

    /// A filled buffer as bytes for the cache. What is short is copied: it must not hold a whole buffer there.
    pub fn seal(self: &Arc<Self>, text: Vec<u8>) -> Bytes {
        if self.is_short(text.len()) {
            let short = Bytes::copy_from_slice(&text);
            self.give(text);
            return short;
        }
        self.lend(text)
    }

    /// Bytes of a buffer that was lent, for the cache.
    pub fn compact(&self, bytes: Bytes) -> Bytes {
        if self.is_short(bytes.len()) { Bytes::copy_from_slice(&bytes) } else { bytes }
    }

    /// The cache counts bytes, and what has been a buffer for others is in memory to its end.
    fn is_short(&self, len: usize) -> bool {
        len < self.size / 5 * 4
    }

    /// A filled buffer as bytes that nobody keeps.
    pub fn lend(self: &Arc<Self>, text: Vec<u8>) -> Bytes {
        if text.capacity() > 2 * self.size {
            return Bytes::from(text.into_boxed_slice());
        }
        Bytes::from_owner(Lent { text, pool: Arc::clone(self) })
    }

    fn give(&self, mut buffer: Vec<u8>) {
        // One that has grown is worth no more than a new one.
        if (self.size..=2 * self.size).contains(&buffer.capacity()) {
            buffer.clear();
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < self.most {
                idle.push(buffer);
            }
        }
    }
}

struct Lent {
    text: Vec<u8>,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUFFER: usize = 1000;

    #[test]
    fn a_buffer_comes_back_when_its_last_reader_lets_go() {
        let pool = Pool::new(BUFFER, 4 * BUFFER);
        let mut buffer = pool.take();
        let place = buffer.as_ptr();
        buffer.resize(BUFFER - 5, 7);
        let text = pool.seal(buffer);
        let reader = text.slice(10..20);
        drop(text);
        let other = pool.take();
        assert_ne!(other.as_ptr(), place, "still read");
        assert_eq!(reader, [7; 10][..]);
        drop(reader);
        let again = pool.take();
        assert!(again.is_empty() && again.as_ptr() == place);
    }

    /// However many come back at once, and however short what they were lent for.
    #[test]
    fn idle_buffers_are_bounded_and_kept_bytes_fill_theirs() {
        let pool = Pool::new(BUFFER, 4 * BUFFER);
        let lent: Vec<Bytes> = (0..50).map(|_| pool.lend(vec![1; BUFFER])).collect();
        drop(lent);
        assert_eq!(pool.idle.lock().unwrap().len(), 4);
        let filled = |len| {
            let mut buffer = pool.take();
            buffer.resize(len, 1);
            buffer
        };
        for len in [1, BUFFER / 2, BUFFER * 3 / 4, BUFFER - 1] {
            let free = if len < BUFFER - 1 { 4 } else { 3 };
            let text = pool.seal(filled(len));
            assert_eq!((text.len(), pool.idle.lock().unwrap().len()), (len, free));
            drop(text);
            let run = pool.compact(pool.lend(filled(len)));
            assert_eq!((run.len(), pool.idle.lock().unwrap().len()), (len, free));
        }
    }

    #[test]
    fn short_and_long_text_holds_no_buffer() {
        let pool = Pool::new(BUFFER, 4 * BUFFER);
        let mut buffer = pool.take();
        let place = buffer.as_ptr();
        buffer.extend_from_slice(b"short");
        assert_eq!(pool.seal(buffer), b"short"[..]);
        let again = pool.take();
        assert!(again.is_empty() && again.as_ptr() == place);
        let long = pool.seal(vec![1; 3 * BUFFER]);
        assert_eq!(long.len(), 3 * BUFFER);
        drop(long);
        assert!(pool.idle.lock().unwrap().is_empty());
    }
}
