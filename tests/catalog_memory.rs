//! What a listing costs in memory, counted by the allocator: alone in its file, so that nothing else adds to it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use logarchivefs::catalog::Catalog;
use logarchivefs::catalog::select::Selection;
use logarchivefs::envelope::Keyring;
use logarchivefs::error::{Kind, Result};
use logarchivefs::fs::control::About;
use logarchivefs::fs::{Fs, Ino, Look};
use logarchivefs::key::Time;
use logarchivefs::object::{Objects, Policy};
use logarchivefs::store::{Entry, GetRequest, ListRequest, Object, Page, Store};
use sha2::{Digest, Sha256};

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting what is asked of it.
struct Counting;

// SAFETY: everything is the system allocator's own doing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(held, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // What is large moves page by page, so it is never there twice.
        let held = HELD.fetch_add(size, Relaxed) + size - layout.size();
        HELD.fetch_sub(layout.size(), Relaxed);
        PEAK.fetch_max(held, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const OBJECTS: u64 = 300_000;

/// Keys that are made when they are asked for: `per` logs of each container, six hours each.
struct Made {
    per: u64,
    folder: String,
    /// Entity tags that are no MD5, as servers other than S3 have them.
    odd: bool,
}

impl Made {
    fn entry(&self, n: u64) -> Entry {
        let (container, log) = (n / self.per, n % self.per);
        let random = Sha256::digest(container.to_be_bytes());
        let id: String = random.iter().map(|b| format!("{b:02x}")).collect();
        // In the order of the keys, as pages are.
        let id = format!("{container:08x}{}", &id[8..]);
        let at = |n: u64| Time::from_unix(1_640_995_200 + 21_600 * n as i64, 0).unwrap();
        let key = format!("{}{id}-json.log.{}.{}.archived.gz", self.folder, at(log).in_key(), at(log + 1).in_key());
        let mut etag: String = Sha256::digest(n.to_be_bytes())[..16].iter().map(|b| format!("{b:02x}")).collect();
        if self.odd {
            etag.make_ascii_uppercase();
            etag.push_str("-X");
        }
        let storage_class = Some("STANDARD".into());
        Entry { key: key.into(), size: 1000 + n, etag, last_modified: (1_660_000_000, 123_000_000), storage_class }
    }
}

#[async_trait]
impl Store for Made {
    fn describe(&self) -> String {
        "made".into()
    }
    fn bucket(&self) -> &str {
        "made"
    }
    async fn get(&self, _: &GetRequest) -> Result<Object> {
        unreachable!("a listing asks for no object")
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
    async fn list(&self, req: &ListRequest) -> Result<Page> {
        let mut page = Page::default();
        if req.delimiter {
            let below = self.folder.strip_prefix(&req.prefix).and_then(|below| below.split_once('/'));
            page.prefixes.extend(below.map(|(name, _)| format!("{}{name}/", req.prefix).into_bytes()));
        } else {
            let key = |n: u64| self.entry(n).key;
            let from = match (&req.token, &req.start_after) {
                (Some(token), _) => token.parse().unwrap(),
                (None, Some(after)) => {
                    let all: Vec<u64> = (0..OBJECTS).collect();
                    all.partition_point(|n| key(*n).as_slice() <= after.as_bytes()) as u64
                }
                (None, None) => 0,
            };
            let to = OBJECTS.min(from + 1000);
            page.objects.extend((from..to).map(|n| self.entry(n)));
            page.next = (to < OBJECTS).then(|| to.to_string());
        }
        Ok(page)
    }
}

#[test]
fn an_object_costs_at_most_200_bytes() {
    // Containers that live for long, for a day, and for one log each.
    for (per, odd) in [(300, false), (4, false), (1, false), (300, true)] {
        let folder = format!("prod/shareable/v3/{}/apps-321/service-12/", "97".repeat(32));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let store = Arc::new(Made { per, folder, odd });
        let before = HELD.load(Relaxed);
        let catalog = Catalog::new(Arc::clone(&store) as _, Selection::default(), Duration::from_secs(300));
        let list = || {
            PEAK.store(HELD.load(Relaxed), Relaxed);
            let tree = runtime.block_on(catalog.tree(&"prod".into(), &"apps-321".into())).unwrap();
            assert_eq!(tree.len() as u64, OBJECTS);
            tree
        };
        let each = |bytes: usize| (bytes - before) / OBJECTS as usize;
        let tree = list();
        let (held, peak) = (each(HELD.load(Relaxed)), each(PEAK.load(Relaxed)));
        println!("{per} logs a container, odd tags {odd}: {held} bytes an object, {peak} while it is listed");
        // Through all of that the texts are those that were listed.
        let last = tree.item(tree.len() - 1).unwrap();
        let listed = Made { per, folder: folder_of(&last.key()), odd }.entry(OBJECTS - 1);
        assert_eq!((last.key().as_bytes(), last.etag()), (&*listed.key, listed.etag));
        assert!(held <= 200, "{held} bytes an object");
        assert!(peak <= 500, "{peak} bytes an object while it is listed");
        // Listed again: until that is whole, the old one serves.
        catalog.gone(&"prod".into(), &"apps-321".into(), "no key", "no tag", Kind::NotFound);
        // No call waits for long, and this may take long on a busy machine.
        let renewed = || runtime.block_on(catalog.renewed(&"prod".into(), &"apps-321".into()));
        assert!((0..60).any(|_| renewed().is_some()), "it is not listed again");
        drop((tree, last));
        let tree = list();
        let (held, peak) = (each(HELD.load(Relaxed)), each(PEAK.load(Relaxed)));
        println!("    again: {held} bytes an object, {peak} while it is listed");
        assert!(held <= 200, "{held} bytes an object after a refresh");
        assert!(peak <= 700, "{peak} bytes an object during a refresh");
        drop(tree);
        let known = runtime.block_on(known(catalog, &store));
        println!("{known} bytes more where its attributes were asked for");
        assert!(held + known <= 200, "{held} + {known} bytes an object");
    }
}

/// Asks for the attributes of all files: what is remembered of each. The second half counts, as the first brings what is
/// there once.
async fn known(catalog: Catalog, store: &Arc<Made>) -> usize {
    let objects = Objects::new(Arc::clone(store) as _, Keyring::default(), Policy::default(), 1 << 20).keeping(16);
    let look = Look { uid: 0, gid: 0, file_mode: 0o400, dir_mode: 0o500, mounted: UNIX_EPOCH };
    let tree = catalog.tree(&"prod".into(), &"apps-321".into()).await.unwrap();
    let fs = Fs::new(catalog, objects, look, About::default());
    let mut halves = [0; 2];
    for (half, held) in halves.iter_mut().enumerate() {
        let half = tree.len() / 2 * half..tree.len() / 2 * (half + 1);
        for item in half.filter_map(|place| tree.item(place)) {
            let path = ["prod", "apps-321", item.container(), &item.day().to_string(), &item.name()].map(str::to_owned);
            let mut inodes = vec![Ino::ROOT];
            for name in &path {
                let attr = fs.lookup(*inodes.last().unwrap(), name.as_bytes()).await.unwrap();
                inodes.push(attr.ino);
            }
            inodes[1..].iter().for_each(|ino| fs.forget(*ino, 1));
            // What is fetched ahead is done with.
            tokio::task::yield_now().await;
        }
        *held = HELD.load(Relaxed);
    }
    (halves[1] - halves[0]).div_ceil(tree.len() / 2)
}

fn folder_of(key: &str) -> String {
    key[..key.rfind('/').unwrap() + 1].to_owned()
}
