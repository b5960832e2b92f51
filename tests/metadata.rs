//! What is asked of the store for attributes and for text, whatever is kept of the files: on a store in memory and a virtual
//! clock, so what is counted is requests on their way together, not time.

#[path = "common/mod.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use common::archive::{self, Log};
use futures::FutureExt;
use logarchivefs::catalog::Catalog;
use logarchivefs::catalog::select::Selection;
use logarchivefs::demo::logs::Random;
use logarchivefs::envelope::{Keyring, SealAs};
use logarchivefs::err;
use logarchivefs::error::{Error, Kind, Result};
use logarchivefs::fs::control::About;
use logarchivefs::fs::{Attr, Caller, Fs, Ino, Look, NodeKind};
use logarchivefs::object::{Objects, Policy};
use logarchivefs::store::{ByteRange, Entry, GetRequest, ListRequest, Object, Page, Store};

const ROUND: Duration = Duration::from_millis(20);
/// On their way at once, at least, where many files are asked for.
const TOGETHER: usize = 16;
const CALLER: Caller = Caller { uid: 0, gid: 0, pid: 1 };

/// Objects that are all the same but for their keys.
struct Same {
    keys: Mutex<BTreeSet<String>>,
    metadata: BTreeMap<String, String>,
    body: Bytes,
    /// How GETs fail.
    fails: Mutex<Option<Kind>>,
    gets: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
    /// GETs take no time.
    at_once: AtomicBool,
    held: Arc<Held>,
}

/// Bytes given away that somebody still has, and the most that there ever were.
#[derive(Default)]
struct Held {
    now: AtomicUsize,
    most: AtomicUsize,
}

struct Counted(Bytes, Arc<Held>);

impl Counted {
    fn count(bytes: Bytes, held: &Arc<Held>) -> Bytes {
        let now = held.now.fetch_add(bytes.len(), Relaxed) + bytes.len();
        held.most.fetch_max(now, Relaxed);
        Bytes::from_owner(Counted(bytes, Arc::clone(held)))
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.now.fetch_sub(self.0.len(), Relaxed);
    }
}

impl Same {
    fn new(keys: impl IntoIterator<Item = String>, text: &[u8]) -> Arc<Same> {
        let (metadata, body) = archive::sealed(SealAs::V3, 0, &archive::gzip(text), &mut Random::new(1));
        let metadata = metadata.into_iter().map(|(k, v)| (k.to_lowercase(), v)).collect();
        let (fails, gets, now, most, at_once, held) = Default::default();
        let keys = Mutex::new(keys.into_iter().collect());
        Arc::new(Same { keys, metadata, body: body.into(), fails, gets, now, most, at_once, held })
    }

    fn fail(&self, how: Option<Kind>) {
        *self.fails.lock().unwrap() = how;
    }

    /// GETs since the last time, and how many there were at once.
    fn take(&self) -> (usize, usize) {
        (self.gets.swap(0, Relaxed), self.most.swap(0, Relaxed))
    }
}

