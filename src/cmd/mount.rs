//! `mount`: checks everything that can be checked, then mounts, then serves.

use std::future::pending;
use std::time::SystemTime;

use super::notify::{self, PidFile};
use super::serve::{Service, runtime};
use crate::audit::{Audit, Mount};
use crate::cli::{MountArgs, VERSION};
use crate::config;
use crate::daemon;
use crate::err;
use crate::error::{Kind, Result, escape, exit};
use crate::fs::control::About;
use crate::fs::{Fs, Look};
use crate::fuse::{MountOptions, mountpoint};
use crate::keysource::EnvKeys;

/// Returns the exit code.
pub fn run(args: MountArgs, env_keys: Option<EnvKeys>) -> Result<u8> {
    let mut options = config::in_force(&args.read, args.sizes, args.listing_ttl);
    options.insert("request_deadline_seconds".into(), args.store.request_deadline.as_secs_f64().into());
    options.insert("allow_other".into(), args.allow_other.into());
    options.insert("selection".into(), serde_json::to_value(&args.select).unwrap_or_default());
    let at = config::moment(&args.at)?;
    options.insert("at".into(), at.map(|at| at.to_string()).into());
    let mut about = About { options, shown: args.show_control, ..About::default() };
    let selection = config::selection(args.select)?;
    config::Place::parse(&args.bucket)?;
    let path = mountpoint::prepare(&args.mountpoint)?;
    mountpoint::check_outside("--cache-dir", args.read.cache_dir.as_deref(), &path)?;
    mountpoint::check_outside("--audit-log", args.audit_log.as_deref(), &path)?;
    if let (Some(audit), Some(log)) = (&args.audit_log, &args.log_file)
        && audit.canonicalize().is_ok_and(|audit| log.canonicalize().is_ok_and(|log| log == audit))
    {
        return Err(err!(Kind::Config, "--audit-log and --log-file are one file: the audit log needs one of its own"));
    }
    // Keys may come from the terminal or standard input: before the daemon lets go of both.
    let keyring = config::keyring(args.keys, env_keys)?;
    let look = Look {
        uid: args.uid.unwrap_or_else(daemon::uid),
        gid: args.gid.unwrap_or_else(daemon::gid),
        file_mode: args.file_mode,
        dir_mode: args.dir_mode,
        mounted: SystemTime::now(),
    };
    let daemon = if args.daemon { Some(daemon::fork()?) } else { None };
    if daemon.is_some() {
        // The parent's locks are its own.
        keyring.each_secret(daemon::lock);
    }
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let store = config::store(&args.bucket, &args.store, at, &selection).await?;
        let options = MountOptions {
            source: store.describe(),
            allow_other: args.allow_other,
            threads: args.threads.into(),
            // What takes two requests, one after the other, has the time that they have.
            deadline: 2 * args.store.request_deadline,
        };
        let (catalog, objects) = config::archive(store, keyring, selection, args.listing_ttl, &args.read, args.sizes)?;
        if args.read.allow_unauthenticated {
            log::warn!("--allow-unauthenticated: AES-CBC objects are read, and nothing authenticates their text");
        }
        let pid_file = args.pid_file.as_deref().map(PidFile::write).transpose()?;
        (about.source, about.mountpoint) = (options.source.clone(), path.display().to_string());
        // Before anybody can open a file.
        let audit = args.audit_log.as_deref().map(|log| {
            Audit::start(
                log,
                Mount {
                    program: format!("logarchivefs {VERSION}"),
                    source: escape(options.source.as_bytes()),
                    mountpoint: escape(path.as_os_str().as_encoded_bytes()),
                    uid: daemon::uid(),
                },
            )
        });
        let fs = Fs::new(catalog, objects, look, about).with_audit(audit.transpose()?);
        let mut service = Service::start(fs, &path, &options).await?;
        service.idle = args.idle_timeout;
        if let Some(at) = at {
            log::warn!("--at: the archive is shown as it was at {at}, and stays so");
        }
        log::info!("{} is mounted on {}", options.source, path.display());
        if let Some(daemon) = daemon {
            daemon.ready()?;
        }
        notify::manager("READY=1");
        let result = service.run(pending::<()>()).await;
        notify::manager("STOPPING=1");
        drop(pid_file);
        result
    });
    // Work that is still waiting for the network is not waited for.
    runtime.shutdown_background();
    result.map(|_| exit::OK)
}
