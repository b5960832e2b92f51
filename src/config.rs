//! From what was typed to what to do: every flag and every bucket argument is checked here, once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::cachedir::Folder;
use crate::catalog::select::{Selection, SelectionArgs};
use crate::catalog::{Catalog, Moment};
use crate::cli::{AtArgs, KeyArgs, ReadArgs, SelectArgs, SizesArg, StoreArgs, VerifyArg};
use crate::daemon;
use crate::envelope::Keyring;
use crate::err;
use crate::error::{Kind, Result, escape};
use crate::keysource::{EnvKeys, KeySources};
use crate::memory::{self, Limit};
use crate::object::{Objects, Policy, Sizes, Verify};
use crate::store::{At, Count, DirStore, Retry, S3Options, S3Store, Store, Versioning};

/// A bucket argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    S3 { bucket: String, prefix: String },
    Dir(PathBuf),
}

impl Place {
    /// `NAME`, `s3://NAME`, `s3://NAME/PREFIX/`, `file:///DIR`.
    pub fn parse(text: &str) -> Result<Place> {
        let wrong = |why: &str| {
            err!(
                Kind::Usage,
                "{}: {why}; write NAME, s3://NAME, s3://NAME/PREFIX/ or file:///DIR",
                escape(text.as_bytes())
            )
        };
        if let Some(path) = text.strip_prefix("file://") {
            return if path.starts_with('/') {
                Ok(Place::Dir(path.into()))
            } else {
                Err(wrong("not an absolute path"))
            };
        }
        let (bucket, prefix) = match text.strip_prefix("s3://") {
            Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
            None if text.contains("://") => return Err(wrong("unknown kind of place")),
            None if text.contains('/') => {
                return Err(wrong("a bucket's name has no slash"));
            }
            None => (text, ""),
        };
        // S3's own rules are stricter; other servers' are not.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if bucket.is_empty() || bucket.len() > 255 || !bucket.chars().all(plain) {
            return Err(wrong("no bucket's name"));
        }
        Ok(Place::S3 { bucket: bucket.into(), prefix: prefix.into() })
    }
}

/// What `--at` says.
pub fn moment(args: &AtArgs) -> Result<Option<Moment>> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = (i64::try_from(now.as_secs()).unwrap_or(i64::MAX), now.subsec_nanos());
    args.at.as_deref().map(|text| Moment::parse(text, now)).transpose()
}

/// Connects to the bucket, as it was at `at`, and makes sure that it answers to who is going to read this selection.
pub async fn store(
    bucket: &str,
    args: &StoreArgs,
    at: Option<Moment>,
    selection: &Selection,
) -> Result<Arc<dyn Store>> {
    let store: Arc<dyn Store> = match Place::parse(bucket)? {
        Place::Dir(_) if at.is_some() => {
            let why = "a sealed copy has one version of each object, of the time when it was made: leave --at out";
            return Err(err!(Kind::Config, "--at needs a bucket: {why}"));
        }
        Place::Dir(path) => Arc::new(Count::new(DirStore::open(&path, "")?)),
        Place::S3 { bucket, prefix } => {
            let mut options = s3(bucket, prefix, args);
            options.check_below = selection.stacks().first().map(|stack| format!("{stack}/")).unwrap_or_default();
            let below = options.check_below.clone();
            let requests = Count::new(S3Store::open(options).await?);
            match at {
                None => Arc::new(Retry::new(requests, args.request_deadline)),
                Some(at) => Arc::new(Retry::new(At::new(requests, at.unix(), below), args.request_deadline)),
            }
        }
    };
    store.check().await.map_err(|e| match (e.kind(), &args.expected_bucket_owner) {
        // S3 does not tell which of the two it is.
        (Kind::AccessDenied, Some(owner)) => {
            err!(Kind::Config, "{e}; or the bucket is not account {owner}'s (--expected-bucket-owner)")
        }
        (Kind::AccessDenied, None) if e.message().starts_with("s3:ListBucketVersions") => {
            err!(Kind::Config, "{e}; --at cannot do without it")
        }
        // At the start these are a matter of configuration, whatever they are later.
        (Kind::AccessDenied | Kind::NotFound, _) => err!(Kind::Config, "{e}"),
        _ => e.about(&store.describe()),
    })?;
    if at.is_some() {
        keeps_versions(&*store).await?;
    }
    Ok(store)
}

