//! What the tree means: lookups, folders, attributes, handles and reads, without a single FUSE type.
//!
//! Invariants: names and folders come from listings, never from object bodies, so no damaged or slow object can hold
//! up a listing; a file's size is asked of the store only when something asks for its attributes; a handle keeps the
//! object version that it opened; a folder handle is a snapshot, so a refresh neither loses nor repeats an entry.

mod activity;
mod ahead;
mod attr;
mod audited;
mod blocks;
mod children;
pub mod control;
mod deadline;
mod ending;
mod failures;
mod folder;
mod handle;
mod node;
mod order;
mod remembered;
mod report;
mod room;
mod stat;
mod walk;
mod xattr;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;

use activity::Activity;
use ahead::{Walks, Want};
pub use attr::{Attr, Kind as NodeKind, Look};
use audited::Trail;
use control::{About, Control};
pub use deadline::Asked;
use ending::Ends;
use folder::Folder;
pub use folder::OpenedFolder;
use handle::Handles;
pub use node::Ino;
use node::{Dir, Node, Nodes};
use remembered::Remembered;
pub use report::Report;

use crate::audit::Audit;
pub use crate::audit::Caller;
pub use crate::catalog::Totals;
use crate::catalog::names::Day;
use crate::catalog::{Catalog, Item};
use crate::err;
use crate::error::{Error, Kind, Result};
use crate::object::{Awaited, Listed, LogFile, Objects, Told};

pub struct Fs {
    catalog: Catalog,
    objects: Objects,
    look: Look,
    nodes: Arc<Nodes>,
    walks: Arc<Walks>,
    report: Report,
    remembered: Arc<Remembered>,
    /// Where text goes that the kernel will ask for; set once there is a kernel.
    pages: OnceLock<Arc<dyn Pages>>,
    files: Handles<OpenFile>,
    folders: Handles<Folder>,
    activity: Activity,
    control: Control,
    audit: Option<Audit>,
    ends: Arc<Ends>,
}

/// Stack and resource.
type Place = (Arc<str>, Arc<str>);

struct OpenFile {
    file: Arc<LogFile>,
    item: Item,
    place: Place,
    /// End of the last read: where a sequential reader goes on.
    last: AtomicU64,
    /// When a read came too late, the last time.
    late: Mutex<Option<Instant>>,
    trail: Option<Trail>,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.file.close();
    }
}

/// The page cache of whoever asks.
pub trait Pages: Send + Sync {
    /// Puts `text` at `offset` of the file `ino`. False: it cannot be had there, do not go on.
    fn store(&self, ino: Ino, offset: u64, text: &[u8]) -> bool;

    /// Makes every answer about attributes of `ino` void that is still on its way there.
    fn void_attributes(&self, ino: Ino);
}

/// One entry of a folder, as `readdir` shows it.
#[derive(Clone, Debug)]
pub struct DirEntry {
    pub ino: Ino,
    pub kind: NodeKind,
    pub name: Box<str>,
}

/// What `open` says.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    pub handle: u64,
    /// The kernel may keep the pages of an earlier open: the file is proven, and its inode stands for one version.
    pub keep_cache: bool,
    /// The kernel may keep nothing at all, nor believe in a size: each handle has a text of its own.
    pub direct: bool,
}

impl Fs {
    pub fn new(catalog: Catalog, objects: Objects, look: Look, about: About) -> Self {
        let (nodes, control) = (Arc::new(Nodes::new(catalog.bucket())), Control::new(about));
        let (walks, report, remembered, pages, files, folders, activity, ends) = Default::default();
        let audit = None;
        Fs {
            catalog,
            objects,
            look,
            nodes,
            walks,
            report,
            remembered,
            pages,
            files,
            folders,
            activity,
            control,
            audit,
            ends,
        }
    }

    /// Where every failure is told.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Has the text of files that are waited for put into `pages` while they are scanned.
    pub fn fill(&self, pages: Arc<dyn Pages>) {
        // A second kernel there is not.
        self.pages.set(pages).ok();
    }

    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Finds `name` in a folder and counts the lookup (see [`Fs::forget`]).
    pub async fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr> {
        let dir = self.dir(parent)?;
        // Every name of the tree is UTF-8.
        let name = std::str::from_utf8(name).map_err(|_| not_found())?;
        if matches!(dir, Dir::Root) && name != control::NAME {
            self.touch();
        }
        let node = self.child(&dir, name).await?;
        if let Node::File(item, stack, resource) = &node {
            self.fetch_ahead(Want::Attributes, item, stack, resource);
        }
        let size_first = self.attr_of(Ino::ROOT, &node).await?;
        let ino = self.nodes.remember(node);
        Ok(Attr { ino, ..size_first })
    }

