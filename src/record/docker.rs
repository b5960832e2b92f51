//! The form that Docker writes, judged in blocks of 64 bytes, and many lines at a time: an eighth of the time that `parse` takes.
//!
//! Invariant: what this takes for a record is a line with its line feed, and one that [`check`](super::check) takes, with the
//! same time.

use super::Stamp;
use super::json::hex4;
use super::masks::{BLOCK, Masks, Work, with_masks};
use super::stamp::fraction;

/// Judges line after line, most of which are of the minute of the one before.
#[derive(Default)]
pub struct Docker {
    /// `YYYY-MM-DDTHH:MM:`, known to be possible, and when that begins.
    minute: Option<[u8; 17]>,
    begins: i64,
}

/// What stands at the front of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Bytes that they take, line feeds and all.
    pub len: usize,
    pub count: u64,
    /// Of the first and of the last.
    pub times: Option<(Stamp, Stamp)>,
}

const BEGIN: &[u8] = b"{\"log\":\"";
const MIDDLE: [&[u8; 28]; 2] = [b"\",\"stream\":\"stdout\",\"time\":\"", b"\",\"stream\":\"stderr\",\"time\":\""];
const END: &[u8] = b"\"}\n";

impl Docker {
    /// Passes records as far as they are of this form and whole: `{"log":"…","stream":"stdout","time":"…Z"}`. What
    /// stands behind them may be a record all the same.
    pub fn records(&mut self, text: &[u8]) -> Records {
        with_masks(Front { docker: self, text })
    }

    /// The length and the time of the record that `text` begins with. Where it ends is found by the way: nobody has to
    /// look for its line feed before.
    #[inline(always)]
    fn record(&mut self, text: &[u8], masks: &impl Fn(&[u8; BLOCK]) -> Masks) -> Option<(usize, Stamp)> {
        let log = text.strip_prefix(BEGIN)?;
        let len = inside_of_string(log, masks)?;
        let (middle, time) = log[len..].split_first_chunk::<28>()?;
        // Both are compared: the two take turns, and no guess at the branch would be any good.
        if !((middle == MIDDLE[0]) | (middle == MIDDLE[1])) {
            return None;
        }
        // Times have 20 to 30 bytes, mostly 30.
        let end = (20..=30).rev().find(|len| time.get(*len..len + END.len()) == Some(END))?;
        let stamp = self.time(&time[..end])?;
        Some((BEGIN.len() + len + middle.len() + end + END.len(), stamp))
    }

    #[inline(always)]
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

struct Front<'a> {
    docker: &'a mut Docker,
    text: &'a [u8],
}

impl Work for Front<'_> {
    type Result = Records;

    #[inline(always)]
    fn run(self, masks: impl Fn(&[u8; BLOCK]) -> Masks) -> Records {
        let mut records = Records::default();
        while let Some((len, stamp)) = self.docker.record(&self.text[records.len..], &masks) {
            records.len += len;
            records.count += 1;
            records.times = Some((records.times.map_or(stamp, |times| times.0), stamp));
        }
        records
    }
}

/// How many bytes stand before the quote that ends the string whose inside `text` begins with; none if JSON could not have
/// them between two quotes.
#[inline(always)]
fn inside_of_string(text: &[u8], masks: &impl Fn(&[u8; BLOCK]) -> Masks) -> Option<usize> {
    let (mut carry, mut high) = (0, 0);
    let mut start = 0;
    loop {
        let block = match text[start..].first_chunk() {
            Some(block) => masks(block),
            None => {
                let mut block = [b' '; BLOCK];
                block[..text.len() - start].copy_from_slice(&text[start..]);
                masks(&block)
            }
        };
        let escaped = escaped(block.backslash, &mut carry);
        let ends = block.quote & !escaped;
        // All bits below the lowest of these; all there are, if there is none.
        let before = (ends & ends.wrapping_neg()).wrapping_sub(1);
        if block.control & before != 0 {
            return None;
        }
        high |= block.high & before;
        let mut other = escaped & before & !(block.quote | block.backslash | block.n);
        while other != 0 {
            let at = start + other.trailing_zeros() as usize;
            // Four digits hold no quote: they stand before the end of the string, wherever that is.
            let valid = match text.get(at)? {
                b't' | b'r' | b'/' | b'b' | b'f' => true,
                b'u' => hex4(&text[at + 1..]).is_some(),
                _ => false,
            };
            if !valid {
                return None;
            }
            other &= other - 1;
        }
        if ends != 0 {
            let len = start + ends.trailing_zeros() as usize;
            return (high == 0 || std::str::from_utf8(&text[..len]).is_ok()).then_some(len);
        }
        start += BLOCK;
        if start >= text.len() {
            return None;
        }
    }
}

/// Which characters stand behind a backslash that does not stand behind one itself; `carry` is for the first of the next
/// block. As in simdjson: one subtraction runs through every row of backslashes.
#[inline(always)]
fn escaped(backslash: u64, carry: &mut u64) -> u64 {
    const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
    let begins = backslash & !*carry;
    let runs = ((begins << 1) | ODD).wrapping_sub(begins) ^ ODD;
    let escaped = runs ^ (backslash | *carry);
    *carry = (runs & backslash) >> 63;
    escaped
}

