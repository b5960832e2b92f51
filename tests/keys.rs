//! The key grammar against the shared vectors (`tests/vectors/keys.json`), by hand-made cases, and by properties.

use logarchivefs::catalog::select::{DateMatch, Selection, SelectionArgs};
use logarchivefs::key::{FileName, LogKey, NotALog, Resource, Schema, Span, Time, is_safe_component};
use proptest::prelude::*;
use serde_json::{Value, json};

const SUM: &str = "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd";

fn parse(key: &str) -> Result<LogKey, NotALog> {
    LogKey::parse(key.as_bytes())
}

/// A parsed key in the form of `keys.json`.
fn as_json(key: &LogKey) -> Value {
    let time = |t: Option<Time>| t.map(|t| t.to_string());
    let mut v = json!({
        "stack": key.stack, "schema": key.schema().as_str(), "key_sha256": key.key_sum, "type": key.resource.kind,
        "id": key.resource.id, "container_id": key.container, "rotation": key.rotation,
    });
    if let Some(id) = key.service {
        v["service_id"] = json!(id);
    }
    match key.span {
        Span::Range { start, end } => {
            v["start"] = json!(time(start));
            v["end"] = json!(time(end));
        }
        Span::Uploaded(at) => v["uploaded_at"] = json!(time(at)),
    }
    v
}

#[test]
fn the_shared_vectors() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/keys.json")).unwrap();
    let (mut logs, mut others) = (0, 0);
    for case in vectors["keys"].as_array().unwrap() {
        let key = case["key"].as_str().unwrap();
        match parse(key) {
            Ok(parsed) => {
                assert_eq!(as_json(&parsed), case["parsed"], "{key}");
                assert_eq!(LogKey::parse(parsed.to_key().as_bytes()).as_ref(), Ok(&parsed), "{key}");
                logs += 1;
            }
            Err(why) => {
                assert!(case["parsed"].is_null(), "{key}: {why}");
                others += 1;
            }
        }
    }
    assert_eq!((logs, others), (10, 9));
}

/// The reference CLI takes a date as its midnight: the same as our instants. Where it drops a log because a time is
/// unknown, ours goes by the upload.
#[test]
fn the_shared_date_ranges() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/keys.json")).unwrap();
    let cases = vectors["range_matches"].as_array().unwrap();
    assert_eq!(cases.len(), 11);
    for case in cases {
        let midnight = |name: &str| Some(format!("{}T00:00:00Z", case[name].as_str().unwrap()));
        let time = |name: &str| case[name].as_str().map(|t| t.trim_end_matches('Z')).unwrap_or("unknown");
        let args =
            SelectionArgs { start_date: midnight("start_date"), end_date: midnight("end_date"), ..Default::default() };
        let file = format!("c-json.log.{}.{}.archived.gz", time("first"), time("last"));
        let key = parse(&format!("a/shareable/v3/{SUM}/proxy-1/{file}")).unwrap();
        let got = Selection::new(args).unwrap().dates(&key, Time::parse("2022-05-05T05:05:05").unwrap());
        let want = match (case["match"].as_bool().unwrap(), case["first"].is_null()) {
            (_, true) => DateMatch::ByUpload,
            (true, false) => DateMatch::Inside,
            (false, false) => DateMatch::Outside,
        };
        assert_eq!(got, want, "{case}");
    }
}

