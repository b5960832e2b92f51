//! Serving a mount until it is to end: signals, an unmount from outside, or the caller's own reason.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::err;
use crate::error::{Kind, Result};
use crate::fs::Fs;
use crate::fuse::{MountOptions, Mounted, mount};

pub fn runtime() -> Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .thread_name("logarchivefs")
        .build()
        .map_err(|e| err!(Kind::Internal, "cannot start the runtime: {e}"))
}

/// A mount with the signals that concern it. Made before anything is mounted, so that no signal is lost.
pub struct Service {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    fs: Arc<Fs>,
    mounted: Mounted,
}

impl Service {
    pub async fn start(fs: Fs, path: &Path, options: &MountOptions) -> Result<Service> {
        let listen = |kind| signal(kind).map_err(|e| err!(Kind::Internal, "cannot listen for signals: {e}"));
        let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let hangup = listen(SignalKind::hangup())?;
        let fs = Arc::new(fs);
        let (path, options): (PathBuf, _) = (path.to_owned(), options.clone());
        let (for_mount, handle) = (Arc::clone(&fs), tokio::runtime::Handle::current());
        let mounted = tokio::task::spawn_blocking(move || mount(for_mount, &path, &options, handle))
            .await
            .map_err(|e| err!(Kind::Internal, "mounting failed: {e}"))??;
        Ok(Service { terminate, interrupt, hangup, fs, mounted })
    }

    /// Serves until SIGTERM, SIGINT, an unmount from outside, or `until` says something; then unmounts.
    pub async fn run<T>(mut self, until: impl Future<Output = T>) -> Result<Option<T>> {
        tokio::pin!(until);
        let outcome = loop {
            tokio::select! {
                result = &mut until => break Some(result),
                _ = self.terminate.recv() => break None,
                _ = self.interrupt.recv() => break None,
                () = self.mounted.ended() => break None,
                _ = self.hangup.recv() => {
                    log::info!("SIGHUP: listings are fetched again");
                    self.fs.catalog().refresh_all();
                }
            }
        };
        self.mounted.unmount()?;
        Ok(outcome)
    }
}
