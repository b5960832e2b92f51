//! A bucket of any size: an S3 server that makes keys up as it is asked for them, in their order. It speaks enough of S3 to
//! be listed and read, takes any credentials, counts requests, and every object is the same log.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use logarchivefs::key::Time;
use percent_encoding::percent_decode_str;
use s3s::Body;

const PAGE: usize = 1000;

/// Logs of evenly spread containers, one behind the other.
pub struct Folder {
    pub prefix: String,
    pub containers: usize,
    /// Of each container.
    pub logs: usize,
    /// That each log takes.
    pub minutes: i64,
}

struct State {
    /// In the order of their prefixes, with the number of the first key.
    folders: Vec<(usize, Folder)>,
    len: usize,
    metadata: BTreeMap<String, String>,
    body: Bytes,
    requests: AtomicUsize,
    latency: AtomicU64,
}

pub struct Big {
    addr: SocketAddr,
    state: Arc<State>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Big {
    pub fn start(mut folders: Vec<Folder>, metadata: BTreeMap<String, String>, body: Bytes) -> Big {
        folders.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        let mut len = 0;
        let numbered = folders.into_iter().map(|folder| {
            let first = len;
            len += folder.containers * folder.logs;
            (first, folder)
        });
        let folders = numbered.collect();
        let (requests, latency) = Default::default();
        let state = Arc::new(State { folders, len, metadata, body, requests, latency });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let accepting = Arc::clone(&state);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&accepting);
                tokio::spawn(async move {
                    let answer = service_fn(move |req| answer(req, Arc::clone(&state)));
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Big { addr, state, runtime: Some(runtime) }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.state.len
    }

    /// How many requests came since the last time.
    pub fn take_requests(&self) -> usize {
        self.state.requests.swap(0, Relaxed)
    }

    pub fn set_latency(&self, latency: Duration) {
        self.state.latency.store(latency.as_micros() as u64, Relaxed);
    }
}

impl Drop for Big {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn answer(req: Request<Incoming>, state: Arc<State>) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
    Box::pin(async move {
        state.requests.fetch_add(1, Relaxed);
        let latency = state.latency.load(Relaxed);
        if latency > 0 {
            tokio::time::sleep(Duration::from_micros(latency)).await;
        }
        let query = req.uri().query().unwrap_or_default();
        let response = if query.contains("list-type=2") {
            let decoded = |v: &str| percent_decode_str(v).decode_utf8_lossy().into_owned();
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let query: BTreeMap<&str, String> = pairs.map(|(name, value)| (name, decoded(value))).collect();
            Response::builder().header("content-type", "application/xml").body(Body::from(state.list(&query)))
        } else {
            let mut response = Response::builder().header("last-modified", "Wed, 24 Aug 2022 00:00:00 GMT");
            for (name, value) in &state.metadata {
                response = response.header(format!("x-amz-meta-{name}"), value);
            }
            // Whatever version of an object is asked for is there.
            let etag = req.headers().get("if-match").cloned();
            response.header("etag", etag.unwrap()).body(Body::from(state.body.clone()))
        };
        Ok(response.unwrap())
    })
}

impl State {
    fn key(&self, n: usize) -> String {
        let (first, folder) = &self.folders[self.folders.partition_point(|(first, _)| *first <= n) - 1];
        let (container, log) = ((n - first) / folder.logs, ((n - first) % folder.logs) as i64);
        let step = (1u64 << 32) / folder.containers as u64;
        let random = (container as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let start = 1_661_299_200 + log * folder.minutes * 60;
        let mut key = String::with_capacity(288);
        let begin = container as u64 * step + random % step;
        write!(key, "{}{begin:08x}{random:016x}{random:016x}{random:016x}{begin:08x}-json.log.", folder.prefix)
            .unwrap();
        Time::from_unix(start, 0).unwrap().write_in_key(&mut key);
        key.push('.');
        Time::from_unix(start + folder.minutes * 60, 0).unwrap().write_in_key(&mut key);
        key.push_str(".archived.gz");
        key
    }

    /// The first key that is not before `text`, or is behind it.
    fn seek(&self, text: &str, behind: bool) -> usize {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low.midpoint(high);
            let key = self.key(middle);
            if key.as_str() < text || behind && key == text { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn list(&self, query: &BTreeMap<&str, String>) -> String {
        let of = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let prefix = of("prefix");
        let most = of("max-keys").parse().unwrap_or(PAGE).min(PAGE);
        let mut xml = String::with_capacity(512 << 10);
        xml.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        let (mut count, mut more) = (0, None);
        if of("delimiter").is_empty() {
            let from = match (of("continuation-token"), of("start-after")) {
                ("", "") => self.seek(prefix, false),
                ("", after) => self.seek(after, true).max(self.seek(prefix, false)),
                (token, _) => token.parse().unwrap(),
            };
            let mut n = from;
            while n < self.len {
                let key = self.key(n);
                if !key.starts_with(prefix) {
                    break;
                }
                if count == most {
                    more = Some(n);
                    break;
                }
                let key = key.replace(':', "%3A");
                write!(xml, "<Contents><Key>{key}</Key><LastModified>2022-08-24T00:00:00.000Z</LastModified><ETag>&quot;{n:032x}&quot;</ETag><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>", self.body.len()).unwrap();
                (count, n) = (count + 1, n + 1);
            }
        } else {
            // All above the folders: fewer than a page.
            let mut last = "";
            for (_, folder) in &self.folders {
                let Some(tail) = folder.prefix.strip_prefix(prefix) else { continue };
                let common = &folder.prefix[..prefix.len() + tail.find('/').map_or(tail.len(), |at| at + 1)];
                if common != last && !tail.is_empty() {
                    write!(xml, "<CommonPrefixes><Prefix>{common}</Prefix></CommonPrefixes>").unwrap();
                    (count, last) = (count + 1, common);
                }
            }
        }
        let next = more.map(|n| format!("<NextContinuationToken>{n}</NextContinuationToken>")).unwrap_or_default();
        write!(xml, "<EncodingType>url</EncodingType><KeyCount>{count}</KeyCount><IsTruncated>{}</IsTruncated>{next}</ListBucketResult>", more.is_some()).unwrap();
        xml
    }
}
