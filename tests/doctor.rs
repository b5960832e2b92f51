//! `doctor`: the real program against an S3 server in this process, a sealed copy, and nothing at all.

mod common;
#[path = "doctor/leftout.rs"]
mod leftout;
#[path = "doctor/setup.rs"]
mod setup;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::SealAs;
use serde_json::Value;

use common::archive::{self, Log};
use common::s3::{ACCESS_KEY, BUCKET, REGION, Reply, SECRET_KEY, Server};
use setup::{
    OF_BUCKETS, OF_OBJECTS, OF_THE_MACHINE, action, check_of, doctor, of, of_server, printed_actions, printed_policy,
    put, server, text,
};

#[test]
fn a_healthy_bucket() {
    let server = server();
    let report = of(&server).report();
    assert_eq!(report.not_ok(), ["identity"].into(), "{:#}", report.json);
    report.says("identity", "skipped", &["STS"]);
    assert_eq!(report.code, 0, "{}", report.stderr);
    assert_eq!(report.names(), [&OF_BUCKETS[..], &OF_THE_MACHINE[..]].concat());
    assert_eq!(report.json["bucket"], BUCKET);
    assert_eq!(report.json["version"], env!("CARGO_PKG_VERSION"));
    report.says("archive", "ok", &["2 objects"]);
    report.says("archive-keys", "ok", &[&archive::key_sum(0), &archive::key_sum(1), "key given"]);
    // What was called is what the printed policy allows, all of it, and nothing that writes.
    let called: BTreeSet<String> = server.requests().iter().map(|r| action(r).to_owned()).collect();
    assert_eq!(called, printed_actions());
    let checks: BTreeSet<String> = printed_actions().iter().map(|a| check_of(a)).collect();
    let rows: BTreeSet<String> = OF_BUCKETS.iter().filter(|n| n.starts_with("iam-")).map(|n| (*n).into()).collect();
    assert_eq!(checks, rows);
}

#[test]
fn a_table_for_people() {
    let server = server();
    server.put("READ\u{1b}[31mME", &[], "x");
    let output = of(&server).output();
    let stdout = text(&output.stdout);
    assert!(!stdout.contains('\u{1b}'), "no colours in a pipe, and nothing raw from the bucket: {stdout}");
    let rows: Vec<&str> = stdout.lines().filter(|l| !l.starts_with(' ')).collect();
    assert_eq!(rows.len(), OF_BUCKETS.len() + OF_THE_MACHINE.len(), "{stdout}");
    let column = rows[0].find("found").unwrap();
    for row in rows {
        assert!(row[column - 2..column].trim().is_empty() && !row[column..].starts_with(' '), "{row}");
    }
    assert!(stdout.contains("\n           READ\\x1b[31mME: a component is empty, "), "{stdout}");
    assert!(text(&output.stderr).contains(" ok, 1 warn, 0 fail, 1 skipped\n"), "{}", text(&output.stderr));

    let coloured = of(&server).env("CLICOLOR_FORCE", "1").output();
    assert!(text(&coloured.stdout).contains("\u{1b}[32mok"));
    let plain = of(&server).env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1").output();
    assert!(!text(&plain.stdout).contains('\u{1b}'));
}

#[test]
fn nothing_at_all() {
    let report = doctor([] as [&str; 0]).report();
    assert_eq!(report.names(), OF_THE_MACHINE);
    report.says("keys", "warn", &["--key-file"]);
    assert_eq!((report.code, &report.json["bucket"]), (0, &Value::Null), "{:#}", report.json);
    // More than any machine has.
    let vast = doctor(["--memory", "1000TiB"]).report();
    vast.says("memory", "warn", &["--memory"]);
}

#[test]
fn a_sealed_copy() {
    let dir = tempfile::tempdir().unwrap();
    let copy = |dir: &Path| doctor([format!("file://{}", dir.display())]);
    let mut random = Random::new(1);
    for log in [Log::at(0), Log { master: 7, ..Log::at(100) }, Log { master: 7, ..Log::at(200) }] {
        archive::write(dir.path(), &log, SealAs::V2, &archive::gzip(b"x\n"), 0, &mut random);
    }
    let report = copy(dir.path()).keys(&archive::key_text()).report();
    assert_eq!(report.names(), [&["bucket"], &OF_OBJECTS[..], &OF_THE_MACHINE[..]].concat());
    assert_eq!(report.not_ok(), ["archive-keys"].into());
    let (here, lacking, unused) = (archive::key_sum(0), archive::key_sum(7), archive::key_sum(1));
    report.says(
        "archive-keys",
        "fail",
        &[
            "2 objects",
            "of 3 objects",
            &format!("{here}: key given, 1 object"),
            &format!("{lacking}: NO KEY, 2 objects"),
            &format!("{unused}: key given, no object uses it"),
        ],
    );
    assert_eq!(report.code, 3);
    // Without any key nothing is wrong yet.
    let report = copy(dir.path()).report();
    report.says("archive-keys", "warn", &["3 objects", &here, &lacking]);
    assert_eq!(report.code, 0);

    let report = copy(&dir.path().join("objects")).report();
    report.says("bucket", "fail", &["no sealed copy"]);
    report.all_skipped(&OF_OBJECTS);
    assert_eq!(report.code, 3);
}