#[test]
fn every_reason() {
    let file = "c-json.log.2022-08-24T21:12:33.2022-08-24T21:14:38.archived.gz";
    let k = |head: &str, tail: &str| format!("{head}/{SUM}/{tail}");
    let cases = [
        (k("a/shareable/v3", &format!("proxy-1/{file}.instruction")), NotALog::Instruction),
        ("../x.instruction".into(), NotALog::Instruction),
        (k("a/shareable/v3", &format!("proxy-1/{}{file}", "x".repeat(200))), NotALog::TooLong),
        (k(&"a".repeat(256), ""), NotALog::TooLong),
        ("a/".repeat(513), NotALog::TooLong),
        (String::new(), NotALog::HostileComponent),
        ("/".into(), NotALog::HostileComponent),
        (format!("/{}", k("a/shareable/v3", &format!("proxy-1/{file}"))), NotALog::HostileComponent),
        (k("../shareable/v3", &format!("proxy-1/{file}")), NotALog::HostileComponent),
        (k("./shareable/v3", &format!("proxy-1/{file}")), NotALog::HostileComponent),
        (k("/shareable/v3", &format!("proxy-1/{file}")), NotALog::HostileComponent),
        (k("a\u{1b}[2J/shareable/v3", &format!("proxy-1/{file}")), NotALog::HostileComponent),
        (k("a\n/shareable/v3", &format!("proxy-1/{file}")), NotALog::HostileComponent),
        (k("a\0/shareable/v3", &format!("proxy-1/{file}")), NotALog::HostileComponent),
        (k("a\u{7f}/shareable/v3", &format!("proxy-1/{file}")), NotALog::HostileComponent),
        (k("a\u{9b}/shareable/v3", &format!("proxy-1/{file}")), NotALog::HostileComponent),
        (k("a\u{202e}/shareable/v3", &format!("proxy-1/{file}")), NotALog::HostileComponent),
        (k("a/shareable/v3", &format!("proxy-1/\r{file}")), NotALog::HostileComponent),
        (k("a/shareable/v3", &format!("proxy-1//{file}")), NotALog::HostileComponent),
        ("a".into(), NotALog::Shape),
        ("a/".into(), NotALog::Shape),
        (k("a/shareable/v3", "proxy-1/"), NotALog::Shape),
        (k("a/shareable/v3", "apps-1/service-1/"), NotALog::Shape),
        (k("a/shareable/v3", &format!("proxy-1/{file}/")), NotALog::Shape),
        (k("a/shareable/v3", &format!("proxy-1/service-1/{file}")), NotALog::Shape),
        (k("a/shareable/v2", "apps-1/service-1/c-json.log.2022-08-24T21:12:33.bck.gz"), NotALog::Shape),
        (k("a/shareable/v3", &format!("apps-1/service-1/x/{file}")), NotALog::Shape),
        (k("a/Shareable/v3", &format!("proxy-1/{file}")), NotALog::Shape),
        (k(".logarchivefs/shareable/v3", &format!("proxy-1/{file}")), NotALog::Reserved),
        (k("a/shareable/v1", &format!("proxy-1/{file}")), NotALog::Schema),
        (k("a/shareable/V3", &format!("proxy-1/{file}")), NotALog::Schema),
        (format!("a/shareable/v3/{}/proxy-1/{file}", &SUM[1..]), NotALog::KeySum),
        (format!("a/shareable/v3/{}g/proxy-1/{file}", &SUM[1..]), NotALog::KeySum),
        (k("a/shareable/v3", &format!("proxy/{file}")), NotALog::Resource),
        (k("a/shareable/v3", &format!("-1/{file}")), NotALog::Resource),
        (k("a/shareable/v3", &format!("1x-1/{file}")), NotALog::Resource),
        (k("a/shareable/v3", &format!("proxy-/{file}")), NotALog::Resource),
        (k("a/shareable/v3", &format!("proxy-+1/{file}")), NotALog::Resource),
        (k("a/shareable/v3", &format!("proxy-18446744073709551616/{file}")), NotALog::Resource),
        (k("a/shareable/v3", &format!("pröxy-1/{file}")), NotALog::Resource),
        (k("a/shareable/v3", &format!("apps-1/{file}")), NotALog::Service),
        (k("a/shareable/v3", &format!("apps-1/service-/{file}")), NotALog::Service),
        (k("a/shareable/v3", &format!("apps-1/service--1/{file}")), NotALog::Service),
        (k("a/shareable/v3", &format!("apps-1/services-1/{file}")), NotALog::Service),
        (k("a/shareable/v3", "proxy-1/c.log.2022-08-24T21:12:33.2022-08-24T21:14:38.archived.gz"), NotALog::FileName),
        (k("a/shareable/v3", "proxy-1/-json.log.unknown.unknown.archived.gz"), NotALog::FileName),
        (k("a/shareable/v3", "proxy-1/..-json.log.unknown.unknown.archived.gz"), NotALog::FileName),
        (k("a/shareable/v2", "proxy-1/.-json.log.unknown.bck.gz"), NotALog::FileName),
        (k("a/shareable/v3", "proxy-1/c-json.log.unknown.archived.gz"), NotALog::FileName),
        (k("a/shareable/v3", "proxy-1/c-json.log.x.unknown.unknown.archived.gz"), NotALog::FileName),
        (k("a/shareable/v3", "proxy-1/c-json.log..unknown.unknown.archived.gz"), NotALog::FileName),
        (k("a/shareable/v3", "proxy-1/c-json.1.log.unknown.unknown.archived.gz"), NotALog::FileName),
        (k("a/shareable/v3", "proxy-1/c-json.log.99999999999999999999.unknown.unknown.archived.gz"), NotALog::FileName),
        (k("a/shareable/v3", "proxy-1/c-json.log.2022-08-24.unknown.archived.gz"), NotALog::FileName),
        (k("a/shareable/v3", "proxy-1/c-json.log.unknown.2022-08-24T21:12:33Z.archived.gz"), NotALog::FileName),
        (k("a/shareable/v2", &format!("proxy-1/{file}")), NotALog::FileName),
        (k("a/shareable/v3", "proxy-1/c-json.log.2022-08-24T21:12:33.bck.gz"), NotALog::FileName),
        (k("a/shareable/v2", "proxy-1/c-json.log.gz.2022-08-24T21:12:33.bck.gz"), NotALog::FileName),
    ];
    for (key, why) in cases {
        assert_eq!(parse(&key), Err(why), "{key:?}");
    }
    assert_eq!(LogKey::parse(b"a\xff/shareable"), Err(NotALog::NotUtf8));
    assert_eq!(LogKey::parse(b"a\xed\xa0\x80"), Err(NotALog::NotUtf8));
}

