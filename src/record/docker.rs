//! The form that Docker writes, judged in blocks of 64 bytes: a fourth of the time that `parse` takes.
//!
//! Invariant: what this takes for a record is one, with the time that [`check`] gives it.

use super::json::hex4;
use super::masks::{BLOCK, Masks};
use super::stamp::fraction;
use super::{Stamp, Why, check};

/// Judges line after line, most of which are of the minute of the one before.
#[derive(Default)]
pub struct Docker {
    /// `YYYY-MM-DDTHH:MM:`, known to be possible, and when that begins.
    minute: Option<[u8; 17]>,
    begins: i64,
}

impl Docker {
    /// What [`check`] says.
    pub fn check(&mut self, line: &[u8]) -> Result<Stamp, Why> {
        self.stamp(line).map_or_else(|| check(line), Ok)
    }

    /// `{"log":"…","stream":"stdout","time":"…Z"}`
    fn stamp(&mut self, line: &[u8]) -> Option<Stamp> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_prefix(b"{\"log\":\"")?.strip_suffix(b"\"}")?;
        // Times have 20 to 30 bytes, mostly 30; before one is `:"`, which no time holds.
        let before = (20..=30)
            .rev()
            .filter_map(|len| line.len().checked_sub(len + 2))
            .find(|at| line[*at..].starts_with(b":\""))?;
        let (head, time) = (&line[..before], &line[before + 2..]);
        let head = head.strip_suffix(b"\",\"time\"")?;
        let streams = [b"\",\"stream\":\"stdout", b"\",\"stream\":\"stderr"];
        let log = streams.iter().find_map(|stream| head.strip_suffix(*stream))?;
        if is_inside_of_string(line, log.len()) { self.time(time) } else { None }
    }

    fn time(&mut self, time: &[u8]) -> Option<Stamp> {
        let (minute, rest) = time.split_first_chunk::<17>()?;
        let [a @ b'0'..=b'5', b @ b'0'..=b'9', rest @ ..] = rest else { return None };
        if Some(*minute) != self.minute {
            self.begins = Stamp::parse(&[minute, &b"00Z"[..]].concat())?.unix().0;
            self.minute = Some(*minute);
        }
        let nanos = match rest.split_last_chunk::<10>() {
            Some((b".", [digits @ .., b'Z'])) => nine(digits)?,
            _ => match fraction(rest)? {
                (nanos, b"Z") => nanos,
                _ => return None,
            },
        };
        Some(Stamp::new(self.begins + i64::from(10 * (a - b'0') + b - b'0'), nanos))
    }
}

/// Whether JSON could have the first `len` bytes of `text` between two quotes.
fn is_inside_of_string(text: &[u8], len: usize) -> bool {
    let (mut ascii, mut escapes) = (true, false);
    let mut start = 0;
    while start < len {
        let block = match text[start..].first_chunk() {
            Some(block) => Masks::of(block),
            None => {
                let mut block = [b' '; BLOCK];
                block[..text.len() - start].copy_from_slice(&text[start..]);
                Masks::of(&block)
            }
        };
        let within = if len - start < BLOCK { (1 << (len - start)) - 1 } else { u64::MAX };
        let (quote, backslash) = (block.quote & within, block.backslash & within);
        ascii &= block.ascii;
        let escaped = escaped(backslash, &mut escapes);
        if block.control || quote & !escaped != 0 {
            return false;
        }
        let mut other = escaped & !(quote | backslash);
        while other != 0 {
            // The end of the string counts as escaped if a backslash is last.
            let at = start + other.trailing_zeros() as usize;
            let valid = at < len
                && match text[at] {
                    b'n' | b't' | b'r' | b'/' | b'b' | b'f' => true,
                    b'u' => hex4(&text[at + 1..len]).is_some(),
                    _ => false,
                };
            if !valid {
                return false;
            }
            other &= other - 1;
        }
        start += BLOCK;
    }
    !escapes && (ascii || std::str::from_utf8(&text[..len]).is_ok())
}

/// Which characters stand behind a backslash that does not stand behind one itself; `carry` is for the first of the next
/// block. As in simdjson: one subtraction runs through every row of backslashes.
fn escaped(backslash: u64, carry: &mut bool) -> u64 {
    const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
    let before = u64::from(*carry);
    let begins = backslash & !before;
    let runs = ((begins << 1) | ODD).wrapping_sub(begins) ^ ODD;
    *carry = (runs & backslash) >> 63 != 0;
    runs ^ (backslash | before)
}

