//! Buffers, used again: a fresh mebibyte for each segment or run costs page faults and, on many threads, an unmapping
//! that interrupts every core. A buffer comes back when the last reader of its bytes lets go.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers of one size.
pub struct Pool {
    size: usize,
    /// Idle buffers kept at most; what comes back beyond it is freed.
    most: usize,
    idle: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    pub fn new(size: usize, most: usize) -> Arc<Self> {
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
        if text.len() < self.size / 2 {
            let short = Bytes::copy_from_slice(&text);
            self.give(text);
            return short;
        }
        self.lend(text)
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
        let pool = Pool::new(BUFFER, 4);
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

    #[test]
    fn short_and_long_text_holds_no_buffer() {
        let pool = Pool::new(BUFFER, 4);
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
