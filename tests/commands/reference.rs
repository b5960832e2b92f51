//! What `find` chooses, beside what `aptible logs_from_archive` does: equal, or a difference that the table in
//! docs/COMMANDS.md names; and every row of that table is seen to occur.
//!
//! The reference CLI is played from the record of its real parser in `tests/vectors/keys.json` and from the rules in
//! FORMAT section 1, which were taken from running it.

use std::collections::BTreeSet;

use clap::Parser;
use futures::TryStreamExt;
use logarchivefs::catalog::select::{Selection, SelectionArgs};
use logarchivefs::cli::{Cli, Command};
use logarchivefs::error::Kind;
use serde_json::{Value, json};

use super::listing::{Bucket, wait};

struct Listed {
    key: String,
    /// What the reference CLI's parser made of it; a text is the error that ends the whole command.
    cli: Value,
}

#[derive(Clone, Copy, Debug)]
enum Search {
    Resource(&'static str, u64),
    Container(&'static str),
    Strings(&'static [&'static str]),
}

type Dates = Option<(&'static str, &'static str)>;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/keys.json")).unwrap()
}

fn listed() -> Vec<Listed> {
    let vectors = vectors();
    let cases = vectors["keys"].as_array().unwrap();
    cases.iter().map(|case| Listed { key: case["key"].as_str().unwrap().into(), cli: case["cli"].clone() }).collect()
}

/// A date is its midnight; the interval is closed at both ends.
fn cli_dates(dates: Dates, first: &Value, last: &Value) -> bool {
    let Some((start, end)) = dates else { return true };
    let (Some(first), Some(last)) = (first.as_str(), last.as_str()) else { return false };
    let midnight = |date: &str| format!("{date}T00:00:00Z");
    !(midnight(end).as_str() < first || midnight(start).as_str() > last)
}

/// The keys that the reference CLI chooses on a stack; `Err`: it ends with a backtrace.
fn cli(keys: &[Listed], stack: &str, search: Search, dates: Dates) -> Result<BTreeSet<String>, String> {
    let mut chosen = BTreeSet::new();
    for Listed { key, cli } in keys.iter().filter(|k| k.key.starts_with(stack)) {
        let wanted = match search {
            Search::Strings(patterns) => patterns.iter().all(|p| regex::Regex::new(p).unwrap().is_match(key)),
            _ if cli.is_string() => return Err(cli.as_str().unwrap().into()),
            Search::Resource(kind, id) => cli["type"] == kind && cli["id"] == id,
            Search::Container(prefix) => {
                cli["container_id"].as_str().ok_or("NoMethodError: start_with? for nil")?.starts_with(prefix)
            }
        };
        if wanted && cli_dates(dates, &cli["start_time"], &cli["end_time"]) {
            chosen.insert(key.clone());
        }
    }
    Ok(chosen)
}

fn args(stack: &str, search: Search, dates: Dates) -> SelectionArgs {
    let mut args = SelectionArgs { stacks: vec![stack.into()], ..Default::default() };
    match search {
        Search::Resource("apps", id) => args.app_ids = vec![id],
        Search::Resource("databases", id) => args.database_ids = vec![id],
        Search::Resource(_, id) => args.endpoint_ids = vec![id],
        Search::Container(prefix) => args.containers = vec![prefix.into()],
        Search::Strings(patterns) => args.patterns = patterns.iter().map(|p| (*p).to_owned()).collect(),
    }
    if let Some((start, end)) = dates {
        (args.start_date, args.end_date) = (Some(start.into()), Some(end.into()));
    }
    args
}

fn ours(keys: &[Listed], args: SelectionArgs) -> BTreeSet<String> {
    let found = Bucket::new(keys.iter().map(|k| k.key.as_str())).find(args);
    found.iter().map(|log| log.item.key()).collect()
}

/// The row of the table that lets the two choices differ on this key.
fn why(stack: &str, dates: Dates, listed: &Listed) -> Option<&'static str> {
    let Listed { key, cli } = listed;
    let end_day = |(_, end): (&str, &str)| cli["start_time"].as_str().is_some_and(|start| start.starts_with(end));
    match () {
        () if key.ends_with(".instruction") => Some("instruction files"),
        () if cli.is_string() || cli["container_id"].is_null() => Some("other objects"),
        () if !key.starts_with(&format!("{stack}/")) => Some("stack"),
        () if dates.is_some() && cli["schema"] == "v2" => Some("v2 names with dates"),
        () if dates.is_some() && (cli["start_time"].is_null() || cli["end_time"].is_null()) => {
            Some("unknown times with dates")
        }
        () if dates.is_some_and(end_day) => Some("end date"),
        () => None,
    }
}

