//! `.logarchivefs/metrics` and `status.json`: well formed, in agreement, documented, and true.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use logarchivefs::envelope::SealAs;
use serde_json::Value;

use crate::common::archive::{self, Log};
use crate::common::mounted::{Mount, Setup};
use crate::common::s3::{Reply, Seen, Server};
use crate::common::watch::eventually;

/// A family of the text format of Prometheus.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    /// By their labels.
    samples: BTreeMap<BTreeMap<String, String>, f64>,
}

fn is_name(text: &str, colon: bool) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || c == '_' || colon && c == ':';
    !text.is_empty() && text.chars().all(ok) && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// `{a="b",c="d"}`, and what follows.
fn labels(text: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let mut found = BTreeMap::new();
    let Some(mut rest) = text.strip_prefix('{') else { return Ok((found, text)) };
    loop {
        let (name, value) = rest.split_once("=\"").ok_or("no value")?;
        if !is_name(name, false) || name.starts_with("__") {
            return Err(format!("no name of a label: {name:?}"));
        }
        let (mut text, mut chars) = (String::new(), value.char_indices());
        let end = loop {
            match chars.next().ok_or("no end of a value")? {
                (at, '"') => break at,
                (_, '\\') => match chars.next().ok_or("half an escape")?.1 {
                    'n' => text.push('\n'),
                    c @ ('\\' | '"') => text.push(c),
                    c => return Err(format!("unknown escape {c:?}")),
                },
                (_, c) => text.push(c),
            }
        };
        if found.insert(name.to_owned(), text).is_some() {
            return Err(format!("label {name} twice"));
        }
        rest = &value[end + 1..];
        match rest.split_at_checked(1).ok_or("no end of labels")? {
            (",", after) => rest = after,
            ("}", after) => return Ok((found, after)),
            other => return Err(format!("{other:?} behind a label")),
        }
    }
}

/// Stricter than Prometheus: help, then type, then samples of each family, all of it once; counters end in `_total`.
fn parse(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let mut all: BTreeMap<String, Family> = BTreeMap::new();
    let body = text.strip_suffix('\n').ok_or("no line end at the end")?;
    let mut lines = body.split('\n').peekable();
    while let Some(line) = lines.next() {
        let help = line.strip_prefix("# HELP ").ok_or_else(|| format!("no help: {line}"))?;
        let (name, text) = help.split_once(' ').ok_or("help without a text")?;
        if !is_name(name, true) || text.is_empty() || text.contains('\\') {
            return Err(format!("{line}: name or text"));
        }
        let kind = lines.next().and_then(|l| l.strip_prefix("# TYPE ")?.strip_prefix(name)?.strip_prefix(' '));
        let kind = kind.ok_or_else(|| format!("{name} has no type"))?;
        if !matches!((kind, name.ends_with("_total")), ("counter", true) | ("gauge", false)) {
            return Err(format!("{name} is a {kind}"));
        }
        let base = name.trim_end_matches("_total");
        let unit = |u: &str| base.contains(u) && !base.ends_with(u);
        if unit("second") && !base.ends_with("seconds") || unit("byte") && !base.ends_with("bytes") {
            return Err(format!("{name}: the unit comes last"));
        }
        let mut family = Family { kind: kind.to_owned(), ..Family::default() };
        while let Some(line) = lines.next_if(|l| !l.starts_with('#')) {
            let rest = line.strip_prefix(name).ok_or_else(|| format!("{line} is not of {name}"))?;
            let (labels, rest) = labels(rest).map_err(|e| format!("{line}: {e}"))?;
            let value = rest.strip_prefix(' ').ok_or_else(|| format!("{line}: no value"))?;
            let value: f64 = value.parse().map_err(|e| format!("{line}: {e}"))?;
            if value < 0.0 || !value.is_finite() || family.samples.insert(labels, value).is_some() {
                return Err(format!("{line}: twice, or no number"));
            }
        }
        if family.samples.is_empty() || all.insert(name.to_owned(), family).is_some() {
            return Err(format!("{name}: twice, or without samples"));
        }
    }
    Ok(all)
}

