//! Huffman tables (RFC 1951, 3.2.2 and 3.2.5): what the next bits of the stream mean, in one look, or in two for long codes.
//!
//! An entry is one `u32`, so that a symbol, or two literals, cost one load:
//!
//! ```text
//! bits  0..8   bits to use up: the code (both codes) and the extra bits behind it
//! bits  8..12  bits of the code alone, of the first of two; with LOOK_AGAIN how many bits say where
//! bit  12      LITERAL: bits 16..24 are a byte; with PAIR bits 24..32 are the byte after it
//! bit  13      PAIR; with EXCEPTION it is END, the end of the block
//! bit  14      with EXCEPTION: LOOK_AGAIN, at bits 16.. plus what the bits behind the root's say
//! bit  15      EXCEPTION, and if it is neither END nor LOOK_AGAIN, no code
//! bits 16..32  else: a base length, distance or number, to which the extra bits are added
//! ```
//!
//! Sets of codes are refused as zlib does: more codes than fit, and fewer, except for no code or a single one of one bit. (It
//! takes no such set of codes of lengths, but none of those leads to a block that it takes.)

pub(super) const LITERAL: u32 = 1 << 12;
pub(super) const PAIR: u32 = 1 << 13;
pub(super) const END: u32 = 1 << 13;
pub(super) const LOOK_AGAIN: u32 = 1 << 14;
pub(super) const EXCEPTION: u32 = 1 << 15;

/// No code. It has a length, so that who has no bits at all asks for some before it is an error.
pub(super) const INVALID: u32 = EXCEPTION | 1 << 8 | 1;

/// Bits that the first look sees. Measured on Docker JSON (gzip -6): with 11 bits for literals and lengths inflate takes 2 %
/// longer and with 12 bits 9 %, since blocks are short and their tables have to be made.
pub(super) const LITLEN_BITS: u32 = 10;
pub(super) const DISTANCE_BITS: u32 = 8;
pub(super) const CODE_BITS: u32 = 7;

/// The longest code, in bits.
const LONGEST: usize = 15;

/// The most entries that any set of codes needs: `enough 288 10 15` and `enough 32 8 15` of zlib's examples.
const LITLEN_SIZE: usize = 1334;
const DISTANCE_SIZE: usize = 402;

/// What the symbols mean, as entries that lack the length of the code.
const LITLEN: [u32; 288] = {
    let mut all = [EXCEPTION; 288];
    let mut byte = 0;
    while byte < 256 {
        all[byte] = (byte as u32) << 16 | LITERAL;
        byte += 1;
    }
    all[256] = EXCEPTION | END;
    let (mut length, mut i) = (3, 0);
    while i < 28 {
        let extra = if i < 8 { 0 } else { i / 4 - 1 };
        all[257 + i as usize] = length << 16 | extra;
        length += 1 << extra;
        i += 1;
    }
    all[285] = 258 << 16;
    all
};

const DISTANCE: [u32; 32] = {
    let mut all = [EXCEPTION; 32];
    let (mut distance, mut i) = (1, 0);
    while i < 30 {
        let extra = if i < 4 { 0 } else { i / 2 - 1 };
        all[i as usize] = distance << 16 | extra;
        distance += 1 << extra;
        i += 1;
    }
    all
};

const CODE: [u32; 19] = {
    let mut all = [0; 19];
    let mut i = 0;
    while i < 19 {
        all[i] = (i as u32) << 16;
        i += 1;
    }
    all
};

/// The tables of a block.
#[derive(Clone)]
pub(super) struct Tables {
    pub litlen: [u32; LITLEN_SIZE],
    pub distance: [u32; DISTANCE_SIZE],
    /// Of the lengths of the codes of the other two.
    pub code: [u32; 1 << CODE_BITS],
}

impl Tables {
    pub fn new() -> Tables {
        Tables { litlen: [INVALID; LITLEN_SIZE], distance: [INVALID; DISTANCE_SIZE], code: [INVALID; 1 << CODE_BITS] }
    }

    /// The codes of a fixed block (RFC 1951, 3.2.6).
    pub fn set_fixed(&mut self) {
        let mut lens = [8; 288];
        lens[144..256].fill(9);
        lens[256..280].fill(7);
        self.set_litlen(&lens);
        self.set_distance(&[5; 32]);
    }

    /// From the length of each symbol's code, 0 for none. False: such codes cannot be.
    pub fn set_litlen(&mut self, lens: &[u8]) -> bool {
        let good = build(lens, &LITLEN, &mut self.litlen, LITLEN_BITS);
        if good {
            pair(&mut self.litlen);
        }
        good
    }

