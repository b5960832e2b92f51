//! Listings of any shape: whole, once each, in few requests, many at once. On a store in memory and a virtual clock, so
//! what is counted is rounds of requests, not time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use logarchivefs::catalog::Catalog;
use logarchivefs::catalog::number::number;
use logarchivefs::catalog::select::{Selection, SelectionArgs};
use logarchivefs::error::{Kind, Result};
use logarchivefs::key::LogKey;
use logarchivefs::store::{Entry, GetRequest, ListRequest, Object, Page, Store};
use proptest::prelude::*;
use tokio::time::Instant;

const SUM: &str = "9797979797979797979797979797979797979797979797979797979797979797";
const ROUND: Duration = Duration::from_millis(20);
const TTL: Duration = Duration::from_secs(300);

/// Keys in order, given in pages.
#[derive(Default)]
struct Memory {
    keys: Mutex<BTreeSet<String>>,
    page: usize,
    asked: Mutex<Vec<ListRequest>>,
    together: (AtomicUsize, AtomicUsize),
    /// Gives keys in front of where a range begins.
    astray: bool,
}

impl Memory {
    fn new(page: usize, keys: impl IntoIterator<Item = String>) -> Arc<Memory> {
        Arc::new(Memory { keys: Mutex::new(keys.into_iter().collect()), page, ..Memory::default() })
    }