#[test]
fn the_parser_is_strict() {
    let good = "# HELP a_b Say \"x\".\n# TYPE a_b gauge\na_b{l=\"q\\\"\\\\\\n\",m=\"\"} 1.5\na_b 2\n# HELP c_total C\n# TYPE c_total counter\nc_total 0\n";
    let all = parse(good).unwrap();
    let first = all["a_b"].samples.keys().last().unwrap();
    assert_eq!((first["l"].as_str(), all["c_total"].kind.as_str(), all.len()), ("q\"\\\n", "counter", 2));
    for (was, is) in [
        ("c_total 0\n", "c_total 0"),
        ("c_total 0\n", "c_total 0 \n"),
        ("c_total 0\n", "c_total -1\n"),
        ("c_total 0\n", "c_total 0\nc_total 0\n"),
        ("c_total 0\n", ""),
        ("c_total 0\n", "d_total 0\n"),
        ("counter\n", "gauge\n"),
        ("a_b gauge", "a_b counter"),
        ("# HELP c_total C\n", ""),
        ("# TYPE a_b gauge\n", ""),
        ("# HELP c_total C\n", "# HELP a_b C\n# TYPE a_b gauge\na_b 1\n# HELP c_total C\n"),
        ("m=\"\"", "l=\"\""),
        ("m=\"\"", "1m=\"\""),
        ("m=\"\"", "m=\"\\t\""),
        ("m=\"\"", "m="),
        ("m=\"\"", "m=\"\","),
        ("a_b 2", "a_b 2 3"),
        ("a_b 2", ""),
    ] {
        assert!(good.contains(was) && parse(&good.replacen(was, is, 1)).is_err(), "{was:?} as {is:?}");
    }
}

fn metrics(mount: &Mount) -> BTreeMap<String, Family> {
    let text = fs::read_to_string(mount.path(".logarchivefs/metrics")).unwrap();
    parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn status(mount: &Mount) -> Value {
    serde_json::from_slice(&fs::read(mount.path(".logarchivefs/status.json")).unwrap()).unwrap()
}

/// A number of `status.json`, as `store.requests.list`.
fn number(status: &Value, field: &str) -> u64 {
    let found = field.split('.').fold(status, |value, name| &value[name]);
    found.as_u64().unwrap_or_else(|| panic!("{field}: {found}"))
}

/// The rows of the table in the docs: field, metric, type, whether it has kinds.
fn documented() -> Vec<(String, String, String)> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OBSERVABILITY.md")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(|c| c.trim().trim_matches('`')).collect();
        let [field, metric, kind, what, ""] = cells[..] else { return None };
        assert!(!what.is_empty(), "{line}");
        metric.starts_with("logarchivefs_").then(|| (field.to_owned(), metric.to_owned(), kind.to_owned()))
    });
    rows.collect()
}

/// Every number under its path; those of one metric with kinds under its field and the kind.
fn leaves(value: &Value, path: &str, into: &mut BTreeMap<String, f64>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            let dot = if path.is_empty() { "" } else { "." };
            leaves(value, &format!("{path}{dot}{name}"), into);
        }),
        Value::Number(n) => drop(into.insert(path.to_owned(), n.as_f64().unwrap())),
        _ => {}
    }
}

