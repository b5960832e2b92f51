//! The manifest: each field against what the store and the text say, and against the documents.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;
use serde_json::Value;

use crate::common::archive;
use crate::run::{Bucket, log, text_of};

/// To the last byte: programs of others read it.
#[test]
fn each_field_is_what_the_store_and_the_text_say() {
    let bucket = Bucket::s3();
    let (log, text) = (log(4), text_of(4));
    let gzip = archive::gzip(&text);
    let (metadata, body) = archive::sealed(SealAs::V2, 0, &gzip, &mut Random::new(4));
    let pairs: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    // Two versions, of which the second counts.
    bucket.server().put(&log.key(), &pairs, "another");
    let (etag, version) = bucket.server().put(&log.key(), &pairs, body.clone());
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("manifest");
    let done = bucket.verify(["--format", "json", "--manifest", manifest.to_str().unwrap()]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let written = fs::read_to_string(&manifest).unwrap();
    let line = written.lines().nth(1).unwrap();
    let (path, key) = (log.path(), log.key());
    let data_key = archive::sha256(&STANDARD.decode(&metadata["x-amz-key-v2"]).unwrap());
    let (size, gzip_size, text_size) = (body.len(), gzip.len(), text.len());
    let [of_body, of_gzip, of_text] = [&body, &gzip, &text].map(|bytes| archive::sha256(bytes));
    let expected = format!(
        r#"{{"path":"{path}","key":"{key}","version_id":"{version}","etag":"{etag}","last_modified":"2022-09-01T00:00:02Z","#
    ) + &format!(
        r#""envelope":"v2","data_key":"{data_key}","size":{size},"gzip_size":{gzip_size},"text_size":{text_size},"#
    ) + &format!(
        r#""sha256_ciphertext":"{of_body}","sha256_gzip":"{of_gzip}","sha256_text":"{of_text}","lines":200,"#
    ) + r#""first_time":"2022-08-24T00:04:00.25Z","last_time":"2022-08-24T00:04:59.25Z","verdict":"ok","reason":null,"#
        + r#""findings":[],"notes":["several-versions"]}"#;
    assert_eq!(line, expected);
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(done.report(&key), line, "with sums asked for, the same on standard output");

    let documented = documented_fields();
    let there: BTreeSet<String> = line.as_object().unwrap().keys().cloned().collect();
    assert_eq!(documented, there);
}

/// The first column of the table below "### Manifest".
fn documented_fields() -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/COMMANDS.md")).unwrap();
    let section = text.split_once("### Manifest").unwrap().1.split_once("\n### ").unwrap().0;
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    rows.flat_map(|names| names.split(['`', ',', ' ']).filter(|n| !n.is_empty()).map(str::to_owned)).collect()
}
