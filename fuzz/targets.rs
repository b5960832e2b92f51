//! What is fuzzed: one function each, from any bytes to an assertion. They are thin programs of cargo-fuzz in `fuzz_targets/`,
//! and run in `tests/fuzz.rs`.
//!
//! None may panic, hang, or take memory without bound; and each says what must hold of whatever comes out.
#![allow(dead_code, unused_imports)] // Each program uses one of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use logarchivefs::audit::check_bytes;
use logarchivefs::catalog::names::Day;
use logarchivefs::envelope::{ContentKey, Found, MasterKey};
use logarchivefs::error::escape;
use logarchivefs::gunzip::{Decoder, Index, Resumed};
use logarchivefs::key::{LogKey, is_safe_component};
use logarchivefs::store::{
    At, ByteRange, DirStore, GetRequest, ListRequest, Page, Pin, S3Options, S3Store, StaticCredentials, Store, list_all,
};

use crate::gunzip_support::{drive, same_as_zlib};

#[path = "cache.rs"]
mod cachefiles;
pub use cachefiles::{cache, cache_seeds};

pub type Target = fn(&[u8]);

/// All of them, by name.
pub const ALL: [(&str, Target); 8] = [
    ("key", key),
    ("envelope", envelope),
    ("gunzip", gunzip),
    ("inflate", inflate),
    ("copy", copy),
    ("listing", listing),
    ("cache", cache),
    ("audit", audit),
];

/// An object's key: what it parses to is written as a key that parses to the same, and can be shown as a path.
pub fn key(data: &[u8]) {
    let shown = escape(data);
    assert!(shown.chars().all(|c| !c.is_control()), "{shown:?}");
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(day) = Day::parse(text)
    {
        assert_eq!(day.to_string(), text);
    }
    let Ok(log) = LogKey::parse(data) else { return };
    let again = LogKey::parse(log.to_key().as_bytes()).expect("a key that was made from a key");
    assert_eq!(again, log);
    for part in [&log.stack, &log.container, &log.resource.to_string()] {
        assert!(is_safe_component(part), "{part:?}");
    }
}

/// The input of [`envelope`]: metadata as a JSON object, the instruction file, the object's body.
pub fn envelope_input(metadata: &BTreeMap<String, String>, instruction: &[u8], body: &[u8]) -> Vec<u8> {
    [&serde_json::to_vec(metadata).unwrap(), instruction, body].join(&b'\xff')
}

/// The master key of [`envelope`], which some of the seeds use.
pub const MASTER: [u8; 32] = [0x5a; 32];

/// The metadata, instruction file and body of an object: a key that comes out reads each range as it reads the whole, and
/// no byte of an object that it authenticates can be changed.
pub fn envelope(data: &[u8]) {
    let mut parts = data.splitn(3, |b| *b == 0xff);
    let [metadata, instruction, body] = [(); 3].map(|()| parts.next().unwrap_or_default());
    let Ok(metadata) = serde_json::from_slice::<BTreeMap<String, String>>(metadata) else { return };
    let envelope = match Found::from_metadata(&metadata) {
        Ok(Found::Complete(envelope)) => envelope,
        Ok(Found::NeedsInstruction(partial)) => {
            assert!(!partial.refused().to_string().is_empty());
            let Ok(envelope) = partial.complete(Some(instruction)) else { return };
            envelope
        }
        Err(_) => return,
    };
    let Ok(key) = envelope.open(&MasterKey::new(&MASTER).expect("32 bytes")) else { return };
    assert_eq!(key.authenticated(), envelope.is_authenticated());
    let proven = |body: &[u8]| {
        key.verifier(body.len() as u64).is_ok_and(|mut verifier| {
            body.chunks(13).for_each(|piece| verifier.update(piece));
            verifier.finish().is_ok()
        })
    };
    let Some(text) = decrypt(&key, body, usize::MAX) else { return };
    if let Some(pieces) = decrypt(&key, body, 7) {
        assert_eq!(pieces, text);
    }
    if key.authenticated() && proven(body) {
        for at in [0, body.len() / 2, body.len() - 1] {
            let mut changed = body.to_vec();
            changed[at] ^= 1;
            assert!(!proven(&changed), "byte {at} of {}", body.len());
        }
        assert!(!proven(&body[1..]));
    }
}