/// The two files as `path of status.json -> number`, less the time that passes between them.
fn both(mount: &Mount) -> (BTreeMap<String, f64>, BTreeMap<String, f64>) {
    let (mut by_status, mut by_metrics) = (BTreeMap::new(), BTreeMap::new());
    let mut told = status(mount);
    told.as_object_mut().unwrap().remove("options");
    leaves(&told, "", &mut by_status);
    let families = metrics(mount);
    let names: BTreeSet<_> = families.keys().filter(|name| *name != "logarchivefs_info").cloned().collect();
    let rows = documented();
    assert_eq!(rows.iter().map(|row| row.1.clone()).collect::<BTreeSet<_>>(), names, "the table in the docs");
    for (field, metric, kind) in rows {
        let family = &families[&metric];
        assert_eq!(family.kind, kind, "{metric}");
        for (labels, value) in &family.samples {
            assert_eq!(Some(labels["mountpoint"].as_str()), mount.root().to_str());
            let path = labels.get("kind").map_or(field.clone(), |kind| format!("{field}.{kind}"));
            assert!(labels.len() <= 2 && by_metrics.insert(path, *value).is_none(), "{metric} {labels:?}");
        }
    }
    for all in [&mut by_status, &mut by_metrics] {
        assert!(all.remove("uptime_seconds").is_some_and(|t| t > 0.0));
    }
    (by_status, by_metrics)
}

fn workload(server: &Server, mount: &Mount) -> (Vec<Log>, usize) {
    let text = archive::text(1, 40);
    let logs: Vec<Log> = (0..6).map(Log::at).collect();
    let mut size = 0;
    for (n, log) in logs.iter().enumerate() {
        let gzip = archive::gzip(&text[..text.len() - n]);
        archive::put(server, log, SealAs::V2, &gzip);
        size += gzip.len() + 16;
    }
    archive::put(server, &Log { master: 7, ..Log::at(100) }, SealAs::V2, &archive::gzip(b"x"));
    server.put("README", &[], "foreign");
    for (n, log) in logs.iter().enumerate() {
        assert!(fs::read(mount.path(log.path())).unwrap() == text[..text.len() - n]);
    }
    for _ in 0..3 {
        fs::read(mount.path(Log { master: 7, ..Log::at(100) }.path())).unwrap_err();
    }
    (logs, size)
}

/// Also that the table in docs/OBSERVABILITY.md has each of them, and no other.
#[test]
fn status_and_metrics_say_the_same_and_all_of_it_is_documented() {
    let server = Server::start();
    let cache = tempfile::tempdir().unwrap();
    let dir = cache.path().join("ca\"c\\he");
    let mount = Setup::s3(&server).args(["--cache-dir".as_ref(), dir.as_os_str()]).mount();
    workload(&server, &mount);
    let (by_status, by_metrics) = eventually("nothing goes on meanwhile", || {
        let (a, b) = both(&mount);
        (a == b).then_some((a, b))
    });
    assert!(by_status.len() > 60 && by_status["store.requests.list"] > 0.0 && by_metrics["listed.objects"] == 7.0);
    // What is no number.
    let (told, families) = (status(&mount), metrics(&mount));
    let info = families["logarchivefs_info"].samples.keys().next().unwrap();
    for name in ["version", "bucket", "source", "mountpoint"] {
        assert!(told[name].as_str() == Some(&info[name]) && !info[name].is_empty(), "{name}");
    }
    for (name, value) in [("verify", "full"), ("sizes", "hint"), ("cache_dir", dir.to_str().unwrap())] {
        assert_eq!((told["options"][name].as_str(), info[name].as_str()), (Some(value), value));
    }
    assert_eq!(told["options"]["listing_ttl_seconds"], 300.0);
    assert_eq!(told["options"]["request_deadline_seconds"], 30.0);
    assert_eq!((&told["options"]["selection"]["app_id"], &told["bucket"]), (&serde_json::json!([]), &"archive".into()));
}