#[test]
fn what_is_in_the_bucket() {
    let server = server();
    let log = |at: i64| Log::at(at).key();
    server.put_class(&log(1000), &[], "abc", "GLACIER");
    server.put_class(&log(2000), &[], "abc", "DEEP_ARCHIVE");
    server.put_class(&log(3000), &[], "abc", "GLACIER_IR");
    server.put(&format!("{}.instruction", log(0)), &[], "{}");
    server.put("0-first-of-all", &[], "x");
    let report = of(&server).report();
    assert_eq!(
        report.not_ok(),
        ["identity", "other-objects", "instruction-files", "storage-classes"].into(),
        "{:#}",
        report.json
    );
    report.says("other-objects", "warn", &["1 object", "0-first-of-all"]);
    report.says("instruction-files", "warn", &["1 object", "--allow-instruction-files"]);
    report.says("storage-classes", "warn", &["2 objects", "GLACIER: 1", "DEEP_ARCHIVE: 1", "restore"]);
    assert_eq!(report.code, 0);
    // It is a log that was read, and one that can be.
    assert!(server.requests().iter().filter(|r| r.is_get()).all(|r| r.key.starts_with("prod/")));

    let empty = Server::start();
    let report = of(&empty).report();
    report.says("archive", "warn", &["no logs"]);
    report.says("iam-get-object", "skipped", &["there is no object"]);
    report.all_skipped(&["iam-get-object-version", "archive-keys"]);
    report.says("iam-list-bucket", "ok", &[]);
    assert_eq!(report.code, 0);

    // All archived: who may not read would not be told so.
    let cold = Server::start();
    cold.put_class(&log(0), &[], "abc", "GLACIER");
    of(&cold).report().says("iam-get-object", "ok", &[]);
}

#[test]
fn a_quick_look_is_a_bounded_one() {
    let server = Server::start();
    for n in 0..10_001 {
        server.put(&Log::at(n).key(), &[], "x");
    }
    let report = of(&server).report();
    report.says("archive", "ok", &["10,001 objects"]);
    server.forget();
    let report = of(&server).args(["--quick"]).report();
    report.says("archive", "ok", &["10,000 objects", "--quick"]);
}

#[test]
fn each_permission_is_probed() {
    let server = server();
    for denied in printed_actions() {
        let which = denied.clone();
        server.set_hook(move |seen| (action(seen) == which).then(|| Reply::error(403, "AccessDenied")));
        let report = of(&server).report();
        let row = check_of(&denied);
        let needed = matches!(denied.as_str(), "s3:ListBucket" | "s3:GetObject" | "s3:GetObjectVersion");
        report.says(&row, if needed { "fail" } else { "warn" }, &[&denied, "--print-iam-policy"]);
        assert_eq!(report.code, if needed { 3 } else { 0 }, "{denied}");
        report.says("bucket", "ok", &[]);
        // Only what depends on it is not ok with it.
        let expected: &[&str] = match denied.as_str() {
            "s3:ListBucket" => &[&["iam-get-object", "iam-get-object-version"], &OF_OBJECTS[..]].concat(),
            "s3:GetObject" => &["iam-get-object-version"],
            "s3:GetBucketVersioning" => &["versioning"],
            "s3:GetBucketPolicy" => &["bucket-policy"],
            _ => &[],
        };
        report.all_skipped(expected);
        let expected: BTreeSet<&str> = expected.iter().copied().chain(["identity", row.as_str()]).collect();
        assert_eq!(report.not_ok(), expected, "{denied}");
    }
}

#[test]
fn the_region() {
    let server = server();
    // A wrong one, and none at all.
    for doctor in [
        of_server(&server).env("AWS_REGION", "us-east-1"),
        doctor([BUCKET])
            .env("AWS_ENDPOINT_URL", &server.endpoint())
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
    ] {
        let report = doctor.keys(&archive::key_text()).report();
        report.says("region", "fail", &[REGION, &format!("--region {REGION}")]);
        // The rest is looked at all the same.
        assert_eq!(report.not_ok(), ["identity", "region"].into(), "{:#}", report.json);
        assert_eq!(report.code, 3);
    }
}