fn decrypt(key: &ContentKey, body: &[u8], step: usize) -> Option<Vec<u8>> {
    let len = body.len() as u64;
    let plain = key.plain_len(len, &body[body.len().saturating_sub(64)..]).ok()?;
    assert!(plain <= len);
    let mut text = Vec::new();
    let mut start = 0;
    while start < plain {
        let end = plain.min(start.saturating_add(step as u64));
        let cover = key.cover(start..end, len);
        let mut buf = body[cover.start as usize..cover.end as usize].to_vec();
        let at = key.decrypt(start..end, len, &mut buf).ok()?;
        text.extend_from_slice(&buf[at]);
        start = end;
    }
    assert_eq!(text.len() as u64, plain);
    Some(text)
}

/// A gzip stream: how it is cut does not matter, and from each seek point it goes on as it did the first time.
pub fn gunzip(data: &[u8]) {
    // A thousand times as much may come out.
    let data = &data[..data.len().min(1 << 16)];
    let mut decoder = Decoder::with_points();
    let (whole, end) = drive(&mut decoder, data, usize::MAX, 1 << 20);
    let mut index = Index::new();
    index.extend(decoder.take_points()).expect("points come in order");
    let (cut, cut_end) = drive(&mut Decoder::without_points(), data, 1 + data.len() / 7, 10_007);
    assert!(cut == whole);
    let kind = |end: &logarchivefs::error::Result<()>| end.as_ref().map_err(|e| e.kind()).copied();
    assert_eq!(kind(&end), kind(&cut_end));
    for point in index.iter() {
        let packed = point.packed().expect("memory");
        let mut resumed = Resumed::new(packed.as_ref().unwrap_or(point)).expect("a point of ours");
        let (rest, rest_end) = drive(&mut resumed, &data[point.input as usize..], usize::MAX, 1 << 20);
        // The checks of members are the first pass's: what it passed is the same text.
        assert!(whole[point.out as usize..].starts_with(&rest) || rest.starts_with(&whole[point.out as usize..]));
        assert!(end.is_err() || rest_end.is_ok() && rest.len() as u64 == whole.len() as u64 - point.out);
    }
}

/// Raw DEFLATE data: it means the same to us as to zlib-rs, however it is cut.
pub fn inflate(data: &[u8]) {
    let data = &data[..data.len().min(1 << 14)];
    same_as_zlib(data, usize::MAX, 1 << 18);
    same_as_zlib(data, 1 + data.len() / 7, 10_007);
}

/// A sealed copy whose only metadata file holds `data`: whatever it says, what is read is the body beside it.
pub fn copy(data: &[u8]) {
    const BODY: &[u8] = b"0123456789";
    thread_local!(static COPY: (tempfile::TempDir, DirStore) = {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("objects")).unwrap();
        fs::write(folder.path().join("objects/k"), BODY).unwrap();
        let store = DirStore::open(folder.path(), "").unwrap();
        (folder, store)
    });
    COPY.with(|(folder, store)| {
        fs::write(folder.path().join("objects/k.meta.json"), data).unwrap();
        wait(async {
            let listed = list_all(store, &ListRequest::default()).await.expect("a listing names damaged objects too");
            assert_eq!(listed.objects.iter().map(|o| &o.key[..]).collect::<Vec<_>>(), [b"k"]);
            for (range, want) in
                [(ByteRange::Whole, BODY), (ByteRange::Span(2..5), b"234"), (ByteRange::Suffix(3), b"789")]
            {
                let request = GetRequest { key: "k".into(), pin: Pin::None, range };
                if let Ok(object) = store.get(&request).await {
                    assert_eq!((&object.bytes[..], object.total), (want, 10));
                }
            }
        });
        no_more_than(folder.path(), 2);
    });
}