/// What never kept versions has nothing but what is there now, and would show a past with holes that nobody sees.
async fn keeps_versions(store: &dyn Store) -> Result<()> {
    match store.versioning().await {
        Ok(Some(Versioning::Enabled)) => {}
        Ok(Some(Versioning::Suspended)) => {
            log::warn!("--at: versioning is suspended: what was replaced or deleted since may be missing");
        }
        Ok(Some(Versioning::Never) | None) => {
            let why = "what was replaced or deleted is gone, so it cannot be shown as it was; leave --at out";
            return Err(err!(Kind::Config, "--at: versioning was never enabled: {why}").about(&store.describe()));
        }
        // Who may not ask that may list versions all the same.
        Err(e) if matches!(e.kind(), Kind::AccessDenied | Kind::Config) => {
            log::warn!(
                "--at: whether the bucket keeps versions is not to be seen; if not, what was replaced or deleted is missing: {e}"
            );
        }
        Err(e) => return Err(e),
    }
    Ok(())
}

pub fn s3(bucket: String, prefix: String, args: &StoreArgs) -> S3Options {
    let mut options = S3Options::new(bucket);
    options.prefix = prefix;
    options.region = args.region.clone();
    options.endpoint_url = args.endpoint_url.clone();
    options.profile = args.profile.clone();
    options.allow_http = args.allow_http;
    options.expected_bucket_owner = args.expected_bucket_owner.clone();
    // Half of what a call may take: a body that drips gets a second attempt.
    options.request_deadline = args.request_deadline / 2;
    options
}

const SAFE_WAYS: &str = "use --key-file FILE (one base64 key a line, mode 0600), --key-command COMMAND, \
                         --key-file - (standard input) or the environment variable LOGARCHIVEFS_KEYS";

/// Reads the keys from every source. None at all is an error: nothing could be read.
pub fn keyring(args: KeyArgs, env: Option<EnvKeys>) -> Result<Keyring> {
    let ring = keys(args, env)?;
    if ring.is_empty() {
        return Err(err!(Kind::Config, "no decryption key was given: {SAFE_WAYS}"));
    }
    Ok(ring)
}

/// The same, for commands that do something without keys too.
pub fn keys(args: KeyArgs, env: Option<EnvKeys>) -> Result<Keyring> {
    if !args.decryption_keys.is_empty() {
        return Err(err!(
            Kind::Usage,
            "--decryption-keys is refused: every user of this machine could read the keys in `ps`; {SAFE_WAYS}"
        ));
    }
    let sources =
        KeySources { files: args.key_file, command: args.key_command, insecure_key_file: args.insecure_key_file, env };
    let ring = sources.load()?;
    ring.each_secret(daemon::lock);
    Ok(ring)
}

pub fn selection(args: SelectArgs) -> Result<Selection> {
    Selection::new(SelectionArgs {
        stacks: args.stack,
        app_ids: args.app_id,
        database_ids: args.database_id,
        endpoint_ids: args.endpoint_id,
        containers: args.container_id.into_iter().collect(),
        service_ids: args.service_id.into_iter().collect(),
        patterns: args.string_matches,
        start_date: args.start_date,
        end_date: args.end_date,
    })
}

pub fn policy(args: &ReadArgs) -> Policy {
    Policy {
        verify: match args.verify {
            VerifyArg::Full => Verify::Full,
            VerifyArg::Stream => Verify::Stream,
        },
        sizes: Sizes::Hint,
        allow_unauthenticated: args.allow_unauthenticated,
        allow_instruction_files: args.allow_instruction_files,
        max_ratio: args.ratio.max_ratio,
    }
}