#[async_trait]
impl Store for Same {
    fn describe(&self) -> String {
        "memory".into()
    }
    fn bucket(&self) -> &str {
        "memory"
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
    async fn list(&self, req: &ListRequest) -> Result<Page> {
        let mut page = Page::default();
        let mut folders = BTreeSet::new();
        for key in self.keys.lock().unwrap().iter() {
            let Some(tail) = key.strip_prefix(&req.prefix) else { continue };
            match tail.split_once('/').filter(|_| req.delimiter) {
                Some((folder, _)) => _ = folders.insert(format!("{}{folder}/", req.prefix).into_bytes()),
                None => page.objects.push(Entry {
                    key: key.clone().into(),
                    size: self.body.len() as u64,
                    etag: "0123456789abcdef0123456789abcdef".into(),
                    last_modified: (1_660_000_000, 0),
                    storage_class: None,
                }),
            }
        }
        page.prefixes.extend(folders);
        Ok(page)
    }
    async fn get(&self, req: &GetRequest) -> Result<Object> {
        self.gets.fetch_add(1, Relaxed);
        self.most.fetch_max(self.now.fetch_add(1, Relaxed) + 1, Relaxed);
        if !self.at_once.load(Relaxed) {
            tokio::time::sleep(ROUND).await;
        }
        self.now.fetch_sub(1, Relaxed);
        if let Some(kind) = *self.fails.lock().unwrap() {
            return Err(err!(kind, "told to fail"));
        }
        let total = self.body.len() as u64;
        let range = match &req.range {
            ByteRange::Whole => 0..total,
            ByteRange::Span(range) => range.clone(),
            ByteRange::Suffix(len) => total.saturating_sub(*len)..total,
        };
        Ok(Object {
            bytes: Counted::count(self.body.slice(range.start as usize..range.end as usize), &self.held),
            start: range.start,
            total,
            etag: "0123456789abcdef0123456789abcdef".into(),
            version_id: Some("v".into()),
            last_modified: (0, 0),
            storage_class: None,
            metadata: self.metadata.clone(),
            missing_meta: 0,
            replica: None,
        })
    }
}

/// A mount without a kernel.
struct Tree {
    fs: Fs,
    store: Arc<Same>,
}

impl Tree {
    fn new(store: &Arc<Same>, memory: usize, keeping: usize) -> Tree {
        let mut ring = Keyring::default();
        ring.insert_b64(&archive::key_base64(0)).unwrap();
        let catalog = Catalog::new(Arc::clone(store) as _, Selection::default(), Duration::from_secs(1_000_000));
        let objects = Objects::new(Arc::clone(store) as _, ring, Policy::default(), memory).keeping(keeping);
        let look = Look { uid: 0, gid: 0, file_mode: 0o400, dir_mode: 0o500, mounted: UNIX_EPOCH };
        Tree { fs: Fs::new(catalog, objects, look, About::default()), store: Arc::clone(store) }
    }

    async fn entries(&self, folder: Ino) -> Vec<(Ino, NodeKind, String)> {
        let opened = self.fs.opendir(folder).await.unwrap();
        let mut all = Vec::new();
        let show = |_, entry: &logarchivefs::fs::DirEntry| {
            all.push((entry.ino, entry.kind, entry.name.to_string()));
            false
        };
        self.fs.readdir(opened.handle, 0, show).unwrap();
        self.fs.releasedir(opened.handle);
        all.retain(|(_, _, name)| name != "." && name != "..");
        all
    }

    async fn look_up(&self, folder: Ino, name: &str) -> Result<Attr> {
        self.fs.lookup(folder, name.as_bytes()).await
    }

    /// All files, folder by folder; a folder of more than 10,000 entries as gnulib's fts goes through it.
    async fn files(&self) -> Vec<(Ino, String)> {
        let mut files = Vec::new();
        let mut folders = vec![Ino::ROOT];
        while let Some(folder) = folders.pop() {
            let mut entries = self.entries(folder).await;
            if entries.len() > 10_000 {
                entries.sort_by_key(|(ino, ..)| *ino);
            }
            let mut below = Vec::new();
            for (_, kind, name) in entries {
                match kind {
                    NodeKind::File => files.push((folder, name)),
                    NodeKind::Dir => below.push(self.look_up(folder, &name).await.unwrap().ino),
                    NodeKind::Link => {}
                }
            }
            folders.extend(below.into_iter().rev());
        }
        files
    }

    /// Asks for the attributes of these files, one after the other; returns the sum of their sizes, and how many have mode 0.
    async fn stat(&self, files: &[(Ino, String)]) -> (u64, usize) {
        let (mut sum, mut unreadable) = (0, 0);
        for (folder, name) in files {
            let attr = self.look_up(*folder, name).await.unwrap();
            sum += attr.size;
            unreadable += usize::from(attr.mode == 0);
            self.fs.forget(attr.ino, 1);
        }
        (sum, unreadable)
    }

    /// Opens and reads them, as programs do that know their sizes already.
    async fn read(&self, inodes: &[Ino], text: &[u8]) {
        for ino in inodes {
            let opened = self.fs.open(*ino, CALLER).await.unwrap();
            let mut got = Vec::new();
            loop {
                let (piece, _) = self.fs.read(opened.handle, got.len() as u64, 128 << 10).await.unwrap();
                got.extend_from_slice(&piece);
                if piece.is_empty() {
                    break;
                }
            }
            assert!(got == text, "other bytes");
            self.fs.release(opened.handle);
        }
    }

    /// Has everything listed again, with an object in another resource that was not there before.
    async fn refresh(&self) {
        self.store.keys.lock().unwrap().insert(Log { resource: "apps-9".into(), ..Log::at(0) }.key());
        let listing = || self.fs.catalog().listing(&"prod".into(), &"apps-321".into());
        let before = listing();
        self.fs.catalog().refresh_all();
        while listing() == before {
            tokio::time::sleep(ROUND).await;
        }
    }