#[test]
fn a_bucket_that_is_not_there() {
    let server = server();
    let report = doctor(["nowhere", "--endpoint-url", &server.endpoint(), "--region", REGION])
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .report();
    report.says("bucket", "fail", &["there is no bucket nowhere"]);
    report.says("credentials", "ok", &[]);
    report.all_skipped(&OF_BUCKETS[5..]);
    assert_eq!(report.code, 3);
    assert_eq!(doctor(["http://archive"]).output().status.code(), Some(2));
}

#[test]
fn credentials_that_are_no_good() {
    let server = server();
    let unknown = of(&server).env("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN").report();
    unknown.says("credentials", "fail", &["does not know the access key"]);
    let wrong = of(&server).env("AWS_SECRET_ACCESS_KEY", "wrong").report();
    wrong.says("credentials", "fail", &["signature"]);
    server.set_hook(|_| Some(Reply::error(400, "ExpiredToken")));
    let expired = of(&server).report();
    expired.says("credentials", "fail", &["expired", "aws sso login"]);
    server.forget();
    let none = doctor([BUCKET, "--endpoint-url", &server.endpoint()]).keys(&archive::key_text()).report();
    none.says("credentials", "fail", &["no AWS credentials", "AWS_PROFILE"]);
    assert_eq!(server.requests().len(), 0);
    for report in [unknown, wrong, expired, none] {
        assert_eq!(report.code, 3);
        assert_eq!(report.status("bucket"), "skipped");
        report.all_skipped(&OF_BUCKETS[5..]);
        report.says("keys", "ok", &[]);
        assert_eq!(report.names(), [&OF_BUCKETS[..], &OF_THE_MACHINE[..]].concat());
    }
}

#[test]
fn storage_that_fails() {
    let server = server();
    server.set_hook(|seen| seen.is_list().then(|| Reply::error(503, "SlowDown")));
    let report = of(&server).report();
    report.says("bucket", "fail", &["SlowDown"]);
    assert_eq!(report.code, 6);
    // One question without an answer takes nothing else along.
    server.set_hook(|seen| (action(seen) == "s3:GetBucketPolicy").then_some(Reply::Hang));
    let report = of(&server).args(["--request-deadline", "8s"]).report();
    report.says("iam-get-bucket-policy", "warn", &["no answer within"]);
    assert_eq!(report.not_ok(), ["identity", "bucket-policy", "iam-get-bucket-policy"].into());
    assert_eq!(report.code, 0);
    server.set_hook(|seen| (action(seen) == "s3:GetBucketPolicy").then(|| Reply::error(501, "NotImplemented")));
    let report = of(&server).report();
    report.all_skipped(&["bucket-policy", "iam-get-bucket-policy"]);
    // The listing breaks off on a later page.
    for n in 0..1001 {
        server.put(&Log::at(n).key(), &[], "x");
    }
    server.set_hook(|seen| seen.query.contains("continuation-token").then(|| Reply::error(403, "AccessDenied")));
    let report = of(&server).report();
    report.says("bucket", "ok", &[]);
    assert_eq!(report.status("archive"), "fail");
    report.all_skipped(&OF_OBJECTS[1..]);
    assert_eq!(report.code, 3);

    let gone = of(&server);
    drop(server);
    let report = gone.report();
    report.says("bucket", "fail", &["cannot reach S3"]);
    assert_eq!(report.code, 6);
    report.all_skipped(&OF_BUCKETS[3..]);
}

#[test]
fn the_clock() {
    let server = server();
    let date = |seconds: i64| {
        let at = time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
        let (day, month) = (at.weekday().to_string(), at.month().to_string());
        let (h, m, s) = at.to_hms();
        format!("{}, {:02} {} {} {h:02}:{m:02}:{s:02} GMT", &day[..3], at.day(), &month[..3], at.year())
    };
    for (seconds, status, word) in [(-3600, "fail", "ahead of"), (300, "warn", "behind")] {
        let headers = vec![("date", date(seconds)), ("x-amz-bucket-region", REGION.to_owned())];
        server.set_hook(move |seen| {
            let reply = || Reply::Canned { status: 200, headers: headers.clone(), body: Vec::new() };
            (seen.method == "HEAD").then(reply)
        });
        let report = of(&server).report();
        report.says("clock", status, &[word, "timedatectl"]);
        // The SDK believes it too, and signs what follows for that time; the server allows a quarter of an hour.
        match status {
            "warn" => assert_eq!(report.not_ok(), ["identity", "clock"].into(), "{:#}", report.json),
            _ => assert_eq!(report.code, 3),
        }
    }
}

