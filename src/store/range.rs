//! Byte ranges, and the proof that a server's answer is the range that was asked for.
//!
//! The SDK takes any answer for a success: a shifted `Content-Range`, a short one, the whole object for a range. So the
//! answer's headers are compared, before a byte of the body is read, with what follows from the request and the size
//! that the same headers state. Pure.

use std::ops::Range;

use crate::err;
use crate::error::{Kind, Result, escape};

/// The largest object that [`ByteRange::Whole`] gets: 64 MiB. It bounds the memory that a server can make us take.
pub const MOST_WHOLE: u64 = 64 << 20;

/// Which bytes of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// All, of an object of at most [`MOST_WHOLE`] bytes.
    Whole,
    /// From..to; not empty, and within the object (else the answer is an error of kind `Storage`: the object is not
    /// what it was said to be).
    Span(Range<u64>),
    /// The last n bytes, n > 0; all if there are fewer, nothing if the object is empty.
    Suffix(u64),
}

impl ByteRange {
    /// The value of a `Range` header. Ranges of nothing are refused.
    pub(super) fn header(&self) -> Result<Option<String>> {
        match self {
            ByteRange::Whole => Ok(None),
            ByteRange::Span(r) if r.start < r.end => Ok(Some(format!("bytes={}-{}", r.start, r.end - 1))),
            ByteRange::Suffix(n) if *n > 0 => Ok(Some(format!("bytes=-{n}"))),
            _ => Err(err!(Kind::Invalid, "empty byte range asked for: {self:?}")),
        }
    }

    /// The bytes that this means in an object of `total` bytes.
    pub(super) fn resolve(&self, total: u64) -> Result<Range<u64>> {
        self.header()?;
        match self {
            ByteRange::Whole if total > MOST_WHOLE => {
                Err(err!(Kind::NoMemory, "{total} bytes are too many to fetch at once (limit {MOST_WHOLE})"))
            }
            ByteRange::Whole => Ok(0..total),
            ByteRange::Suffix(n) => Ok(total.saturating_sub(*n)..total),
            ByteRange::Span(r) if r.end <= total => Ok(r.clone()),
            ByteRange::Span(r) => Err(err!(
                Kind::Storage,
                "asked for bytes {}-{} of an object that has {total}: truncated, or not the object that was listed",
                r.start,
                r.end - 1
            )),
        }
    }
}

/// What the headers of a successful answer promise: the bytes' place and the object's size. An error if that is not
/// exactly what was asked for.
pub(super) fn verify(
    asked: &ByteRange,
    content_range: Option<&str>,
    content_length: Option<i64>,
) -> Result<(Range<u64>, u64)> {
    let length = match content_length {
        None => None,
        Some(n) => Some(u64::try_from(n).map_err(|_| err!(Kind::Storage, "the answer has Content-Length {n}"))?),
    };
    let Some(header) = content_range else {
        let total = length.ok_or_else(|| err!(Kind::Storage, "the answer has no Content-Length: not S3?"))?;
        let want = asked.resolve(total)?;
        if want != (0..total) {
            return Err(err!(Kind::Storage, "the server ignored the byte range and sent the whole object"));
        }
        return Ok((want, total));
    };
    let bad = |why: &str| err!(Kind::Storage, "the answer has Content-Range \"{}\": {why}", escape(header.as_bytes()));
    let (got, total) = parse(header).ok_or_else(|| bad("not understood"))?;
    let want = asked.resolve(total)?;
    if got != want {
        return Err(bad(&format!("asked for {}..{}", want.start, want.end)));
    }
    if length.is_some_and(|n| n != want.end - want.start) {
        return Err(bad("Content-Length does not fit"));
    }
    Ok((want, total))
}

/// `bytes 0-9/100` → 0..10, 100
fn parse(header: &str) -> Option<(Range<u64>, u64)> {
    let (span, total) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let number = |s: &str| s.bytes().all(|b| b.is_ascii_digit()).then(|| s.parse::<u64>().ok()).flatten();
    let (first, last, total) = (number(first)?, number(last)?, number(total)?);
    (first <= last && last < total).then(|| (first..last + 1, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn right_answers_pass() {
        let span = ByteRange::Span(2..5);
        assert_eq!(verify(&span, Some("bytes 2-4/9"), Some(3)).unwrap(), (2..5, 9));
        assert_eq!(verify(&ByteRange::Suffix(4), Some("bytes 5-8/9"), Some(4)).unwrap(), (5..9, 9));
        assert_eq!(verify(&ByteRange::Suffix(64), Some("bytes 0-8/9"), None).unwrap(), (0..9, 9));
        assert_eq!(verify(&ByteRange::Suffix(64), None, Some(9)).unwrap(), (0..9, 9));
        assert_eq!(verify(&ByteRange::Suffix(64), None, Some(0)).unwrap(), (0..0, 0));
        assert_eq!(verify(&ByteRange::Whole, None, Some(9)).unwrap(), (0..9, 9));
        assert_eq!(verify(&ByteRange::Span(0..9), None, Some(9)).unwrap(), (0..9, 9));
    }

    #[test]
    fn wrong_answers_do_not() {
        let span = ByteRange::Span(2..5);
        for (header, length) in [
            (Some("bytes 3-5/9"), Some(3)),  // shifted
            (Some("bytes 2-3/9"), Some(2)),  // short, consistently
            (Some("bytes 2-4/9"), Some(2)),  // short
            (Some("bytes 2-3/4"), Some(2)),  // truncated object
            (Some("bytes 2-4/*"), Some(3)),  // size withheld
            (Some("bytes */9"), Some(3)),    // an error's header
            (Some("bytes 2-4/+9"), Some(3)), // parse() takes a sign
            (Some("bytes 4-2/9"), Some(3)),
            (Some("bytes 2-9/9"), Some(8)),
            (Some("2-4/9"), Some(3)),
            (None, Some(9)), // the range ignored
            (None, Some(3)),
            (None, None),
            (None, Some(-1)),
        ] {
            let e = verify(&span, header, length).unwrap_err();
            assert_eq!(e.kind(), Kind::Storage, "{header:?} {length:?}");
        }
        assert_eq!(verify(&ByteRange::Suffix(4), None, Some(9)).unwrap_err().kind(), Kind::Storage);
        assert_eq!(verify(&ByteRange::Whole, Some("bytes 0-3/9"), Some(4)).unwrap_err().kind(), Kind::Storage);
        assert_eq!(verify(&ByteRange::Whole, None, Some(i64::MAX)).unwrap_err().kind(), Kind::NoMemory);
        for empty in [ByteRange::Suffix(0), ByteRange::Span(3..3), ByteRange::Span(Range { start: 4, end: 3 })] {
            assert_eq!(empty.resolve(9).unwrap_err().kind(), Kind::Invalid);
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(header in "(bytes )?[0-9*/ -]{0,50}", length in any::<Option<i64>>(), n in any::<u64>()) {
            for asked in [ByteRange::Whole, ByteRange::Suffix(n), ByteRange::Span(n / 2..n)] {
                if let Ok((got, total)) = verify(&asked, Some(&header), length) {
                    prop_assert_eq!(got, asked.resolve(total).unwrap());
                }
            }
        }
    }
}