    async fn xattr(&self, (folder, name): &(Ino, String), attribute: &str) -> String {
        let ino = self.look_up(*folder, name).await.unwrap().ino;
        let value = self.fs.getxattr(ino, format!("user.logarchive.{attribute}").as_bytes()).await;
        self.fs.forget(ino, 1);
        value.map_or_else(|e: Error| e.kind().row().name.to_owned(), |value| String::from_utf8(value).unwrap())
    }
}

fn logs(count: i64) -> impl Iterator<Item = String> {
    (0..count).map(|n| Log::at(n * 7).key())
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(test)
}

const TEXT: &[u8] = b"{\"log\":\"a\\n\"}\n";
const FEW: usize = 64;
const MANY: usize = 8192;
const MEMORY: usize = 64 << 20;

#[test]
fn attributes_are_asked_for_once_however_few_files_are_kept() {
    for keeping in [FEW, MANY] {
        run(async {
            let store = Same::new(logs(1000), TEXT);
            let tree = Tree::new(&store, MEMORY, keeping);
            let files = tree.files().await;
            assert_eq!((files.len(), store.take()), (1000, (0, 0)), "names cost no request");
            let sum = (1000 * TEXT.len() as u64, 0);
            assert_eq!(tree.stat(&files).await, sum);
            let (gets, together) = store.take();
            assert!(gets == 1000 && together >= TOGETHER, "{gets} requests, {together} at once");
            assert_eq!((tree.stat(&files).await, store.take()), (sum, (0, 0)), "asked again");
            for file in &files {
                for (attribute, want) in [("auth", "proven"), ("envelope", "v3"), ("error", "no-attribute")] {
                    assert_eq!(tree.xattr(file, attribute).await, want, "{attribute}");
                }
                // What `ls -l` asks for, of every file.
                let ino = tree.look_up(file.0, &file.1).await.unwrap().ino;
                let foreign = tree.fs.getxattr(ino, b"security.capability").await.unwrap_err();
                assert_eq!(foreign.kind(), Kind::NoAttribute);
                let names = String::from_utf8(tree.fs.listxattr(ino).unwrap()).unwrap();
                assert!(names.contains("version_id") && !names.contains("error"), "{names}");
            }
            assert_eq!((tree.stat(&files).await, store.take()), (sum, (0, 0)), "asked again after attributes");
            tree.refresh().await;
            assert_eq!((tree.stat(&files).await, store.take()), (sum, (0, 0)), "asked again after a refresh");
            assert!(keeping == MANY || tree.fs.objects().len() < 4 * FEW);
        });
    }
}

#[test]
fn why_files_cannot_be_read_is_remembered_too() {
    run(async {
        let store = Same::new(logs(500).map(|key| key.replace(&archive::key_sum(0), &archive::key_sum(7))), TEXT);
        let tree = Tree::new(&store, MEMORY, FEW);
        let files = tree.files().await;
        for _ in 0..2 {
            assert_eq!(tree.stat(&files).await, (0, 500));
        }
        let reason = tree.xattr(&files[0], "error").await;
        assert!(reason.contains(&archive::key_sum(7)[..8]), "{reason}");
        assert_eq!(tree.xattr(&files[0], "auth").await, "failed");
        assert_eq!(store.take().0, 0);
    });
}

#[test]
fn an_archived_object_is_asked_for_once_a_listing_and_at_each_open() {
    for keeping in [FEW, MANY] {
        run(async {
            let store = Same::new(logs(500), TEXT);
            let tree = Tree::new(&store, MEMORY, keeping);
            let files = tree.files().await;
            store.fail(Some(Kind::Archived));
            for gets in [500, 0] {
                assert_eq!(tree.stat(&files).await, (0, 500));
                assert_eq!(store.take().0, gets);
            }
            assert_eq!(tree.xattr(&files[0], "error").await, "told to fail");
            assert_eq!(tree.xattr(&files[0], "auth").await, "unproven");
            assert_eq!(store.take().0, 0);
            tree.refresh().await;
            for gets in [500, 0] {
                assert_eq!(tree.stat(&files).await, (0, 500));
                assert_eq!(store.take().0, gets, "after a refresh");
            }
            let ino = tree.look_up(files[7].0, &files[7].1).await.unwrap().ino;
            for _ in 0..3 {
                assert_eq!(tree.fs.open(ino, CALLER).await.unwrap_err().kind(), Kind::Archived);
            }
            assert_eq!(store.take().0, 3);
            store.fail(None);
            tree.read(&[ino], TEXT).await;
            store.fail(Some(Kind::Archived));
            assert_eq!(tree.stat(&files).await, (TEXT.len() as u64, 499));
        });
    }
}

#[test]
fn a_failure_of_the_storage_is_never_remembered() {
    run(async {
        let store = Same::new(logs(3), TEXT);
        let tree = Tree::new(&store, MEMORY, FEW);
        let files = tree.files().await;
        for kind in [Kind::Storage, Kind::AccessDenied, Kind::Timeout] {
            store.fail(Some(kind));
            assert_eq!(tree.look_up(files[0].0, &files[0].1).await.unwrap_err().kind(), kind);
        }
        store.fail(None);
        assert_eq!(tree.stat(&files).await, (3 * TEXT.len() as u64, 0));
    });
}

/// A short one is shown at once; a long one is made where nobody else waits for it, and once for all who have it open.
#[test]
fn only_a_long_folder_that_is_not_made_yet_is_slow_to_read() {
    for (count, is_long) in [(1000, false), (1001, true)] {
        run(async {
            let tree = Tree::new(&Same::new(logs(count), TEXT), MEMORY, FEW);
            let day = tree.files().await[0].0;
            // A thread frees what these handles showed; until it has, the clock stands still.
            tokio::time::sleep(ROUND).await;
            let [first, second] =
                [tree.fs.opendir(day).await.unwrap().handle, tree.fs.opendir(day).await.unwrap().handle];
            let is_slow = || [first, second].map(|handle| tree.fs.is_slow_to_read(handle));
            assert_eq!(is_slow(), [is_long; 2], "{count}");
            tree.fs.readdir(first, 0, |_, _| true).unwrap();
            assert_eq!(is_slow(), [false; 2], "{count}");
            tree.fs.releasedir(first);
            assert_eq!(is_slow(), [false; 2], "{count}: the other one has them");
            tree.fs.releasedir(second);
            assert_eq!(tree.entries(day).await.len(), count as usize);
        });
    }
}

/// A stack of few resources is opened by the thread that asks, at once; for one of many it would hold up all others.
#[test]
fn a_long_stack_is_opened_where_nobody_else_waits() {
    for (count, at_once) in [(1000, true), (1001, false)] {
        run(async {
            let resource = |n| Log { resource: format!("apps-{n}"), ..Log::at(0) }.key();
            let tree = Tree::new(&Same::new((1..=count).map(resource), TEXT), MEMORY, FEW);
            let stack = tree.look_up(Ino::ROOT, "prod").await.unwrap().ino;
            assert_eq!(tree.entries(stack).await.len(), count);
            let opened = tree.fs.opendir(stack).now_or_never();
            assert_eq!(opened.map(|opened| opened.is_ok()), at_once.then_some(true), "{count}");
        });
    }
}

/// As gnulib's fts: more than 10,000 entries are gone through in the order of their inode numbers.
#[test]
fn folders_in_the_order_of_inode_numbers() {
    const FILES: i64 = 10_500;
    // Of one day; in a folder each.
    let spread = |n: i64| Log { container: archive::sha256(&n.to_le_bytes()), ..Log::at(0) }.key();
    let of = |n: i64| Log::at(n * 8).key();
    for keys in [(0..FILES).map(of).collect::<Vec<_>>(), (0..FILES).map(spread).collect()] {
        run(async {
            let store = Same::new(keys, TEXT);
            let tree = Tree::new(&store, MEMORY, FEW * 4);
            let files = tree.files().await;
            assert_eq!(files.len(), FILES as usize);
            let mut waits = 0;
            let start = tokio::time::Instant::now();
            for file in &files {
                let before = start.elapsed();
                tree.stat(std::slice::from_ref(file)).await;
                waits += usize::from(start.elapsed() > before);
            }
            let (gets, together) = store.take();
            assert!(gets == FILES as usize && together >= TOGETHER, "{gets} requests, {together} at once");
            // Once for each window, and for each of the first few, which show that it is another order. That is found out by a
            // thread while they are waited for.
            assert!(waits < FILES as usize / 64 + 16, "waited {waits} times");
        });
    }
}

/// Files of several folders at once, and files in no order at all.
#[test]
fn files_in_other_orders() {
    const FILES: usize = 4000;
    for (ways, most) in [(4, FILES / 10), (0, FILES / 3)] {
        run(async {
            let store = Same::new(logs(FILES as i64), TEXT);
            let tree = Tree::new(&store, MEMORY, MANY);
            let files = tree.files().await;
            let mut order: Vec<usize> = (0..FILES).collect();
            match ways {
                0 => order.sort_by_key(|n| archive::sha256(&n.to_le_bytes())),
                ways => order = (0..FILES / ways).flat_map(|n| (0..ways).map(move |w| w * FILES / ways + n)).collect(),
            }
            let mut waits = 0;
            for n in order {
                let before = tokio::time::Instant::now();
                tree.stat(std::slice::from_ref(&files[n])).await;
                waits += usize::from(before.elapsed() > Duration::ZERO);
            }
            let (gets, together) = store.take();
            assert!(gets == FILES && together >= TOGETHER, "{ways}: {gets} requests, {together} at once");
            assert!(waits < most, "{ways}: waited {waits} times");
        });
    }
}

/// A few files in no order: next to nothing is fetched for nothing.
#[test]
fn single_files_cost_what_they_need() {
    run(async {
        let store = Same::new(logs(4000), TEXT);
        let tree = Tree::new(&store, MEMORY, MANY);
        let mut files = tree.files().await;
        files.sort_by_key(|(_, name)| archive::sha256(name.as_bytes()));
        tree.stat(&files[..200]).await;
        let (gets, _) = store.take();
        assert!((200..=210).contains(&gets), "{gets}");
    });
}

/// `ls -lR`, then `grep -r`: sizes are known, and the kernel has the names, so that nothing but opens and reads arrives.
#[test]
fn text_is_fetched_ahead_though_sizes_are_known() {
    const FILES: usize = 600;
    let text = archive::text(1, 1500);
    // Neither heads nor text are kept; heads are, but not all of the text.
    for (keeping, memory) in [(2 * FEW, MEMORY), (MANY, 32 << 20)] {
        run(async {
            let store = Same::new(logs(FILES as i64), &text);
            assert!(
                FILES * text.len() > 4 * (32 << 20) && store.body.len() < 60_000,
                "{} {}",
                text.len(),
                store.body.len()
            );
            let tree = Tree::new(&store, memory, keeping);
            let mut inodes = Vec::new();
            for (folder, name) in tree.files().await {
                inodes.push(tree.look_up(folder, &name).await.unwrap().ino);
            }
            store.take();
            tree.read(&inodes, &text).await;
            let (gets, together) = store.take();
            assert!(gets > FILES / 2, "{gets}: it was all kept, so the test shows nothing");
            assert!(together >= TOGETHER, "{gets} requests, {together} at once");
            // A request more than once is one for text that was gone before it was read.
            assert!(gets <= FILES + FILES / 10, "{gets} requests for {FILES} files");
        });
    }
}

/// Hundreds of objects, as large as objects get that come with one request, whose sizes are asked for at once: they come faster than
/// they are decoded.
#[test]
fn what_waits_to_be_decoded_is_within_the_budget() {
    const FILES: usize = 300;
    const BUDGET: usize = 32 << 20;
    let text = archive::noise(1, 600_000);
    run(async {
        let store = Same::new(logs(FILES as i64), &text);
        assert!((350_000..500_000).contains(&store.body.len()) && FILES * store.body.len() > 3 * BUDGET);
        let tree = Tree::new(&store, BUDGET, MANY);
        let files = tree.files().await;
        store.at_once.store(true, Relaxed);
        let sizes = files.iter().enumerate().map(async |(n, (folder, name))| {
            // One after the other, so that each one's pass has begun when the next one's object comes.
            for _ in 0..n {
                tokio::task::yield_now().await;
            }
            tree.look_up(*folder, name).await
        });
        let sizes = futures::future::join_all(sizes).await;
        assert!(sizes.iter().all(|attr| attr.as_ref().is_ok_and(|attr| attr.size == text.len() as u64)));
        let most = store.held.most.load(Relaxed);
        assert!(most < BUDGET, "{most} bytes of ciphertext were in memory, with a budget of {BUDGET} in all");
    });
}
