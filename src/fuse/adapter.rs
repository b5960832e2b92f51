//! The thin adapter between fuser and [`Fs`]: types in, types out, one log line for each failure.
//!
//! Invariants: no callback holds up the FUSE thread, of which there is one by default: what memory can answer in no time is
//! answered at once, everything else hands its reply to a task on the runtime, which replies within the deadline whatever it
//! waits for: nothing else can free a reader, as fuser does not know FUSE_INTERRUPT. What takes longer the longer a folder or a
//! listing is (making entries, finding out an order, freeing either) goes to a thread for work that blocks. Everything that
//! would change something is refused with EROFS by the kernel (the mount is `ro`); there is no code for it here.

use std::ffi::OsStr;
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyXattr, Request,
};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::fs::{Asked, Attr, Caller, Fs, Ino, NodeKind};

pub struct Adapter {
    fs: Arc<Fs>,
    runtime: Handle,
    /// For each reply.
    deadline: Duration,
}

impl Adapter {
    pub fn new(fs: Arc<Fs>, runtime: Handle, deadline: Duration) -> Self {
        Adapter { fs, runtime, deadline }
    }

    /// Replies at once if `work` needs nothing but memory, as in a walk over folders that are listed: waking a thread of the
    /// runtime would take longer than the answer. Else it goes on there.
    fn answer<T, F, R>(&self, asked: Asked, work: F, reply: R)
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
        R: FnOnce(std::result::Result<T, Errno>) + Send + 'static,
    {
        let _on_the_runtime = self.runtime.enter();
        let mut work = Box::pin(work);
        // Whoever is to wake it is told so again when the runtime polls it.
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => reply(result.map_err(|e| errno(&self.fs, &e))),
            Poll::Pending => self.spawn(asked, work, reply),
        }
    }

    /// Runs `work` on the runtime and replies from there, at the deadline even if it has not come to an end.
    fn spawn<T, F, R>(&self, asked: Asked, work: F, reply: R)
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
        R: FnOnce(std::result::Result<T, Errno>) + Send + 'static,
    {
        let (fs, deadline, patience) = (Arc::clone(&self.fs), self.deadline, self.fs.patience(asked, self.deadline));
        self.runtime.spawn(async move {
            let result = tokio::select! {
                result = timeout(patience, work) => result.unwrap_or_else(|_| Err(fs.late(asked, deadline))),
                // What the kernel says when nobody is there any more.
                () = fs.ended() => return reply(Err(Errno::ENOTCONN)),
            };
            reply(result.map_err(|e| errno(&fs, &e)));
        });
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Without it one stalled lookup blocks its whole folder.
        if config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS).is_err() {
            log::warn!("this kernel cannot look up names of one folder in parallel");
        }
        // Deliberately not FUSE_AUTO_INVAL_DATA: it would ask for the attributes before each read of a file whose size
        // is still a hint, and so hold back the first byte until the scan has ended. The kernel asks all the same when
        // a read reaches the size it knows, which is what keeps a hint that is too small from truncating.
        config.add_capabilities(InitFlags::FUSE_CACHE_SYMLINKS).ok();
        config.add_capabilities(InitFlags::FUSE_ASYNC_DIO).ok();
        // Reads ahead count against this: those of files that hang must leave room for others.
        config.set_max_background(1024).ok();
        config.set_congestion_threshold(768).ok();
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let fs = Arc::clone(&self.fs);
        let name = name.as_bytes().to_vec();
        let work = async move { fs.lookup(Ino(parent.0), &name).await };
        self.answer(Asked::Node(Ino(parent.0)), work, |result| match result {
            Ok(attr) => reply.entry_with_ttls(&attr.ttl, &attr.name_ttl, &file_attr(&attr), Generation(0)),
            Err(errno) => reply.error(errno),
        });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.fs.forget(Ino(ino.0), nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let fs = Arc::clone(&self.fs);
        self.answer(Asked::Node(Ino(ino.0)), async move { fs.getattr(Ino(ino.0)).await }, |result| match result {
            Ok(attr) => reply.attr(&attr.ttl, &file_attr(&attr)),
            Err(errno) => reply.error(errno),
        });
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.fs.readlink(Ino(ino.0)) {
            Ok(target) => reply.data(target.as_bytes()),
            Err(e) => reply.error(errno(&self.fs, &e)),
        }
    }

    fn open(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let fs = Arc::clone(&self.fs);
        let caller = Caller { uid: req.uid(), gid: req.gid(), pid: req.pid() };
        self.spawn(Asked::Node(Ino(ino.0)), async move { fs.open(Ino(ino.0), caller).await }, |result| match result {
            Ok(opened) => {
                let mut flags = FopenFlags::empty();
                flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
                flags.set(FopenFlags::FOPEN_DIRECT_IO, opened.direct);
                reply.opened(FileHandle(opened.handle), flags);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (fs, size) = (Arc::clone(&self.fs), size as usize);
        let awaited = fs.awaits(fh.0, offset, size);
        self.spawn(Asked::Handle(fh.0), async move { fs.read(fh.0, offset, size).await }, |result| {
            match result {
                Ok((text, _told)) => reply.data(&text),
                Err(errno) => reply.error(errno),
            }
            drop(awaited);
        });
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        // The kernel does not ask again after ENOSYS: there is nothing to flush.
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.fs.release(fh.0);
        reply.ok();
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let fs = Arc::clone(&self.fs);
        self.answer(Asked::Node(Ino(ino.0)), async move { fs.opendir(Ino(ino.0)).await }, |result| match result {
            Ok(opened) => {
                let mut flags = FopenFlags::empty();
                flags.set(FopenFlags::FOPEN_CACHE_DIR, opened.cache);
                flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep);
                reply.opened(FileHandle(opened.handle), flags);
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn readdir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let fs = Arc::clone(&self.fs);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let show = move || {
            let shown = fs.readdir(fh.0, from, |place, entry| {
                reply.add(INodeNo(entry.ino.0), place as u64 + 1, file_type(entry.kind), &*entry.name)
            });
            match shown {
                Ok(()) => reply.ok(),
                Err(e) => reply.error(errno(&fs, &e)),
            }
        };
        match self.fs.is_slow_to_read(fh.0) {
            true => drop(self.runtime.spawn_blocking(show)),
            false => show(),
        }
    }

    fn releasedir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        let _on_the_runtime = self.runtime.enter();
        self.fs.releasedir(fh.0);
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let totals = self.fs.statfs();
        reply.statfs(totals.bytes.div_ceil(512), 0, 0, totals.files, 0, 512, 255, 512);
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let fs = Arc::clone(&self.fs);
        let name = name.as_bytes().to_vec();
        self.spawn(Asked::Node(Ino(ino.0)), async move { fs.getxattr(Ino(ino.0), &name).await }, move |result| {
            match result {
                Ok(value) => reply_xattr(reply, size, &value),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        match self.fs.listxattr(Ino(ino.0)) {
            Ok(value) => reply_xattr(reply, size, &value),
            Err(e) => reply.error(errno(&self.fs, &e)),
        }
    }

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        // `default_permissions`: the kernel has checked.
        reply.ok();
    }
}

/// The error for the reader; the reason goes to the log.
fn errno(fs: &Fs, error: &Error) -> Errno {
    fs.report().failure(error);
    Errno::from_i32(error.errno())
}

fn reply_xattr(reply: ReplyXattr, size: u32, value: &[u8]) {
    match u32::try_from(value.len()) {
        Ok(len) if size == 0 => reply.size(len),
        Ok(len) if len <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

fn file_type(kind: NodeKind) -> FileType {
    match kind {
        NodeKind::Dir => FileType::Directory,
        NodeKind::File => FileType::RegularFile,
        NodeKind::Link => FileType::Symlink,
    }
}

fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.size.div_ceil(512),
        atime: attr.mtime,
        mtime: attr.mtime,
        ctime: attr.mtime,
        crtime: attr.mtime,
        kind: file_type(attr.kind),
        perm: attr.mode,
        // 1 for folders says, as on btrfs, that sub-folders are not counted: counting them would cost a listing.
        nlink: 1,
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
        // What one read should ask for at least: the kernel's largest read-ahead.
        blksize: 128 << 10,
        flags: 0,
    }
}
