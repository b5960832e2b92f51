use super::*;
use crate::cmd::doctor::policy;

const ARN: &str = "arn:aws:s3:::b";

fn judged(policy: &str) -> Verdict {
    judge(policy, "b").unwrap()
}

/// A policy of these statements, each written as the inside of an object.
fn statements(all: &[&str]) -> Verdict {
    judged(&format!("{{\"Statement\": [{}]}}", all.iter().map(|s| format!("{{{s}}}")).collect::<Vec<_>>().join(",")))
}

const WHO: &str = r#""Principal": {"AWS": "arn:aws:iam::916150859591:role/s3-stack-log-replication"}"#;
const ON_OBJECTS: &str = r#""Action": ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ObjectOwnerOverrideToBucketOwner"],
    "Resource": "arn:aws:s3:::b/*""#;
const ON_BUCKET: &str = r#""Action": ["s3:List*", "s3:GetBucketVersioning", "s3:PutBucketVersioning"],
    "Resource": "arn:aws:s3:::b""#;
const ALLOW: &str = r#""Effect": "Allow""#;

/// Both statements, each for `who`, with more statements behind.
fn both(who: &str, more: &[&str]) -> Verdict {
    let (objects, bucket) = (format!("{ALLOW}, {who}, {ON_OBJECTS}"), format!("{ALLOW}, {who}, {ON_BUCKET}"));
    statements(&[&[objects.as_str(), bucket.as_str()], more].concat())
}

