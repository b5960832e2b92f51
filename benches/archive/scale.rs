//! Archives at full size: a million keys, listed by a server that makes them up as it is asked.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use logarchivefs::demo::gzip;
use logarchivefs::envelope::{SealAs, seal};
use logarchivefs::store::{ListRequest, S3Options, S3Store, StaticCredentials, list_all};

use crate::big::{Big, Folder};
use crate::data::text;
use crate::measure::{median, ratio, row, time};
use crate::mounted::Mounted;
use crate::rows::Setup;
use crate::s3;

/// 90 apps of 10,000 logs, one of 100,000, and a container with 1,000 logs of one day.
fn server(setup: &Setup) -> Big {
    let base = |stack: &str| format!("{stack}/shareable/v3/{}", setup.master.fingerprint());
    let app = |n: usize| Folder {
        prefix: format!("{}/apps-{}/service-1/", base("prod"), 1000 + n),
        containers: 50,
        logs: 200,
        minutes: 72,
    };
    let mut folders =
        vec![Folder { prefix: format!("{}/apps-1/service-1/", base("day")), containers: 1, logs: 1000, minutes: 1 }];
    folders.extend((0..90).map(app));
    folders.push(Folder {
        prefix: format!("{}/apps-1/service-1/", base("wide")),
        containers: 500,
        logs: 200,
        minutes: 72,
    });
    let packed = gzip(&text(2000, 1)).unwrap();
    let mut n = 0u8;
    let mut fill = |buf: &mut [u8]| buf.iter_mut().for_each(|b| (*b, n) = (n, n.wrapping_add(1)));
    let (metadata, body) = seal(SealAs::V2, &setup.master, &packed, &mut fill).unwrap();
    Big::start(folders, metadata, body.into())
}

fn mount(setup: &Setup, server: &Big, options: &[&str]) -> Mounted {
    Mounted::new(&server.endpoint(), &setup.key_file(), options)
}

/// Runs a command on the mount; what it prints goes nowhere.
fn run(program: &str, args: &[&str], path: PathBuf) -> Duration {
    let (took, status) = time(|| Command::new(program).args(args).arg(path).stdout(Stdio::null()).status().unwrap());
    assert!(status.success());
    took
}

pub fn root(setup: &Setup) {
    let server = server(setup);
    server.set_latency(Duration::from_millis(setup.latency));
    let mut requests = 0;
    let mut rss = None;
    let once = || {
        server.take_requests();
        let (took, mounted) = time(|| {
            let mounted = mount(setup, &server, &[]);
            run("ls", &[], mounted.path().into());
            mounted
        });
        requests = requests.max(server.take_requests());
        rss = mounted.peak_rss();
        took
    };
    let ours = median(std::iter::repeat_with(once).take(setup.rounds).collect());
    let name = format!(
        "mount and `ls` of the root, {} keys, {} ms a request ({requests} requests)",
        server.len(),
        setup.latency
    );
    row(&name, ours, "0.5 s", ratio(ours, Duration::from_millis(500)), "<= 1", rss);
}

pub fn resource(setup: &Setup) {
    let server = server(setup);
    server.set_latency(Duration::from_millis(setup.latency));
    let mut requests = 0;
    let mut rss = None;
    let once = || {
        let mounted = mount(setup, &server, &[]);
        run("ls", &[], mounted.path().join("wide"));
        server.take_requests();
        let took = run("ls", &[], mounted.path().join("wide/apps-1"));
        requests = requests.max(server.take_requests());
        rss = mounted.peak_rss();
        took
    };
    let ours = median(std::iter::repeat_with(once).take(setup.rounds).collect());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let one_by_one = || {
        let mut options = S3Options::new(s3::BUCKET);
        options.region = Some(s3::REGION.into());
        options.endpoint_url = Some(server.endpoint());
        options.credentials =
            Some(StaticCredentials { access_key_id: s3::ACCESS_KEY.into(), secret_access_key: s3::SECRET_KEY.into() });
        let request = ListRequest::below(format!("wide/shareable/v3/{}/apps-1/", setup.master.fingerprint()));
        time(|| {
            runtime.block_on(async {
                let store = S3Store::open(options).await.unwrap();
                assert_eq!(list_all(&store, &request).await.unwrap().objects.len(), 100_000);
            });
        })
        .0
    };
    let theirs = median(std::iter::repeat_with(one_by_one).take(setup.rounds).collect());
    let name = format!("`ls` of a resource of 100,000 objects, {} ms a request ({requests} requests)", setup.latency);
    row(&name, ours, "its pages one after another (theirs/ours)", ratio(theirs, ours), ">= 5, <= 130 requests", rss);
}

pub fn find(setup: &Setup) {
    let server = server(setup);
    let mounted = mount(setup, &server, &[]);
    let first = run("find", &[], mounted.path().into());
    let rss = mounted.peak_rss();
    let requests = server.take_requests();
    let again = median((0..setup.rounds).map(|_| run("find", &[], mounted.path().into())).collect());
    let more = server.take_requests();
    let listed = Command::new("find").arg(mounted.path()).output().unwrap().stdout;
    let entries = listed.iter().filter(|b| **b == b'\n').count();
    let bar = 200 * server.len() as u64 / 1024 + 100 * 1024;
    let name = format!("`find` over {entries} entries ({requests} requests; {} MiB at most)", bar / 1024);
    let rate = |took: Duration| entries as f64 / took.as_secs_f64() / 1000.0;
    row(&name, first, "thousand entries a second", rate(first), ">= 100", rss);
    let name = format!("the same again ({more} requests)");
    row(&name, again, "thousand entries a second", rate(again), ">= 200", mounted.peak_rss());
}

pub fn long(setup: &Setup) {
    let server = server(setup);
    let once = |again: bool| {
        let mounted = mount(setup, &server, &[]);
        let folder = mounted.folder("day");
        server.set_latency(Duration::from_millis(setup.latency));
        server.take_requests();
        if again {
            run("ls", &["-l"], folder.clone());
            server.take_requests();
        }
        let took = run("ls", &["-l"], folder);
        server.set_latency(Duration::ZERO);
        (took, server.take_requests(), mounted.peak_rss())
    };
    let one_by_one = Duration::from_millis(setup.latency) * 1000;
    for again in [false, true] {
        let runs: Vec<_> = (0..setup.rounds).map(|_| once(again)).collect();
        let ours = median(runs.iter().map(|run| run.0).collect());
        let requests = runs.iter().map(|run| run.1).max().unwrap_or_default();
        let rss = runs.iter().filter_map(|run| run.2).max();
        let what = if again { "the same again" } else { "`ls -l` of a container with 1,000 files" };
        let name = format!("{what}, {} ms a request ({requests} requests)", setup.latency);
        row(&name, ours, "one request after another (theirs/ours)", ratio(one_by_one, ours), ">= 20", rss);
    }
}
