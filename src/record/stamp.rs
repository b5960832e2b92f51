//! The time of a record: RFC 3339 as Go writes it, read without the help of a calendar library, which would cost more
//! than the rest of the line.

use std::fmt;

/// A UTC instant to the nanosecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    secs: i64,
    nanos: u32,
}

const DAY: i64 = 86_400;

impl Stamp {
    pub const MIN: Stamp = Stamp { secs: i64::MIN, nanos: 0 };
    pub const MAX: Stamp = Stamp { secs: i64::MAX, nanos: 999_999_999 };

    /// Seconds since 1970-01-01T00:00:00Z, rounded down, and nanoseconds after that second.
    pub fn new(secs: i64, nanos: u32) -> Stamp {
        Stamp { secs, nanos }
    }

    pub fn unix(self) -> (i64, u32) {
        (self.secs, self.nanos)
    }

    pub fn plus(self, secs: i64) -> Stamp {
        Stamp { secs: self.secs.saturating_add(secs), ..self }
    }

    /// `YYYY-MM-DDTHH:MM:SS`, up to nine digits of a fraction, then `Z` or `+HH:MM`. No leap second: Go knows none.
    pub fn parse(text: &[u8]) -> Option<Stamp> {
        let (clock, rest) = text.split_first_chunk::<19>()?;
        let two = |at: usize| digits(&clock[at..at + 2]);
        let separators = [clock[4], clock[7], clock[10], clock[13], clock[16]];
        let (year, month, day) = (digits(&clock[..4])?, two(5)?, two(8)?);
        let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
        let possible = separators == *b"--T::"
            && (1..=12).contains(&month)
            && (1..=days_of(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        let (nanos, zone) = fraction(rest)?;
        let local = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
        possible.then_some(Stamp { secs: local - offset(zone)?, nanos })
    }
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

/// Nanoseconds, and what is left.
pub(super) fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let Some(text) = text.strip_prefix(b".") else { return Some((0, text)) };
    let len = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (fraction, rest) = text.split_at(len);
    let value = digits(fraction).filter(|_| (1..=9).contains(&len))?;
    let nanos = value * 10_i64.pow(9 - len as u32);
    Some((u32::try_from(nanos).ok()?, rest))
}

/// Seconds that a zone is ahead of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    let sign = match zone {
        b"Z" => return Some(0),
        [b'+', _, _, b':', _, _] => 1,
        [b'-', _, _, b':', _, _] => -1,
        _ => return None,
    };
    let (hours, minutes) = (digits(&zone[1..3])?, digits(&zone[4..])?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a day of the Gregorian calendar. Years begin in March here: the day that comes and goes is last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Seconds and nanoseconds: for tests and logs, where it is compared rather than read.
impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.secs, self.nanos)
    }
}
