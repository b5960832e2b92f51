//! Instants and days as object keys write them (FORMAT.md section 1).
//!
//! Invariant: every [`Time`] and [`Date`] is UTC and lies in the years 0001 to 9999, so it prints with four digits of
//! year, has a day, and survives `parse(print(x))`. The calendar is the `time` crate's; only the *shape* of the text is
//! checked here, because that crate's parsers take more than the grammar does (signs, spaces, missing parts).

use ::time::format_description::well_known::Rfc3339;
use ::time::{Date as CalendarDate, Month, OffsetDateTime, UtcDateTime};
use std::fmt;
use std::ops::Range;

/// A UTC instant to the nanosecond, years 0001 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(UtcDateTime);

/// A UTC calendar day, years 0001 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(CalendarDate);

const DATE_SHAPE: &[u8] = b"dddd-dd-dd";
const TIME_SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd";
const MOST_FRACTION_DIGITS: usize = 9;
/// The Julian day of 1970-01-01.
const EPOCH: i32 = 2_440_588;

/// `d` in the shape stands for one ASCII digit, everything else for itself.
fn fits(text: &[u8], shape: &[u8]) -> bool {
    text.len() == shape.len()
        && text.iter().zip(shape).all(|(t, s)| if *s == b'd' { t.is_ascii_digit() } else { t == s })
}

/// Splits `YYYY-MM-DDTHH:MM:SS[.f]` into seconds and fraction digits (empty if there are none); `None` for another shape.
/// The instant may still be impossible (February 30).
fn shape(text: &str) -> Option<(&str, &str)> {
    let (seconds, fraction) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (text, ""),
    };
    let digits = fraction.len() <= MOST_FRACTION_DIGITS && fraction.bytes().all(|b| b.is_ascii_digit());
    (digits && fits(seconds.as_bytes(), TIME_SHAPE)).then_some((seconds, fraction))
}

/// What a text in the shape of a time in a key means: nothing if that is impossible. `None` for another shape.
pub(super) fn read(text: &str) -> Option<Option<Time>> {
    let (seconds, fraction) = shape(text)?;
    let instant = || {
        let number = |range: Range<usize>| number(seconds.get(range)?);
        let nanos = if fraction.is_empty() { 0 } else { format!("{fraction:0<9}").parse().ok()? };
        let (hour, minute, second) = (number(11..13)? as u8, number(14..16)? as u8, number(17..19)? as u8);
        let clock = ::time::Time::from_hms_nano(hour, minute, second, nanos).ok()?;
        Some(Time(UtcDateTime::new(calendar(number(0..4)?, number(5..7)?, number(8..10)?)?, clock)))
    };
    Some(instant())
}

/// Of digits, so few that they fit.
fn number(digits: &str) -> Option<u16> {
    digits.bytes().try_fold(0u16, |n, b| n.checked_mul(10)?.checked_add(u16::from(b.wrapping_sub(b'0'))))
}

fn calendar(year: u16, month: u16, day: u16) -> Option<CalendarDate> {
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let year = Some(year).filter(|year| *year > 0)?;
    CalendarDate::from_calendar_date(year.into(), month, u8::try_from(day).ok()?).ok()
}

impl Time {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Time = Time(UtcDateTime::UNIX_EPOCH);

    /// Strict `YYYY-MM-DDTHH:MM:SS[.f]`, 1 to 9 fraction digits, no zone, UTC. Impossible dates and times, the year 0000
    /// and leap seconds give `None`.
    pub fn parse(text: &str) -> Option<Time> {
        read(text).flatten()
    }

    /// RFC 3339 with `Z` or an offset, as people type it.
    pub fn parse_rfc3339(text: &str) -> Option<Time> {
        let t = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        Time::from_unix(t.unix_timestamp(), t.nanosecond())
    }

    /// Seconds since 1970-01-01T00:00:00Z (rounded down) and nanoseconds (below 10^9) after that second. `None` outside the
    /// years 0001 to 9999.
    pub fn from_unix(secs: i64, nanos: u32) -> Option<Time> {
        let t = UtcDateTime::from_unix_timestamp(secs).ok()?.replace_nanosecond(nanos).ok()?;
        (1..=9999).contains(&t.year()).then_some(Time(t))
    }

