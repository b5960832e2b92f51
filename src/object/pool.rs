//! Buffers for segments, used again: a fresh mebibyte for each costs page faults and, on many threads, an unmapping that
//! interrupts every core. A buffer comes back when the last reader of its text lets go.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::gunzip::SPACING;

/// Size of a buffer: a little more than the spacing of the seek points, so that most segments fit without growing.
pub const BUFFER: usize = SPACING as usize + (96 << 10);
/// Idle buffers kept at most; what comes back beyond it is freed.
const IDLE: usize = 16;

#[derive(Default)]
pub struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    /// An empty buffer of at least [`BUFFER`] bytes.
    pub fn take(&self) -> Vec<u8> {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| Vec::with_capacity(BUFFER))
    }

    /// A filled buffer as bytes. Short text is copied: it must not hold a whole buffer in the cache.
    pub fn seal(self: &Arc<Self>, text: Vec<u8>) -> Bytes {
        if text.len() < BUFFER / 2 {
            let short = Bytes::copy_from_slice(&text);
            self.give(text);
            return short;
        }
        if text.capacity() > 2 * BUFFER {
            return Bytes::from(text.into_boxed_slice());
        }
        Bytes::from_owner(Lent { text, pool: Arc::clone(self) })
    }

    fn give(&self, mut buffer: Vec<u8>) {
        // One that has grown is worth no more than a new one.
        if (BUFFER..=2 * BUFFER).contains(&buffer.capacity()) {
            buffer.clear();
            let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE {
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

    #[test]
    fn a_buffer_comes_back_when_its_last_reader_lets_go() {
        let pool = Arc::new(Pool::default());
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
        let pool = Arc::new(Pool::default());
        let mut buffer = pool.take();
        let place = buffer.as_ptr();
        buffer.extend_from_slice(b"short");
        assert_eq!(pool.seal(buffer), b"short"[..]);
        let again = pool.take();
        assert!(again.is_empty() && again.as_ptr() == place);
        let long = pool.seal(vec![1; 3 * BUFFER]);
        assert_eq!(long.len(), 3 * BUFFER);
        drop(long);
        assert!(pool.0.lock().unwrap().is_empty());
    }
}