    pub fn forget(&self, ino: Ino, count: u64) {
        self.nodes.forget(ino, count);
    }

    pub async fn getattr(&self, ino: Ino) -> Result<Attr> {
        let node = self.node(ino)?;
        if let Node::File(item, ..) = &*node
            && let Some(file) = self.objects.find(&listed(item)).filter(|file| file.is_open())
        {
            return self.getattr_open(ino, &node, file).await;
        }
        self.attr_of(ino, &node).await
    }

    /// Attributes of a file that somebody has open: they are exact, so they wait for the scan.
    ///
    /// A program that asks for them (`cat`, `wc`, `cp` do, right after `open`) is going to read from the start: meanwhile
    /// the text goes to the kernel's page cache, so that the wait is not lost.
    async fn getattr_open(&self, ino: Ino, node: &Node, file: Arc<LogFile>) -> Result<Attr> {
        let mut following = None;
        if let (Some(pages), None) = (self.pages.get(), file.proven_size()) {
            let (pages, file) = (Arc::clone(pages), Arc::clone(&file));
            let (served, given, ends) = (Arc::clone(&self.control.served), Arc::clone(&file), Arc::clone(&self.ends));
            let push = move |offset, text: Bytes| {
                let Some(_storing) = ends.storing() else { return false };
                // Before the kernel has it: the audit log counts rather too much than too little.
                given.count_filled(text.len());
                let stored = pages.store(ino, offset, &text);
                served.pushed_bytes.fetch_add(if stored { text.len() as u64 } else { 0 }, Ordering::Relaxed);
                stored
            };
            let follow = async move { file.follow(push).await };
            following = Some(tokio::spawn(follow));
        }
        let attr = self.attr_of(ino, node).await;
        // A reader that overtakes it would do the same work a second time, and slower.
        if let (Some(following), Ok(_)) = (following, &attr) {
            following.await.ok();
        }
        attr
    }

    pub fn readlink(&self, ino: Ino) -> Result<String> {
        match &*self.node(ino)? {
            Node::Link(_, _, target, _) => Ok(target.to_string()),
            _ => Err(Error::new(Kind::Invalid, "not a symbolic link")),
        }
    }

    pub async fn open(&self, ino: Ino, caller: Caller) -> Result<Opened> {
        let node = self.node(ino)?;
        let (item, stack, resource) = match &*node {
            Node::File(item, stack, resource) => (item, stack, resource),
            Node::Control(file) => return Ok(self.control_open(*file)),
            _ => return Err(Error::new(Kind::IsADirectory, "not a file")),
        };
        let file = self.log_file(item);
        let keep_cache = file.proven_size().is_some();
        // The kernel may have the text of a proven file, and those of the next ones.
        if !keep_cache {
            self.fetch_ahead(Want::Text, item, stack, resource);
        }
        let first = || {
            // From here on only exact sizes are told. A hint told before could still arrive after the first read was sent,
            // and then the kernel would not believe that read's end of file: it would show zeros up to the hint.
            if let Some(pages) = self.pages.get() {
                pages.void_attributes(ino);
            }
        };
        let opened = file.open(first).await;
        let opened = self.watch_listing(&file, stack, resource, opened);
        if opened.as_ref().err().is_none_or(|e| e.kind().is_verdict()) {
            self.note(&file);
        }
        let place = (Arc::clone(stack), Arc::clone(resource));
        let (last, late, trail) = Default::default();
        let (open, item) = (Arc::clone(&file), item.clone());
        let opened = opened.map(|()| OpenFile { file: open, item, place, last, late, trail });
        let handle = self.files.open(self.audited(caller, &file, keep_cache, opened).await?);
        self.unless_ended(handle)?;
        self.control.served.opens.fetch_add(1, Ordering::Relaxed);
        Ok(Opened { handle, keep_cache, direct: false })
    }

    /// For [`Fs::read`], in the order in which the kernel asks.
    pub fn awaits(&self, handle: u64, offset: u64, len: usize) -> Option<Awaited> {
        Some(self.files.get(handle).ok()?.file.awaits(offset..offset.saturating_add(len as u64)))
    }