    /// The inverse of [`Time::from_unix`].
    pub fn unix(self) -> (i64, u32) {
        (self.0.unix_timestamp(), self.0.nanosecond())
    }

    pub fn date(self) -> Date {
        Date(self.0.date())
    }

    /// The form for file names: `20220824T211233Z`, with a fraction `20220824T211233.5Z`.
    pub fn compact(self) -> String {
        let mut text = String::with_capacity(TIME_SHAPE.len());
        self.write_compact(&mut text);
        text
    }

    /// The form for object keys: `2022-08-24T21:12:33`, with a fraction `2022-08-24T21:12:33.5`.
    pub fn in_key(self) -> String {
        let mut text = String::with_capacity(TIME_SHAPE.len());
        self.write_in_key(&mut text);
        text
    }

    /// Puts [`Time::compact`] behind what is in `out`.
    pub fn write_compact(self, out: &mut String) {
        self.write(out, "", "");
        out.push('Z');
    }

    /// Puts [`Time::in_key`] behind what is in `out`.
    pub fn write_in_key(self, out: &mut String) {
        self.write(out, "-", ":");
    }

    /// By hand: a listing of a million objects writes two million of them, and `format!` takes five times as long.
    fn write(self, out: &mut String, dash: &str, colon: &str) {
        let two = |out: &mut String, n: u8| out.extend([char::from(b'0' + n / 10), char::from(b'0' + n % 10)]);
        let (year, month, day) = self.0.to_calendar_date();
        let (h, m, s) = self.0.as_hms();
        // The years 0001 to 9999.
        two(out, (year / 100) as u8);
        two(out, (year % 100) as u8);
        for (before, n) in [(dash, u8::from(month)), (dash, day), ("T", h), (colon, m), (colon, s)] {
            out.push_str(before);
            two(out, n);
        }
        if self.0.nanosecond() > 0 {
            out.push_str(&Fraction(self.0.nanosecond()).to_string());
        }
    }
}

/// Nanoseconds as `.5`, trailing zeros cut, nothing for zero: what Docker writes.
struct Fraction(u32);

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return Ok(());
        }
        write!(f, ".{}", format!("{:09}", self.0).trim_end_matches('0'))
    }
}

/// RFC 3339, UTC, fraction trimmed: `2022-08-24T21:12:33Z`, `2022-08-24T21:12:33.5Z`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}Z", self.in_key())
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Date {
    /// Strict `YYYY-MM-DD`; impossible days and the year 0000 give `None`.
    pub fn parse(text: &str) -> Option<Date> {
        let number = |range: Range<usize>| number(text.get(range)?);
        let date = || calendar(number(0..4)?, number(5..7)?, number(8..10)?).map(Date);
        if fits(text.as_bytes(), DATE_SHAPE) { date() } else { None }
    }

    /// Midnight, the first instant of the day.
    pub fn start(self) -> Time {
        Time(self.0.midnight().as_utc())
    }

    /// The last instant of the day, one nanosecond before the next.
    pub fn end(self) -> Time {
        Time(UtcDateTime::new(self.0, ::time::Time::MAX))
    }

    /// The day after; `None` after 9999-12-31.
    pub fn next(self) -> Option<Date> {
        self.0.next_day().filter(|d| d.year() <= 9999).map(Date)
    }

    /// Days since 1970-01-01, negative before.
    pub fn day(self) -> i32 {
        self.0.to_julian_day().saturating_sub(EPOCH)
    }

    /// The inverse of [`Date::day`]; `None` outside the years 0001 to 9999.
    pub fn from_day(day: i32) -> Option<Date> {
        let date = CalendarDate::from_julian_day(day.checked_add(EPOCH)?).ok()?;
        (1..=9999).contains(&date.year()).then_some(Date(date))
    }
}

