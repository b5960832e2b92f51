//! Little memory and many readers: everything is read whole, and nobody waits for ever.

use std::time::Duration;

use logarchivefs::envelope::SealAs;

use crate::common::archive::{self, Log};
use crate::common::mounted::Setup;
use crate::common::s3::Server;

/// Readers that ask for the size first are followed into the page cache, others are not; some start in the middle. Text,
/// ciphertext or both do not fit, the verifier is slower than the decoder, and all of it happens at once.
#[test]
fn readers_of_every_kind_share_little_memory() {
    let server = Server::start();
    // Hardly compressible: more runs than fit. Very compressible: much text from few runs.
    let texts = [archive::noise(1, 30_000_000), archive::text(2, 300_000)];
    let mut want = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        archive::put(&server, &Log::at(n as i64), SealAs::V2, &archive::gzip_level(text, 1));
        want.push(archive::sha256(text));
        want.push(archive::sha256(&text[20 << 20..]));
    }
    server.set_latency(Duration::from_millis(3));
    for (memory, verify) in [("32MiB", "full"), ("32MiB", "stream"), ("64MiB", "full"), ("64MiB", "stream")] {
        let mount = Setup::s3(&server).args(["--memory", memory, "--verify", verify]).mount();
        let files = [0, 1].map(|n| mount.path(Log::at(n).path()).display().to_string());
        // A reader that hangs is killed, and its sum is missing.
        let sums = mount.out(&format!(
            "for f in '{}' '{}'; do
                 for tool in cat tail\\ -c+1 cat 'dd bs=4M status=none if=/dev/stdin'; do
                     timeout 100 $tool < $f | sha256sum &
                 done
                 timeout 100 cat $f | sha256sum &
                 timeout 100 dd if=$f bs=1M skip=20 status=none | sha256sum &
             done; wait",
            files[0], files[1]
        ));
        let mut sums: Vec<&str> = sums.lines().filter_map(|l| l.split(' ').next()).collect();
        sums.sort_unstable();
        let mut all: Vec<&str> = [0, 2].iter().flat_map(|&n| [&want[n]; 5]).map(String::as_str).collect();
        all.extend([want[1].as_str(), want[3].as_str()]);
        all.sort_unstable();
        assert_eq!(sums, all, "--memory {memory} --verify {verify}");
    }
}
