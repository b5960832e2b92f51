//! The way to S3: names, certificates, connections that die without a word.

use std::fs;
use std::time::{Duration, Instant};

use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::mounted::{Setup, errno};
use crate::common::proxy::{Certificate, Proxy};
use crate::common::s3::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Server};

/// What cannot be mounted says so by then.
const START: Duration = Duration::from_secs(30);

fn server(text: &[u8]) -> Server {
    let server = Server::start();
    for n in 0..2 {
        archive::put(&server, &Log::at(n), SealAs::V2, &archive::gzip_level(text, 1));
    }
    server
}

/// The bucket behind another address than the server's own.
fn by(endpoint: &str) -> Setup {
    Setup::new(BUCKET)
        .args(["--endpoint-url", endpoint, "--region", REGION])
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
}

/// No mount, in time, and one line that says why, in one of these ways.
fn refused(setup: Setup, why: &[&str]) {
    let start = Instant::now();
    let (code, stderr) = setup.args(["--request-deadline", "5s"]).refused();
    assert!(start.elapsed() < START, "{:?}: {stderr}", start.elapsed());
    assert_eq!((code, stderr.lines().count()), (6, 1), "{stderr}");
    assert!(stderr.contains("s3://archive/") && why.iter().any(|why| stderr.contains(why)), "{stderr}");
}

#[test]
fn a_name_that_does_not_resolve() {
    // The second where whoever is to be asked for names does not answer.
    refused(by("https://s3.invalid"), &["dns error", "no whole answer"]);
}

#[test]
fn only_who_has_a_trusted_certificate_is_asked() {
    let text = archive::text(1, 100);
    let server = server(&text);
    let proxy = Proxy::tls(&server, Certificate::Known);
    let endpoint = format!("https://localhost:{}", proxy.port());
    let trusting = |endpoint: &str| by(endpoint).env("SSL_CERT_FILE", Certificate::Known.pem());
    refused(by(&endpoint), &["TLS handshake failed: invalid peer certificate: UnknownIssuer"]);
    refused(trusting(&format!("https://127.0.0.1:{}", proxy.port())), &["certificate not valid for name"]);
    refused(by(&server.endpoint().replace("http:", "https:")), &["InvalidContentType"]);
    assert!(proxy.accepted() > 1);
    assert_eq!(server.requests().len(), 0, "nothing was sent to somebody who might be anybody");

    // It is for the certificate alone; and one that changes while the mount is there is not taken either.
    let mount = trusting(&endpoint).args(["--request-deadline", "5s"]).mount();
    let paths = [0, 1].map(|n| mount.path(Log::at(n).path()));
    assert_eq!(fs::read(&paths[0]).unwrap(), text);
    proxy.present(Certificate::Stranger);
    server.forget();
    assert_eq!(errno(fs::read(&paths[1])), libc::EIO);
    assert_eq!(server.requests().len(), 0);
    assert!(mount.log().contains("invalid peer certificate"), "{}", mount.log());
    proxy.present(Certificate::Known);
    assert_eq!(fs::read(&paths[1]).unwrap(), text);
}

/// As after the machine has slept, or has come to another network: the connections that there are answer no more, and
/// nobody says so. That is found out once, and not by each of them.
#[test]
fn connections_that_died_unnoticed_are_replaced() {
    let text = archive::noise(1, 20_000_000);
    let server = server(&text);
    let proxy = Proxy::plain(&server);
    // Slow enough that requests need several connections.
    server.set_latency(Duration::from_millis(50));
    let mount = by(&format!("http://127.0.0.1:{}", proxy.port())).args(["--request-deadline", "6s"]).mount();
    assert!(fs::read(mount.path(Log::at(0).path())).unwrap() == text);
    let before = proxy.accepted();
    assert!(before > 4, "more connections than there are attempts within the deadline: {before}");
    proxy.strand();
    assert!(fs::read(mount.path(Log::at(1).path())).unwrap() == text);
    assert!(proxy.accepted() > before);
}
