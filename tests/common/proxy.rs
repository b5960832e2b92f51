//! Between the program and the server: connections that die without a word, and TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::s3::Server;
use super::watch::eventually;

/// A certificate of `tests/common/tls`: for `localhost`, signed by nobody but itself, good until 2120.
#[derive(Clone, Copy, Debug)]
pub enum Certificate {
    /// The one that a test may have trusted.
    Known,
    Stranger,
}

impl Certificate {
    fn file(self, end: &str) -> PathBuf {
        let name = match self {
            Certificate::Known => "known",
            Certificate::Stranger => "stranger",
        };
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/tls").join(name).with_extension(end)
    }

    /// For `SSL_CERT_FILE`, in place of all that the machine trusts.
    pub fn pem(self) -> PathBuf {
        self.file("pem")
    }

    fn acceptor(self) -> TlsAcceptor {
        let certificate = CertificateDer::from_pem_file(self.file("pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.file("key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate], key).unwrap()))
    }
}

/// Passes connections on to the server; it ends, and they with it, when this is dropped.
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

struct Shared {
    to: SocketAddr,
    acceptor: Mutex<Option<TlsAcceptor>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
    /// Connections from before a change pass nothing any more.
    stranded: watch::Sender<()>,
    /// Connections from before a change are closed.
    closed: watch::Sender<()>,
}

impl Proxy {
    pub fn plain(server: &Server) -> Proxy {
        Proxy::start(server, None)
    }

    pub fn tls(server: &Server, certificate: Certificate) -> Proxy {
        Proxy::start(server, Some(certificate.acceptor()))
    }

    fn start(server: &Server, acceptor: Option<TlsAcceptor>) -> Proxy {
        let shared = Arc::new(Shared {
            to: server.endpoint().strip_prefix("http://").unwrap().parse().unwrap(),
            acceptor: Mutex::new(acceptor),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            stranded: watch::Sender::new(()),
            closed: watch::Sender::new(()),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        let for_all = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                for_all.accepted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(connection(Arc::clone(&for_all), stream));
            }
        });
        Proxy { addr, shared, runtime: Some(runtime) }
    }

    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Nothing passes through the connections that there are any more, and nobody is told; new ones are well.
    pub fn strand(&self) {
        self.shared.stranded.send_replace(());
    }

    /// Another certificate for new connections; the others are closed.
    pub fn present(&self, certificate: Certificate) {
        *self.shared.acceptor.lock().unwrap() = Some(certificate.acceptor());
        self.shared.closed.send_replace(());
        eventually("they are closed", || (self.shared.open.load(Ordering::SeqCst) == 0).then_some(()));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream) {
    let mut closed = shared.closed.subscribe();
    let acceptor = shared.acceptor.lock().unwrap().clone();
    let served = async {
        match acceptor {
            None => pass(&shared, stream).await,
            // Who does not like the certificate hangs up, and nothing is passed on.
            Some(acceptor) => {
                if let Ok(stream) = acceptor.accept(stream).await {
                    pass(&shared, stream).await;
                }
            }
        }
    };
    shared.open.fetch_add(1, Ordering::SeqCst);
    tokio::select! {
        biased;
        _ = closed.changed() => {}
        () = served => {}
    }
    shared.open.fetch_sub(1, Ordering::SeqCst);
}

async fn pass(shared: &Shared, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut stranded = shared.stranded.subscribe();
    let mut server = TcpStream::connect(shared.to).await.unwrap();
    let finished = tokio::select! {
        // A connection that breaks is one that has ended.
        _ = copy_bidirectional(&mut stream, &mut server) => true,
        _ = stranded.changed() => false,
    };
    if !finished {
        // Held open.
        std::future::pending::<()>().await;
    }
}
