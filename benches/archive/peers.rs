//! What people use today: the Ruby client and gzip, and other tools on the decrypted file.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use logarchivefs::demo::logs::Random;

use crate::measure::{cores, median, percentile, ratio, row, time};
use crate::rows::{Setup, cat_file, forget_pages, random_reads};
use crate::s3;

/// What people do today: a whole process that fetches and decrypts, and `gzip -dc` after it if wanted.
pub fn ruby(setup: &Setup, gunzip: bool) -> Option<Duration> {
    const SCRIPT: &str = r#"
require 'aws-sdk-s3'
s3 = Aws::S3::Client.new(endpoint: ENV['ENDPOINT'], region: ENV['REGION'], force_path_style: true,
  access_key_id: ENV['ID'], secret_access_key: ENV['SECRET'])
crypt = Aws::S3::EncryptionV2::Client.new(client: s3, encryption_key: [7].pack('C') * 32, key_wrap_schema: :aes_gcm,
  content_encryption_schema: :aes_gcm_no_padding, security_profile: :v2_and_legacy)
crypt.get_object(bucket: ENV['BUCKET'], key: ENV['KEY'], response_target: ENV['OUT'])
"#;
    let key = setup.key();
    let out = setup.folder.path().join("ruby.gz");
    let times: Vec<Duration> = (0..setup.rounds.min(3))
        .filter_map(|_| {
            let (took, ok) = time(|| {
                let mut ruby = Command::new("ruby")
                    .arg("-")
                    .stdin(Stdio::piped())
                    .env("ENDPOINT", setup.server.endpoint())
                    .env("REGION", s3::REGION)
                    .env("ID", s3::ACCESS_KEY)
                    .env("SECRET", s3::SECRET_KEY)
                    .env("BUCKET", s3::BUCKET)
                    .env("KEY", &key)
                    .env("OUT", &out)
                    .spawn()
                    .ok()?;
                ruby.stdin.take()?.write_all(SCRIPT.as_bytes()).ok()?;
                let fetched = ruby.wait().ok()?.success();
                let unpack = || Command::new("gzip").arg("-dc").arg(&out).stdout(Stdio::null()).status();
                (fetched && (!gunzip || unpack().ok()?.success())).then_some(())
            });
            ok.map(|()| took)
        })
        .collect();
    if times.is_empty() {
        eprintln!("no Ruby client here: install ruby-aws-sdk-s3 for that comparison");
        return None;
    }
    Some(median(times))
}

/// `scripts/bench` installs them from PyPI.
fn tool(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("PEERS")?).join(name);
    path.exists().then_some(path)
}

/// rapidgzip and ratarmount, which know neither S3 nor keys: they get the decrypted file for nothing.
pub fn gzip_tools(setup: &Setup) {
    let (Some(rapidgzip), Some(ratarmount)) = (tool("rapidgzip"), tool("ratarmount")) else {
        eprintln!("no rapidgzip and ratarmount here: scripts/bench installs them for this comparison");
        return;
    };
    let gz = setup.folder.path().join("log.json.gz");
    std::fs::write(&gz, &setup.packed).unwrap();
    let unpack = || {
        let mut command = Command::new(&rapidgzip);
        command.args(["-P", &cores().to_string(), "-dc"]).arg(&gz).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().unwrap().success());
    };
    let theirs = median((0..setup.rounds).map(|_| time(unpack).0).collect());
    let (ours, rss) = setup.cold(&[]);
    row(
        "cold `cat`, --verify full",
        ours,
        "rapidgzip -dc of the decrypted file (theirs/ours)",
        ratio(theirs, ours),
        "-",
        rss,
    );

    let folder = tempfile::tempdir().unwrap();
    let mounted = Command::new(&ratarmount).arg(&gz).arg(folder.path()).stdout(Stdio::null()).status().unwrap();
    assert!(mounted.success());
    let path = folder.path().join("log.json");
    cat_file(&path);
    let file = File::open(&path).unwrap();
    let mut random = Random::new(3);
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            forget_pages(&file);
            let offset = random.below(setup.text_len as u64 - 4096);
            time(|| file.read_exact_at(&mut [0; 4096], offset).unwrap()).0
        })
        .collect();
    drop(file);
    Command::new("fusermount3").arg("-u").arg(folder.path()).status().unwrap();
    let theirs = percentile(&mut times, 50);
    let (mut times, rss) = random_reads(setup, "256MiB");
    let ours = percentile(&mut times, 50);
    row(
        "random 4 KiB reads, p50",
        ours,
        "ratarmount on the decrypted file (theirs/ours)",
        ratio(theirs, ours),
        ">= 3",
        rss,
    );
}