#[test]
fn what_delivery_needs() {
    // Nothing is delivered to this server, so these are warnings; what they are elsewhere, unit tests say.
    let server = server();
    server.set_policy(printed_policy().replace("\"s3:ReplicateDelete\",", ""));
    let report = of(&server).report();
    report.says("bucket-policy", "warn", &["not allowed: s3:ReplicateDelete", "--print-bucket-policy archive"]);
    server.set_policy("<html>");
    of(&server).report().says("bucket-policy", "warn", &["not understood"]);
    let bare = Server::start();
    bare.set_unversioned();
    put(&bare, &Log::at(0));
    let report = of(&bare).report();
    report.says("bucket-policy", "warn", &["there is none"]);
    report.says("versioning", "warn", &["put-bucket-versioning", BUCKET]);
    report.says("iam-get-object-version", "skipped", &["no version id"]);
    assert_eq!(report.code, 0);
}

#[test]
fn whose_credentials_they_are() {
    let server = server();
    let answer = |status, body: &'static str| {
        server.set_hook(move |seen| {
            let headers = vec![("content-type", "text/xml".to_owned())];
            (seen.method == "POST").then(|| Reply::Canned { status, headers, body: body.into() })
        });
        of(&server).env("AWS_ENDPOINT_URL_STS", &server.endpoint()).report()
    };
    let report = answer(
        200,
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
         <Arn>arn:aws:sts::123456789012:assumed-role/reader/ann</Arn><UserId>AROA:ann</UserId>\
         <Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>",
    );
    report.says("identity", "ok", &["arn:aws:sts::123456789012:assumed-role/reader/ann"]);
    assert!(report.not_ok().is_empty(), "{:#}", report.json);
    let report = answer(
        403,
        "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code>\
         <Message>The security token is invalid</Message></Error></ErrorResponse>",
    );
    report.says("identity", "warn", &["InvalidClientTokenId"]);
    assert_eq!(report.code, 0);
}

#[test]
fn keys() {
    use std::os::unix::fs::PermissionsExt;
    let bare = || doctor([] as [&str; 0]);
    let open = bare();
    let path = open.key_file(&archive::key_text());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let report = open.args([OsStr::new("--key-file"), path.as_os_str()]).report();
    report.says("keys", "fail", &["chmod 600"]);
    assert_eq!(report.code, 3);
    let report = bare().keys(&archive::key_text()).report();
    report.says("keys", "ok", &["2 given", &archive::key_sum(0), &archive::key_sum(1)]);
    let report = bare().env("LOGARCHIVEFS_KEYS", &archive::key_base64(0)).report();
    report.says("keys", "ok", &["1 given"]);
    report.says("keys-in-environment", "warn", &["/proc/PID/environ"]);
    assert_eq!(report.code, 0);
    let refused = bare().args(["--decryption-keys", "c2VjcmV0"]).output();
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stdout.is_empty() && !text(&refused.stderr).contains("c2VjcmV0"));
}

#[test]
fn the_document_names_each_check() {
    let document = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/DOCTOR.md")).unwrap();
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    let documented: BTreeSet<&str> = rows.flat_map(|names| names.split(['`', ' '])).filter(|n| !n.is_empty()).collect();
    let all = OF_BUCKETS.iter().chain(&OF_THE_MACHINE).copied().chain(["keys-in-environment"]);
    assert_eq!(documented, all.collect());
}

#[test]
fn policies_to_paste() {
    let print = |args: &[&str], region: &str| {
        let output = doctor(args).env("AWS_REGION", region).output();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        (text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    };
    let (policy, stderr) = print(&["--print-iam-policy", "s3://my-bucket/"], "us-east-1");
    assert!(policy.contains("\"arn:aws:s3:::my-bucket/*\"") && stderr.is_empty(), "{policy} {stderr}");
    let (policy, _) = print(&["--print-iam-policy", "my-bucket", "--region", "us-gov-west-1"], "us-east-1");
    assert!(policy.contains("\"arn:aws-us-gov:s3:::my-bucket\""));
    let (policy, _) = print(&["--print-iam-policy", "my-bucket"], "cn-north-1");
    assert!(policy.contains("\"arn:aws-cn:s3:::my-bucket\""));
    let (policy, stderr) = print(&["--print-iam-policy"], "");
    assert!(policy.contains("YOUR_BUCKET_NAME") && stderr.contains("YOUR_BUCKET_NAME"));
    assert!(serde_json::from_str::<Value>(&policy).is_ok());
    let (policy, _) = print(&["--print-bucket-policy", "my-bucket"], "");
    let policy: Value = serde_json::from_str(&policy).unwrap();
    assert_eq!(policy["Statement"][0]["Resource"], "arn:aws:s3:::my-bucket/*");
    for args in [
        &["--print-bucket-policy"][..],
        &["--print-bucket-policy", "file:///x"],
        &["--print-iam-policy", "--print-bucket-policy", "b"],
    ] {
        let output = doctor(args).output();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}");
    }
}
