//! What S3 says of the bucket and of who asks. Questions that do not need each other's answers are asked at once; where
//! one fails, those that depend on it are skipped, and no other.

use super::check::Check;
use super::policy::{self, By, Permission};
use super::verdict;
use crate::error::{Error, Kind, escape};
use crate::key::LogKey;
use crate::store::{Entry, Front, Identity, Probe, Refusal, S3Options, Why};

/// With a clock that is off by more, S3 refuses the signature.
const MOST_SKEW: i64 = 15 * 60;

const NAME: &str = "check the bucket's name, --profile, --region and --endpoint-url";
const RENEW: &str =
    "`aws sso login`, or other credentials: --profile, AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

/// The findings, and how to reach the objects, if they may be listed.
pub async fn checks(options: S3Options) -> (Vec<Check>, Option<S3Options>) {
    let bucket = escape(options.bucket.as_bytes());
    let probe = match Probe::open(&options).await {
        Ok(probe) => probe,
        Err(e) => {
            let mut checks = vec![Check::error("bucket", &e).advise(NAME)];
            checks.extend(skipped(&["credentials", "identity"], "the settings are wrong"));
            checks.extend(unreachable("the settings are wrong"));
            return (checks, None);
        }
    };
    if let Err(e) = probe.credentials().await {
        let mut checks = vec![Check::error("credentials", &e).advise(RENEW)];
        checks.extend(skipped(&["identity", "bucket"], "there are no credentials"));
        checks.extend(unreachable("there are no credentials"));
        return (checks, None);
    }
    let credentials = Check::ok("credentials", "found");
    let (who, front) = tokio::join!(probe.identity(), probe.front());
    let who = identity(who);
    let front = match front {
        Ok(front) => front,
        Err(e) => {
            let mut checks = vec![credentials, who, Check::error("bucket", &e).advise(NAME)];
            checks.extend(unreachable("S3 does not answer"));
            return (checks, None);
        }
    };
    let (region, clock) = (region(probe.region(), &front), clock(&front));
    // What else there is to know is asked where the bucket is.
    let there = front.region.or_else(|| Some(probe.region().unwrap_or("us-east-1").to_owned()));
    let moved = there.as_deref() != probe.region();
    let options = S3Options { region: there, ..options };
    let probe = if moved { Probe::open(&options).await.unwrap_or(probe) } else { probe };
    let listed = probe.list().await;
    let answers = match &listed {
        Err(Refusal { why: Why::Credentials, error }) => {
            let mut checks = vec![Check::error("credentials", &config(error)).advise(RENEW), who];
            checks.extend(skipped(&["bucket"], "S3 does not take the credentials"));
            checks.extend([region, clock]);
            checks.extend(skipped(&DEPENDENT, "S3 does not take the credentials"));
            return (checks, None);
        }
        Err(Refusal { why: Why::Other, error }) => {
            let mut checks = vec![credentials, who, Check::error("bucket", error).advise(NAME), region, clock];
            checks.extend(skipped(&DEPENDENT, "the bucket could not be asked"));
            return (checks, None);
        }
        Err(_) => Check::ok("bucket", format!("{bucket} answers, but does not show its objects")),
        Ok(_) => Check::ok("bucket", format!("{bucket} answers")),
    };
    let (versions, versioning, bucket_policy, location, (got, got_version)) = tokio::join!(
        probe.versions(),
        probe.versioning(),
        probe.policy(),
        probe.location(),
        objects(&probe, listed.as_deref())
    );
    let mut checks = vec![credentials, who, answers, region, clock];
    let delivery = [self::versioning(&versioning, &bucket), self::bucket_policy(&bucket_policy, &bucket)];
    // Nothing is delivered to other servers; a copy on one is read just as well without.
    checks.extend(delivery.into_iter().map(|c| if probe.is_amazon() { c } else { c.softened() }));
    checks.push(permission(&policy::LIST, listed.as_ref().map(drop)));
    checks.push(got);
    checks.push(got_version);
    checks.push(permission(&policy::LIST_VERSIONS, versions.as_ref().map(drop)));
    checks.push(permission(&policy::LOCATION, location.as_ref().map(drop)));
    checks.push(permission(&policy::VERSIONING, versioning.as_ref().map(drop)));
    checks.push(permission(&policy::POLICY, bucket_policy.as_ref().map(drop)));
    (checks, listed.is_ok().then_some(options))
}

