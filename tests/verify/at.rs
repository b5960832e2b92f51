//! `verify --at`: what it says of a moment is what it would have said then.

use std::fs;

use crate::run::{Bucket, log, text_of};

#[test]
fn a_manifest_of_then_can_be_made_now() {
    let bucket = Bucket::s3();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let keys: Vec<String> = (0..4).map(|n| bucket.put(n)).collect();
    bucket.put(1);
    bucket.server().delete(&keys[2]);
    let then = bucket.server().time();
    let done = bucket.verify(["--format", "json", "--manifest", &path("then")]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let old = done.summary();
    assert_eq!((&old["objects"], &old["several_versions"], &old["deleted"]), (&3.into(), &1.into(), &1.into()));

    // Replaced, deleted, put back, and new.
    bucket.put_text(&log(0), &text_of(7));
    bucket.server().delete(&keys[1]);
    bucket.put(2);
    bucket.put(9);
    for page in [1, 2, 1000] {
        bucket.server().set_page(page);
        let args =
            ["--format", "json", "--at", &then, "--manifest", &path("now"), "--against", &path("then"), "--force"];
        let now = bucket.verify(args);
        assert_eq!(now.code, 0, "{}", now.stdout);
        let summary = now.summary();
        for field in ["objects", "ok", "several_versions", "deleted", "text_bytes", "versioning"] {
            assert_eq!(summary[field], old[field], "{field}, pages of {page}");
        }
        assert_eq!((&summary["at"], old.get("at")), (&then.clone().into(), None));
        let against = &summary["against"];
        assert!(["missing", "changed", "other_version", "new"].iter().all(|field| against[*field] == 0), "{against}");
        // But for the head, byte for byte.
        let [then, now] = ["then", "now"].map(|name| fs::read_to_string(path(name)).unwrap());
        let rest = |text: &str| text.split_once('\n').unwrap().1.to_owned();
        assert_eq!(rest(&then), rest(&now), "pages of {page}");
        let head: serde_json::Value = serde_json::from_str(now.lines().next().unwrap()).unwrap();
        assert_eq!(head["selection"]["at"], summary["at"]);
    }
    let text = bucket.verify(["--at", &then]).stdout;
    assert!(text.starts_with(&format!("as it was at        {then}\n")), "{text}");
    // As it is now, it is another archive.
    assert_eq!(bucket.verify(["--against", &path("then")]).code, 5);
}
