//! What the commands cost that read whole objects, on all cores.

use std::process::Stdio;

use logarchivefs::envelope::{SealAs, seal};
use logarchivefs::key::{LogKey, Resource, Span};
use logarchivefs::store::{NewObject, write_object};

use crate::limit;
use crate::measure::{cores, median, ratio, row, time};
use crate::process::{program, watched};
use crate::rows::Setup;
use crate::s3;

/// Two logs a core, each under a data key of its own, from a bucket and from a sealed copy in memory.
pub fn verify(setup: &Setup) {
    let logs = 2 * cores();
    let copy = tempfile::Builder::new().prefix("lafs-bench").tempdir_in("/dev/shm").unwrap();
    for n in 0..logs {
        let mut byte = n as u8;
        let mut random =
            |buf: &mut [u8]| buf.iter_mut().for_each(|b| (*b, byte) = (byte, byte.wrapping_mul(5).wrapping_add(3)));
        let (metadata, body) = seal(SealAs::V2, &setup.master, &setup.packed, &mut random).unwrap();
        let key = LogKey {
            stack: "verify".into(),
            key_sum: setup.master.fingerprint(),
            resource: Resource::new("databases", 1),
            service: None,
            container: format!("{n:064x}"),
            rotation: None,
            span: Span::Range { start: None, end: None },
        };
        let key = key.to_key();
        let pairs: Vec<(&str, &str)> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let object = NewObject { key: &key, metadata: &metadata, etag: None, version_id: None, last_modified: (0, 0) };
        write_object(copy.path(), &object, &mut body.as_slice()).unwrap();
        setup.server.put(&key, &pairs, body);
    }
    let copy = format!("file://{}", copy.path().display());
    for (name, bucket) in [("a bucket served on the same cores", s3::BUCKET), ("a sealed copy in memory", &copy)] {
        let (mut ours, mut limits, mut rss) = (Vec::new(), Vec::new(), None);
        for _ in 0..setup.rounds.min(3) {
            let (took, peak) = time(|| run(setup, bucket));
            ours.push(took);
            rss = rss.max(peak);
            limits.push(limit::on_all_cores(setup, logs));
        }
        let (ours, limit) = (median(ours), median(limits));
        let name = format!("`verify` of {logs} logs in {name}");
        row(&name, ours, "in-process limit on all cores (limit/ours)", ratio(limit, ours), ">= 0.85", rss);
    }
}

/// The peak of its resident memory, KiB.
fn run(setup: &Setup, bucket: &str) -> Option<u64> {
    let mut command = program(&setup.server.endpoint(), &["verify", bucket, "--stack", "verify"]);
    watched(command.arg("--key-file").arg(setup.key_file()).stdout(Stdio::null()))
}