/// The checks that need a bucket which answers.
const DEPENDENT: [&str; 9] = [
    "versioning",
    "bucket-policy",
    policy::LIST.check,
    policy::GET.check,
    policy::GET_VERSION.check,
    policy::LIST_VERSIONS.check,
    policy::LOCATION.check,
    policy::VERSIONING.check,
    policy::POLICY.check,
];

fn skipped(names: &[&'static str], why: &str) -> Vec<Check> {
    names.iter().map(|name| Check::skipped(name, why)).collect()
}

/// All checks after `bucket`.
fn unreachable(why: &str) -> Vec<Check> {
    [skipped(&["region", "clock"], why), skipped(&DEPENDENT, why)].concat()
}

/// As at the start of a mount: credentials that S3 refuses are a matter of configuration.
fn config(e: &Error) -> Error {
    Error::new(Kind::Config, e.to_string())
}

fn identity(who: Option<Result<Identity, Error>>) -> Check {
    let name = "identity";
    match who {
        None => Check::skipped(name, "not Amazon's: there is no STS to ask"),
        Some(Ok(Identity { account, arn })) => Check::ok(name, format!("{arn} (account {account})")),
        Some(Err(e)) => {
            let advice = "nothing but this line needs STS; `aws sts get-caller-identity` asks the same";
            Check::warn(name, e.to_string(), advice)
        }
    }
}

fn region(configured: Option<&str>, front: &Front) -> Check {
    let name = "region";
    let said = |region: &str| escape(region.as_bytes());
    match (configured.map(said), &front.region) {
        (Some(configured), Some(there)) if configured == *there => Check::ok(name, configured),
        (Some(configured), Some(there)) => Check::fail(
            name,
            format!("the bucket is in {there}, but {configured} is configured"),
            format!("give --region {there}, or set it in AWS_REGION or the profile; the rest is checked there"),
        ),
        (None, Some(there)) => Check::fail(
            name,
            format!("no region is configured; the bucket is in {there}"),
            format!("give --region {there}, or set it in AWS_REGION or the profile; the rest is checked there"),
        ),
        (Some(configured), None) => {
            Check::ok(name, format!("{configured} is configured; the server does not say where the bucket is"))
        }
        (None, None) => Check::fail(
            name,
            "no region is configured, and the server does not say where the bucket is",
            "give --region REGION, or set it in AWS_REGION or the profile",
        ),
    }
}

fn clock(front: &Front) -> Check {
    let name = "clock";
    let Some(skew) = front.skew else { return Check::skipped(name, "the server does not tell its time") };
    let advice = "set the clock, for example with `timedatectl set-ntp true`: signatures carry the time";
    let finding = match skew {
        0 => "agrees with the server's to the second".into(),
        _ => format!("{} s {} the server's", skew.unsigned_abs(), if skew > 0 { "behind" } else { "ahead of" }),
    };
    match skew.unsigned_abs() {
        0..=60 => Check::ok(name, finding),
        s if s < MOST_SKEW.unsigned_abs() => Check::warn(name, finding, advice),
        _ => Check::fail(name, finding, advice),
    }
}

fn versioning(answer: &Result<Option<String>, Refusal>, bucket: &str) -> Check {
    let name = "versioning";
    let advice = format!(
        "the archive requires it: `aws s3api put-bucket-versioning --bucket {bucket} \
         --versioning-configuration Status=Enabled`"
    );
    match answer {
        Ok(Some(status)) if status == "Enabled" => Check::ok(name, "enabled"),
        Ok(Some(status)) => Check::fail(name, format!("{} now", status.to_lowercase()), advice),
        Ok(None) => Check::fail(name, "was never enabled", advice),
        Err(e) => Check::skipped(name, format!("could not be seen: {}", e.error)),
    }
}

fn bucket_policy(answer: &Result<Option<String>, Refusal>, bucket: &str) -> Check {
    let name = "bucket-policy";
    let advice = format!("add what `logarchivefs doctor --print-bucket-policy {bucket}` prints");
    let text = match answer {
        Ok(Some(text)) => text,
        Ok(None) => return Check::fail(name, "there is none, so Aptible cannot deliver", advice),
        Err(e) => return Check::skipped(name, format!("could not be seen: {}", e.error)),
    };
    let verdict = match verdict::judge(text, bucket) {
        Ok(verdict) => verdict,
        Err(e) => return Check::fail(name, format!("not understood: {}", escape(e.as_bytes())), advice),
    };
    let list = |what: &std::collections::BTreeSet<&str>| what.iter().copied().collect::<Vec<_>>().join(", ");
    let mut details = Vec::new();
    let mut tell = |what: &str, actions: &std::collections::BTreeSet<&str>| {
        if !actions.is_empty() {
            details.push(format!("{what}: {}", list(actions)));
        }
    };
    tell("not allowed", &verdict.missing);
    tell("denied", &verdict.denied);
    tell("only under a condition, or for a part of the objects", &verdict.conditional);
    tell("allowed beyond what it needs", &verdict.excess);
    if verdict.public {
        details.push("allowed to everybody: a statement without condition has the principal \"*\"".into());
    }
    if !verdict.missing.is_empty() || !verdict.denied.is_empty() {
        return Check::fail(name, "Aptible's archiver cannot deliver", advice).with(details);
    }
    if details.is_empty() {
        return Check::ok(name, "Aptible's archiver may do what it needs");
    }
    let advice = format!("narrower is safer: compare it with `logarchivefs doctor --print-bucket-policy {bucket}`");
    Check::warn(name, "Aptible's archiver may deliver, but look at this", advice).with(details)
}

/// Reading an object, and reading a version of it.
async fn objects(probe: &Probe, listed: Result<&[Entry], &Refusal>) -> (Check, Check) {
    let untried = |why: &str| {
        let skip = |p: &Permission| Check::skipped(p.check, format!("could not be tried: {why}"));
        (skip(&policy::GET), skip(&policy::GET_VERSION))
    };
    let Ok(entries) = listed else { return untried("the objects are not shown") };
    // A log that can be read at once, if there is one: policies may tell parts of a bucket apart.
    let rank = |e: &&Entry| {
        let cold = matches!(e.storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE"));
        (LogKey::parse(&e.key).is_err(), cold)
    };
    let some = entries.iter().filter(|e| e.size > 0 && std::str::from_utf8(&e.key).is_ok()).min_by_key(rank);
    let Some(key) = some.and_then(|e| std::str::from_utf8(&e.key).ok()) else { return untried("there is no object") };
    let got = probe.get(key, None).await;
    let get = permission(&policy::GET, got.as_ref().map(drop));
    let version = match got {
        Ok(Some(id)) if id != "null" => {
            permission(&policy::GET_VERSION, probe.get(key, Some(&id)).await.as_ref().map(drop))
        }
        Ok(_) => {
            Check::skipped(policy::GET_VERSION.check, "could not be tried: the object has no version id to read by")
        }
        Err(_) => Check::skipped(policy::GET_VERSION.check, "could not be tried: the object cannot be read"),
    };
    (get, version)
}

/// Without an action that every reader needs nothing works; without one of the others, a finding is missing.
fn permission(permission: &Permission, tried: Result<(), &Refusal>) -> Check {
    let Permission { action, check, by, .. } = *permission;
    let Err(Refusal { why, error }) = tried else { return Check::ok(check, format!("{action} is allowed")) };
    let advice = format!("allow {action}, as `logarchivefs doctor --print-iam-policy` has it");
    match (why, by) {
        (Why::NotAllowed, By::Readers) => Check::fail(check, error.to_string(), advice),
        (Why::NotAllowed, By::Verify) => Check::warn(
            check,
            error.to_string(),
            advice + "; only --at, and what verify notes beside its verdicts, need it",
        ),
        (Why::NotAllowed, By::Doctor) => Check::warn(check, error.to_string(), advice + "; only doctor needs it"),
        // The object is gone since it was listed, or the server does not know the request.
        (_, _) if matches!(error.kind(), Kind::NotFound | Kind::Stale | Kind::Config) => {
            Check::skipped(check, format!("could not be tried: {error}"))
        }
        (_, By::Readers) => Check::error(check, error),
        (_, By::Verify | By::Doctor) => Check::error(check, error).softened(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;
    use crate::error::exit;

    #[test]
    fn the_clock() {
        let status = |skew| clock(&Front { skew, region: None }).status;
        for (skew, want) in [
            (Some(0), Status::Ok),
            (Some(-60), Status::Ok),
            (Some(61), Status::Warn),
            (Some(-899), Status::Warn),
            (Some(900), Status::Fail),
            (Some(i64::MIN), Status::Fail),
            (None, Status::Skipped),
        ] {
            assert_eq!(status(skew), want, "{skew:?}");
        }
        let finding = |skew| clock(&Front { skew: Some(skew), region: None }).finding;
        assert!(finding(5).contains("5 s behind") && finding(-5).contains("5 s ahead"));
    }

    #[test]
    fn the_region() {
        let check = |configured, there: Option<&str>| {
            region(configured, &Front { region: there.map(str::to_owned), skew: None })
        };
        assert_eq!(check(Some("a"), Some("a")).status, Status::Ok);
        assert_eq!(check(Some("a"), None).status, Status::Ok);
        for wrong in [check(Some("a"), Some("b")), check(None, Some("b"))] {
            assert_eq!((wrong.status, wrong.exit), (Status::Fail, exit::CONFIG));
            assert!(wrong.advice.unwrap().contains("--region b"));
        }
        assert_eq!(check(None, None).status, Status::Fail);
    }

    fn refused(why: Why, kind: Kind) -> Refusal {
        Refusal { why, error: Error::new(kind, "no") }
    }

    #[test]
    fn permissions() {
        let check = |p, why, kind| {
            let check = permission(p, Err(&refused(why, kind)));
            (check.status, check.exit)
        };
        let not_allowed = |p| check(p, Why::NotAllowed, Kind::AccessDenied);
        assert_eq!(not_allowed(&policy::GET), (Status::Fail, exit::CONFIG));
        assert_eq!(not_allowed(&policy::POLICY), (Status::Warn, exit::OK));
        assert_eq!(not_allowed(&policy::LIST_VERSIONS), (Status::Warn, exit::OK));
        assert_eq!(check(&policy::GET, Why::Other, Kind::Timeout), (Status::Fail, exit::STORAGE));
        assert_eq!(check(&policy::POLICY, Why::Other, Kind::Storage), (Status::Warn, exit::OK));
        assert_eq!(check(&policy::POLICY, Why::Other, Kind::Config), (Status::Skipped, exit::OK));
        assert_eq!(check(&policy::GET, Why::Other, Kind::NotFound), (Status::Skipped, exit::OK));
        assert_eq!(permission(&policy::GET, Ok(())).status, Status::Ok);
        // Each permission of the table has its row.
        for p in policy::ALL {
            assert!(DEPENDENT.contains(&p.check), "{}", p.check);
        }
    }

    #[test]
    fn what_delivery_needs() {
        let status = |check: Check| (check.status, check.exit);
        assert_eq!(versioning(&Ok(Some("Enabled".into())), "b").status, Status::Ok);
        assert_eq!(status(versioning(&Ok(Some("Suspended".into())), "b")), (Status::Fail, exit::CONFIG));
        assert_eq!(status(versioning(&Ok(None), "b")), (Status::Fail, exit::CONFIG));
        assert_eq!(status(versioning(&Ok(None), "b").softened()), (Status::Warn, exit::OK));
        let not_allowed = || refused(Why::NotAllowed, Kind::AccessDenied);
        assert_eq!(versioning(&Err(not_allowed()), "b").status, Status::Skipped);
        let judged = |text: &str| bucket_policy(&Ok(Some(text.into())), "b");
        assert_eq!(judged(&policy::bucket("b")).status, Status::Ok);
        assert_eq!(status(judged(&policy::bucket("other"))), (Status::Fail, exit::CONFIG));
        assert_eq!(status(judged("<html>\u{1b}")), (Status::Fail, exit::CONFIG));
        assert_eq!(status(bucket_policy(&Ok(None), "b")), (Status::Fail, exit::CONFIG));
        assert_eq!(bucket_policy(&Err(not_allowed()), "b").status, Status::Skipped);
        let wide = r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}}"#;
        let wide = judged(wide);
        assert_eq!(wide.status, Status::Warn);
        assert!(wide.details.iter().any(|d| d.contains("everybody")), "{wide:?}");
    }
}