/// Nine digits, as Docker mostly writes: eight of them at once.
fn nine(digits: &[u8; 9]) -> Option<u32> {
    const ONES: u64 = u64::MAX / 255;
    let [eight @ .., last] = digits;
    let word = u64::from_le_bytes(*eight);
    // Digits are 0x30 to 0x39: six more still have the same high half.
    let all = (word & (word.wrapping_add(6 * ONES))) & (0xf0 * ONES) == 0x30 * ONES;
    if !all || !last.is_ascii_digit() {
        return None;
    }
    let value = word & (0x0f * ONES);
    let value = (value * 10 + (value >> 8)) & 0x00ff_00ff_00ff_00ff;
    let value = (value * 100 + (value >> 16)) & 0x0000_ffff_0000_ffff;
    let value = (value * 10_000 + (value >> 32)) & 0xffff_ffff;
    Some(value as u32 * 10 + u32::from(last - b'0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(log: &str, time: &str) -> Vec<u8> {
        format!("{{\"log\":\"{log}\",\"stream\":\"stderr\",\"time\":\"{time}\"}}\n").into_bytes()
    }

    const TIME: &str = "2022-08-24T21:12:33.534988517Z";

    #[test]
    fn what_docker_writes_is_known() {
        let long = "\\\\".repeat(100);
        for log in
            ["", "a", "a \\\"b\\\" \\u003cc\\u003e \\\\n\\t\\n", "é😀", &long, &"x".repeat(64), &"\\\"".repeat(32)]
        {
            for time in [TIME, "2022-08-24T21:12:33Z", "2022-08-24T21:12:33.5Z"] {
                let line = line(log, time);
                assert_eq!(Docker::default().stamp(&line), check(&line).ok(), "{log} {time}");
                assert!(check(&line).is_ok(), "{log}");
            }
        }
    }

    #[test]
    fn the_minute_before_is_not_taken_for_this_one() {
        let mut docker = Docker::default();
        for time in [TIME, "2022-08-24T21:12:59Z", "2022-08-24T21:13:00Z", "2022-08-24T21:12:33.5Z"] {
            let line = line("x", time);
            assert_eq!(docker.stamp(&line), check(&line).ok(), "{time}");
        }
        for time in ["2022-08-24T21:12:60Z", "2022-08-24T21:12:33.Z", "2022-08-24T21:12:33", "2022-08-32T21:12:33Z"] {
            assert_eq!(docker.stamp(&line("x", time)), None, "{time}");
        }
        assert_eq!(Docker::default().stamp(&line("x", &format!("{}00Z", "\0".repeat(17)))), None);
    }

    #[test]
    fn nine_digits() {
        assert_eq!(nine(b"534988517"), Some(534_988_517));
        assert_eq!((nine(b"000000000"), nine(b"999999999")), (Some(0), Some(999_999_999)));
        for at in 0..9 {
            for byte in (0..=255).filter(|b: &u8| !b.is_ascii_digit()) {
                let mut digits = *b"095270619";
                digits[at] = byte;
                assert_eq!(nine(&digits), None, "{byte} at {at}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn it_is_never_more_lenient_than_parse(
            log in "([ -~é\\n\\t]|\\\\[\"\\\\nu/x]|\\\\u00[0-9a-g]{2}){0,140}",
            at in any::<prop::sample::Index>(),
            byte in prop_oneof![any::<u8>(), prop::sample::select(b"\"\\{}[],:0-.eunZT \n".to_vec())],
            change: bool,
        ) {
            let mut line = line(&log, TIME);
            if change {
                let at = at.index(line.len());
                line[at] = byte;
            }
            prop_assert_eq!(Docker::default().check(&line), check(&line), "{}", String::from_utf8_lossy(&line));
        }

        #[test]
        fn and_never_stricter_with_what_serde_writes(log in any::<String>()) {
            let log = serde_json::to_string(&log).unwrap();
            let line = line(&log[1..log.len() - 1], TIME);
            prop_assert_eq!(Docker::default().stamp(&line), Some(check(&line).unwrap()));
        }
    }
}