fn no_more_than(folder: &Path, files: usize) {
    assert_eq!(fs::read_dir(folder.join("objects")).unwrap().count(), files);
}

/// The answer to a listing: a page is as whole as it can be told from outside the parser.
pub fn listing(data: &[u8]) {
    static BODY: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    static STORE: OnceLock<Arc<S3Store>> = OnceLock::new();
    // One at a time: the answer is the server's.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock();
    *BODY.lock().unwrap() = data.to_vec();
    let store = STORE.get_or_init(|| Arc::new(wait(S3Store::open(options(serve(&BODY)))).unwrap()));
    let text = String::from_utf8_lossy(data);
    if text.contains("ListVersionsResult") {
        // One of versions, which is read by the same rules; as they were, nothing of it is later.
        let moment = (1_661_375_553, 0);
        let at = At::new(Arc::clone(store), moment, String::new());
        let Ok(Page { objects, prefixes, .. }) = wait(at.list(&ListRequest::default())) else { return };
        assert!(text.trim_end().ends_with("ListVersionsResult>") && text.contains("IsTruncated"));
        let sent = text.matches("Version").count() + text.matches("CommonPrefixes").count();
        assert!(objects.len() + prefixes.len() <= sent, "{} and {} of {sent}", objects.len(), prefixes.len());
        assert!(objects.iter().all(|object| object.last_modified <= moment));
        return;
    }
    let Ok(Page { objects, prefixes, .. }) = wait(store.list(&ListRequest::default())) else { return };
    assert!(text.trim_end().ends_with("ListBucketResult>"));
    assert!(text.contains("IsTruncated"));
    // Every entry is one that was sent; those of comments may be missing.
    let sent = text.matches("Contents").count() + text.matches("CommonPrefixes").count();
    assert!(objects.len() + prefixes.len() <= sent, "{} and {} of {sent}", objects.len(), prefixes.len());
}

/// An audit log: of one that is whole, no line can be changed or left out, and its beginning is another log.
pub fn audit(data: &[u8]) {
    let report = check_bytes(data);
    assert_eq!(report.whole, report.broken.is_none());
    assert!(report.opens + report.closes + report.refused + report.mounts <= report.lines);
    assert!(!report.ended || report.whole && report.unfinished == 0);
    let lines: Vec<&[u8]> = data.split_inclusive(|b| *b == b'\n').collect();
    let whole = data.len() - report.unfinished as usize;
    if !report.whole || report.lines < 3 {
        return;
    }
    for at in [0, whole / 3, whole / 2, whole - 2] {
        let mut changed = data.to_vec();
        changed[at] ^= 1;
        assert!(!check_bytes(&changed).whole, "byte {at} of {whole}");
    }
    let without = [&lines[..1], &lines[2..]].concat().concat();
    assert!(!check_bytes(&without).whole, "the second line is gone");
    let before = check_bytes(&data[..whole - 1]);
    assert!(before.whole && !before.ended && before.head != report.head);
}

fn options(endpoint: String) -> S3Options {
    S3Options {
        region: Some("us-east-1".into()),
        endpoint_url: Some(endpoint),
        credentials: Some(StaticCredentials { access_key_id: "a".into(), secret_access_key: "b".into() }),
        ..S3Options::new("fuzz")
    }
}

/// Answers every request on a port of its own with what is in `body` then.
fn serve(body: &'static Mutex<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut lines, mut stream) = (BufReader::new(stream.try_clone()?), stream);
                let mut line = String::new();
                while lines.by_ref().take(10_000).read_line(&mut line)? > 0 {
                    if line == "\r\n" {
                        let body = body.lock().unwrap().clone();
                        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                        stream.write_all(&[head.as_bytes(), &body].concat())?;
                    }
                    line.clear();
                }
                std::io::Result::Ok(())
            });
        }
    });
    endpoint
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    thread_local!(static RUNTIME: RefCell<tokio::runtime::Runtime> = RefCell::new(
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    ));
    RUNTIME.with(|runtime| runtime.borrow_mut().block_on(future))
}
