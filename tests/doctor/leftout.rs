//! `doctor --left-out`: every key that is no log, once, and none of them raw.

use std::collections::BTreeMap;
use std::sync::Arc;

use logarchivefs::error::escape_whole;
use serde_json::Value;

use crate::common::archive::{self, Log};
use crate::common::s3::{Reply, Server};
use crate::setup::{of, of_server, put, server, text};

/// In the place of two bytes that are no UTF-8, and like them behind all others in the order of a listing.
const NO_UTF8: &str = "\u{10ffff}";

/// The other way round than [`escape_whole`].
fn unescaped(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [b'\\', after @ ..]) => {
                out.push(b'\\');
                rest = after;
            }
            (b'\\', [b'x', a, b, after @ ..]) => {
                out.push(u8::from_str_radix(std::str::from_utf8(&[*a, *b]).unwrap(), 16).unwrap());
                rest = after;
            }
            _ => out.push(*first),
        }
    }
    out
}

fn hostile() -> Vec<String> {
    let sum = archive::key_sum(0);
    let file = |c: &str| format!("prod/shareable/v3/{sum}/apps-321/service-1/{c}-json.log.unknown.unknown.archived.gz");
    let components = [
        "..",
        ".",
        "",
        "a\0b",
        "a\nb",
        "a\rb",
        "\u{1b}[2J",
        "\u{1b}]0;title\u{7}",
        "\u{7f}",
        "\u{9b}31m",
        "\u{202e}gpj",
        "\u{2028}",
        "\u{200f}",
        NO_UTF8,
        "a/../b",
        "/",
        "\\x1b\u{1}",
        "\\\n",
        "\t (not a reason)",
    ];
    let mut keys: Vec<String> = components.iter().map(|c| file(c)).collect();
    keys.push(file(&"l".repeat(256)));
    keys.extend(
        [
            "..",
            "../../etc/passwd",
            "/",
            "//",
            "\u{1b}[31m/x",
            "\u{0}",
            "prod",
            "READ ME",
            "ein Schl\u{fc}ssel",
            "*",
            "-rf",
            "\"",
            "'",
        ]
        .map(str::to_owned),
    );
    keys.extend([
        format!("{NO_UTF8}/x"),
        "k".repeat(1024),
        // Alike but for their ends, behind what other messages show of a key.
        "\u{1}".repeat(1023) + "a",
        "\u{1}".repeat(1023) + "b",
        format!("prod/shareable/v3/{sum}/apps-99999999999999999999/x"),
        format!("prod/shareable/v3/{}\n/apps-1/x", &sum[1..]),
        format!("prod/shareable/v4/{sum}/apps-1/service-1/x"),
        format!("prod/shareable/v3/{sum}/apps-1/x"),
        format!("prod/shareable/v3/{sum}/\u{202e}-1/x"),
        "prod/shareable/v3/../x".into(),
        "prod/shareable/".into(),
        format!("{}.instruction", Log::at(0).key()),
        "\u{1b}[31m.instruction".into(),
        ".logarchivefs/shareable/v3/x/apps-1/service-1/x".into(),
        "C:\\x".into(),
        "x".into(),
        "\u{1f4a9}".into(),
    ]);
    assert_eq!(keys.len(), 50);
    keys
}

#[test]
fn every_foreign_key_is_named_once_and_none_raw() {
    let server = server();
    let keys = hostile();
    keys.iter().for_each(|key| drop(server.put(key, &[], "abc")));
    server.set_page(7);
    server.set_hook(|seen| {
        let edit = |head: &mut hyper::http::response::Parts, body: &mut Vec<u8>| {
            *body = String::from_utf8(body.clone()).unwrap().replace("%F4%8F%BF%BF", "%FF%FE").into();
            head.headers.insert("content-length", body.len().into());
        };
        seen.is_list().then(|| Reply::Edit(Arc::new(edit)))
    });
    let bytes = |key: &String| match key.split_once(NO_UTF8) {
        Some((before, after)) => [before.as_bytes(), b"\xff\xfe", after.as_bytes()].concat(),
        None => key.clone().into_bytes(),
    };
    let list = |args: &[&str]| {
        let output = of(&server).args(["--left-out"]).args(args).output();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{args:?}");
        let told = text(&output.stdout).to_owned();
        assert!(told.bytes().all(|b| matches!(b, b'\n' | 0x20..=0x7e)), "{told:?}");
        assert_eq!(told.lines().count(), keys.len(), "{told}");
        told
    };
    let told = list(&[]);
    for key in &keys {
        let named = format!("{} (", escape_whole(&bytes(key)));
        assert_eq!(told.lines().filter(|line| line.starts_with(&named) && line.ends_with(')')).count(), 1, "{named}");
    }
    assert_eq!(told.lines().filter(|line| line.ends_with(".instruction (an instruction file)")).count(), 2, "{told}");
    let told = list(&["--format", "json"]);
    let mut named = BTreeMap::new();
    for line in told.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert!(entry["size"] == 3 && !entry["reason"].as_str().unwrap().is_empty(), "{line}");
        *named.entry(unescaped(entry["key"].as_str().unwrap())).or_insert(0) += 1;
    }
    assert_eq!(named, keys.iter().map(|key| (bytes(key), 1)).collect());
    // The report says where they all are.
    let report = of(&server).report();
    report.says(
        "other-objects",
        "warn",
        &["48 objects", "and 43 more: `logarchivefs doctor BUCKET --left-out` names all"],
    );
}

#[test]
fn it_needs_no_keys_and_ends_well_or_says_why() {
    let server = server();
    let output = of_server(&server).args(["--region", crate::common::s3::REGION, "--left-out"]).output();
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(0), "", ""));
    // A listing that fails on a later page: what was told stays, and is not all.
    server.put("0", &[], "x");
    server.put("zzz", &[], "x");
    server.set_page(2);
    server.set_hook(|seen| seen.query.contains("continuation-token").then(|| Reply::error(403, "AccessDenied")));
    let output = of(&server).args(["--left-out"]).output();
    assert_eq!(text(&output.stdout), "0 (not the path of a log archive)\n");
    assert!(output.status.code() != Some(0) && text(&output.stderr).contains("s3:ListBucket"), "{output:?}");
    server.clear_hook();
    for args in [&["--left-out"][..], &["--left-out", "--quick", "b"], &["--left-out", "--print-iam-policy", "b"]] {
        let output = crate::setup::doctor(args).output();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}");
    }
}

/// `doctor | head`: what it ends with is what it found.
#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let server = Server::start();
    put(&server, &Log::at(0));
    (0..2000).for_each(|n| drop(server.put(&format!("{n:0100}"), &[], "x")));
    server.set_policy(crate::setup::printed_policy());
    for (args, code, says) in [(&[][..], 0, " 0 fail, "), (&["--format", "json"], 0, ""), (&["--left-out"], 0, "")] {
        let output = of(&server).args(args).output_to_nobody();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
        let stderr = text(&output.stderr);
        assert!(stderr.contains(says) && stderr.lines().count() == usize::from(!says.is_empty()), "{args:?}: {stderr}");
    }
}