/// How a mount reads, as it says of itself: nothing secret.
pub fn in_force(read: &ReadArgs, sizes: SizesArg, listing_ttl: Duration) -> Map<String, Value> {
    let named = |value: Option<clap::builder::PossibleValue>| value.map(|v| v.get_name().to_owned());
    let options = json!({
        "verify": named(read.verify.to_possible_value()),
        "sizes": named(sizes.to_possible_value()),
        "allow_unauthenticated": read.allow_unauthenticated,
        "allow_instruction_files": read.allow_instruction_files,
        "max_ratio": read.ratio.max_ratio,
        "cache_dir": read.cache_dir.as_ref().map(|path| path.display().to_string()),
        "listing_ttl_seconds": listing_ttl.as_secs_f64(),
    });
    options.as_object().cloned().unwrap_or_default()
}

/// The byte budget: what was asked for, else what there is room for.
pub fn budget(asked: Option<usize>) -> usize {
    let limit = Limit::find();
    let usual = memory::usual(limit);
    let bytes = asked.map_or(usual, |bytes| bytes as u64);
    let Some(limit) = limit else { return bytes as usize };
    let (mib, most, whose) = (bytes >> 20, limit.bytes >> 20, limit.whose);
    if limit.is_below(bytes) {
        let besides = memory::BESIDES >> 20;
        log::warn!(
            "--memory of {mib} MiB and up to {besides} MiB beside it are more than the {most} MiB of {whose}: the kernel may \
             end this process; give less than that, or raise the limit"
        );
    } else if asked.is_none() && usual < memory::usual(None) {
        log::info!("--memory is {mib}MiB here, as {whose} has {most} MiB");
    }
    bytes as usize
}

/// What a log in a listing takes at most.
const LISTED: u64 = 200;

/// The archive behind a mount or a command.
pub fn archive(
    store: Arc<dyn Store>,
    keyring: Keyring,
    selection: Selection,
    listing_ttl: Duration,
    read: &ReadArgs,
    sizes: SizesArg,
) -> Result<(Catalog, Objects)> {
    let sizes = match sizes {
        SizesArg::Hint => Sizes::Hint,
        SizesArg::Exact => Sizes::Exact,
    };
    let policy = Policy { sizes, ..policy(read) };
    let cache_dir = read.cache_dir.as_ref().map(|path| Folder::open(path, read.cache_size)).transpose()?;
    let memory = budget(read.memory);
    let objects = Objects::with_cache_dir(Arc::clone(&store), keyring, policy, memory, cache_dir);
    let catalog = Catalog::new(store, selection, listing_ttl);
    let (slack, listings) = (daemon::Slack::beyond(memory), catalog.clone());
    // They have a bound of their own.
    let listed = move || listings.totals().files * LISTED;
    objects.shared().cache.settle_with(move || slack.excess(&listed));
    Ok((catalog, objects))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_arguments() {
        let s3 = |bucket: &str, prefix: &str| Place::S3 { bucket: bucket.into(), prefix: prefix.into() };
        assert_eq!(Place::parse("b").unwrap(), s3("b", ""));
        assert_eq!(Place::parse("s3://b").unwrap(), s3("b", ""));
        assert_eq!(Place::parse("s3://b/p/q/").unwrap(), s3("b", "p/q/"));
        assert_eq!(Place::parse("file:///a/b").unwrap(), Place::Dir("/a/b".into()));
        for bad in ["", "s3://", "file://a", "http://b", "a/b", "b c", "s3://\x1b/"] {
            let e = Place::parse(bad).unwrap_err();
            assert_eq!(e.kind(), Kind::Usage, "{bad}");
            assert!(!e.to_string().contains('\x1b'));
        }
    }

    #[test]
    fn keys_on_the_command_line_are_refused_and_not_repeated() {
        let args = KeyArgs { decryption_keys: vec!["c2VjcmV0".into()], ..KeyArgs::default() };
        let e = keyring(args, None).unwrap_err();
        assert_eq!(e.kind(), Kind::Usage);
        assert!(e.to_string().contains("--key-file") && !e.to_string().contains("c2VjcmV0"));
        assert_eq!(keyring(KeyArgs::default(), None).unwrap_err().kind(), Kind::Config);
    }
}
