//! The time range that is asked for. Pure.

use crate::err;
use crate::error::{Kind, Result, escape};
use crate::key::{Date, Span, Time};
use crate::record::Stamp;

/// Seconds. So much may the times in one file go back before seeking could miss a record: a step of a clock, a long line
/// that came in pieces. What the keys say of a file's span is trusted as far.
pub const SLACK: i64 = 300;

/// Both ends inclusive, as with `docker logs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub since: Stamp,
    pub until: Stamp,
}

impl Window {
    /// What `--since` and `--until` say: instants, or days from their start and to their end.
    pub fn parse(since: Option<&str>, until: Option<&str>) -> Result<Window> {
        let bound = |flag: &str, text: Option<&str>, of_day: fn(Date) -> Time| {
            let Some(text) = text else { return Ok(None) };
            let time = Date::parse(text).map(of_day).or_else(|| Time::parse_rfc3339(text));
            time.map(|time| Some(stamp(time))).ok_or_else(|| {
                let text = escape(text.as_bytes());
                err!(Kind::Usage, "{flag} {text}: write 2022-08-24 or 2022-08-24T21:00:00Z, a time that exists")
            })
        };
        let window = Window {
            since: bound("--since", since, Date::start)?.unwrap_or(Stamp::MIN),
            until: bound("--until", until, Date::end)?.unwrap_or(Stamp::MAX),
        };
        if window.until < window.since {
            return Err(err!(Kind::Usage, "--until is before --since"));
        }
        Ok(window)
    }

    pub fn is_everything(&self) -> bool {
        *self == Window { since: Stamp::MIN, until: Stamp::MAX }
    }

    pub fn contains(&self, time: Stamp) -> bool {
        self.since <= time && time <= self.until
    }

    /// The key says that no record is in the range. An unknown end, and the upload that a v2 key tells, say nothing.
    pub fn misses(&self, span: &Span) -> bool {
        let Span::Range { start, end } = span else { return false };
        let after = start.is_some_and(|start| stamp(start).plus(-SLACK) > self.until);
        let before = end.is_some_and(|end| stamp(end).plus(SLACK) < self.since);
        after || before
    }
}

pub fn stamp(time: Time) -> Stamp {
    let (secs, nanos) = time.unix();
    Stamp::new(secs, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_instants() {
        let window = Window::parse(Some("2022-08-24"), Some("2022-08-24")).unwrap();
        let at = |text: &str| window.contains(Stamp::parse(text.as_bytes()).unwrap());
        assert!(at("2022-08-24T00:00:00Z") && at("2022-08-24T23:59:59.999999999Z"));
        assert!(!at("2022-08-23T23:59:59.999999999Z") && !at("2022-08-25T00:00:00Z"));
        let instant = Window::parse(Some("2022-08-24T23:00:00+02:00"), Some("2022-08-24T21:00:00Z")).unwrap();
        assert_eq!(instant.since, instant.until, "an instant is in the range that it ends");
        assert!(Window::parse(None, None).unwrap().is_everything() && !window.is_everything());
        for (since, until) in [("yesterday", "2022-08-24"), ("2022-02-31", "2022-08-24"), ("2022-08-25", "2022-08-24")]
        {
            assert_eq!(Window::parse(Some(since), Some(until)).unwrap_err().kind(), Kind::Usage);
        }
    }

    #[test]
    fn what_keys_say() {
        let window = Window::parse(Some("2022-08-24T12:00:00Z"), Some("2022-08-24T13:00:00Z")).unwrap();
        let span = |start: Option<&str>, end: Option<&str>| {
            let time = |t: &str| Time::parse(&format!("2022-08-24T{t}")).unwrap();
            window.misses(&Span::Range { start: start.map(time), end: end.map(time) })
        };
        assert!(span(Some("10:00:00"), Some("11:00:00")) && span(Some("14:00:00"), None));
        assert!(!span(Some("10:00:00"), Some("11:59:59")), "a little trust is left out");
        assert!(!span(Some("10:00:00"), Some("14:00:00")) && !span(None, None) && !span(Some("10:00:00"), None));
        assert!(span(None, Some("10:00:00")));
        assert!(!window.misses(&Span::Uploaded(Time::parse("2022-08-20T00:00:00"))));
    }
}