    pub fn set_distance(&mut self, lens: &[u8]) -> bool {
        build(lens, &DISTANCE, &mut self.distance, DISTANCE_BITS)
    }

    pub fn set_code(&mut self, lens: &[u8]) -> bool {
        // One code alone, which leaves room, may be in the other two only.
        let alone = lens.iter().filter(|len| **len > 0).count() == 1;
        !alone && build(lens, &CODE, &mut self.code, CODE_BITS)
    }
}

/// Literals whose codes fit into one look together become one entry: log text has many with short codes, as in UUIDs.
fn pair(table: &mut [u32; LITLEN_SIZE]) {
    // Downwards: the second is looked up further down, where nothing is paired yet.
    for at in (0..1 << LITLEN_BITS).rev() {
        let first = table[at];
        if first & LITERAL == 0 {
            continue;
        }
        let second = table[at >> (first & 0xff)];
        let len = second & 0xff;
        if second & LITERAL != 0 && (first & 0xff) + len <= LITLEN_BITS {
            table[at] = (first + len) | (second & 0xff_0000) << 8 | PAIR;
        }
    }
}

/// Fills `table`, of which the first look sees `root` bits.
fn build(lens: &[u8], meanings: &[u32], table: &mut [u32], root: u32) -> bool {
    let mut counts = [0_u16; LONGEST + 1];
    lens.iter().for_each(|len| counts[usize::from(*len) & LONGEST] += 1);
    // Symbols are sorted by the length of their code: where each length starts. `left` is how many more codes would fit.
    let mut starts = [0_u16; LONGEST + 2];
    let (mut left, mut longest) = (1_i32, 0);
    for len in 1..=LONGEST {
        starts[len + 1] = starts[len] + counts[len];
        left = (left << 1) - i32::from(counts[len]);
        if left < 0 {
            return false;
        }
        if counts[len] > 0 {
            longest = len;
        }
    }
    let used = usize::from(starts[LONGEST + 1]);
    let mut sorted = [0_u32; 288];
    for (meaning, len) in meanings.iter().zip(lens).filter(|(_, len)| **len > 0) {
        let next = &mut starts[usize::from(*len)];
        sorted[usize::from(*next)] = *meaning;
        *next += 1;
    }
    let mut sorted = sorted[..used].iter().copied();

    let size = 1 << root;
    if left > 0 {
        if longest > 1 {
            return false;
        }
        table[..size].fill(INVALID);
        if let Some(meaning) = sorted.next() {
            table[..size].iter_mut().step_by(2).for_each(|slot| *slot = with_code(meaning, 1));
        }
        return true;
    }

    // Codes come in order of length. Their first bit is kept lowest, as they come in the stream.
    let (mut code, mut end) = (0, 1);
    for len in 1..=root {
        // What shorter codes mean does not depend on one bit more.
        table.copy_within(..end, end);
        end <<= 1;
        for meaning in sorted.by_ref().take(counts[len as usize].into()) {
            table[code] = with_code(meaning, len);
            code = after(code, end);
        }
    }
    // Longer ones have a second table for each different beginning.
    let mut second = 0..0;
    let mut prefix = size;
    for len in root as usize + 1..=longest {
        let more = len as u32 - root;
        for (n, meaning) in sorted.by_ref().take(counts[len].into()).enumerate() {
            if code & (size - 1) != prefix {
                prefix = code & (size - 1);
                // Its size: codes of this length that are left, and longer ones, until it is full.
                let (mut bits, mut room) = (more, usize::from(counts[len]) - n);
                while room < 1 << bits && bits + root < LONGEST as u32 {
                    bits += 1;
                    room = 2 * room + usize::from(counts[(root + bits) as usize]);
                }
                second = end..end + (1 << bits);
                end = second.end;
                table[prefix] = (second.start as u32) << 16 | EXCEPTION | LOOK_AGAIN | bits << 8 | root;
            }
            // Never so: see LITLEN_SIZE.
            let Some(slots) = table.get_mut(second.clone()) else { return false };
            slots.iter_mut().skip(code >> root).step_by(1 << more).for_each(|slot| *slot = with_code(meaning, more));
            code = after(code, 1 << len);
        }
    }
    true
}

/// An entry of a code that has so many bits, behind the root's in a second table.
fn with_code(meaning: u32, len: u32) -> u32 {
    meaning + (len << 8 | len)
}

/// The code after this one of the same length, `end` being beyond the last of that length. Anything after the last.
fn after(code: usize, end: usize) -> usize {
    // Adds one, from the highest bit down.
    match (code ^ (end - 1)).checked_ilog2() {
        Some(top) => code & ((1 << top) - 1) | 1 << top,
        None => 0,
    }
}
