//! The day folder and the file name of a log object (DESIGN.md section 3). Pure.
//!
//! ```text
//! 20220824T211233Z_20220824T211438Z.1.json      v3: start, end, rotation; `unknown` for what the key does not tell
//! uploaded-20220629T183001Z.json                v2: upload time; `uploaded-unknown` if the key does not tell
//! 20220824T211233Z_unknown~0123abcd.json        two objects wanted this name: all of them show a hash of their key
//! ```
//!
//! Invariant: within one container folder (one stack, resource and container id, whatever the schemas, services and key
//! sums) no two different objects have the same name, *in any day folder*, and a name depends on nothing but the set of keys
//! that want it. Why that holds:
//! * The stem, the name before `~` and `.json`, is injective on (span, rotation), and the span alone decides the home day. So
//!   objects that want one name have one home, and the rivals are to be looked for among the objects of one day only.
//! * A stem holds no `~`, so a hashed name is never equal to a plain one; within a group the hashes differ.
//! * A symlink on a later day has the name of its file. Two equal names there would be two equal names at home.
//!
//! Names come from the keys alone, not from `Last-Modified`: copying a bucket does not rename evidence.

use crate::key::{Date, Span, Time};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fmt;

/// The most later days that one file is linked into. Real spans are days; a hostile one of 9999 years would be three
/// million links. A file that claims more is still complete in its home day, and its name shows the end.
pub const MAX_LINKS: usize = 400;

/// Hex digits of a key's SHA-256 in a name, if these tell a group apart; more if not.
const HASH_DIGITS: usize = 8;
const SUFFIX: &str = ".json";

/// A day folder. Dated days come first, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Day {
    Dated(Date),
    Undated,
}

impl Day {
    /// The inverse of `Display`: `2022-08-24` or `undated`, strictly.
    pub fn parse(name: &str) -> Option<Day> {
        if name == "undated" { Some(Day::Undated) } else { Date::parse(name).map(Day::Dated) }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Day::Dated(date) => date.fmt(f),
            Day::Undated => f.write_str("undated"),
        }
    }
}

/// The folder that holds the file itself: the UTC day of the start (v3) or of the upload (v2).
pub fn day(span: &Span) -> Day {
    let (Span::Range { start: home, .. } | Span::Uploaded(home)) = span;
    home.map_or(Day::Undated, |t| Day::Dated(t.date()))
}

/// The days whose folders hold a symlink to the file: those after the day of the start, through the day of the end, ascending, at
/// most [`MAX_LINKS`]. None if either time is unknown, if the end is not on a later day, or for v2.
pub fn link_days(span: &Span) -> impl Iterator<Item = Date> + use<> {
    let (first, last) = match span {
        Span::Range { start: Some(start), end: Some(end) } => (start.date().next(), Some(end.date())),
        _ => (None, None),
    };
    std::iter::successors(first, |d| d.next()).take_while(move |d| Some(*d) <= last).take(MAX_LINKS)
}

/// The name if no other object wants it: `20220824T211233Z_20220824T211438Z.1.json`.
pub fn plain(span: &Span, rotation: Option<u64>) -> String {
    let mut name = String::with_capacity(64);
    write_plain(&mut name, span, rotation);
    name
}

/// Puts [`plain`] behind what is in `out`.
pub fn write_plain(out: &mut String, span: &Span, rotation: Option<u64>) {
    write_stem(out, span, rotation);
    out.push_str(SUFFIX);
}

/// The name of one of several objects that want the same: with so many digits of its key's hash, see [`hash_digits`].
pub fn hashed(span: &Span, rotation: Option<u64>, key: &str, digits: usize) -> String {
    let mut name = String::with_capacity(64);
    write_stem(&mut name, span, rotation);
    let mut hash = hex(&Sha256::digest(key.as_bytes()));
    hash.truncate(digits);
    name + "~" + &hash + SUFFIX
}

fn write_stem(stem: &mut String, span: &Span, rotation: Option<u64>) {
    let time = |stem: &mut String, t: &Option<Time>| match t {
        Some(t) => t.write_compact(stem),
        None => stem.push_str("unknown"),
    };
    match span {
        Span::Range { start, end } => {
            time(stem, start);
            stem.push('_');
            time(stem, end);
        }
        Span::Uploaded(at) => {
            stem.push_str("uploaded-");
            time(stem, at);
        }
    }
    if let Some(n) = rotation {
        stem.push('.');
        stem.push_str(&n.to_string());
    }
}

