//! The table as text: JSON, and the text format of Prometheus (version 0.0.4). Pure.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::table::{Facts, ROWS, Type, Value};

const PREFIX: &str = "logarchivefs_";

/// `about` is what is no number.
pub fn status(about: &Map<String, Json>, facts: &Facts) -> String {
    let mut all = about.clone();
    for row in ROWS {
        let value = match (row.get)(facts) {
            Value::Absent => continue,
            Value::Count(n) => n.into(),
            Value::Seconds(time) => millis(time).into(),
            Value::Kinds(kinds) => kinds.into_iter().map(|(kind, n)| (kind.to_owned(), Json::from(n))).collect(),
        };
        match row.field.split_once('.') {
            None => drop(all.insert(row.field.into(), value)),
            Some((section, field)) => {
                if let Some(section) = all.entry(section).or_insert_with(|| json!({})).as_object_mut() {
                    section.insert(field.into(), value);
                }
            }
        }
    }
    // Texts and numbers under names that are texts: this cannot fail.
    serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"
}

/// Every sample says of which `mountpoint` it is, as one machine may have several mounts; what is no number becomes the
/// labels of one more metric.
pub fn metrics(mountpoint: &str, info: &Map<String, Json>, facts: &Facts) -> String {
    let mut out = String::new();
    let labels = info.iter().filter_map(|(name, value)| Some((name.as_str(), plain(value)?)));
    let labels: Vec<(&str, String)> = labels.filter(|(name, _)| *name != "mountpoint").collect();
    family(&mut out, "info", Type::Gauge, "What is mounted, by which version, and how.");
    let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
    sample(&mut out, "info", mountpoint, &labels, "1");
    for row in ROWS {
        let value = (row.get)(facts);
        if matches!(value, Value::Absent) {
            continue;
        }
        family(&mut out, row.metric, row.kind, row.help);
        match value {
            Value::Absent => {}
            Value::Count(n) => sample(&mut out, row.metric, mountpoint, &[], &n.to_string()),
            Value::Seconds(time) => sample(&mut out, row.metric, mountpoint, &[], &millis(time).to_string()),
            Value::Kinds(kinds) => kinds.iter().for_each(|(kind, n)| {
                sample(&mut out, row.metric, mountpoint, &[("kind", kind)], &n.to_string());
            }),
        }
    }
    out
}

fn family(out: &mut String, name: &str, kind: Type, help: &str) {
    let kind = match kind {
        Type::Counter => "counter",
        Type::Gauge => "gauge",
    };
    // Writing to a string cannot fail.
    let _ = write!(out, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n");
}

fn sample(out: &mut String, name: &str, mountpoint: &str, labels: &[(&str, &str)], value: &str) {
    let _ = write!(out, "{PREFIX}{name}{{mountpoint=\"{}\"", escaped(mountpoint));
    for (label, text) in labels {
        let _ = write!(out, ",{label}=\"{}\"", escaped(text));
    }
    let _ = writeln!(out, "}} {value}");
}

/// As the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A text, a number, a yes or no, on its own.
fn plain(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(_) | Json::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

fn millis(time: Duration) -> f64 {
    time.as_millis() as f64 / 1000.0
}
