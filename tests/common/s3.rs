//! An S3 server in this process: s3s over objects in memory, on a port of its own and a runtime of its own.
//!
//! Signatures (SigV4) are checked. There is one bucket, [`BUCKET`], in region [`REGION`]; requests for other regions and
//! buckets are refused as S3 does. Every request is on record, may be delayed, and a hook may answer in its place.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use percent_encoding::percent_decode_str;
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::StreamingBlob;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3Result, s3_error};
use tokio::task::{JoinHandle, JoinSet};

use super::gate::Gate;

mod service;
mod state;

pub use state::Kept;
use state::State;

pub const BUCKET: &str = "archive";
pub const REGION: &str = "eu-central-1";
pub const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// When the first object is uploaded, 2022-09-01; each later one a second after. That is after all that the logs of tests tell.
pub const UPLOADS: u64 = 1_661_990_400;

/// A request as it came in.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub method: String,
    /// Percent-decoded; empty for requests about the bucket.
    pub key: String,
    pub query: String,
    pub range: Option<String>,
    pub if_match: Option<String>,
    /// `x-amz-date`, the time of the signature.
    pub signed: Option<String>,
    /// `x-amz-security-token`, of credentials that expire.
    pub token: Option<String>,
    /// `x-amz-expected-bucket-owner`.
    pub owner: Option<String>,
}

impl Seen {
    pub fn is_get(&self) -> bool {
        self.method == "GET" && !self.key.is_empty()
    }
    pub fn is_list(&self) -> bool {
        self.method == "GET" && self.key.is_empty() && self.query.contains("list-type=2")
    }
}

/// What a hook may do to a request.
pub enum Reply {
    /// Answer this.
    Canned { status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8> },
    /// The true answer, but the connection breaks after so many bytes of its body.
    Cut(usize),
    /// The true answer, but nothing comes after so many bytes of its body.
    Stall(usize),
    /// The true answer, but its body comes at about 1 kB/s.
    Drip,
    /// The true answer, changed.
    Edit(Edit),
    /// The first bytes of a body, then others again and again, for ever.
    Endless { status: u16, first: Vec<u8>, again: Vec<u8> },
    /// The connection is closed in place of an answer.
    Reset,
    /// No answer.
    Hang,
}

impl Reply {
    pub fn error(status: u16, code: &str) -> Reply {
        let xml = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>told to</Message></Error>");
        Reply::Canned { status, headers: vec![("x-amz-request-id", "REQUEST0".into())], body: xml.into() }
    }
}

pub type Edit = Arc<dyn Fn(&mut hyper::http::response::Parts, &mut Vec<u8>) + Send + Sync>;
pub type Hook = Arc<dyn Fn(&Seen) -> Option<Reply> + Send + Sync>;

/// The server; it ends when this is dropped.
pub struct Server {
    addr: SocketAddr,
    state: Arc<State>,
    runtime: Option<tokio::runtime::Runtime>,
    service: S3Service,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    pub fn start() -> Server {
        Server::start_at("127.0.0.1")
    }