    fn take_asked(&self) -> Vec<ListRequest> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

#[async_trait]
impl Store for Memory {
    fn describe(&self) -> String {
        "memory".into()
    }
    fn bucket(&self) -> &str {
        "memory"
    }
    async fn get(&self, _: &GetRequest) -> Result<Object> {
        unreachable!("a listing asks for no object")
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
    async fn list(&self, req: &ListRequest) -> Result<Page> {
        self.asked.lock().unwrap().push(req.clone());
        let now = self.together.0.fetch_add(1, Relaxed) + 1;
        self.together.1.fetch_max(now, Relaxed);
        tokio::time::sleep(ROUND).await;
        self.together.0.fetch_sub(1, Relaxed);
        let keys = self.keys.lock().unwrap();
        let after = req.token.as_ref().or(req.start_after.as_ref().filter(|_| !self.astray)).cloned();
        let from = after.unwrap_or_default().max(req.prefix.clone());
        let mut page = Page::default();
        let mut last = String::new();
        for key in keys.range(from.clone()..).filter(|key| **key != from || req.prefix == from) {
            let Some(tail) = key.strip_prefix(&req.prefix) else { break };
            let common = tail.find('/').filter(|_| req.delimiter).map(|at| format!("{}{}", req.prefix, &tail[..=at]));
            if common.as_ref().is_some_and(|c| from.starts_with(c.as_str()) || *c == last) {
                continue;
            }
            if page.objects.len() + page.prefixes.len() == req.max_keys.map_or(self.page, |n| self.page.min(n as usize))
            {
                // Behind a common prefix come the keys behind all of its own.
                page.next = Some(if last.ends_with('/') { format!("{last}\u{10ffff}") } else { last });
                break;
            }
            last = common.clone().unwrap_or_else(|| key.clone());
            match common {
                Some(common) => page.prefixes.push(common.into()),
                None => page.objects.push(entry(key)),
            }
        }
        Ok(page)
    }
}

fn entry(key: &str) -> Entry {
    let md5 = format!("{:032x}", key.len() as u128 * 0x1234_5678_9abc_def1);
    // Of S3, of a multipart upload, of other servers.
    let etag = match key.len() % 4 {
        0 => format!("{md5}-17"),
        1 => format!("{}-0", &md5[..30]),
        _ => md5,
    };
    Entry { key: key.into(), size: key.len() as u64, etag, last_modified: (1_660_000_000, 0), storage_class: None }
}

fn id(n: u64) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(n.to_le_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

fn at(n: u64) -> String {
    logarchivefs::key::Time::from_unix(1_661_299_200 + 600 * n as i64, 0).unwrap().in_key()
}

fn app(service: u64, container: &str, n: u64) -> String {
    let (start, end) = (at(n), at(n + 1));
    format!("prod/shareable/v3/{SUM}/apps-1/service-{service}/{container}-json.log.{start}.{end}.archived.gz")
}

fn database(container: &str, n: u64) -> String {
    format!("prod/shareable/v3/{SUM}/databases-7/{container}-json.log.1.{}.{}.archived.gz", at(n), at(n + 1))
}

async fn listed(catalog: &Catalog, resource: &str) -> Result<Vec<String>> {
    let tree = catalog.tree(&"prod".into(), &resource.into()).await?;
    assert!(tree.items().enumerate().all(|(place, item)| item.place() == place));
    Ok(tree.items().map(|item| item.key()).collect())
}

/// Keys in any shape come whole, in at most 1.3 times the pages that they fill; where containers have random ids, as they
/// do, in five times fewer rounds than pages, and still in three times fewer where everything is against it.
#[tokio::test(start_paused = true)]
async fn a_long_resource_is_listed_in_parallel() {
    const N: u64 = 100_000;
    type Shape = fn(u64) -> String;
    let shapes: [(&str, &str, u128, Shape); 7] = [
        ("500 containers", "apps-1", 20, |n| app(1, &id(n / 200), n)),
        ("a container for each", "databases-7", 20, |n| database(&id(n), n)),
        ("four services", "apps-1", 20, |n| app(n % 4, &id(n / 1000), n)),
        ("one container", "apps-1", 33, |n| app(1, &id(0), n)),
        ("ten containers", "databases-7", 33, |n| database(&id(n / 10_000), n)),
        ("a thousand services", "apps-1", 33, |n| app(n % 1000, &id(n % 1000), n)),
        ("ids that are no hex", "databases-7", 33, |n| database(&format!("web-{}", n / 100), n)),
    ];
    for (name, resource, most, shape) in shapes {
        let store = Memory::new(1000, (0..N).map(shape));
        let catalog = Catalog::new(store.clone(), Selection::default(), TTL);
        catalog.stack(&"prod".into()).await.unwrap();
        let before = store.take_asked().len();
        let start = Instant::now();
        let got = listed(&catalog, resource).await.unwrap();
        let (rounds, requests) = (start.elapsed().as_millis() / ROUND.as_millis(), store.take_asked().len());
        let together = store.together.1.load(Relaxed);
        println!("{name}: {requests} requests in {rounds} rounds, {together} at once");
        assert_eq!(got.len(), N as usize, "{name}");
        assert!(got.into_iter().collect::<BTreeSet<_>>() == *store.keys.lock().unwrap(), "{name}");
        assert!(requests <= 130 && rounds <= most, "{name}: {requests} requests, {rounds} rounds");
        assert!(before <= 5 && together <= 32);
    }
}

/// Fewer than a page, and a little more: not a request more than the pages need.
#[tokio::test(start_paused = true)]
async fn a_short_resource_costs_its_pages() {
    for (n, requests) in [(1, 1), (1000, 1), (1001, 2), (2500, 3), (3000, 3)] {
        let store = Memory::new(1000, (0..n).map(|n| app(n % 2, &id(n), n)));
        let catalog = Catalog::new(store.clone(), Selection::default(), TTL);
        catalog.stack(&"prod".into()).await.unwrap();
        store.take_asked();
        assert_eq!(listed(&catalog, "apps-1").await.unwrap().len(), n as usize);
        assert_eq!(store.take_asked().len(), requests, "{n} objects");
        listed(&catalog, "apps-1").await.unwrap();
        assert!(store.take_asked().is_empty(), "within its lifetime nothing is asked again");
    }
}

/// Who goes through the resources of a stack in order finds the next ones listed; who does not, costs nothing more.
#[tokio::test(start_paused = true)]
async fn a_walk_through_a_stack_waits_for_its_first_listings_only() {
    const RESOURCES: u64 = 15;
    let resource = |n: u64| format!("databases-{}", 10 + n);
    let walked = async |order: &[u64], objects: u64, pause: Duration| {
        let keys = (0..RESOURCES * objects).map(|n| database(&id(n), n).replace("databases-7", &resource(n / objects)));
        let store = Memory::new(1000, keys);
        let catalog = Catalog::new(store.clone(), Selection::default(), TTL);
        catalog.stack(&"prod".into()).await.unwrap();
        store.take_asked();
        let (mut waited, mut requests, mut resources) = (Vec::new(), Vec::new(), BTreeSet::new());
        for n in order {
            let start = Instant::now();
            let tree = catalog.enter(&"prod".into(), &resource(*n).into()).await.unwrap();
            assert_eq!(tree.len() as u64, objects);
            waited.push(start.elapsed() > Duration::ZERO);
            // What a reader does with it.
            tokio::time::sleep(pause).await;
            let asked = store.take_asked();
            resources.extend(asked.iter().map(|req| req.prefix.clone()));
            requests.push(asked.len());
        }
        (waited, requests, resources.len())
    };
    let in_order: Vec<u64> = (0..RESOURCES).collect();
    let (waited, requests, _) = walked(&in_order, 1, 2 * ROUND).await;
    assert_eq!(waited, (0..RESOURCES).map(|n| n < 2).collect::<Vec<_>>());
    // Ahead are 1, 2, 4 and then 8 resources.
    assert_eq!(requests[..6], [1, 2, 2, 3, 5, 1]);
    assert_eq!(requests.iter().sum::<usize>() as u64, RESOURCES, "each once");
    // Even if a listing takes as long as reading three.
    let (waited, ..) = walked(&in_order, 1, ROUND / 3).await;
    assert!(waited.iter().filter(|waited| **waited).count() <= 5, "{waited:?}");
    // Of large ones no more than are of use soon.
    let (.., resources) = walked(&in_order[..6], 20_000, 100 * ROUND).await;
    assert_eq!(resources, 6 + 2);
    let (waited, requests, _) = walked(&[5, 0, 7, 3], 1, 2 * ROUND).await;
    assert!(waited.iter().all(|waited| *waited) && requests == [1; 4], "{requests:?}");
}

/// A server that ignores where a range begins would give every key several times.
#[tokio::test(start_paused = true)]
async fn keys_outside_their_range_are_an_error() {
    let keys = (0..300).map(|n| database(&id(n), n)).collect();
    let store = Arc::new(Memory { page: 10, astray: true, keys: Mutex::new(keys), ..Memory::default() });
    let catalog = Catalog::new(store, Selection::default(), TTL);
    let e = listed(&catalog, "databases-7").await.unwrap_err();
    assert_eq!(e.kind(), Kind::Storage);
    assert!(e.to_string().contains("not asked for"), "{e}");
}

#[tokio::test(start_paused = true)]
async fn an_old_listing_serves_until_the_new_one_is_whole() {
    let store = Memory::new(10, (0..100).map(|n| database(&id(n), n)));
    let ttl = Duration::from_secs(1);
    let catalog = Catalog::new(store.clone(), Selection::default(), ttl);
    let count = async || listed(&catalog, "databases-7").await.unwrap().len();
    assert_eq!(count().await, 100);
    store.keys.lock().unwrap().extend((100..200).map(|n| database(&id(n), n)));
    for refresh in [false, true] {
        match refresh {
            true => catalog.refresh_all(),
            false => tokio::time::advance(2 * ttl).await,
        }
        let start = Instant::now();
        let mut seen = vec![count().await];
        assert_eq!(start.elapsed(), Duration::ZERO, "nobody waits");
        // While its pages come.
        while start.elapsed() < ttl / 2 {
            tokio::time::sleep(ROUND / 2).await;
            seen.push(count().await);
        }
        let (old, new) = if refresh { (200, 300) } else { (100, 200) };
        assert!(seen.is_sorted() && seen.iter().all(|n| [old, new].contains(n)), "{seen:?}");
        assert_eq!((seen[0], seen[seen.len() - 1]), (old, new));
        store.keys.lock().unwrap().extend((200..300).map(|n| database(&id(n), n)));
    }
    // A new key sum, and so a new prefix of a resource that is known.
    let moved = database(&id(7), 7).replace(SUM, &"ab".repeat(32));
    store.keys.lock().unwrap().insert(moved.clone());
    catalog.refresh_all();
    tokio::time::sleep(ttl / 2).await;
    assert!(listed(&catalog, "databases-7").await.unwrap().contains(&moved));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_selected_is_not_listed() {
    let keys = || (0..50_000).map(|n| app(n % 3, &id(n / 100), n)).chain((0..5000).map(|n| database(&id(n), n)));
    let select = |args: SelectionArgs| Selection::new(args).unwrap();
    let store = Memory::new(1000, keys());
    let catalog =
        Catalog::new(store.clone(), select(SelectionArgs { stacks: vec!["prod".into()], ..Default::default() }), TTL);
    assert_eq!(catalog.root().await.unwrap().stacks, ["prod".into()]);
    assert!(store.take_asked().iter().all(|req| req.prefix.starts_with("prod/")), "the root was listed");
    let nobody = select(SelectionArgs { stacks: vec!["pro".into()], ..Default::default() });
    assert!(Catalog::new(store.clone(), nobody, TTL).root().await.unwrap().stacks.is_empty());

    let one = select(SelectionArgs { containers: vec![id(7)[..12].into()], ..Default::default() });
    let catalog = Catalog::new(store.clone(), one, TTL);
    catalog.stack(&"prod".into()).await.unwrap();
    store.take_asked();
    for (resource, requests) in [("apps-1", 4), ("databases-7", 1)] {
        let want: BTreeSet<String> = keys().filter(|key| key.contains(resource) && key.contains(&id(7))).collect();
        assert!(!want.is_empty());
        assert_eq!(listed(&catalog, resource).await.unwrap().into_iter().collect::<BTreeSet<_>>(), want);
        assert_eq!(store.take_asked().len(), requests, "{resource}");
    }
}

/// Containers of which nothing is selected leave no trace in those that stay.
#[tokio::test(start_paused = true)]
async fn whole_containers_may_drop_out() {
    let keys: Vec<String> = (0..600).map(|n| database(&id(n / 20), n)).collect();
    let store = Memory::new(1000, keys.clone());
    for pattern in [id(7), id(29), id(0), "archived.gz$".into(), format!("{}|{}", id(3), id(17)), "nothing".into()] {
        let args = SelectionArgs { patterns: vec![pattern.clone()], ..Default::default() };
        let catalog = Catalog::new(store.clone(), Selection::new(args).unwrap(), TTL);
        let regex = regex::Regex::new(&pattern).unwrap();
        let want: BTreeSet<String> = keys.iter().filter(|key| regex.is_match(key)).cloned().collect();
        let got = listed(&catalog, "databases-7").await.unwrap();
        assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), want, "{pattern}");
    }
}

/// A container's id: hex, numbered, odd, or one that others begin with.
fn any_id() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u64..60).prop_map(id),
        (0u64..30).prop_map(|n| format!("web-{n}")),
        "[ab]{1,3}",
        "[ -.0-~é日]{1,6}",
        Just("a-json.log".to_owned()),
    ]
}