#[test]
fn what_is_accepted_beyond_the_canonical_form() {
    let v3 = |file: &str| parse(&format!("a/shareable/v3/{SUM}/proxy-1/{file}.archived.gz")).unwrap();
    let v2 = |file: &str| parse(&format!("a/shareable/v2/{SUM}/proxy-1/{file}.bck.gz")).unwrap();
    let t = |text: &str| Time::parse(text);
    let range = |start, end| Span::Range { start, end };

    let k = v3("c-json.log.2.gz.2022-08-24T21:12:33.unknown");
    assert_eq!((k.container.as_str(), k.rotation, k.span), ("c", Some(2), range(t("2022-08-24T21:12:33"), None)));
    assert_eq!(v3("c-json.log.gz.unknown.unknown").rotation, None);
    let k = v3("c-json.log.2022-08-24T21:12:33.5.2022-08-24T21:14:38.123456789");
    assert_eq!(k.span, range(t("2022-08-24T21:12:33.5"), t("2022-08-24T21:14:38.123456789")));
    assert_eq!(k.rotation, None);
    let k = v3("c-json.log.7.unknown.2022-08-24T21:14:38.1");
    assert_eq!((k.rotation, k.span), (Some(7), range(None, t("2022-08-24T21:14:38.1"))));
    let k = v3("c-json.log.2022-02-30T21:12:33.2022-08-24T25:00:00.5");
    assert_eq!(k.span, range(None, None));
    assert_eq!(v3("a-json.log.1-json.log.2.unknown.unknown").container, "a-json.log.1");
    assert_eq!(v3("jsonserver-son-7-json.log.unknown.unknown").container, "jsonserver-son-7");
    assert_eq!(v3("a b~é-json.log.unknown.unknown").container, "a b~é");

    let k = v2("c-json.3.log.2022-08-24T21:12:33");
    assert_eq!((k.rotation, k.span, k.schema()), (Some(3), Span::Uploaded(t("2022-08-24T21:12:33")), Schema::V2));
    assert_eq!(v2("c-json.log.3.unknown").rotation, Some(3));
    assert_eq!(v2("c-json.1.log.3.unknown").rotation, Some(1));
    assert_eq!(v2("c-json.log-json.log.unknown").container, "c-json.log");

    let upper = SUM.to_uppercase();
    let k = parse(&format!("a/shareable/v3/{upper}/proxy-1/c-json.log.unknown.unknown.archived.gz")).unwrap();
    assert_eq!(k.key_sum, upper);
}

#[test]
fn resources_keep_their_name() {
    for text in ["apps-321", "apps-007", "apps-0", "apps-00", "a_b-c-12", "proxy-18446744073709551615", "a--1"] {
        assert_eq!(Resource::parse(text).unwrap().to_string(), text);
    }
    let (seven, zeros) = (Resource::parse("apps-7").unwrap(), Resource::parse("apps-007").unwrap());
    assert_eq!((seven.id, zeros.id), (7, 7));
    assert_ne!(seven, zeros);
    assert_eq!(seven, Resource::new("apps", 7));
    assert_eq!(Resource::parse(&format!("apps-{}7", "0".repeat(300))), None);
    assert_eq!(Resource::parse(&format!("{}-7", "a".repeat(254))), None);
    assert!(Resource::parse(&format!("{}-7", "a".repeat(253))).is_some());
}

