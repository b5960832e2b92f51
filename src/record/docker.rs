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
        let (nanos, b"Z") = fraction(rest)? else { return None };
        Some(Stamp::new(self.begins + i64::from(10 * (a - b'0') + b - b'0'), nanos))
    }
}

/// Whether JSON could have the first `len` bytes of `text` between two quotes.
fn is_inside_of_string(text: &[u8], len: usize) -> bool {
    let (mut ascii, mut escapes) = (true, false);
    let mut start = 0;
    while start < len {
        let mut masks = match text[start..].first_chunk() {
            Some(block) => Masks::of(block),
            None => {
                let mut block = [b' '; BLOCK];
                block[..text.len() - start].copy_from_slice(&text[start..]);
                Masks::of(&block)
            }
        };
        if len - start < BLOCK {
            masks.keep(len - start);
        }
        ascii &= masks.high == 0;
        let escaped = escaped(masks.backslash, &mut escapes);
        if masks.control != 0 || masks.quote & !escaped != 0 {
            return false;
        }
        let mut other = escaped & !(masks.quote | masks.backslash | masks.n);
        while other != 0 {
            // The end of the string counts as escaped if a backslash is last.
            let at = start + other.trailing_zeros() as usize;
            let valid = at < len
                && match text[at] {
                    b'/' | b'b' | b'f' | b'r' | b't' => true,
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
        assert_eq!(Docker::default().stamp(&line("x", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\000Z")), None);
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