fn any_key() -> impl Strategy<Value = String> {
    let time = || prop_oneof![6 => (0u64..400).prop_map(at), 1 => Just("unknown".to_owned()), 1 => Just("2022-08-24T21:12:33.5".to_owned()), 1 => Just("2022-02-30T00:00:00".to_owned())];
    let rotation = prop_oneof![Just(""), Just(".1"), Just(".02"), Just(".4294967296")];
    let folder = prop_oneof![
        (0u64..3, 0u64..12)
            .prop_map(|(sum, service)| format!("v3/{}/apps-1/service-{service}", sum.to_string().repeat(64))),
        Just(format!("v3/{SUM}/apps-1/service-007")),
        Just(format!("v2/{SUM}/apps-1")),
    ];
    (folder, any_id(), rotation, time(), time()).prop_map(|(folder, id, n, start, end)| {
        match folder.starts_with("v2") {
            true => format!("prod/shareable/{folder}/{id}-json{n}.log.{start}.bck.gz"),
            false => format!("prod/shareable/{folder}/{id}-json.log{n}.{start}.{end}.archived.gz"),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the keys, the size of a page and the container asked for: every object that a plain filter finds, once,
    /// under its own name, in order, and found again by it.
    #[test]
    fn the_tree_is_the_listing(
        keys in prop::collection::btree_set(any_key(), 0..400),
        page in 1usize..9,
        container in prop::option::of(0u64..60),
    ) {
        let args = SelectionArgs { containers: container.map(|n| id(n)[..12].into()).into_iter().collect(), ..Default::default() };
        let selection = Selection::new(args).unwrap();
        let parsed = |key: &String| LogKey::parse(key.as_bytes()).ok();
        let want: BTreeSet<String> = keys.iter().filter(|k| parsed(k).is_some_and(|log| selection.container(&log.container))).cloned().collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let whole = runtime.block_on(async {
            let store = Memory::new(page, keys.iter().cloned());
            Catalog::new(store, Selection::default(), TTL).tree(&"prod".into(), &"apps-1".into()).await.unwrap()
        });
        let tree = runtime.block_on(async {
            let store = Memory::new(page, keys.iter().cloned());
            Catalog::new(store, selection, TTL).tree(&"prod".into(), &"apps-1".into()).await.unwrap()
        });
        let got: Vec<String> = tree.items().map(|item| item.key()).collect();
        prop_assert_eq!(got.len(), want.len());
        prop_assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), want);
        let names: std::collections::HashMap<String, String> = whole.items().map(|item| (item.key(), item.name())).collect();
        let mut entries = 0;
        for container in tree.containers() {
            for folder in tree.container(container).unwrap().days() {
                let listed: Vec<_> = tree.day_entries(folder).collect();
                prop_assert!(listed.windows(2).all(|two| two[0].0.name() < two[1].0.name()), "order and no name twice");
                for (item, is_link) in listed {
                    let found = tree.day_entry(folder, &item.name()).unwrap();
                    prop_assert_eq!(found.item(), &item.to_item());
                    prop_assert_eq!(found.target().is_some(), is_link);
                    prop_assert_eq!(&names[&item.key()], &item.name(), "a name depends on what was selected");
                    let log = parsed(&item.key()).unwrap();
                    let original = entry(&item.key());
                    prop_assert_eq!(log.container.as_str(), container);
                    prop_assert_eq!(item.span(), (log.span, log.rotation));
                    prop_assert_eq!((item.etag(), item.size()), (original.etag, original.size));
                    prop_assert_eq!(item.number(), number(&["memory", "file", &item.key(), &item.etag()]));
                    prop_assert_eq!(is_link, item.day() != folder.day);
                    entries += usize::from(!is_link);
                }
            }
        }
        prop_assert_eq!(entries, tree.len());
    }
}