/// How many hex digits of their SHA-256 the names of `rivals` show, the different keys that want one name: from 8 on, the
/// least number at which no two are equal. Give *all* of them, before any selection: a name must not depend on what else was
/// asked for.
pub fn hash_digits(rivals: &[String]) -> usize {
    let full: Vec<String> = rivals.iter().map(|k| hex(&Sha256::digest(k.as_bytes()))).collect();
    let distinct = |digits: usize| full.iter().map(|h| h.get(..digits)).collect::<HashSet<_>>().len() == full.len();
    (HASH_DIGITS..64).find(|n| distinct(*n)).unwrap_or(64)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::LogKey;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, HashMap};

    const SUM: &str = "9797979797979797979797979797979797979797979797979797979797979797";

    fn key(text: &str) -> LogKey {
        LogKey::parse(text.as_bytes()).unwrap()
    }

    fn v3(service: u64, tail: &str) -> String {
        format!("prod/shareable/v3/{SUM}/apps-1/service-{service}/c-json.log{tail}.archived.gz")
    }

    fn v2(rotation: &str, at: &str) -> String {
        format!("prod/shareable/v2/{SUM}/apps-1/c-json{rotation}.log.{at}.bck.gz")
    }

    /// The names of all objects of one container.
    fn names(keys: &[String]) -> Vec<String> {
        let plain_of = |k: &String| plain(&key(k).span, key(k).rotation);
        let mut groups: HashMap<String, BTreeSet<String>> = HashMap::new();
        for k in keys {
            groups.entry(plain_of(k)).or_default().insert(k.clone());
        }
        let name = |k: &String| {
            let rivals: Vec<String> = groups[&plain_of(k)].iter().cloned().collect();
            match rivals.len() {
                1 => plain_of(k),
                _ => hashed(&key(k).span, key(k).rotation, k, hash_digits(&rivals)),
            }
        };
        keys.iter().map(name).collect()
    }

    #[test]
    fn names_and_days() {
        for (text, day_name, name) in [
            (v3(1, ".2022-08-24T21:12:33.2022-08-24T21:14:38"), "2022-08-24", "20220824T211233Z_20220824T211438Z.json"),
            (
                v3(1, ".12.2022-08-24T21:12:33.5.2022-08-25T00:00:00"),
                "2022-08-24",
                "20220824T211233.5Z_20220825T000000Z.12.json",
            ),
            (v3(1, ".2022-08-24T21:12:33.unknown"), "2022-08-24", "20220824T211233Z_unknown.json"),
            (v3(1, ".1.unknown.2022-08-24T21:12:33"), "undated", "unknown_20220824T211233Z.1.json"),
            (v3(1, ".2022-02-30T21:12:33.unknown"), "undated", "unknown_unknown.json"),
            (v2("", "2022-06-29T18:30:01"), "2022-06-29", "uploaded-20220629T183001Z.json"),
            (v2(".3", "2022-06-29T18:30:01"), "2022-06-29", "uploaded-20220629T183001Z.3.json"),
            (v2("", "unknown"), "undated", "uploaded-unknown.json"),
        ] {
            let k = key(&text);
            assert_eq!(
                (day(&k.span).to_string().as_str(), plain(&k.span, k.rotation).as_str()),
                (day_name, name),
                "{text}"
            );
            assert_eq!(Day::parse(day_name), Some(day(&k.span)));
            assert_eq!(names(std::slice::from_ref(&text)), [name], "a name without a rival is plain");
        }
        assert_eq!(Day::parse("Undated"), None);
    }

    #[test]
    fn links_cover_the_later_days_of_the_span_and_are_bounded() {
        let days = |start: &str, end: &str| -> Vec<String> {
            link_days(&key(&v3(1, &format!(".{start}.{end}"))).span).map(|d| d.to_string()).collect()
        };
        assert_eq!(days("2022-08-24T21:12:33", "2022-08-24T23:59:59"), [""; 0]);
        assert_eq!(days("2022-08-24T21:12:33", "2022-08-25T00:00:00"), ["2022-08-25"]);
        assert_eq!(days("2022-12-30T00:00:00", "2023-01-01T01:00:00"), ["2022-12-31", "2023-01-01"]);
        assert_eq!(days("2022-08-24T21:12:33", "2022-08-23T00:00:00"), [""; 0]);
        assert_eq!(days("2022-08-24T21:12:33", "unknown"), [""; 0]);
        assert_eq!(days("unknown", "2022-08-24T21:12:33"), [""; 0]);
        assert_eq!(days("0001-01-01T00:00:00", "9999-12-31T00:00:00").len(), MAX_LINKS);
        assert_eq!(days("9999-12-31T00:00:00", "9999-12-31T23:00:00"), [""; 0]);
        assert_eq!(link_days(&key(&v2("", "2022-06-29T18:30:01")).span).count(), 0);
    }

    #[test]
    fn all_rivals_for_a_name_show_their_hash() {
        let tail = ".2022-08-24T21:12:33.2022-08-24T21:14:38";
        let keys = [v3(1, tail), v3(2, tail), v3(3, ".2022-08-24T21:12:33.unknown"), v3(1, tail)];
        let got = names(&keys);
        let hash = |k: &str| hex(&Sha256::digest(k.as_bytes()))[..8].to_owned();
        assert_eq!(got[0], format!("20220824T211233Z_20220824T211438Z~{}.json", hash(&keys[0])));
        assert_eq!(got[1], format!("20220824T211233Z_20220824T211438Z~{}.json", hash(&keys[1])));
        assert_eq!(got[2], "20220824T211233Z_unknown.json");
        assert_eq!(got[3], got[0], "the same key is the same object");
        assert_eq!(hex(&Sha256::digest(b"abc"))[..8], *"ba7816bf");
    }

    #[test]
    fn a_collision_of_eight_digits_lengthens_the_whole_group() {
        // By the birthday bound some pair among this many services shares eight hex digits.
        let tail = ".2022-08-24T21:12:33.2022-08-24T21:14:38";
        let mut seen: HashMap<String, u64> = HashMap::new();
        let pair = (0..2_000_000u64).find_map(|n| {
            let hash = hex(&Sha256::digest(v3(n, tail).as_bytes()))[..8].to_owned();
            seen.insert(hash, n).map(|m| (m, n))
        });
        let (a, b) = pair.expect("two services whose keys share eight digits");
        let got = names(&[v3(a, tail), v3(b, tail), v3(2_000_001, tail)]);
        let digits: Vec<usize> = got.iter().map(|n| n.split(['~', '.']).nth(1).unwrap().len()).collect();
        assert!((9..20).contains(&digits[0]) && digits.iter().all(|d| *d == digits[0]), "{got:?}");
        assert_eq!(got.iter().collect::<HashSet<_>>().len(), 3, "{got:?}");
    }

    fn time() -> impl Strategy<Value = String> {
        prop_oneof![
            1 => Just("unknown".to_owned()),
            1 => Just("2022-02-30T00:00:00".to_owned()),
            6 => (1u8..5, 0u8..2, prop_oneof![Just(""), Just(".5"), Just(".50")])
                .prop_map(|(d, s, f)| format!("2022-08-0{d}T00:00:0{s}{f}")),
        ]
    }

    /// Keys of one container, from few times, services and rotations, so that names clash often.
    fn keys() -> impl Strategy<Value = Vec<String>> {
        let rotation = || prop_oneof![Just(""), Just(".1"), Just(".01"), Just(".2")];
        let three = (0u64..2, rotation(), time(), time()).prop_map(|(s, n, a, b)| v3(s, &format!("{n}.{a}.{b}")));
        let two = (rotation(), time()).prop_map(|(n, at)| v2(n, &at));
        prop::collection::vec(prop_oneof![three, two], 0..60)
    }

    proptest! {
        #[test]
        fn no_folder_holds_a_name_twice_and_order_is_nothing(keys in keys(), seed: u64) {
            let keys: Vec<String> = keys.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
            let whole = names(&keys);

            let mut folders: HashMap<Day, HashSet<&str>> = HashMap::new();
            let mut homes: HashMap<Day, Vec<usize>> = HashMap::new();
            for (i, (text, name)) in keys.iter().zip(&whole).enumerate() {
                let k = key(text);
                homes.entry(day(&k.span)).or_default().push(i);
                for d in link_days(&k.span).map(Day::Dated).chain([day(&k.span)]) {
                    prop_assert!(folders.entry(d).or_default().insert(name), "{} twice in {}", name, d);
                }
                prop_assert!(name.len() <= 144 && crate::key::is_safe_component(name));
            }
            // Day by day gives the names that the whole container gives.
            for members in homes.values() {
                let some: Vec<String> = members.iter().map(|i| keys[*i].clone()).collect();
                let want: Vec<String> = members.iter().map(|i| whole[*i].clone()).collect();
                prop_assert_eq!(names(&some), want);
            }
            // Another order gives every key the same name.
            let mut order: Vec<usize> = (0..keys.len()).collect();
            order.sort_by_key(|i| (*i as u64 + 1).wrapping_mul(seed | 1));
            let shuffled: Vec<String> = order.iter().map(|i| keys[*i].clone()).collect();
            let want: Vec<String> = order.iter().map(|i| whole[*i].clone()).collect();
            prop_assert_eq!(names(&shuffled), want);
        }
    }
}
