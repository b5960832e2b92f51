//! `doctor`: looks at everything that a mount depends on, changes nothing, and says what to do. Each finding is a `Check`; one
//! that fails never keeps another from being made.

mod archive;
mod check;
mod leftout;
mod local;
mod policy;
mod report;
mod s3;
mod verdict;

use std::io::{self, ErrorKind, Write};

use super::serve::runtime;
use crate::cli::{DoctorArgs, KeyArgs, TableFormat};
use crate::config::{self, Place};
use crate::envelope::Keyring;
use crate::err;
use crate::error::{Kind, Result, exit};
use crate::keysource::{EnvKeys, KEYS_VARIABLE};
use crate::store::{DirStore, Retry, S3Store, Store};
use check::{Check, Status};

/// Returns the exit code: that of the gravest failure, storage before configuration before anything else.
pub fn run(mut args: DoctorArgs, env_keys: Option<EnvKeys>) -> Result<u8> {
    let place = args.bucket.as_deref().map(Place::parse).transpose()?;
    if args.print_iam_policy || args.print_bucket_policy {
        print(&policies(&args, place)?)?;
        return Ok(exit::OK);
    }
    if let (true, Some(bucket)) = (args.left_out, &args.bucket) {
        return leftout::run(bucket, &args.store, args.format);
    }
    // Keys may be asked for on the terminal; so first, and not beside anything else.
    let (findings, keyring) = keys(std::mem::take(&mut args.keys), env_keys)?;
    let runtime = runtime()?;
    let mut checks = runtime.block_on(look(place, &args, &keyring));
    runtime.shutdown_background();
    checks.extend(findings);
    checks.extend(local::checks(args.memory));
    match args.format {
        TableFormat::Json => print(&report::json(args.bucket.as_deref(), &checks)?)?,
        TableFormat::Text => {
            print(&report::text(&checks))?;
            eprintln!("{}", report::summary(&checks));
        }
    }
    Ok(checks.iter().filter(|c| c.status == Status::Fail).map(|c| c.exit).max().unwrap_or(exit::OK))
}

fn policies(args: &DoctorArgs, place: Option<Place>) -> Result<String> {
    let (bucket, prefix) = match place {
        Some(Place::S3 { bucket, prefix }) => (bucket, prefix),
        Some(Place::Dir(_)) => return Err(err!(Kind::Usage, "a sealed copy needs no policy: give a bucket")),
        None => {
            eprintln!("No bucket was given: put its name in the place of {}.", policy::PLACEHOLDER);
            (policy::PLACEHOLDER.to_owned(), String::new())
        }
    };
    if args.print_bucket_policy {
        return Ok(policy::bucket(&bucket));
    }
    let configured = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| std::env::var(name).ok());
    let region = args.store.region.clone().or(configured);
    Ok(policy::iam(&bucket, &prefix, region.as_deref())? + "\n")
}

/// Colours only for a terminal. Who stops reading has read enough.
fn print(text: &str) -> Result<()> {
    let mut out = anstream::AutoStream::auto(io::stdout());
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(err!(Kind::Internal, "cannot write the report: {e}")),
        _ => Ok(()),
    }
}

/// What there is to say of the keys themselves. Only a flag that is refused is an error.
fn keys(args: KeyArgs, env: Option<EnvKeys>) -> Result<(Vec<Check>, Keyring)> {
    let name = "keys";
    let from_environment = env.is_some();
    let (check, ring) = match config::keys(args, env) {
        Err(e) if e.kind() == Kind::Usage => return Err(e),
        Err(e) => (Check::error(name, &e).advise("set that source of keys right"), Keyring::default()),
        Ok(ring) if ring.is_empty() => {
            let advice = "without one nothing can be read: give --key-file FILE or --key-command COMMAND";
            (Check::warn(name, "none was given", advice), ring)
        }
        Ok(ring) => {
            let sums = ring.fingerprints().map(str::to_owned).collect();
            (Check::ok(name, format!("{} given, by fingerprint (SHA-256):", ring.len())).with(sums), ring)
        }
    };
    let mut checks = vec![check];
    if from_environment {
        let finding = format!("{KEYS_VARIABLE} is set: it stays visible in /proc/PID/environ");
        checks.push(Check::warn("keys-in-environment", finding, "prefer --key-file or --key-command"));
    }
    Ok((checks, ring))
}

/// Everything about the bucket or the sealed copy.
async fn look(place: Option<Place>, args: &DoctorArgs, keyring: &Keyring) -> Vec<Check> {
    let (mut checks, store) = match place {
        None => return Vec::new(),
        Some(Place::Dir(path)) => {
            let opened = match DirStore::open(&path, "") {
                Ok(store) => store.check().await.map(|()| store),
                Err(e) => Err(e),
            };
            match opened {
                Ok(store) => {
                    let check = Check::ok("bucket", format!("{} is a sealed copy", store.describe()));
                    (vec![check], Some(Box::new(store) as Box<dyn Store>))
                }
                Err(e) => {
                    let advice = "give the folder that holds the copy's folder \"objects\"";
                    (vec![Check::error("bucket", &e).advise(advice)], None)
                }
            }
        }
        Some(Place::S3 { bucket, prefix }) => {
            let (checks, options) = s3::checks(config::s3(bucket, prefix, &args.store)).await;
            let mut store: Option<Box<dyn Store>> = None;
            // The same settings have just been taken.
            if let Some(options) = options
                && let Ok(reader) = S3Store::open(options).await
            {
                store = Some(Box::new(Retry::new(reader, args.store.request_deadline)));
            }
            (checks, store)
        }
    };
    match store {
        Some(store) => checks.extend(archive::checks(&*store, keyring, args.quick).await),
        None => checks.extend(archive::CHECKS.map(|name| Check::skipped(name, "there is no listing"))),
    }
    checks
}