const CONTAINER: &str = "3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c";

fn searches() -> Vec<Search> {
    vec![
        Search::Resource("apps", 321),
        Search::Resource("apps", 32),
        Search::Resource("databases", 88),
        Search::Resource("databases", 9),
        Search::Resource("proxy", 4107),
        Search::Container(&CONTAINER[..12]),
        Search::Container(CONTAINER),
        Search::Container("3C3C3C3C3C3C"),
        Search::Strings(&["apps-321"]),
        Search::Strings(&["apps-[0-9]+/service-123", "2022-08-24T21"]),
        Search::Strings(&["^acme-prod/", r"\.gz$"]),
        Search::Strings(&["no such thing"]),
    ]
}

/// Days before, on, around and after the spans of the vectors, and the day of an upload.
const DATES: [Dates; 7] = [
    None,
    Some(("2022-08-24", "2022-08-25")),
    Some(("2022-08-23", "2022-08-24")),
    Some(("2022-08-24", "2022-08-24")),
    Some(("2022-08-25", "2022-08-26")),
    Some(("2022-06-29", "2022-06-30")),
    Some(("2022-01-01", "2022-12-31")),
];

#[test]
fn the_model_of_the_reference_cli_is_its_record() {
    for case in vectors()["range_matches"].as_array().unwrap() {
        let date = |name: &str| -> &'static str { case[name].as_str().unwrap().to_owned().leak() };
        let dates = Some((date("start_date"), date("end_date")));
        assert_eq!(cli_dates(dates, &case["first"], &case["last"]), case["match"].as_bool().unwrap(), "{case}");
    }
}