fn set(names: &[&'static str]) -> BTreeSet<&'static str> {
    names.iter().copied().collect()
}

#[test]
fn the_printed_policy_is_what_the_archiver_needs() {
    assert_eq!(judged(&policy::bucket("b")), Verdict::default());
    let other = judged(&policy::bucket("other"));
    assert_eq!(other.missing.len(), NEEDS.len(), "{other:?}");
    // A bucket whose name begins alike is another bucket.
    assert_eq!(judged(&policy::bucket("bb")).missing.len(), NEEDS.len());
}

#[test]
fn the_same_in_other_words() {
    let good = [
        both(WHO, &[]),
        both(r#""Principal": {"AWS": ["arn:aws:iam::1:root", "arn:aws:iam::916150859591:root"]}"#, &[]),
        both(r#""Principal": {"AWS": "916150859591"}"#, &[]),
        // One statement as an object, names in other cases, wildcards, an empty condition.
        judged(&format!(
            r#"{{"Statement": {{{ALLOW}, {WHO}, "Condition": {{}}, "Resource": ["{ARN}", "{ARN}/*"],
                "Action": ["S3:replicate*", "s3:ObjectOwnerOverrideTo?ucketOwner", "s3:ListBucket*", "s3:???BucketVersioning"]}}}}"#
        )),
        // Actions in statements of their own, the bucket's name by wildcard.
        statements(&[
            &format!(r#"{ALLOW}, {WHO}, "Action": "s3:Replicate*", "Resource": "arn:aws:s3:::*""#),
            &format!(r#"{ALLOW}, {WHO}, "Action": "s3:Object*", "Resource": "arn:aws:s3:::?/*""#),
            &format!(r#"{ALLOW}, {WHO}, "Action": ["s3:List*", "s3:*BucketVersioning"], "Resource": "*""#),
        ]),
        // Denials that do not concern it.
        both(
            WHO,
            &[
                r#""Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*",
                   "Condition": {"Bool": {"aws:SecureTransport": "false"}}"#,
                r#""Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*",
                   "Condition": {"BoolIfExists": {"aws:securetransport": [false]}, "NumericLessThan": {"s3:TlsVersion": 1.2}}"#,
                r#""Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::1:root"}, "Action": "*", "Resource": "*""#,
                r#""Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject*", "Resource": "*""#,
                r#""Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::other*""#,
                r#""Effect": "Deny", "Principal": "*", "NotAction": "s3:*", "Resource": "*""#,
                r#""Effect": "Deny", "Principal": "*", "Action": "s3:*", "NotResource": ["arn:aws:s3:::b", "arn:aws:s3:::b/*"]"#,
                r#""Effect": "Deny", "Action": "s3:*", "Resource": "*",
                   "NotPrincipal": {"AWS": ["916150859591", "arn:aws:iam::916150859591:role/s3-stack-log-replication"]}"#,
            ],
        ),
    ];
    for (n, verdict) in good.iter().enumerate() {
        assert_eq!(*verdict, Verdict::default(), "{n}");
    }
}

#[test]
fn each_lack_is_found() {
    let document: Value = serde_json::from_str(&policy::bucket("b")).unwrap();
    let lists = set(&["s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"]);
    let mut tried = 0;
    for (s, statement) in document["Statement"].as_array().unwrap().iter().enumerate() {
        for (a, action) in statement["Action"].as_array().unwrap().iter().enumerate() {
            let mut lacking = document.clone();
            lacking["Statement"][s]["Action"].as_array_mut().unwrap().remove(a);
            let missing = judged(&lacking.to_string()).missing;
            match action.as_str().unwrap() {
                "s3:List*" => assert_eq!(missing, lists),
                one => assert_eq!(missing.into_iter().collect::<Vec<_>>(), [one]),
            }
            tried += 1;
        }
        // What each of its other parts being wrong takes away.
        let whole: BTreeSet<_> = NEEDS.iter().filter(|n| n.1 == (s == 0)).map(|n| n.0).collect();
        for (part, wrong) in [
            ("Principal", r#"{"AWS": "arn:aws:iam::916150859591:role/another"}"#),
            ("Principal", r#"{"AWS": "AROAEXAMPLE"}"#),
            ("Principal", r#"{"Service": "logging.s3.amazonaws.com"}"#),
            ("Resource", r#""arn:aws:s3:::B""#),
            ("Resource", r#""arn:aws:s3:::""#),
        ] {
            let mut lacking = document.clone();
            lacking["Statement"][s][part] = serde_json::from_str(wrong).unwrap();
            assert_eq!(judged(&lacking.to_string()).missing, whole, "{part} {wrong}");
            tried += 1;
        }
        // The other statement's resource.
        let mut lacking = document.clone();
        lacking["Statement"][s]["Resource"] = document["Statement"][1 - s]["Resource"].clone();
        assert_eq!(judged(&lacking.to_string()).missing, whole);
        let mut gone = document.clone();
        gone["Statement"].as_array_mut().unwrap().remove(s);
        assert_eq!(judged(&gone.to_string()).missing, whole);
    }
    assert_eq!(tried, 16);
    assert_eq!(judged(r#"{"Statement": []}"#).missing.len(), NEEDS.len());
}

#[test]
fn a_denial_beats_a_grant() {
    let denied = |statement: &str| both(WHO, &[&format!(r#""Effect": "Deny", {statement}"#)]).denied;
    let replicate = set(&["s3:ReplicateObject"]);
    for statement in [
        r#""Principal": "*", "Action": "s3:ReplicateObject", "Resource": "*""#,
        r#""Principal": {"AWS": "*"}, "Action": "s3:replicateobjec?", "Resource": "arn:aws:s3:::b/*""#,
        r#""Principal": {"AWS": "916150859591"}, "Action": "s3:ReplicateO*", "NotResource": "arn:aws:s3:::c/*""#,
        r#""NotPrincipal": {"AWS": "arn:aws:iam::1:root"}, "Action": "s3:ReplicateObject", "Resource": "*""#,
    ] {
        assert_eq!(denied(statement), replicate, "{statement}");
    }
    let on_bucket = denied(r#""Principal": "*", "NotAction": ["s3:Replicate*", "s3:Object*"], "Resource": "*""#);
    assert_eq!(on_bucket, NEEDS.iter().filter(|n| !n.1).map(|n| n.0).collect());
}

#[test]
fn conditions_and_parts_are_told() {
    let some = |statement: &str| both(WHO, &[statement]).conditional;
    let replicate = set(&["s3:ReplicateObject"]);
    for statement in [
        r#""Effect": "Deny", "Principal": "*", "Action": "s3:ReplicateObject", "Resource": "arn:aws:s3:::b/prod/*""#,
        r#""Effect": "Deny", "Principal": "*", "Action": "s3:ReplicateObject", "NotResource": "arn:aws:s3:::b/prod/*""#,
        r#""Effect": "Deny", "Principal": "*", "Action": "s3:ReplicateObject", "Resource": "*",
           "Condition": {"StringNotEquals": {"aws:SourceVpce": "vpce-1"}}"#,
        r#""Effect": "Deny", "Principal": "*", "Action": "s3:ReplicateObject", "Resource": "*",
           "Condition": {"Bool": {"aws:SecureTransport": "true"}}"#,
    ] {
        assert_eq!(some(statement), replicate, "{statement}");
    }
    // A grant under a condition is not enough, and one without it makes up for it.
    let condition = r#""Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}"#;
    let (objects, bucket) = (format!("{ALLOW}, {WHO}, {ON_OBJECTS}"), format!("{ALLOW}, {WHO}, {ON_BUCKET}"));
    let verdict = statements(&[&format!("{objects}, {condition}"), &bucket]);
    assert_eq!(verdict.conditional, NEEDS.iter().filter(|n| n.1).map(|n| n.0).collect());
    assert!(verdict.missing.is_empty());
    assert_eq!(statements(&[&format!("{objects}, {condition}"), &bucket, &objects]), Verdict::default());
    let part = ON_OBJECTS.replace("b/*", "b/prod/*");
    let verdict = statements(&[&format!("{ALLOW}, {WHO}, {part}"), &bucket]);
    assert_eq!(verdict.conditional.len(), 3);
}

#[test]
fn grants_that_are_too_wide_are_told() {
    let everybody = both(r#""Principal": "*""#, &[]);
    assert!(everybody.public && everybody.missing.is_empty());
    for statement in [
        r#""Effect": "Allow", "Principal": {"AWS": ["1", "*"]}, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*""#,
        r#""Effect": "Allow", "NotPrincipal": {"AWS": "1"}, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*""#,
    ] {
        assert!(both(WHO, &[statement]).public, "{statement}");
    }
    let narrowed = r#""Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*",
                      "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}"#;
    assert!(!both(WHO, &[narrowed]).public);
    let all = statements(&[&format!(r#"{ALLOW}, {WHO}, "Action": "s3:*", "Resource": "*""#)]);
    assert!(all.missing.is_empty() && all.excess.len() == EXCESS.len());
    let others =
        format!(r#"{ALLOW}, "Principal": {{"AWS": "arn:aws:iam::1:root"}}, "Action": "s3:*", "Resource": "*""#);
    assert_eq!(both(WHO, &[&others]), Verdict::default(), "that somebody else may is the owner's business");
}

#[test]
fn what_is_no_policy_is_refused() {
    for bad in [
        "",
        "{}",
        "[]",
        r#"{"Statement": "x"}"#,
        r#"{"Statement": [{}]}"#,
        r#"{"Statement": [{"Effect": "allow", "Principal": "*", "Action": "*", "Resource": "*"}]}"#,
        r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": 1, "Resource": "*"}}"#,
        r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*"}}"#,
        r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "NotAction": "*", "Resource": "*"}}"#,
    ] {
        assert!(judge(bad, "b").is_err(), "{bad}");
    }
}

#[test]
fn patterns() {
    for (pattern, what, covers, meets) in [
        ("a", "a", true, true),
        ("a", "b", false, false),
        ("", "", true, true),
        ("*", "", true, true),
        ("a?c", "abc", true, true),
        ("a?c", "ac", false, false),
        ("a*c", "axxc", true, true),
        ("a*c*", "ac*", true, true),
        ("*", "b/*", true, true),
        ("b/*", "b/*", true, true),
        ("b/?*", "b/*", false, true),
        ("b/x", "b/*", false, true),
        ("b/*x", "b/*", false, true),
        ("b/**", "b/*", true, true),
        ("b", "b/*", false, false),
        ("c/*", "b/*", false, false),
        ("?/*", "b/*", true, true),
    ] {
        assert_eq!(matches(pattern, what, How::Covers), covers, "{pattern} covers {what}");
        assert_eq!(matches(pattern, what, How::Meets), meets, "{pattern} meets {what}");
    }
    // Would take for ever if it tried every way.
    assert!(!matches(&"*a".repeat(2000), &format!("{}b", "a".repeat(1000)), How::Covers));
}
