//! `demo`: writes a made-up sealed archive with fresh keys into a temporary folder, mounts it, and cleans up.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::serve::{Service, runtime};
use crate::catalog::select::Selection;
use crate::cli::{DemoArgs, KeyArgs, ReadArgs, SizesArg};
use crate::config;
use crate::daemon;
use crate::demo::{self, Archive};
use crate::err;
use crate::error::{Error, Kind, Result, exit};
use crate::fs::control::About;
use crate::fs::{Fs, Look};
use crate::fuse::{MountOptions, mountpoint};
use crate::store::{Count, DirStore};

/// The logs are the same on every run; the keys are not.
const SEED: u64 = 2022;

/// Returns the exit code: with `--run` that of the command.
pub fn run(args: DemoArgs) -> Result<u8> {
    let temporary =
        tempfile::Builder::new().prefix("logarchivefs-demo-").tempdir().map_err(failed("a temporary folder"))?;
    let path = match &args.mountpoint {
        Some(path) => mountpoint::prepare(path)?,
        None => {
            let path = temporary.path().join("mnt");
            fs::create_dir(&path).map_err(failed("a mountpoint"))?;
            mountpoint::prepare(&path)?
        }
    };
    let sealed = temporary.path().join("archive");
    eprintln!("Writing a made-up archive to {} ...", sealed.display());
    let archive = demo::write(&sealed, SEED)?;
    let key_file = temporary.path().join("keys");
    write_keys(&key_file, &archive)?;
    let runtime = runtime()?;
    let code = runtime.block_on(serve(&args, &path, &sealed, &key_file, &archive));
    runtime.shutdown_background();
    // Only now: the folder may hold the mountpoint.
    temporary.close().map_err(failed("cleaning up"))?;
    code
}

async fn serve(args: &DemoArgs, path: &Path, sealed: &Path, key_file: &Path, archive: &Archive) -> Result<u8> {
    let keyring = config::keyring(KeyArgs { key_file: vec![key_file.to_owned()], ..KeyArgs::default() }, None)?;
    let store = Arc::new(Count::new(DirStore::open(sealed, "")?));
    let ttl = Duration::from_secs(300);
    let (read, sizes) = (ReadArgs::default(), SizesArg::Hint);
    let (catalog, objects) = config::archive(store, keyring, Selection::default(), ttl, &read, sizes)?;
    let look =
        Look { uid: daemon::uid(), gid: daemon::gid(), file_mode: 0o400, dir_mode: 0o500, mounted: SystemTime::now() };
    let deadline = Duration::from_secs(60);
    let options = MountOptions { source: "logarchivefs-demo".into(), allow_other: false, threads: 2, deadline };
    let about = About {
        source: options.source.clone(),
        mountpoint: path.display().to_string(),
        options: config::in_force(&read, sizes, ttl),
        shown: false,
    };
    let service = Service::start(Fs::new(catalog, objects, look, about), path, &options).await?;
    let (folder, command) = (path.to_owned(), args.run.clone());
    let Some(command) = command else {
        let text = tokio::task::spawn_blocking(move || tour(&folder)).await.map_err(internal)?;
        introduce(&text.map_err(failed("listing the mount"))?, path, sealed, key_file, archive);
        service.run(std::future::pending::<()>()).await?;
        eprintln!("\nUnmounted and cleaned up.");
        return Ok(exit::OK);
    };
    let child =
        tokio::task::spawn_blocking(move || Command::new("sh").arg("-c").arg(command).current_dir(folder).status());
    match service.run(child).await? {
        Some(status) => Ok(exit_code(status.map_err(internal)?.map_err(failed("running sh"))?)),
        // Ended by a signal: as a shell would say it.
        None => Ok(130),
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(exit::SOME_FAILED)
}

/// So that the same archive can be mounted by hand. These keys protect nothing but made-up logs.
fn write_keys(path: &Path, archive: &Archive) -> Result<()> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut f| f.write_all(archive.keys.as_bytes())).map_err(failed("writing the key file"))
}

/// Stacks and resources with the number of their containers, and the path of one file.
fn tour(mount: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut example = PathBuf::new();
    for stack in sorted(mount)? {
        text.push_str(&format!("  {}/\n", name(&stack)));
        for resource in sorted(&stack)? {
            let containers = sorted(&resource)?;
            text.push_str(&format!("    {}/  {} containers\n", name(&resource), containers.len()));
            if let Some(first) = containers.first().filter(|_| example.as_os_str().is_empty()) {
                let days = sorted(first)?;
                let files = days.first().map(|day| sorted(day)).transpose()?.unwrap_or_default();
                example = files.into_iter().next().unwrap_or_default();
            }
        }
    }
    let shown = example.strip_prefix(mount).unwrap_or(&example).display().to_string();
    text.push_str(&format!("\nOne file:\n  {shown}\n"));
    Ok(text)
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned()
}

fn introduce(tour: &str, path: &Path, sealed: &Path, key_file: &Path, archive: &Archive) {
    let shown = path.display();
    let unreadable: Vec<String> = archive
        .unreadable
        .iter()
        .map(|(key, why)| format!("  {}  {why}", key.rsplit_once("-json").map_or(key.as_str(), |(_, tail)| tail)))
        .collect();
    println!(
        "{} objects, {:.1} MB of text, mounted read-only on {shown}\n\n{tour}\nTry, in another terminal:\n\
         \x20 cd {shown}\n\
         \x20 grep -rc ERROR acme-prod/apps-321 | grep -v ':0$'\n\
         \x20 cat acme-prod/apps-321/*/2022-08-24/*.json | jq -j 'select(.stream==\"stderr\") | .time + \" \" + .log' | head\n\
         \x20 tail -n 3 acme-prod/databases-71/*/2022-08-26/*.json\n\
         \x20 getfattr -d acme-prod/proxy-55/*/2022-08-22/*.json | head -15\n\n\
         Not readable, on purpose:\n{}\n\n\
         The same archive by hand:\n\
         \x20 logarchivefs mount file://{} MOUNTPOINT --key-file {}\n\n\
         Ctrl-C unmounts and removes everything.",
        archive.objects,
        archive.text_bytes as f64 / 1e6,
        unreadable.join("\n"),
        sealed.display(),
        key_file.display(),
    );
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |e| err!(Kind::Internal, "{what}: {e}")
}

fn internal(_: tokio::task::JoinError) -> Error {
    err!(Kind::Internal, "a task panicked")
}
