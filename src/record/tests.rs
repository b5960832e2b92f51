//! The rules, and serde_json as another opinion on what JSON is and means.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const TIME: &str = r#""time":"2022-08-24T21:12:33.534988517Z""#;

#[test]
fn what_docker_writes() {
    let line =
        br#"{"log":"a \"b\" \u003cc\u003e \ud83d\ude00 \\n\t\n","stream":"stdout","time":"2022-08-24T21:12:33.5Z"}"#;
    let record = parse(line).unwrap();
    assert_eq!(record.time, Stamp::new(1_661_375_553, 500_000_000));
    assert_eq!(record.stream, Stream::Stdout);
    assert_eq!(&*record.log(), "a \"b\" <c> 😀 \\n\t\n".as_bytes());
    let attrs = format!(r#"{{"log":"x","stream":"stderr","attrs":{{"a":"}}","b":[1,{{}}]}},{TIME}}}{}"#, '\n');
    let record = parse(attrs.as_bytes()).unwrap();
    assert_eq!((record.stream, &*record.log()), (Stream::Stderr, &b"x"[..]));
    assert!(matches!(record.log(), Cow::Borrowed(_)));
    let empty = format!("{{{TIME}}}");
    let record = parse(empty.as_bytes()).unwrap();
    assert_eq!((record.stream, &*record.log()), (Stream::Other, &b""[..]), "`log` is left out when it is empty");
}

#[test]
fn any_order_any_space_any_escape() {
    for line in [
        format!(r#" {{ {TIME} , "stream" : "stderr" ,"log": "x" }} {}"#, "\r\n"),
        format!(r#"{{"other":-1.5e+3,"\u0073tream":"std\u0065rr",{TIME},"log":"\u0078","z":null}}"#),
        r#"{"log":"x","stream":"stderr","time":"2022-08-24T23:12:33.534988517+02:00"}"#.to_owned(),
    ] {
        let record = parse(line.as_bytes()).unwrap_or_else(|why| panic!("{line}: {why}"));
        assert_eq!((record.stream, &*record.log()), (Stream::Stderr, &b"x"[..]), "{line}");
        assert_eq!(record.time, Stamp::new(1_661_375_553, 534_988_517), "{line}");
        assert_eq!(time(line.as_bytes()), Some(record.time));
    }
}

#[test]
fn what_is_no_record_and_why() {
    let whole = format!(r#"{{"log":"a","stream":"stdout",{TIME}}}"#);
    for end in 1..whole.len() {
        assert_eq!(parse(&whole.as_bytes()[..end]), Err(Why::Json), "cut off at {end}");
    }
    let mut cases: Vec<(Vec<u8>, Why)> = vec![
        (b"".into(), Why::Blank),
        (b" \t\r\n".into(), Why::Blank),
        (b"{\"log\":\"\xff\"}".into(), Why::Utf8),
        (b"\0\0\0\0".into(), Why::Json),
        (b"{}".into(), Why::Time),
    ];
    for (line, why) in [
        (format!("{whole}{whole}"), Why::Json),
        (format!("{whole},"), Why::Json),
        (format!("[{whole}]"), Why::Json),
        (format!(r#"{{"log":"a{whole}"#), Why::Json),
        (format!(r#"{{"log":"a	b",{TIME}}}"#), Why::Json),
        (format!("{{\"log\":\"a\0b\",{TIME}}}"), Why::Json),
        (format!(r#"{{"log":"\x",{TIME}}}"#), Why::Json),
        (format!(r#"{{"log":"\u12g4",{TIME}}}"#), Why::Json),
        (format!(r#"{{"n":01,{TIME}}}"#), Why::Json),
        (format!(r#"{{"n":1.,{TIME}}}"#), Why::Json),
        (format!(r#"{{"n":+1,{TIME}}}"#), Why::Json),
        (format!(r#"{{"n":tru,{TIME}}}"#), Why::Json),
        (format!(r#"{{"n":[1,],{TIME}}}"#), Why::Json),
        (format!(r#"{{{TIME},}}"#), Why::Json),
        (format!(r#"{{"n":{}1{},{TIME}}}"#, "[".repeat(1 << 20), "]".repeat(1 << 20)), Why::Json),
        (format!(r#"{{"log":1,{TIME}}}"#), Why::Member),
        (format!(r#"{{"stream":null,{TIME}}}"#), Why::Member),
        (format!(r#"{{"log":"a","log":"b",{TIME}}}"#), Why::Member),
        (format!(r#"{{"log":"a",{TIME},{TIME}}}"#), Why::Time),
        (r#"{"log":"a","stream":"stdout"}"#.into(), Why::Time),
        (r#"{"log":"a","time":1661375553}"#.into(), Why::Time),
        (r#"{"log":"a","time":"yesterday"}"#.into(), Why::Time),
    ] {
        cases.push((line.into_bytes(), why));
    }
    for (line, why) in cases {
        let shown = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
        assert_eq!(check(&line), Err(why), "{shown}");
        assert_eq!(time(&line), None, "{shown}");
    }
}

#[test]
fn times() {
    let at = |text: &str| Stamp::parse(text.as_bytes()).map(Stamp::unix);
    assert_eq!(at("1970-01-01T00:00:00Z"), Some((0, 0)));
    assert_eq!(at("1969-12-31T23:59:59.5Z"), Some((-1, 500_000_000)));
    assert_eq!(at("0001-01-01T00:00:00Z"), Some((-62_135_596_800, 0)));
    assert_eq!(at("2024-02-29T00:00:00.000000001Z"), Some((1_709_164_800, 1)));
    assert_eq!(at("2022-08-24T00:12:33-23:59"), at("2022-08-25T00:11:33Z"));
    for text in [
        "2022-08-24T21:12:33",
        "2022-08-24T21:12:33.Z",
        "2022-08-24T21:12:33.1234567890Z",
        "2022-08-24 21:12:33Z",
        "2022-08-24T21:12:33z",
        "2022-08-24T21:12:33ZZ",
        "2022-08-24T24:00:00Z",
        "2022-08-24T23:60:00Z",
        "2022-08-24T23:59:60Z",
        "2022-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z",
        "2022-13-01T00:00:00Z",
        "2022-00-01T00:00:00Z",
        "2022-04-31T00:00:00Z",
        "2022-01-00T00:00:00Z",
        "2022-08-24T21:12:33+24:00",
        "2022-08-24T21:12:33+0100",
        "2022-08-24T21:12:+3Z",
        "",
    ] {
        assert_eq!(at(text), None, "{text}");
    }
}

/// What the rules of `parse` say, in the words of serde_json (which, unlike RFC 8259, refuses half a surrogate pair).
fn model(line: &[u8]) -> Option<(Stamp, Stream, String)> {
    let Value::Object(members) = serde_json::from_slice(line).ok()? else { return None };
    let text = |name: &str| match members.get(name) {
        None => Some(""),
        Some(value) => value.as_str(),
    };
    let stream = match text("stream")? {
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => Stream::Other,
    };
    Some((Stamp::parse(members.get("time")?.as_str()?.as_bytes())?, stream, text("log")?.to_owned()))
}

fn agree(line: &[u8]) -> Result<(), TestCaseError> {
    let ours = parse(line).map(|r| (r.time, r.stream, String::from_utf8(r.log().into_owned()).unwrap()));
    prop_assert_eq!(ours.ok(), model(line), "{}", String::from_utf8_lossy(line));
    Ok(())
}

proptest! {
    #[test]
    fn strings_mean_what_serde_says(log in any::<String>(), other in any::<String>(), stderr: bool) {
        let stream = if stderr { "stderr" } else { "stdout" };
        let value = serde_json::json!({"log": log, other: log, "stream": stream, "time": "2022-08-24T21:12:33.5Z"});
        let line = serde_json::to_vec(&value).unwrap();
        agree(&line)?;
    }

    #[test]
    fn any_damage_is_judged_as_serde_does(
        log in "[ -~\\n\\t\"\\\\é😀]{0,40}",
        at in any::<prop::sample::Index>(),
        byte in prop_oneof![any::<u8>(), prop::sample::select(b"\"\\{}[],:0-.eun \n".to_vec())],
        cut: bool,
    ) {
        let value = serde_json::json!({"log": log, "attrs": {"n": [-1.5e3, true, null]}, "time": "2022-08-24T21:12:33Z"});
        let mut line = serde_json::to_vec(&value).unwrap();
        let at = at.index(line.len());
        if cut { line.remove(at); } else { line[at] = byte; }
        // The two that serde_json judges otherwise have tests of their own: a member twice, half a pair.
        let names = [&b"\"log\""[..], b"\"time\""];
        prop_assume!(names.iter().all(|n| memchr::memmem::find_iter(&line, n).count() < 2));
        agree(&line)?;
    }

    #[test]
    fn anything_at_all_is_only_judged(line in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parse(&line).is_err());
    }

    #[test]
    fn stamps_are_the_calendars(secs in -62_135_596_800i64..=253_402_300_799, nanos in 0u32..1_000_000_000) {
        let there = time::UtcDateTime::from_unix_timestamp(secs).unwrap().replace_nanosecond(nanos).unwrap();
        let text = there.format(&time::format_description::well_known::Rfc3339).unwrap();
        prop_assert_eq!(Stamp::parse(text.as_bytes()), Some(Stamp::new(secs, nanos)));
    }
}

#[test]
fn half_a_surrogate_pair_is_lost_alone() {
    for (escaped, means) in [
        (r"a\ud800b", "a\u{fffd}b"),
        (r"\udc00", "\u{fffd}"),
        (r"\ud800\ud83d\ude00", "\u{fffd}😀"),
        (r"\ud800\n", "\u{fffd}\n"),
        (r"\ud800\u0041", "\u{fffd}A"),
    ] {
        let line = format!(r#"{{"log":"{escaped}",{TIME}}}"#);
        assert_eq!(&*parse(line.as_bytes()).unwrap().log(), means.as_bytes(), "{escaped}");
    }
}