    /// What is returned beside the text is dropped when the reader has it, and so is what [`Fs::awaits`] has said.
    pub async fn read(&self, handle: u64, offset: u64, len: usize) -> Result<(Bytes, Option<Told>)> {
        if let Some(text) = self.control.read(handle, offset, len) {
            return Ok((text?, None));
        }
        let open = self.files.get(handle)?;
        if open.last.load(Ordering::Relaxed) == 0 {
            self.fetch_ahead(Want::Text, &open.item, &open.place.0, &open.place.1);
        }
        let result = open.file.read_at(offset, len).await;
        let text = self.watch_listing(&open.file, &open.place.0, &open.place.1, result)?;
        self.control.served.read(text.len());
        let end = offset + text.len() as u64;
        let before = open.last.swap(end, Ordering::Relaxed);
        // The kernel's own read-ahead asks a little out of order.
        const NEAR: u64 = 1 << 20;
        if !text.is_empty() && offset > 0 && offset.abs_diff(before) <= NEAR {
            open.file.read_ahead(offset..end).await?;
        }
        let told = if text.len() < len { open.file.at_end(offset).await } else { None };
        open.given(text.len())?;
        Ok((text, told))
    }

    pub fn release(&self, handle: u64) {
        if self.control.release(handle) {
            return;
        }
        self.activity.touch();
        // Before it is out of the table: what is in there is closed by the end of the audit log.
        if let Ok(open) = self.files.get(handle) {
            open.closed();
            self.note(&open.file);
        }
        self.files.close(handle);
    }

    pub fn statfs(&self) -> Totals {
        self.catalog.totals()
    }

    /// Objects that were found damaged are looked at anew.
    pub fn forget_failed(&self) {
        self.objects.forget_failed();
        self.remembered.forget_failed();
    }

    /// How long nobody has asked for anything; zero while something is open.
    pub fn idle(&self) -> Duration {
        if self.files.is_empty() && self.folders.is_empty() { self.activity.quiet_for() } else { Duration::ZERO }
    }

    /// As if somebody had asked for something just now.
    pub fn touch(&self) {
        self.activity.touch();
    }

    fn node(&self, ino: Ino) -> Result<Arc<Node>> {
        let node = self.nodes.get(ino).ok_or_else(|| Error::new(Kind::Stale, "this inode is not known"))?;
        if !node.is_to_watch() {
            self.activity.touch();
        }
        Ok(node)
    }

    fn dir(&self, ino: Ino) -> Result<Dir> {
        match &*self.node(ino)? {
            Node::Dir(dir) => Ok(dir.clone()),
            _ => Err(Error::new(Kind::NotADirectory, "not a directory")),
        }
    }

    async fn attr_of(&self, ino: Ino, node: &Node) -> Result<Attr> {
        match node {
            Node::Dir(Dir::Day(_, _, _, Day::Dated(date))) => Ok(self.look.dir(ino, Some(date.start()))),
            Node::Dir(_) => Ok(self.look.dir(ino, None)),
            Node::Control(file) => Ok(self.control_attr(ino, *file)),
            Node::Link(_, _, target, item) => Ok(self.look.link(ino, target, item.as_ref())),
            Node::File(item, stack, resource) => self.file_attr(ino, item, stack, resource).await,
        }
    }

    /// A listing that showed an object which is gone or replaced is out of date there, and so is what is known of the object.
    fn watch_listing<T>(
        &self,
        file: &Arc<LogFile>,
        stack: &Arc<str>,
        resource: &Arc<str>,
        result: Result<T>,
    ) -> Result<T> {
        if let Some(how) = result.as_ref().err().map(Error::kind).filter(|k| matches!(k, Kind::NotFound | Kind::Stale))
        {
            let Listed { key, etag, .. } = file.object();
            self.objects.forget(file);
            self.remembered.forget(file.object());
            self.catalog.gone(stack, resource, key, etag, how);
        }
        result
    }

    fn log_file(&self, item: &Item) -> Arc<LogFile> {
        self.objects.get(&listed(item))
    }
}

fn listed(item: &Item) -> Listed {
    Listed {
        key: item.key(),
        key_sum: item.log_key().map(|log| log.key_sum).unwrap_or_default(),
        size: item.size(),
        etag: item.etag(),
        storage_class: item.storage_class().map(str::to_owned),
    }
}

fn not_found() -> Error {
    err!(Kind::NotFound, "no such file")
}
