//! Golden transcripts of the command line: `tests/cmd/<command>/*.trycmd`, each a shell session as a person sees it.
//!
//! They run in a folder with two sealed copies: `archive`, the demo archive, whose keys are in `keys`, and `listing`, a few objects that cannot be
//! read but only listed, the same to the last byte on every machine. The program finds them as
//! `file:///proc/self/cwd/archive`. Beside them are an audit log, `audit.jsonl`, and `cut.jsonl`, which lacks one of its lines. `TRYCMD=overwrite cargo test --test cli` writes what is printed now into the
//! transcripts: read the difference before you believe it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use logarchivefs::demo;
use logarchivefs::store::{NewObject, write_object};

#[test]
fn transcripts() {
    let folder = tempfile::tempdir().unwrap();
    // The logs are the same on every run; the keys, and so the key sums, are not.
    let demo = demo::write(&folder.path().join("archive"), 2022).unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, demo.keys.as_bytes()).unwrap();
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
    listing(&folder.path().join("listing"));
    let audit = include_str!("audit/golden.jsonl");
    std::fs::write(folder.path().join("audit.jsonl"), audit).unwrap();
    let cut: String = audit.split_inclusive('\n').enumerate().filter(|(n, _)| *n != 3).map(|(_, line)| line).collect();
    std::fs::write(folder.path().join("cut.jsonl"), cut).unwrap();
    std::env::set_current_dir(folder.path()).unwrap();
    trycmd::TestCases::new()
        .register_bin("logarchivefs", Path::new(env!("CARGO_BIN_EXE_logarchivefs")))
        .env("HOME", "/nowhere")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("RUST_LOG", "warn")
        .env("COLUMNS", "100")
        .case(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cmd/*/*.trycmd"))
        .run();
}

/// A rotated log, the one after it past midnight, the older naming, unknown times, another stack, and what is no log.
fn listing(dir: &Path) {
    let (sum, container) = ("ab".repeat(32), "38d59273887f".repeat(5) + "0000");
    let app = format!("shareable/v3/{sum}/apps-321/service-12/{container}-json.log");
    for (key, size, modified) in [
        (format!("prod/{app}.1.2022-08-24T21:12:33.2022-08-24T23:14:38.archived.gz"), 23_057, "2022-08-24T23:30:00Z"),
        (format!("prod/{app}.2022-08-24T23:14:38.2022-08-25T00:10:00.archived.gz"), 1_201, "2022-08-25T00:30:00Z"),
        (format!("prod/{app}.unknown.unknown.archived.gz"), 99, "2022-08-26T01:30:00Z"),
        (
            format!("prod/shareable/v2/{sum}/databases-7/{container}-json.2.log.2022-08-23T13:00:00.bck.gz"),
            123_456,
            "2022-08-23T13:30:00Z",
        ),
        (
            format!("staging/shareable/v3/{sum}/proxy-55/{container}-json.log.2022-08-24T00:00:00.unknown.archived.gz"),
            7,
            "2022-08-25T08:30:00Z",
        ),
        ("prod/shareable/v3/README.md".to_owned(), 10, "2022-08-25T08:30:00Z"),
    ] {
        let modified = time::OffsetDateTime::parse(modified, &time::format_description::well_known::Rfc3339).unwrap();
        let object = NewObject {
            key: &key,
            metadata: &Default::default(),
            etag: Some("00112233445566778899aabbccddeeff"),
            version_id: None,
            last_modified: (modified.unix_timestamp(), 0),
        };
        write_object(dir, &object, &mut vec![0; size].as_slice()).unwrap();
    }
}
