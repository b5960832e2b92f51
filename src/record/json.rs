//! A strict walk over JSON text (RFC 8259) that is known to be UTF-8, without a copy.
//!
//! Invariant: whatever [`Cursor`] has passed was valid. Nesting is bounded, so that no line can use up the stack.

/// Deeper values are taken for no JSON, as other readers do.
const DEEPEST: u32 = 128;

pub(super) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a [u8]) -> Cursor<'a> {
        Cursor { text, at: 0 }
    }

    pub fn is_at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    pub fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Passes `byte` if it is next.
    pub fn skip(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    pub fn take(&mut self, byte: u8) -> Option<()> {
        self.skip(byte).then_some(())
    }

    pub fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// Passes a string; what stands between its quotes, escapes and all.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let start = self.at;
        loop {
            self.at += plain(self.text.get(self.at..)?);
            match self.peek()? {
                b'"' => break,
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
        self.at += 1;
        self.text.get(start..self.at - 1)
    }

    fn escape(&mut self) -> Option<()> {
        let len = match self.text.get(self.at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
            b'u' => hex4(self.text.get(self.at + 2..)?).map(|_| 6)?,
            _ => return None,
        };
        self.at += len;
        Some(())
    }

    /// Passes any value.
    pub fn value(&mut self) -> Option<()> {
        self.nested(DEEPEST)
    }

    fn nested(&mut self, depth: u32) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'{' => self.members(depth.checked_sub(1)?, b'}'),
            b'[' => self.members(depth.checked_sub(1)?, b']'),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    /// The members of an object or the elements of an array, brackets included.
    fn members(&mut self, depth: u32, close: u8) -> Option<()> {
        self.at += 1;
        self.space();
        if self.skip(close) {
            return Some(());
        }
        loop {
            if close == b'}' {
                self.string()?;
                self.space();
                self.take(b':')?;
                self.space();
            }
            self.nested(depth)?;
            self.space();
            if self.skip(close) {
                return Some(());
            }
            self.take(b',')?;
            self.space();
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.text.get(self.at..)?.starts_with(word).then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        self.skip(b'-');
        if !self.skip(b'0') {
            self.digits()?;
        }
        if self.skip(b'.') {
            self.digits()?;
        }
        if self.skip(b'e') || self.skip(b'E') {
            let _ = self.skip(b'+') || self.skip(b'-');
            self.digits()?;
        }
        Some(())
    }

    /// One at least.
    fn digits(&mut self) -> Option<()> {
        let len = self.text.get(self.at..)?.iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += len;
        (len > 0).then_some(())
    }
}

/// How many bytes stand before the first quote, backslash or control character: eight are looked at at a time.
fn plain(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // The lowest high bit that is left marks the first byte below `n` (n <= 128): what borrows is such a byte itself.
    let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word;
    let (words, _) = text.as_chunks::<8>();
    for (n, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let (quote, backslash) = (word ^ (ONES * u64::from(b'"')), word ^ (ONES * u64::from(b'\\')));
        let hits = (below(word, 0x20) | below(quote, 1) | below(backslash, 1)) & HIGH;
        if hits != 0 {
            return 8 * n + hits.trailing_zeros() as usize / 8;
        }
    }
    let done = 8 * words.len();
    done + text[done..].iter().take_while(|b| **b >= 0x20 && !matches!(b, b'"' | b'\\')).count()
}

pub(super) fn hex4(text: &[u8]) -> Option<u32> {
    let digits = text.first_chunk::<4>()?;
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

/// Appends what the inside of a valid string means. Half a surrogate pair is no character: U+FFFD.
pub(super) fn unescape(mut raw: &[u8], into: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr(b'\\', raw) {
        into.extend_from_slice(&raw[..at]);
        let escape = raw.get(at + 1).copied().unwrap_or(b'\\');
        raw = raw.get(at + 2..).unwrap_or_default();
        match escape {
            b'b' => into.push(0x08),
            b'f' => into.push(0x0c),
            b'n' => into.push(b'\n'),
            b'r' => into.push(b'\r'),
            b't' => into.push(b'\t'),
            b'u' => {
                let (character, used) = character(raw);
                into.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                raw = raw.get(used..).unwrap_or_default();
            }
            itself => into.push(itself),
        }
    }
    into.extend_from_slice(raw);
}

/// The character whose `\u` stands before `raw`, and the bytes that it takes of it.
fn character(raw: &[u8]) -> (char, usize) {
    let lost = (char::REPLACEMENT_CHARACTER, 4);
    let Some(first) = hex4(raw) else { return lost };
    if let Some(character) = char::from_u32(first) {
        return (character, 4);
    }
    let second = raw.get(4..).and_then(|rest| rest.strip_prefix(br"\u")).and_then(hex4);
    match (first, second) {
        (0xd800..0xdc00, Some(second @ 0xdc00..0xe000)) => {
            let joined = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            (char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER), 10)
        }
        _ => lost,
    }
}
