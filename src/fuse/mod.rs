//! The kernel's side: a session on a mountpoint, from the first check to the clean end.

mod adapter;
pub mod mountpoint;
#[allow(unsafe_code)]
mod sys;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fuser::{Config, INodeNo, MountOption, Notifier, Session, SessionACL};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::err;
use crate::error::{Kind, Result};
use crate::fs::{Fs, Ino, Pages};

#[derive(Clone, Debug)]
pub struct MountOptions {
    /// What `mount` and `df` show as the source.
    pub source: String,
    pub allow_other: bool,
    /// Event threads.
    pub threads: usize,
    /// For each reply to the kernel.
    pub deadline: Duration,
}

/// A mount that answers. Dropping it without [`Mounted::unmount`] unmounts too.
pub struct Mounted {
    path: PathBuf,
    ended: watch::Receiver<bool>,
}

/// Mounts `fs` on `path`, which [`mountpoint::prepare`] has checked. Replies are sent from `runtime`.
pub fn mount(fs: Arc<Fs>, path: &Path, options: &MountOptions, runtime: Handle) -> Result<Mounted> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(options.source.replace(',', "\\,")),
        MountOption::Subtype(mountpoint::SUBTYPE.into()),
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoExec,
        MountOption::NoAtime,
        MountOption::DefaultPermissions,
    ];
    // Only then will fusermount3 stay behind to unmount when this process dies, however it dies. Root can do without.
    if options.allow_other && mountpoint::has_fusermount() {
        config.mount_options.push(MountOption::AutoUnmount);
    }
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(options.threads.max(1));
    let adapter = adapter::Adapter::new(Arc::clone(&fs), runtime, options.deadline);
    let session =
        Session::new(adapter, path, &config).and_then(Session::spawn).map_err(|e| explain(e, path, options))?;
    fs.fill(Arc::new(KernelPages(session.notifier())));
    mountpoint::raise_read_ahead(path);
    let (end, ended) = watch::channel(false);
    // Joining also keeps fuser's own handle on the mount alive: it would unmount when dropped.
    std::thread::Builder::new()
        .name("fuse-session".into())
        .spawn(move || {
            if let Err(e) = session.join() {
                log::error!("the FUSE session ended: {e}");
            }
            end.send_replace(true);
        })
        .map_err(|e| err!(Kind::Internal, "cannot start a thread: {e}"))?;
    Ok(Mounted { path: path.to_owned(), ended })
}

impl Mounted {
    /// Waits until the session has ended by itself, as after `fusermount3 -u`.
    pub async fn ended(&mut self) {
        // An error says that the session's thread is gone, which is an end too.
        self.ended.wait_for(|ended| *ended).await.ok();
    }

    /// Unmounts. A mount in use is taken out of the tree at once; its readers end with this process.
    pub fn unmount(self) -> Result<()> {
        self.detach()
    }

    /// Unmounts unless somebody uses it, if only as a working directory; false then.
    pub fn release(&self) -> bool {
        mountpoint::release(&self.path).is_ok()
    }

    fn detach(&self) -> Result<()> {
        if *self.ended.borrow() || !mountpoint::is_mounted(&self.path) {
            return Ok(());
        }
        mountpoint::detach(&self.path).map_err(|e| err!(Kind::Internal, "cannot unmount {}: {e}", self.path.display()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(e) = self.detach() {
            log::error!("{e}");
        }
    }
}

/// The kernel's page cache of this mount.
struct KernelPages(Notifier);

impl Pages for KernelPages {
    fn store(&self, ino: Ino, offset: u64, text: &[u8]) -> bool {
        self.0.store(INodeNo(ino.0), offset, text).is_ok()
    }

    fn void_attributes(&self, ino: Ino) {
        // A negative offset: the attributes, and no pages. Of an inode that the kernel has forgotten there are none.
        self.0.inval_inode(INodeNo(ino.0), -1, 0).ok();
    }
}

fn explain(e: io::Error, path: &Path, options: &MountOptions) -> crate::error::Error {
    let shown = path.display();
    let text = e.to_string();
    if !Path::new("/dev/fuse").exists() {
        return err!(
            Kind::Config,
            "/dev/fuse is missing: load the kernel module (`modprobe fuse`), or give the container the device (`--device /dev/fuse --cap-add SYS_ADMIN`)"
        );
    }
    if options.allow_other && text.contains("user_allow_other") {
        return err!(Kind::Config, "--allow-other needs the line `user_allow_other` in /etc/fuse.conf");
    }
    if e.kind() == io::ErrorKind::NotFound {
        return err!(Kind::Config, "fusermount3 is missing: install the package fuse3");
    }
    err!(Kind::Config, "cannot mount on {shown}: {}", crate::error::escape(text.trim().as_bytes()))
}