/// `2022-08-24`.
impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.0.to_calendar_date();
        write!(f, "{year:04}-{:02}-{day:02}", u8::from(month))
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_three_forms_of_a_time() {
        let t = Time::parse("2022-08-24T21:12:33.500").unwrap();
        assert_eq!(t.to_string(), "2022-08-24T21:12:33.5Z");
        assert_eq!(t.compact(), "20220824T211233.5Z");
        assert_eq!(t.in_key(), "2022-08-24T21:12:33.5");
        assert_eq!(t.unix(), (1_661_375_553, 500_000_000));
        let t = Time::parse("0001-01-01T00:00:00.000000001").unwrap();
        assert_eq!(t.to_string(), "0001-01-01T00:00:00.000000001Z");
        assert_eq!(t.compact(), "00010101T000000.000000001Z");
        assert_eq!(Time::parse("2022-08-24T21:12:33.0").unwrap().compact(), "20220824T211233Z");
    }

    #[test]
    fn impossible_or_loose_times_are_refused() {
        for text in [
            "2022-02-30T00:00:00",
            "2022-13-01T00:00:00",
            "2022-00-01T00:00:00",
            "2022-01-00T00:00:00",
            "2021-02-29T00:00:00",
            "0000-01-01T00:00:00",
            "2022-08-24T24:00:00",
            "2022-08-24T23:60:00",
            "2016-12-31T23:59:60",
        ] {
            assert!(read(text).is_some(), "{text}");
            assert_eq!(Time::parse(text), None, "{text}");
        }
        for text in [
            "",
            "unknown",
            "2022-08-24",
            "2022-08-24T21:12:33Z",
            "2022-08-24t21:12:33",
            "2022-08-24 21:12:33",
            "2022-08-24T21:12:33.",
            "2022-08-24T21:12:33.1234567890",
            "2022-08-24T21:12:33.1.2",
            "+022-08-24T21:12:33",
            "2022-08-24T21:12:+3",
            "2022-08-24T21:12:33.+5",
            "2022-8-24T21:12:33",
            "２022-08-24T21:12",
        ] {
            assert!(read(text).is_none(), "{text}");
            assert_eq!(Time::parse(text), None, "{text}");
        }
    }

    #[test]
    fn days() {
        let d = Date::parse("2022-08-24").unwrap();
        assert_eq!((d.start().to_string().as_str(), d.start().date()), ("2022-08-24T00:00:00Z", d));
        assert_eq!((d.end().to_string().as_str(), d.end().date()), ("2022-08-24T23:59:59.999999999Z", d));
        assert_eq!(Date::parse("1970-01-01").unwrap().day(), 0);
        assert_eq!(Date::parse("1969-12-31").unwrap().day(), -1);
        assert_eq!(Date::parse("2024-02-28").unwrap().next(), Date::parse("2024-02-29"));
        assert_eq!(Date::parse("9999-12-31").unwrap().next(), None);
        assert_eq!(Date::from_day(i32::MAX), None);
        assert_eq!(Date::from_day(Date::parse("0001-01-01").unwrap().day() - 1), None);
        for text in ["2022-02-31", "0000-01-01", "2022-8-24", "2022-08-24 ", "20220824", "", "-022-08-24"] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }

    #[test]
    fn rfc3339_knows_offsets() {
        let t = Time::parse("2022-08-24T21:12:33").unwrap();
        assert_eq!(Time::parse_rfc3339("2022-08-24T23:12:33+02:00"), Some(t));
        assert_eq!(Time::parse_rfc3339("2022-08-24T21:12:33Z"), Some(t));
        for text in ["2022-08-24T21:12:33", "2022-02-31T00:00:00Z", "2022-08-25x", "0001-01-01T00:00:00+23:59"] {
            assert_eq!(Time::parse_rfc3339(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn unix_seconds_text_and_order_agree(a in -62_135_596_800i64..=253_402_300_799, n in 0u32..1_000_000_000, b: i64) {
            let t = Time::from_unix(a, n).unwrap();
            prop_assert_eq!(t.unix(), (a, n));
            prop_assert_eq!(Time::parse(&t.in_key()), Some(t));
            prop_assert_eq!(Time::parse_rfc3339(&t.to_string()), Some(t));
            prop_assert_eq!(Date::parse(&t.date().to_string()), Some(t.date()));
            prop_assert_eq!(Date::from_day(t.date().day()), Some(t.date()));
            prop_assert_eq!(i64::from(t.date().day()), a.div_euclid(86_400));
            prop_assert!(t.date().start() <= t && t <= t.date().end());
            if let Some(u) = Time::from_unix(b, n) {
                prop_assert_eq!(t.cmp(&u), a.cmp(&b));
            }
        }
    }
}
