//! A moment that was typed: a day or an instant. Pure.

use std::fmt;

use crate::err;
use crate::error::{Error, Kind, Result, escape};
use crate::key::{Date, Time};
use crate::store::Timestamp;

/// The moment of `--at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(Time);

impl Moment {
    /// A day counts to its end, as with `--end-date`. What is behind `now` is refused: nobody knows it yet, and it would change.
    pub fn parse(text: &str, now: Timestamp) -> Result<Moment> {
        let time = bound("--at", text, Date::end)?;
        if time.unix() > now {
            return Err(usage("--at", text, "this is in the future (a day counts to its end, UTC)"));
        }
        Ok(Moment(time))
    }

    pub fn unix(self) -> Timestamp {
        self.0.unix()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A day gives its `edge`, an instant itself.
pub(super) fn bound(flag: &str, text: &str, edge: fn(Date) -> Time) -> Result<Time> {
    let form = "no such date. Please provide dates in YYYY-MM-DD format, or RFC 3339 such as 2022-08-24T21:00:00Z";
    Date::parse(text).map(edge).or_else(|| Time::parse_rfc3339(text)).ok_or_else(|| usage(flag, text, form))
}

pub(super) fn usage(flag: &str, value: &str, text: &str) -> Error {
    err!(Kind::Usage, "{flag} \"{}\": {text}", escape(value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_counts_to_its_end_and_what_is_to_come_is_refused() {
        // 2022-09-01T12:00:00Z.
        let now = (1_662_033_600, 0);
        let at = |text: &str| Moment::parse(text, now).map(|moment| moment.unix());
        assert_eq!(at("2022-08-31").unwrap(), (1_661_990_399, 999_999_999));
        assert_eq!(at("2022-09-01T14:00:00+02:00").unwrap(), now);
        assert_eq!(Moment::parse("2022-08-31T00:00:00+02:00", now).unwrap().to_string(), "2022-08-30T22:00:00Z");
        for (text, why) in [
            ("2022-09-01", "in the future"),
            ("2022-09-01T12:00:00.000000001Z", "in the future"),
            ("2022-02-31", "no such date"),
            ("2022-08-31T00:00:00", "no such date"),
            ("yesterday\n", "--at \"yesterday\\x0a\": no such date"),
        ] {
            let e = at(text).unwrap_err();
            assert!(e.kind() == Kind::Usage && e.to_string().contains(why), "{text}: {e}");
        }
    }
}
