//! `find` against a plain filter over the parsed keys: any listing, hostile keys included, any selection.
//!
//! The filter knows nothing of listings, folders or pruning, and compares times as text.

use std::collections::{BTreeMap, BTreeSet};

use logarchivefs::catalog::select::SelectionArgs;
use logarchivefs::key::{LogKey, NotALog, Span, Time};
use proptest::prelude::*;

use super::listing::{Bucket, logs};

/// 2022-08-01, 00:00:00 UTC.
const FIRST: i64 = 1_659_312_000;

fn time() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => Just("unknown".to_owned()),
        1 => Just("2022-02-30T00:00:00".to_owned()),
        6 => (1u8..5, prop::sample::select(vec!["00:00:00", "12:00:00", "23:59:59"])).prop_map(|(d, t)| format!("2022-08-0{d}T{t}")),
    ]
}

fn log_key() -> impl Strategy<Value = String> {
    let stack = prop::sample::select(vec!["prod", "prod-2", "pro", "Prod"]);
    let sum = prop::sample::select(vec!["a", "b"]).prop_map(|digit| digit.repeat(64));
    let resource = prop::sample::select(vec!["apps-1", "apps-2", "apps-01", "databases-1", "proxy-1", "cron-1"]);
    let container =
        prop::sample::select(vec!["38d59273887f11", "38d59273887f22", "38d59273000011", "jsonserver-son-7"]);
    let rotation = prop::sample::select(vec!["", ".1", ".12"]);
    (stack, sum, resource, 1u8..3, container, rotation, prop::option::of(time()), time()).prop_map(
        |(stack, sum, resource, service, container, n, start, end)| match start {
            None => format!("{stack}/shareable/v2/{sum}/{resource}/{container}-json{n}.log.{end}.bck.gz"),
            Some(start) => {
                let service = if resource.starts_with("apps-") { format!("service-{service}/") } else { String::new() };
                let file = format!("{container}-json.log{n}.{start}.{end}.archived.gz");
                format!("{stack}/shareable/v3/{sum}/{resource}/{service}{file}")
            }
        },
    )
}

/// A log's key, or one that something was done to, or anything.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let changed = (
        log_key(),
        any::<prop::sample::Index>(),
        prop::sample::select(vec!["/", "..", "\0", "\u{1b}", "-", "x", "//"]),
    );
    let changed = changed.prop_map(|(mut key, at, piece)| {
        key.insert_str(at.index(key.len() + 1), piece);
        key.into_bytes()
    });
    prop_oneof![
        12 => log_key().prop_map(String::into_bytes),
        2 => log_key().prop_map(|key| format!("{key}.instruction").into_bytes()),
        4 => changed,
        1 => log_key().prop_map(|key| key.rsplit_once('/').map(|(folder, _)| format!("{folder}/").into_bytes()).unwrap()),
        1 => log_key().prop_map(|key| key.replace("/v3/", "/v9/").replace("/v2/", "/v1/").into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 1..40),
        1 => prop::sample::select(vec!["README", "prod", "/", "../x", "prod/", "prod/shareable/", "prod/shareable/v3"])
            .prop_map(|key| key.as_bytes().to_vec()),
    ]
}

fn bound() -> impl Strategy<Value = Option<String>> {
    let day = (1u8..5).prop_map(|d| format!("2022-08-0{d}"));
    let instant =
        (1u8..5, prop::sample::select(vec!["00:00:00", "12:00:00"])).prop_map(|(d, t)| format!("2022-08-0{d}T{t}Z"));
    prop_oneof![2 => Just(None), 2 => day.prop_map(Some), 1 => instant.prop_map(Some)]
}

fn some<T: Clone + std::fmt::Debug + 'static>(of: Vec<T>) -> impl Strategy<Value = Vec<T>> {
    let most = of.len();
    prop_oneof![2 => Just(Vec::new()), 1 => prop::sample::subsequence(of, 1..=most)]
}

