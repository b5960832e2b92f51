//! Where in 64 bytes of text the characters stand that matter: a bit for each byte, the lowest for the first.

pub(super) const BLOCK: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Masks {
    pub quote: u64,
    pub backslash: u64,
    pub n: u64,
    /// Below 0x20.
    pub control: u64,
    /// Not ASCII.
    pub high: u64,
}

impl Masks {
    #[cfg(target_arch = "x86_64")]
    pub fn of(block: &[u8; BLOCK]) -> Masks {
        // SAFETY: SSE2 is part of x86_64; the compiler wants it said where a function names it.
        unsafe { sse2(block) }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub fn of(block: &[u8; BLOCK]) -> Masks {
        Masks::plain(block)
    }

    #[cfg(any(test, not(target_arch = "x86_64")))]
    fn plain(block: &[u8; BLOCK]) -> Masks {
        let bits = |is: fn(u8) -> bool| block.iter().rev().fold(0, |bits, b| bits << 1 | u64::from(is(*b)));
        Masks {
            quote: bits(|b| b == b'"'),
            backslash: bits(|b| b == b'\\'),
            n: bits(|b| b == b'n'),
            control: bits(|b| b < 0x20),
            high: bits(|b| b >= 0x80),
        }
    }

    /// Forgets all but the first `len` bytes, of which there are less than 64.
    pub fn keep(&mut self, len: usize) {
        let kept = (1 << len) - 1;
        for mask in [&mut self.quote, &mut self.backslash, &mut self.n, &mut self.control, &mut self.high] {
            *mask &= kept;
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn sse2(block: &[u8; BLOCK]) -> Masks {
    use std::arch::x86_64::{__m128i, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
    let lane = |at: usize| {
        let word = |at: usize| i64::from_le_bytes(std::array::from_fn(|n| block[at + n]));
        _mm_set_epi64x(word(at + 8), word(at))
    };
    let lanes = [lane(0), lane(16), lane(32), lane(48)];
    let bits = |[a, b, c, d]: [__m128i; 4]| {
        let bits = |lane| u64::from(_mm_movemask_epi8(lane) as u16);
        bits(a) | bits(b) << 16 | bits(c) << 32 | bits(d) << 48
    };
    let [a, b, c, d] = lanes;
    let equal = |byte: u8| {
        let all = _mm_set1_epi8(byte as i8);
        bits([_mm_cmpeq_epi8(a, all), _mm_cmpeq_epi8(b, all), _mm_cmpeq_epi8(c, all), _mm_cmpeq_epi8(d, all)])
    };
    let below = |lane| _mm_cmpeq_epi8(_mm_min_epu8(lane, _mm_set1_epi8(0x1f)), lane);
    Masks {
        quote: equal(b'"'),
        backslash: equal(b'\\'),
        n: equal(b'n'),
        control: bits([below(a), below(b), below(c), below(d)]),
        high: bits(lanes),
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn both_ways_see_the_same() {
        for byte in 0..=255 {
            for at in 0..BLOCK {
                let mut block = [b'a'; BLOCK];
                block[at] = byte;
                block[BLOCK - 1 - at] = b'"';
                assert_eq!(Masks::of(&block), Masks::plain(&block), "{byte} at {at}");
            }
        }
    }
}
