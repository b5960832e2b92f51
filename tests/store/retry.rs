//! Retries against a scripted store, on tokio's paused clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use logarchivefs::err;
use logarchivefs::error::{Kind, Result};
use logarchivefs::store::{ByteRange, GetRequest, ListRequest, Object, Page, Part, Pin, Retry, Store};
use tokio::time::Instant;

use super::get;

const BODY: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy)]
enum Step {
    Fail(Kind),
    /// So many bytes of the body, then a failure.
    Break(usize),
    Hang,
    Whole,
}

/// Does the steps in turn, then the last for ever.
struct Script {
    steps: Mutex<VecDeque<Step>>,
    seen: Mutex<Vec<GetRequest>>,
}

impl Script {
    fn new(steps: &[Step]) -> Arc<Script> {
        Arc::new(Script { steps: Mutex::new(steps.iter().copied().collect()), seen: Mutex::default() })
    }

    fn seen(&self) -> Vec<GetRequest> {
        self.seen.lock().unwrap().clone()
    }

    async fn step(&self) -> Result<usize> {
        let step = {
            let mut steps = self.steps.lock().unwrap();
            if steps.len() > 1 { steps.pop_front().unwrap() } else { steps[0] }
        };
        match step {
            Step::Fail(kind) => Err(err!(kind, "as scripted")),
            Step::Break(n) => Ok(n),
            Step::Hang => std::future::pending().await,
            Step::Whole => Ok(BODY.len()),
        }
    }
}