    pub fn start_at(ip: &str) -> Server {
        let state = Arc::new(State::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind((ip, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let mut builder = S3ServiceBuilder::new(service::Memory(Arc::clone(&state)));
        builder.set_auth(OneKey);
        let service = builder.build();
        let server = Server { addr, state, runtime: Some(runtime), service, accepting: Mutex::default() };
        server.accept(listener);
        server
    }

    fn accept(&self, listener: std::net::TcpListener) {
        let (service, state) = (self.service.clone(), Arc::clone(&self.state));
        let accepting = self.runtime.as_ref().unwrap().spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            // Dropped with the task, and all of them with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (service, state) = (service.clone(), Arc::clone(&state));
                connections.spawn(async move {
                    let answer = service_fn(move |req| answer(req, service.clone(), Arc::clone(&state)));
                    // A client that hangs up is no concern of the server.
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        *self.accepting.lock().unwrap() = Some(accepting);
    }

    /// Breaks all connections and refuses new ones.
    pub fn stop(&self) {
        let accepting = self.accepting.lock().unwrap().take().unwrap();
        accepting.abort();
        self.runtime.as_ref().unwrap().block_on(accepting).unwrap_err();
    }

    /// At the same address, after [`Server::stop`].
    pub fn start_again(&self) {
        let listener = std::net::TcpListener::bind(self.addr).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.accept(listener);
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Returns the ETag (no quotes) and the version id.
    pub fn put(&self, key: &str, metadata: &[(&str, &str)], body: impl Into<Bytes>) -> (String, String) {
        self.put_class(key, metadata, body, "STANDARD")
    }

    pub fn put_class(
        &self,
        key: &str,
        metadata: &[(&str, &str)],
        body: impl Into<Bytes>,
        class: &str,
    ) -> (String, String) {
        let metadata = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let version = self.state.put(key, metadata, body.into(), class);
        (version.etag, version.id)
    }

    pub fn delete(&self, key: &str) {
        self.state.delete(key);
    }

    /// Deletes a version itself, which leaves no marker.
    pub fn delete_version(&self, key: &str, id: &str) {
        self.state.delete_version(key, id);
    }

    /// When the last upload or deletion was, as a time is written.
    pub fn time(&self) -> String {
        let secs = UPLOADS + *self.state.counter.lock().unwrap();
        logarchivefs::key::Time::from_unix(secs as i64, 0).unwrap().to_string()
    }

    pub fn keys(&self) -> Vec<String> {
        self.state.objects.lock().unwrap().keys().cloned().collect()
    }

    /// Requests since the start, or since [`Server::forget`].
    pub fn requests(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.state.seen.lock().unwrap().clear();
    }

    pub fn set_latency(&self, latency: Duration) {
        *self.state.latency.lock().unwrap() = latency;
    }

    /// Has every GET of an object pass it from now on.
    pub fn set_gate(&self, gate: &Arc<Gate>) {
        *self.state.gate.lock().unwrap() = Some(Arc::clone(gate));
    }

    /// Pages of listings are shorter from now on.
    pub fn set_page(&self, names: usize) {
        *self.state.page.lock().unwrap() = names;
    }

    /// From now on as a bucket without versioning.
    pub fn set_unversioned(&self) {
        self.set_versioning(Kept::Never);
    }

    pub fn set_versioning(&self, kept: Kept) {
        *self.state.kept.lock().unwrap() = kept;
    }

    pub fn set_policy(&self, policy: impl Into<String>) {
        *self.state.policy.lock().unwrap() = Some(policy.into());
    }

    pub fn set_hook(&self, hook: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) {
        *self.state.hook.lock().unwrap() = Some(Arc::new(hook));
    }

    pub fn clear_hook(&self) {
        *self.state.hook.lock().unwrap() = None;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct OneKey;

#[async_trait::async_trait]
impl S3Auth for OneKey {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match access_key {
            ACCESS_KEY => Ok(SecretKey::from(SECRET_KEY)),
            _ => {
                Err(s3_error!(InvalidAccessKeyId, "The AWS Access Key Id you provided does not exist in our records."))
            }
        }
    }
}

async fn answer(req: Request<Incoming>, s3: S3Service, state: Arc<State>) -> std::io::Result<Response<Body>> {
    let header = |name: &str| req.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let path = req.uri().path().trim_start_matches('/').split_once('/').unwrap_or_default().1;
    let seen = Seen {
        method: req.method().to_string(),
        key: percent_decode_str(path).decode_utf8_lossy().into_owned(),
        query: req.uri().query().unwrap_or_default().to_owned(),
        range: header("range"),
        if_match: header("if-match"),
        signed: header("x-amz-date"),
        token: header("x-amz-security-token"),
        owner: header("x-amz-expected-bucket-owner"),
    };
    let credential = header("authorization").and_then(|a| Some(a.split_once("Credential=")?.1.to_owned()));
    let region = credential.and_then(|c| c.split('/').nth(2).map(str::to_owned));
    state.seen.lock().unwrap().push(seen.clone());
    let latency = *state.latency.lock().unwrap();
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let gate = state.gate.lock().unwrap().clone().filter(|_| seen.is_get());
    let _passing = match gate {
        Some(gate) => Some(gate.pass().await),
        None => None,
    };
    let hook = state.hook.lock().unwrap().clone();
    let reply = match hook.and_then(|hook| hook(&seen)) {
        None if region.is_some_and(|r| r != REGION) => Some(wrong_region(seen.method == "HEAD")),
        reply => reply,
    };
    if let Some(Reply::Canned { status, headers, body }) = reply {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, value.into_bytes());
        }
        return Ok(response.body(Body::from(body)).unwrap());
    }
    if let Some(Reply::Endless { status, first, again }) = reply {
        let again = Bytes::from(again);
        let body = stream::once(async { Ok(Bytes::from(first)) }).chain(stream::repeat_with(move || Ok(again.clone())));
        let body: StreamingBlob = StreamingBlob::wrap::<_, std::io::Error>(body);
        return Ok(Response::builder().status(status).body(Body::from(body)).unwrap());
    }
    match reply {
        Some(Reply::Hang) => return std::future::pending().await,
        Some(Reply::Reset) => return Err(std::io::Error::other("told to close")),
        _ => {}
    }
    let response = s3.call(req.map(Body::from)).await.unwrap();
    let Some(reply) = reply else { return Ok(response) };
    let (mut head, mut body) = response.into_parts();
    let whole = body.store_all_limited(usize::MAX).await.unwrap();
    let first = |n: usize| stream::iter([Ok(whole.slice(..n.min(whole.len())))]);
    let body = match reply {
        Reply::Edit(edit) => {
            let mut bytes = whole.to_vec();
            edit(&mut head, &mut bytes);
            return Ok(Response::from_parts(head, Body::from(bytes)));
        }
        Reply::Drip => {
            let pieces: Vec<_> = whole.chunks(100).map(|c| whole.slice_ref(c)).collect();
            let slowly = stream::iter(pieces).then(|piece| async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok::<_, std::io::Error>(piece)
            });
            StreamingBlob::wrap(Box::pin(slowly))
        }
        Reply::Stall(n) => StreamingBlob::wrap(first(n).chain(stream::pending::<std::io::Result<Bytes>>())),
        Reply::Cut(n) => {
            // hyper sends what it has when the body pauses; without the pause it would drop it with the connection.
            let end = stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("told to break off"))
            });
            StreamingBlob::wrap(first(n).chain(end))
        }
        Reply::Canned { .. } | Reply::Endless { .. } | Reply::Hang | Reply::Reset => unreachable!("answered above"),
    };
    Ok(Response::from_parts(head, Body::from(body)))
}

/// The answer to HEAD has no body, so S3 names the region in a header there.
fn wrong_region(head: bool) -> Reply {
    let body = format!(
        "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region is \
         wrong</Message><Region>{REGION}</Region></Error>"
    );
    let headers = if head { vec![("x-amz-bucket-region", REGION.to_owned())] } else { vec![] };
    Reply::Canned { status: 400, headers, body: body.into() }
}