#[test]
fn every_choice_is_equal_or_a_documented_difference() {
    let all = listed();
    let is_log =
        |k: &&Listed| k.cli.is_object() && !k.key.ends_with(".instruction") && !k.cli["container_id"].is_null();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut equal = 0;

    // Where nothing ends the command: logs, the same logs on another stack, instruction files.
    let copy = |k: &Listed, key: String| Listed { key, cli: k.cli.clone() };
    let mut calm: Vec<Listed> = all.iter().filter(is_log).map(|k| copy(k, k.key.clone())).collect();
    let elsewhere: Vec<Listed> =
        calm.iter().map(|k| copy(k, k.key.replacen("acme-prod/", "acme-prod-2/", 1))).collect();
    calm.extend(elsewhere);
    calm.extend(all.iter().filter(|k| k.key.ends_with(".instruction")).map(|k| copy(k, k.key.clone())));
    for search in searches() {
        for dates in DATES {
            if matches!(search, Search::Strings(_)) && dates.is_some() {
                continue; // The reference CLI has no such query.
            }
            let theirs = cli(&calm, "acme-prod", search, dates).unwrap();
            let ours = ours(&calm, args("acme-prod", search, dates));
            for key in calm.iter() {
                let chosen = (theirs.contains(&key.key), ours.contains(&key.key));
                if chosen.0 == chosen.1 {
                    equal += 1;
                    continue;
                }
                let row = why("acme-prod", dates, key);
                let row = row.unwrap_or_else(|| panic!("{search:?} {dates:?} {}: (theirs, ours) {chosen:?}", key.key));
                // Evidence is only ever added; what is left out is no log of that stack.
                assert_eq!(chosen.1, !["stack", "instruction files"].contains(&row), "{row}: {}", key.key);
                seen.insert(row);
            }
        }
    }
    assert!(equal > 500, "{equal}");

    // Any other object ends every search by id there; here it changes nothing.
    for other in all.iter().filter(|k| !is_log(k) && !k.key.ends_with(".instruction")) {
        let mut keys: Vec<Listed> = all.iter().filter(is_log).map(|k| copy(k, k.key.clone())).collect();
        keys.push(copy(other, other.key.clone()));
        let search = if other.cli.is_string() { searches()[0] } else { Search::Container(&CONTAINER[..12]) };
        assert!(cli(&keys, "acme-prod", search, None).is_err(), "{}", other.key);
        let with = ours(&keys, args("acme-prod", search, None));
        keys.pop();
        assert!(with == ours(&keys, args("acme-prod", search, None)) && !with.is_empty(), "{}", other.key);
        assert_eq!(why("acme-prod", None, other), Some("other objects"));
        seen.insert("other objects");
    }

    // What can be typed.
    let day = |start: Option<&str>, end: Option<&str>| SelectionArgs {
        start_date: start.map(str::to_owned),
        end_date: end.map(str::to_owned),
        ..Default::default()
    };
    let ok = |args: &SelectionArgs| Selection::new(args.clone()).is_ok();
    assert!(ok(&day(Some("2022-08-24"), None)) && ok(&day(None, Some("2022-08-24"))));
    seen.insert("one date");
    assert!(!ok(&day(Some("2022-02-31"), None)) && !ok(&day(Some("2022-08-25x"), None)));
    assert!(ok(&day(Some("2022-08-24T21:00:00+02:00"), None)));
    seen.insert("form of dates");
    let app = args("acme-prod", Search::Resource("apps", 321), None);
    let both = SelectionArgs { containers: vec![CONTAINER.into()], patterns: vec!["/v3/".into()], ..app.clone() };
    assert!(ours(&calm, both.clone()).is_subset(&ours(&calm, app)) && !ours(&calm, both).is_empty());
    seen.insert("several filters");
    let lookahead = SelectionArgs { patterns: vec!["apps(?!-7)".into()], ..Default::default() };
    assert!(!ok(&lookahead));
    seen.insert("regular expressions");
    let odd = format!(
        "acme-prod/shareable/v3/{}/proxy-1/jsonserver-son-7-json.log.unknown.unknown.archived.gz",
        "97".repeat(32)
    );
    let odd = Bucket::new([odd.as_str()]).find(args("acme-prod", Search::Container("jsonserver-so"), None));
    assert_eq!(odd.len(), 1);
    seen.insert("container names");

    // Times that no archiver writes: a fraction moves what the CLI takes for the start and the end, and a day too many is the
    // next month's first.
    let app = Search::Resource("apps", 321);
    let chosen = |times: &str, first: Option<&str>, last: Option<&str>, dates: Dates| {
        let sum = "97".repeat(32);
        let key = format!("acme-prod/shareable/v3/{sum}/apps-321/service-1/{CONTAINER}-json.log.{times}.archived.gz");
        let record =
            json!({"type": "apps", "id": 321, "container_id": CONTAINER, "start_time": first, "end_time": last});
        let keys = [Listed { key, cli: record }];
        let theirs = cli(&keys, "acme-prod", app, dates).unwrap();
        (!theirs.is_empty(), !ours(&keys, args("acme-prod", app, dates)).is_empty())
    };
    let fraction = "2022-08-24T21:12:33.5.2022-08-24T21:14:38.25";
    let of_fraction = |dates| chosen(fraction, Some("2022-08-24T21:14:38Z"), None, dates);
    assert_eq!(of_fraction(None), (true, true));
    assert_eq!(of_fraction(Some(("2022-08-24", "2022-08-25"))), (false, true), "dropped, as it has no end");
    let february = "2022-02-30T10:00:00.2022-02-30T11:00:00";
    let of_february = |dates| chosen(february, Some("2022-03-02T10:00:00Z"), Some("2022-03-02T11:00:00Z"), dates);
    assert_eq!(of_february(None), (true, true));
    assert_eq!(of_february(Some(("2022-03-02", "2022-03-03"))), (true, false), "no log of March");
    assert_eq!(of_february(Some(("2030-03-17", "2030-03-17"))), (false, true), "by its upload, as an unknown time is");
    seen.insert("times in names");

    // Thor takes all that follows; here a word is a value of the option before it or a path, and the message says which.
    let typed =
        |args: &[&str]| match Cli::try_parse_from(["logarchivefs", "find", "b"].iter().chain(args)).unwrap().command {
            Command::Find(find) => (find.select.string_matches, find.paths),
            other => panic!("{other:?}"),
        };
    let own = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    assert_eq!(typed(&["--string-matches", "A", "B"]), (own(&["A"]), own(&["B"])));
    assert_eq!(typed(&["--string-matches", "A", "--string-matches", "B"]), (own(&["A", "B"]), own(&[])));
    let catalog = Bucket::new([calm[0].key.as_str()]).catalog(args("acme-prod", Search::Strings(&["v3"]), None));
    let e = wait(catalog.named("B").try_next()).err().unwrap();
    assert!(e.kind() == Kind::NoMatch && e.message().contains("write --string-matches before it too"), "{e}");
    seen.insert("several patterns");

    assert_eq!(documented(), seen, "the table of differences in docs/COMMANDS.md");
}

/// The first cells of the table of differences.
fn documented() -> BTreeSet<&'static str> {
    let text = include_str!("../../docs/COMMANDS.md");
    let table = text.split_once("| difference |").unwrap().1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('|').nth(1).unwrap().trim()).collect()
}