/// Nine digits, as Docker mostly writes: eight of them at once.
#[inline(always)]
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

    use super::super::check;
    use super::*;

    /// If `line` is one record of the form that is known.
    fn stamp(docker: &mut Docker, line: &[u8]) -> Option<Stamp> {
        let records = docker.records(line);
        let (first, last) = records.times?;
        assert_eq!((records.len, records.count, first), (line.len(), 1, last));
        Some(first)
    }

    fn line(log: &str, time: &str) -> Vec<u8> {
        format!("{{\"log\":\"{log}\",\"stream\":\"stderr\",\"time\":\"{time}\"}}\n").into_bytes()
    }

    const TIME: &str = "2022-08-24T21:12:33.534988517Z";
    const TIMES: [&str; 3] = [TIME, "2022-08-24T21:12:34.53498851Z", "2022-08-24T21:13:00Z"];

    fn change() -> impl Strategy<Value = u8> {
        prop_oneof![any::<u8>(), prop::sample::select(b"\"\\{}[],:0-.eunZT \n".to_vec())]
    }

    #[test]
    fn what_docker_writes_is_known() {
        let long = "\\\\".repeat(100);
        for log in
            ["", "a", "a \\\"b\\\" \\u003cc\\u003e \\\\n\\t\\n", "é😀", &long, &"x".repeat(64), &"\\\"".repeat(32)]
        {
            for time in [TIME, "2022-08-24T21:12:33Z", "2022-08-24T21:12:33.5Z"] {
                let line = line(log, time);
                assert_eq!(stamp(&mut Docker::default(), &line), check(&line).ok(), "{log} {time}");
                assert!(check(&line).is_ok(), "{log}");
            }
        }
    }

    #[test]
    fn the_minute_before_is_not_taken_for_this_one() {
        let mut docker = Docker::default();
        for time in [TIME, "2022-08-24T21:12:59Z", "2022-08-24T21:13:00Z", "2022-08-24T21:12:33.5Z"] {
            let line = line("x", time);
            assert_eq!(stamp(&mut docker, &line), check(&line).ok(), "{time}");
        }
        for time in ["2022-08-24T21:12:60Z", "2022-08-24T21:12:33.Z", "2022-08-24T21:12:33", "2022-08-32T21:12:33Z"] {
            assert_eq!(stamp(&mut docker, &line("x", time)), None, "{time}");
        }
        assert_eq!(stamp(&mut Docker::default(), &line("x", &format!("{}00Z", "\0".repeat(17)))), None);
    }

    #[test]
    fn many_at_once_up_to_what_is_none() {
        let known: Vec<u8> = TIMES.iter().flat_map(|time| line("a \\\"b\\\" \\n", time)).collect();
        let times = Some((check(&line("", TIMES[0])).unwrap(), check(&line("", TIMES[2])).unwrap()));
        for behind in ["", "x", "\n", "{\"log\":\"", "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"attrs\":{}}\n"] {
            let text = [&known[..], behind.as_bytes()].concat();
            let records = Docker::default().records(&text);
            assert_eq!(records, Records { len: known.len(), count: 3, times }, "{behind}");
        }
        for cut in 0..known.len() {
            let records = Docker::default().records(&known[..cut]);
            let whole = memchr::memrchr(b'\n', &known[..cut]).map_or(0, |end| end + 1);
            assert_eq!(records.len, whole, "cut at {cut}");
        }
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
            lines in prop::collection::vec(
                ("([ -~é\\n\\t]|\\\\[\"\\\\nu/x]|\\\\u00[0-9a-g]{2}){0,140}", prop::sample::select(TIMES.to_vec())), 1..6),
            changes in prop::collection::vec((any::<prop::sample::Index>(), change()), 0..4),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut text = lines.iter().map(|(log, time)| line(log, time)).collect::<Vec<_>>().concat();
            for (at, byte) in changes {
                let at = at.index(text.len());
                text[at] = byte;
            }
            text.truncate(cut.map_or(text.len(), |cut| cut.index(text.len() + 1)));
            // Each line alone, and all that is known at once and the others alone.
            let plain: Vec<_> = text.split_inclusive(|b| *b == b'\n').map(check).collect();
            let (mut docker, mut rest, mut seen) = (Docker::default(), &text[..], 0);
            while !rest.is_empty() {
                let records = docker.records(rest);
                let taken = &plain[seen..][..records.count as usize];
                prop_assert!(taken.iter().all(Result::is_ok), "{}", String::from_utf8_lossy(&text));
                let times = taken.first().zip(taken.last()).map(|(first, last)| (first.unwrap(), last.unwrap()));
                prop_assert_eq!(times, records.times);
                let (front, behind) = rest.split_at(records.len);
                prop_assert_eq!(memchr::memchr_iter(b'\n', front).count(), taken.len());
                prop_assert!(front.is_empty() || front.ends_with(b"\n"));
                let end = memchr::memchr(b'\n', behind).map_or(behind.len(), |end| end + 1);
                (rest, seen) = (&behind[end..], seen + taken.len() + usize::from(end > 0));
            }
            prop_assert_eq!(seen, plain.len());
        }

        #[test]
        fn and_never_stricter_with_what_serde_writes(log in any::<String>()) {
            let log = serde_json::to_string(&log).unwrap();
            let line = line(&log[1..log.len() - 1], TIME);
            prop_assert_eq!(stamp(&mut Docker::default(), &line), Some(check(&line).unwrap()));
        }
    }
}
