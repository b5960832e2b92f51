//! Serving a mount until it is to end: signals, an unmount from outside, or the caller's own reason.

use std::future::{Future, pending};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::err;
use crate::error::{Kind, Result};
use crate::fs::Fs;
use crate::fuse::{MountOptions, Mounted, mount};
use crate::logging;

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
    user1: Signal,
    /// Unmount when nobody has asked for anything for this long.
    pub idle: Option<Duration>,
    fs: Arc<Fs>,
    mounted: Mounted,
}

impl Service {
    pub async fn start(fs: Fs, path: &Path, options: &MountOptions) -> Result<Service> {
        let listen = |kind| signal(kind).map_err(|e| err!(Kind::Internal, "cannot listen for signals: {e}"));
        let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let (hangup, user1) = (listen(SignalKind::hangup())?, listen(SignalKind::user_defined1())?);
        let fs = Arc::new(fs);
        let (path, options): (PathBuf, _) = (path.to_owned(), options.clone());
        let (for_mount, handle) = (Arc::clone(&fs), tokio::runtime::Handle::current());
        let mounted = tokio::task::spawn_blocking(move || mount(for_mount, &path, &options, handle))
            .await
            .map_err(|_| err!(Kind::Internal, "mounting panicked"))??;
        Ok(Service { terminate, interrupt, hangup, user1, idle: None, fs, mounted })
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
                () = idle(&self.fs, self.idle) => {
                    if self.mounted.release() {
                        log::info!("nobody has used the mount for a while: unmounted");
                        break None;
                    }
                    log::info!("idle, but in use: somebody's working directory, say");
                    self.fs.touch();
                }
                _ = self.user1.recv() => logging::toggle(),
                _ = self.hangup.recv() => {
                    log::info!("SIGHUP: listings are fetched again, and objects that failed looked at anew");
                    self.fs.catalog().refresh_all();
                    self.fs.forget_failed();
                    self.fs.reopen_audit();
                }
            }
        };
        let unmounted = self.mounted.unmount();
        self.fs.end().await;
        self.fs.end_audit();
        unmounted?;
        self.fs.objects().settle().await;
        Ok(outcome)
    }
}

/// Returns when nobody has asked for anything for `most`.
async fn idle(fs: &Fs, most: Option<Duration>) {
    let Some(most) = most else { return pending().await };
    loop {
        match most.checked_sub(fs.idle()) {
            None | Some(Duration::ZERO) => return,
            // Whatever is asked meanwhile only makes it later.
            Some(rest) => tokio::time::sleep(rest).await,
        }
    }
}