fn selection() -> impl Strategy<Value = SelectionArgs> {
    let text = |of: &[&str]| some(of.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
    let ids = (some(vec![1u64, 2]), some(vec![1u64]), some(vec![1u64]), some(vec![1u64, 2]));
    let containers = text(&["38d59273887f", "38d59273000011", "jsonserver-so"]);
    let patterns = text(&["apps", "/v3/.*2022-08-0[12]", r"\.1\."]);
    (text(&["prod", "pro", "other"]), ids, containers, patterns, bound(), bound()).prop_map(
        |(stacks, (app_ids, database_ids, endpoint_ids, service_ids), containers, patterns, a, b)| {
            // An end before the start is an error.
            let edge = |d: &Option<String>, up: &str| d.as_ref().map(|d| in_seconds(d, up));
            let swap = a.is_some() && b.is_some() && edge(&b, "23:59:59") < edge(&a, "00:00:00");
            let (start_date, end_date) = if swap { (b, a) } else { (a, b) };
            let all = (stacks, app_ids, database_ids, endpoint_ids, service_ids);
            let (stacks, app_ids, database_ids, endpoint_ids, service_ids) = all;
            SelectionArgs {
                stacks,
                app_ids,
                database_ids,
                endpoint_ids,
                containers,
                service_ids,
                patterns,
                start_date,
                end_date,
            }
        },
    )
}

/// `2022-08-01T12:00:00`, of a day its first or last second.
fn in_seconds(bound: &str, edge: &str) -> String {
    if bound.len() == 10 { format!("{bound}T{edge}") } else { bound.trim_end_matches('Z').to_owned() }
}

/// Whether a log is chosen, and whether only the upload told.
fn wanted(args: &SelectionArgs, listed: &str, key: &LogKey, modified: i64) -> Option<bool> {
    let kind = key.resource.kind.as_str();
    let id = |flag: &[u64], of: &str| flag.is_empty() || kind == of && flag.contains(&key.resource.id);
    let others = (args.stacks.is_empty() || args.stacks.contains(&key.stack))
        && id(&args.app_ids, "apps")
        && id(&args.database_ids, "databases")
        && id(&args.endpoint_ids, "proxy")
        && (args.service_ids.is_empty() || key.service.is_some_and(|s| args.service_ids.contains(&s)))
        && (args.containers.is_empty() || args.containers.iter().any(|c| key.container.starts_with(c.as_str())))
        && args.patterns.iter().all(|p| regex::Regex::new(p).unwrap().is_match(listed));
    if !others {
        return None;
    }
    if args.start_date.is_none() && args.end_date.is_none() {
        return Some(false);
    }
    let from = args.start_date.as_ref().map_or(String::new(), |d| in_seconds(d, "00:00:00"));
    let until = args.end_date.as_ref().map_or("9".into(), |d| in_seconds(d, "23:59:59"));
    let touches = |first: &str, last: &str| from.as_str() <= last && first <= until.as_str();
    let text = |t: Time| t.to_string().trim_end_matches('Z').to_owned();
    let upload = text(Time::from_unix(modified, 0).unwrap());
    let on_day = |t: &str| touches(&format!("{}T00:00:00", &t[..10]), &format!("{}T23:59:59", &t[..10]));
    match key.span {
        Span::Range { start: Some(a), end: Some(b) } => {
            let (a, b) = (text(a), text(b));
            touches((&a).min(&b), (&a).max(&b)).then_some(false)
        }
        Span::Range { start: Some(a), end: None } => touches(&text(a), &text(a).max(upload)).then_some(true),
        Span::Range { start: None, end } => {
            let ends_inside = end.is_some_and(|b| touches(&text(b), &text(b)));
            (on_day(&upload) || ends_inside).then_some(true)
        }
        Span::Uploaded(at) => on_day(&at.map_or(upload, text)).then_some(true),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn find_is_a_filter(
        keys in prop::collection::vec((key(), 0i64..6), 0..25),
        args in selection(),
    ) {
        let bucket = Bucket(keys.into_iter().map(|(key, day)| (key, FIRST + day * 86_400 + 43_200)).collect());
        let mut plain = BTreeMap::new();
        let mut foreign = false;
        for (key, modified) in &bucket.0 {
            match LogKey::parse(key) {
                Ok(log) => {
                    let listed = String::from_utf8(key.clone()).unwrap();
                    if let Some(by_upload) = wanted(&args, &listed, &log, *modified) {
                        plain.insert(listed, by_upload);
                    }
                }
                Err(why) => foreign |= why != NotALog::Instruction,
            }
        }
        let found = bucket.find(args.clone());
        let paths: BTreeSet<String> = found.iter().map(|log| log.path()).collect();
        prop_assert_eq!(paths.len(), found.len(), "a path for each");
        let chosen: BTreeMap<String, bool> =
            found.iter().map(|log| (log.item.key(), log.by_upload)).collect();
        prop_assert_eq!(chosen.len(), found.len(), "each log once");
        prop_assert_eq!(chosen, plain);

        // What a path names is the log that was listed with it.
        let catalog = bucket.catalog(args);
        for log in &found {
            let named = logs(catalog.named(&log.path()));
            prop_assert_eq!(named.iter().map(|n| n.item.key()).collect::<Vec<_>>(), [log.item.key()]);
        }

        // Nothing is left out in silence.
        let all = bucket.catalog(SelectionArgs::default());
        logs(all.walk());
        prop_assert!(!foreign || all.totals().left_out > 0);
    }
}