#[test]
fn safe_components() {
    for name in ["a", "...", "-", "~", "a b", "é", &"a".repeat(255), &"é".repeat(127)] {
        assert!(is_safe_component(name), "{name:?}");
    }
    for name in ["", ".", "..", "a/b", "\0", "\t", "\u{85}", "\u{2029}", "\u{2069}", &"a".repeat(256), &"é".repeat(128)]
    {
        assert!(!is_safe_component(name), "{name:?}");
    }
}

fn time() -> impl Strategy<Value = Option<Time>> {
    let nanos = prop_oneof![Just(0), (0u32..10).prop_map(|n| n * 100_000_000), 0u32..1_000_000_000];
    prop::option::of((-62_135_596_800i64..=253_402_300_799, nanos).prop_map(|(s, n)| Time::from_unix(s, n).unwrap()))
}

fn name() -> impl Strategy<Value = String> {
    let odd = r"(-json|\.log|\.gz|\.1|\.unknown|\.2022-08-24T21:12:33|\.\.|[a-f0-9]{12}|é| |~|-){1,5}";
    prop_oneof![3 => "[0-9a-f]{64}", 2 => odd, 1 => r"\PC{1,20}"].prop_filter("a safe name", |n| is_safe_component(n))
}

fn log_key() -> impl Strategy<Value = LogKey> {
    let kind = prop_oneof![Just("apps".to_owned()), Just("databases".to_owned()), "[A-Za-z][A-Za-z0-9_-]{0,8}"];
    let resource =
        (kind, "0{0,2}", any::<u64>()).prop_map(|(k, z, id)| Resource::parse(&format!("{k}-{z}{id}")).unwrap());
    let span = prop_oneof![
        (time(), time()).prop_map(|(start, end)| Span::Range { start, end }),
        time().prop_map(Span::Uploaded)
    ];
    (name(), "[0-9a-fA-F]{64}", resource, any::<u64>(), name(), prop::option::of(any::<u64>()), span).prop_map(
        |(stack, key_sum, resource, service, container, rotation, span)| {
            let has_service = resource.kind == "apps" && matches!(span, Span::Range { .. });
            LogKey { stack, key_sum, resource, service: has_service.then_some(service), container, rotation, span }
        },
    )
}

/// What holds for every key that parses.
fn check(key: &[u8]) -> Result<(), TestCaseError> {
    let Ok(parsed) = LogKey::parse(key) else { return Ok(()) };
    for part in [&parsed.stack, &parsed.container, &parsed.resource.to_string()] {
        prop_assert!(is_safe_component(part), "{:?}", part);
    }
    prop_assert_eq!(parse(&parsed.to_key()), Ok(parsed));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn canonical_keys_round_trip(key in log_key()) {
        prop_assert_eq!(parse(&key.to_key()), Ok(key));
    }

    /// A long listing looks at a folder once, and then at file names only.
    #[test]
    fn what_stands_beside_a_log_is_a_log_exactly_if_its_whole_key_parses(key in log_key(), other in log_key(), text in r"[^/]{0,260}") {
        let canonical = key.to_key();
        let (folder, own) = canonical.rsplit_once('/').unwrap();
        let other = other.to_key();
        for file in [own, other.rsplit_once('/').unwrap().1, &text, &format!("{text}{own}")] {
            let beside = format!("{folder}/{file}");
            let whole = parse(&beside).ok();
            let whole = whole.as_ref().map(|log| (&*log.container, log.rotation, log.span));
            let name = FileName::beside(key.schema(), &beside);
            prop_assert_eq!(name.map(|name| (name.container, name.rotation, name.span)), whole, "{}", beside);
        }
    }

    #[test]
    fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..300), text in r"\PC*", path in "[a-z0-9./-]{0,80}") {
        check(&bytes)?;
        check(text.as_bytes())?;
        check(path.as_bytes())?;
    }

    #[test]
    fn mutated_keys_are_judged(key in log_key(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..4)) {
        let mut bytes = key.to_key().into_bytes();
        for (at, byte, edit) in edits {
            let at = at.index(bytes.len() + 1);
            match edit {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => bytes.truncate(at),
                _ if at < bytes.len() => { bytes.remove(at); }
                _ => bytes.extend_from_slice(b".1"),
            }
        }
        check(&bytes)?;
    }
}