#[async_trait]
impl Store for Script {
    fn describe(&self) -> String {
        "script:".into()
    }
    fn bucket(&self) -> &str {
        "script"
    }
    async fn list(&self, _: &ListRequest) -> Result<Page> {
        self.seen.lock().unwrap().push(get("list", ByteRange::Whole));
        self.step().await.map(|_| Page::default())
    }
    async fn check(&self) -> Result<()> {
        self.step().await.map(drop)
    }
    async fn get(&self, req: &GetRequest) -> Result<Object> {
        let mut part = Part::new();
        self.fetch(req, &mut part).await?;
        part.finish()
    }
    async fn fetch(&self, req: &GetRequest, part: &mut Part) -> Result<()> {
        let rest = part.rest(req)?;
        self.seen.lock().unwrap().push(rest.clone());
        let n = self.step().await?;
        let total = BODY.len() as u64;
        let range = match rest.range {
            ByteRange::Whole => 0..total,
            ByteRange::Span(range) => range,
            ByteRange::Suffix(n) => total - n..total,
        };
        let head = Object {
            bytes: Bytes::new(),
            start: range.start,
            total,
            etag: "e".into(),
            version_id: Some("v1".into()),
            last_modified: (0, 0),
            storage_class: None,
            metadata: BTreeMap::new(),
            missing_meta: 0,
            replica: None,
        };
        part.begin(head, range.end - range.start)?;
        let piece = &BODY[range.start as usize..range.end as usize];
        part.push(&piece[..n.min(piece.len())])?;
        if part.is_complete() { Ok(()) } else { Err(err!(Kind::Storage, "broke off, as scripted")) }
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_after_growing_pauses() {
    let script =
        Script::new(&[Step::Fail(Kind::Storage), Step::Fail(Kind::Timeout), Step::Fail(Kind::Storage), Step::Whole]);
    let store = Retry::new(Arc::clone(&script), DEADLINE);
    let start = Instant::now();
    assert_eq!(store.get(&get("k", ByteRange::Whole)).await.unwrap().bytes, BODY);
    assert_eq!(script.seen().len(), 4);
    let took = start.elapsed().as_millis();
    assert!((25 + 50 + 100..=50 + 100 + 200 + 10).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn ten_attempts_are_enough() {
    let script = Script::new(&[Step::Fail(Kind::Storage)]);
    let store = Retry::new(Arc::clone(&script), DEADLINE);
    let start = Instant::now();
    let e = store.get(&get("k\n", ByteRange::Whole)).await.unwrap_err();
    assert_eq!(e.to_string(), "k\\x0a: as scripted (after 10 attempts)");
    assert_eq!((e.kind(), script.seen().len()), (Kind::Storage, 10));
    assert!(start.elapsed() < Duration::from_secs(10));
    let e = store.list(&ListRequest::below("p")).await.unwrap_err();
    assert_eq!(e.to_string(), "script:p: as scripted (after 10 attempts)");
    assert_eq!(script.seen().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn what_will_not_pass_is_not_tried_again() {
    for kind in Kind::ALL.into_iter().filter(|k| !k.is_transient()) {
        let script = Script::new(&[Step::Fail(kind)]);
        let store = Retry::new(Arc::clone(&script), DEADLINE);
        let start = Instant::now();
        assert_eq!(store.get(&get("k", ByteRange::Whole)).await.unwrap_err().kind(), kind);
        assert_eq!(store.list(&ListRequest::default()).await.unwrap_err().kind(), kind);
        assert_eq!(store.check().await.unwrap_err().kind(), kind);
        assert_eq!((script.seen().len(), start.elapsed()), (2, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_ends_at_its_deadline() {
    let store = Retry::new(Script::new(&[Step::Fail(Kind::Storage), Step::Hang]), DEADLINE);
    for _ in 0..2 {
        let start = Instant::now();
        let e = store.get(&get("k", ByteRange::Whole)).await.unwrap_err();
        assert_eq!((e.kind(), start.elapsed().as_secs()), (Kind::Timeout, 30), "{e}");
        assert!(e.to_string().contains("within 30s"), "{e}");
    }
    let start = Instant::now();
    assert_eq!(store.list(&ListRequest::default()).await.unwrap_err().kind(), Kind::Timeout);
    assert_eq!(start.elapsed().as_secs(), 30);
    let start = Instant::now();
    assert_eq!(store.check().await.unwrap_err().kind(), Kind::Timeout);
    assert_eq!(start.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn the_last_failure_is_told_when_time_is_up() {
    let store = Retry::new(Script::new(&[Step::Fail(Kind::Storage), Step::Hang]), Duration::from_secs(3));
    let e = store.get(&get("k", ByteRange::Whole)).await.unwrap_err();
    assert_eq!(e.to_string(), "k: no success within 3s, 2 attempts: as scripted");
    // Time runs out in a pause, too.
    let store = Retry::new(Script::new(&[Step::Fail(Kind::Storage)]), Duration::from_millis(120));
    let start = Instant::now();
    let e = store.get(&get("k", ByteRange::Whole)).await.unwrap_err();
    assert_eq!(e.kind(), Kind::Timeout, "{e}");
    assert!(e.to_string().contains("as scripted") && start.elapsed().as_millis() <= 122, "{e}");
}

#[tokio::test(start_paused = true)]
async fn a_body_is_put_together_from_pieces_of_one_version() {
    let script = Script::new(&[Step::Break(5), Step::Fail(Kind::Timeout), Step::Break(7), Step::Whole]);
    let store = Retry::new(Arc::clone(&script), DEADLINE);
    let object = store.get(&get("k", ByteRange::Suffix(30))).await.unwrap();
    assert_eq!((&object.bytes[..], object.start, object.total), (&BODY[6..], 6, 36));
    let pin = Pin::Version { id: "v1".into(), etag: "e".into() };
    let rest = |start| GetRequest { key: "k".into(), pin: pin.clone(), range: ByteRange::Span(start..36) };
    assert_eq!(script.seen(), [get("k", ByteRange::Suffix(30)), rest(11), rest(11), rest(18)]);
}

#[tokio::test(start_paused = true)]
async fn attempts_that_bring_something_do_not_count() {
    let script = Script::new(&[Step::Break(1)]);
    let store = Retry::new(Arc::clone(&script), DEADLINE);
    assert_eq!(store.get(&get("k", ByteRange::Whole)).await.unwrap().bytes, BODY);
    assert_eq!(script.seen().len(), BODY.len());
}

#[tokio::test(start_paused = true)]
async fn many_readers_do_not_hammer_a_dead_endpoint() {
    let script = Script::new(&[Step::Fail(Kind::Storage)]);
    let store = Arc::new(Retry::new(Arc::clone(&script), Duration::from_secs(10)));
    let start = Instant::now();
    let readers: Vec<_> = (0..200)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.get(&get(&format!("k{n}"), ByteRange::Whole)).await.unwrap_err() })
        })
        .collect();
    for reader in readers {
        assert!(reader.await.unwrap().kind().is_transient());
    }
    assert!(start.elapsed() <= Duration::from_secs(11));
    // First attempts, the burst, and five a second; not the 2,000 that the readers would have made.
    let requests = script.seen().len();
    assert!((280..=200 + 50 + 5 * 10 + 1).contains(&requests), "{requests}");
}

/// A scan has eight ranges of one object under way: they do not fail eight times as often, and once one of them succeeds
/// none waits for another.
#[tokio::test(start_paused = true)]
async fn ranges_of_one_object_are_tried_again_one_at_a_time() {
    let ranges = |store: Arc<Retry<Arc<Script>>>| {
        let range = move |_| {
            let store = Arc::clone(&store);
            async move { store.get(&get("k", ByteRange::Whole)).await }
        };
        futures::future::join_all((0..8).map(range))
    };
    let script = Script::new(&[Step::Fail(Kind::Storage)]);
    let store = Arc::new(Retry::new(Arc::clone(&script), DEADLINE));
    // Until the first of them gives up; with it, a scan does.
    let first = futures::future::select_all((0..8).map(|_| {
        let store = Arc::clone(&store);
        Box::pin(async move { store.get(&get("k", ByteRange::Whole)).await })
    }));
    let (result, ..) = first.await;
    assert!(result.unwrap_err().to_string().contains("after 10 attempts"));
    assert_eq!(script.seen().len(), 8 + 9);
    // Another object does not wait for this one.
    // Its own pauses are at most 9.15 s.
    let other = tokio::time::timeout(Duration::from_millis(9_200), store.get(&get("other", ByteRange::Whole))).await;
    assert!(other.unwrap().unwrap_err().to_string().contains("after 10 attempts"));

    let steps = [[Step::Fail(Kind::Storage)].repeat(11), vec![Step::Whole]].concat();
    let script = Script::new(&steps);
    let start = Instant::now();
    let results = ranges(Arc::new(Retry::new(Arc::clone(&script), DEADLINE))).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(script.seen().len(), 11 + 8);
    // The pauses of the first, and one for the others together.
    assert!(start.elapsed() <= Duration::from_millis(50 + 100 + 200 + 400 + 100), "{:?}", start.elapsed());
}

/// A store that has only a `get`, as most stand-ins do, works with parts as well.
struct Plain(Arc<Script>);

#[async_trait]
impl Store for Plain {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn bucket(&self) -> &str {
        self.0.bucket()
    }
    async fn list(&self, req: &ListRequest) -> Result<Page> {
        self.0.list(req).await
    }
    async fn get(&self, req: &GetRequest) -> Result<Object> {
        self.0.get(req).await
    }
    async fn check(&self) -> Result<()> {
        self.0.check().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_without_resumption_starts_over() {
    let script = Script::new(&[Step::Break(5), Step::Whole]);
    let store = Retry::new(Plain(Arc::clone(&script)), DEADLINE);
    assert_eq!(store.get(&get("k", ByteRange::Whole)).await.unwrap().bytes, BODY);
    assert_eq!(script.seen(), [get("k", ByteRange::Whole), get("k", ByteRange::Whole)]);
}
