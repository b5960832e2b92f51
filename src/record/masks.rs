//! Where in 64 bytes of text the characters stand that matter to JSON: a bit for each byte, the lowest for the first.
//!
//! One loop over blocks, [`Work`], is compiled once for each way to look at them, and the best that the machine has is
//! taken for a whole text: to ask for each block would cost as much as to look at it.

pub(super) const BLOCK: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Masks {
    pub quote: u64,
    pub backslash: u64,
    /// The letter n, which stands behind most backslashes.
    pub n: u64,
    /// Below 0x20.
    pub control: u64,
    /// No ASCII.
    pub high: u64,
}

/// What is to be done with masks. `run` is to be `#[inline(always)]`: so it is made of what its caller may use.
pub(super) trait Work {
    type Result;
    fn run(self, masks: impl Fn(&[u8; BLOCK]) -> Masks) -> Self::Result;
}

#[cfg(target_arch = "x86_64")]
pub(super) fn with_masks<W: Work>(work: W) -> W::Result {
    // SAFETY: each is called where the machine has what it needs, and SSE2 is part of x86_64.
    unsafe {
        match () {
            () if x86::has_avx512() => x86::avx512(work),
            () if x86::has_avx2() => x86::avx2(work),
            () => x86::sse2(work),
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn with_masks<W: Work>(work: W) -> W::Result {
    work.run(words)
}

/// Eight bytes at a time, on any machine.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn words(block: &[u8; BLOCK]) -> Masks {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // The high bits of the bytes that are zero; no byte carries into the next.
    let zero = |word: u64| !(((word & !HIGH) + !HIGH) | word) & HIGH;
    // Those bits side by side: the product moves the one of byte n to bit 56 + n.
    let bits = |high: u64| (high >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    let mut masks = Masks { quote: 0, backslash: 0, n: 0, control: 0, high: 0 };
    for (at, word) in block.as_chunks::<8>().0.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let equal = |byte: u8| bits(zero(word ^ (ONES * u64::from(byte)))) << (8 * at);
        masks.quote |= equal(b'"');
        masks.backslash |= equal(b'\\');
        masks.n |= equal(b'n');
        masks.control |= bits(zero(word & (ONES * 0xe0))) << (8 * at);
        masks.high |= bits(word & HIGH) << (8 * at);
    }
    masks
}

/// By name, as plain Rust is not made into these instructions.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, Masks, Work};

    fn word(block: &[u8; BLOCK], at: usize) -> i64 {
        i64::from_le_bytes(std::array::from_fn(|n| block[8 * at + n]))
    }

    pub fn has_avx512() -> bool {
        is_x86_feature_detected!("avx512bw") && has_bits()
    }

    pub fn has_avx2() -> bool {
        is_x86_feature_detected!("avx2") && has_bits()
    }

    fn has_bits() -> bool {
        is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("popcnt")
    }

    #[target_feature(enable = "avx512f,avx512bw,bmi1,bmi2,popcnt")]
    pub fn avx512<W: Work>(work: W) -> W::Result {
        work.run(|block| {
            let word = |at| word(block, at);
            let all = _mm512_set_epi64(word(7), word(6), word(5), word(4), word(3), word(2), word(1), word(0));
            let equal = |byte: u8| _mm512_cmpeq_epi8_mask(all, _mm512_set1_epi8(byte as i8));
            Masks {
                quote: equal(b'"'),
                backslash: equal(b'\\'),
                n: equal(b'n'),
                control: _mm512_cmplt_epu8_mask(all, _mm512_set1_epi8(0x20)),
                high: _mm512_movepi8_mask(all),
            }
        })
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    pub fn avx2<W: Work>(work: W) -> W::Result {
        work.run(|block| {
            let half =
                |at| _mm256_set_epi64x(word(block, at + 3), word(block, at + 2), word(block, at + 1), word(block, at));
            let (a, b) = (half(0), half(4));
            let bits = |half| u64::from(_mm256_movemask_epi8(half) as u32);
            let equal = |byte: u8| {
                let byte = _mm256_set1_epi8(byte as i8);
                bits(_mm256_cmpeq_epi8(a, byte)) | bits(_mm256_cmpeq_epi8(b, byte)) << 32
            };
            let control = |half| bits(_mm256_cmpeq_epi8(_mm256_min_epu8(half, _mm256_set1_epi8(0x1f)), half));
            Masks {
                quote: equal(b'"'),
                backslash: equal(b'\\'),
                n: equal(b'n'),
                control: control(a) | control(b) << 32,
                high: bits(a) | bits(b) << 32,
            }
        })
    }

    #[target_feature(enable = "sse2")]
    pub fn sse2<W: Work>(work: W) -> W::Result {
        work.run(|block| {
            let quarter = |at: usize| _mm_set_epi64x(word(block, 2 * at + 1), word(block, 2 * at));
            let all = [quarter(0), quarter(1), quarter(2), quarter(3)];
            let bits = |all: [__m128i; 4]| {
                let [a, b, c, d] = all.map(|quarter| u64::from(_mm_movemask_epi8(quarter) as u16));
                a | b << 16 | c << 32 | d << 48
            };
            let equal = |byte: u8| bits(all.map(|quarter| _mm_cmpeq_epi8(quarter, _mm_set1_epi8(byte as i8))));
            Masks {
                quote: equal(b'"'),
                backslash: equal(b'\\'),
                n: equal(b'n'),
                control: bits(all.map(|quarter| _mm_cmpeq_epi8(_mm_min_epu8(quarter, _mm_set1_epi8(0x1f)), quarter))),
                high: bits(all),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Of<'a>(&'a [u8; BLOCK]);

    impl Work for Of<'_> {
        type Result = Masks;
        #[inline(always)]
        fn run(self, masks: impl Fn(&[u8; BLOCK]) -> Masks) -> Masks {
            masks(self.0)
        }
    }

    fn plain(block: &[u8; BLOCK]) -> Masks {
        let mask = |is: &dyn Fn(u8) -> bool| block.iter().rev().fold(0, |bits, b| bits << 1 | u64::from(is(*b)));
        Masks {
            quote: mask(&|b| b == b'"'),
            backslash: mask(&|b| b == b'\\'),
            n: mask(&|b| b == b'n'),
            control: mask(&|b| b < 0x20),
            high: mask(&|b| b >= 0x80),
        }
    }

    #[test]
    fn all_ways_see_the_same() {
        for byte in 0..=255 {
            for at in 0..BLOCK {
                for other in [b'a', b'"', 0x80, 0xff, 0] {
                    let mut block = [other; BLOCK];
                    block[at] = byte;
                    block[BLOCK - 1 - at] = b'"';
                    let plain = plain(&block);
                    assert_eq!(words(&block), plain, "{byte} at {at}");
                    assert_eq!(with_masks(Of(&block)), plain, "{byte} at {at}");
                    #[cfg(target_arch = "x86_64")]
                    if x86::has_avx2() {
                        // SAFETY: the machine has what they need.
                        let others = unsafe { [x86::sse2(Of(&block)), x86::avx2(Of(&block))] };
                        assert_eq!(others, [plain; 2], "{byte} at {at}");
                    }
                }
            }
        }
    }
}