#[test]
fn the_numbers_are_true() {
    let server = Server::start();
    // The first request for an object fails.
    let once = AtomicBool::new(true);
    server.set_hook(move |seen| {
        (seen.is_get() && once.swap(false, Ordering::Relaxed)).then(|| Reply::error(503, "SlowDown"))
    });
    let mount = Setup::s3(&server).mount();
    let (logs, size) = workload(&server, &mount);
    let is_head = |seen: &Seen| seen.range.as_deref().is_some_and(|range| range.starts_with("bytes=-"));
    let (lists, gets): (Vec<_>, Vec<_>) = server.requests().into_iter().partition(Seen::is_list);
    // The kernel tells of a close when it likes.
    let told = eventually("all is closed", || Some(status(&mount)).filter(|told| number(told, "open.files") == 0));
    let is = |field: &str, want: usize| assert_eq!(number(&told, field), want as u64, "{field}: {told:#}");
    is("store.requests.list", lists.len() - 1);
    is("store.requests.check", 1);
    is("store.requests.head", gets.iter().filter(|get| is_head(get)).count());
    is("store.requests.get", 0);
    is("store.failed_requests", 1);
    is("store.retries", 1);
    is("store.fetched_bytes", size);
    is("served.opens", logs.len());
    let text: usize = logs.iter().map(|log| fs::metadata(mount.path(log.path())).unwrap().len() as usize).sum();
    is("served.bytes.read", text);
    is("served.bytes.pushed", 0);
    is("objects.proven", logs.len());
    is("listed.objects", logs.len() + 1);
    is("listed.resources", 1);
    is("listed.left_out", 1);
    is("keys", 2);
    assert!(number(&told, "ahead.files") > 0, "{told:#}");
    // Once by a stat, and each time that the file was opened.
    is("errors.no-key", 4);
    assert!(number(&told, "memory.peak_bytes") >= number(&told, "memory.used_bytes"));
    assert_eq!(number(&told, "memory.limit_bytes"), 256 << 20);

    // A large one, while it is open: it is in memory, and most of it was fetched by range.
    let large = Log { service: 99, ..Log::at(500) };
    let text = archive::noise(3, 9_000_000);
    archive::put(&server, &large, SealAs::V3, &archive::gzip(&text));
    mount.signal(libc::SIGHUP);
    let path = mount.path(large.path());
    // So long that its size is asked for while it is scanned.
    server.set_latency(Duration::from_millis(500));
    let mut file = eventually("it is listed", || fs::File::open(&path).ok());
    let mut got = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut got).unwrap();
    server.set_latency(Duration::ZERO);
    assert!(got == text);
    let told = status(&mount);
    assert_eq!(number(&told, "open.files"), 1);
    let served = |kind: &str| number(&told, &format!("served.bytes.{kind}"));
    assert!(served("pushed") > 0 && served("pushed") + served("read") >= text.len() as u64, "{told:#}");
    let gets = server.requests().into_iter().filter(|seen| seen.is_get() && !is_head(seen)).count();
    assert!(gets > 2 && number(&told, "store.requests.get") == gets as u64, "{told:#}");
    let (used, peak) = (number(&told, "memory.used_bytes"), number(&told, "memory.peak_bytes"));
    assert!(number(&told, "cache.bytes") > 0 && used >= number(&told, "cache.bytes"), "{told:#}");
    assert!((2 << 20..=256 << 20).contains(&peak), "{told:#}");
}

#[test]
fn the_numbers_of_the_cache_folder_are_true() {
    let server = Server::start();
    let (log, text, dir) = (Log::at(0), archive::noise(1, 3_000_000), tempfile::tempdir().unwrap());
    let gzip = archive::gzip(&text);
    archive::put(&server, &log, SealAs::V2, &gzip);
    let cache = dir.path().join("cache");
    let args = ["--cache-size".as_ref(), "1GiB".as_ref(), "--cache-dir".as_ref(), cache.as_os_str()];
    for first in [true, false] {
        let mount = Setup::s3(&server).args(args).mount();
        assert!(fs::read(mount.path(log.path())).unwrap() == text);
        let told = eventually("all is written", || {
            let told = status(&mount);
            (number(&told, "cache_dir.used_bytes") > gzip.len() as u64).then_some(told)
        });
        let [hits, misses] = ["hits", "misses"].map(|name| number(&told, &format!("cache_dir.{name}")));
        assert_eq!(number(&told, "cache_dir.limit_bytes"), 1 << 30);
        assert_eq!((hits > 0, misses > 0), (!first, first), "{told:#}");
        assert_eq!(number(&told, "store.requests.get") > 0, first);
    }
}
