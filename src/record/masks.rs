//! Where in 64 bytes of text the characters stand that matter to JSON: a bit for each byte, the lowest for the first.

pub(super) const BLOCK: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Masks {
    pub quote: u64,
    pub backslash: u64,
    /// There is a byte below 0x20.
    pub control: bool,
    pub ascii: bool,
}

impl Masks {
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub fn of(block: &[u8; BLOCK]) -> Masks {
        use std::arch::x86_64::{
            _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
        };
        // SAFETY: the SSE2 that these need is part of x86_64, and none takes a pointer.
        unsafe {
            let lane = |at: usize| {
                let word = |at: usize| i64::from_le_bytes(std::array::from_fn(|n| block[at + n]));
                _mm_set_epi64x(word(at + 8), word(at))
            };
            let (a, b, c, d) = (lane(0), lane(16), lane(32), lane(48));
            let bits = |lane| u64::from(_mm_movemask_epi8(lane) as u16);
            let equal = |byte: u8| {
                let all = _mm_set1_epi8(byte as i8);
                let bits = |lane| bits(_mm_cmpeq_epi8(lane, all));
                bits(a) | bits(b) << 16 | bits(c) << 32 | bits(d) << 48
            };
            let least = _mm_min_epu8(_mm_min_epu8(a, b), _mm_min_epu8(c, d));
            let control = _mm_cmpeq_epi8(_mm_min_epu8(least, _mm_set1_epi8(0x1f)), least);
            let any = _mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d));
            Masks { quote: equal(b'"'), backslash: equal(b'\\'), control: bits(control) != 0, ascii: bits(any) == 0 }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub fn of(block: &[u8; BLOCK]) -> Masks {
        Masks::plain(block)
    }

    #[cfg(any(test, not(target_arch = "x86_64")))]
    fn plain(block: &[u8; BLOCK]) -> Masks {
        let equal = |byte: u8| block.iter().rev().fold(0, |bits, b| bits << 1 | u64::from(*b == byte));
        Masks {
            quote: equal(b'"'),
            backslash: equal(b'\\'),
            control: block.iter().any(|b| *b < 0x20),
            ascii: block.is_ascii(),
        }
    }
}

#[cfg(test)]
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
