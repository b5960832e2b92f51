//! Memory stays within `--memory` and 100 MiB beside it, in all forms. The most that the program ever had counts (VmHWM).

use logarchivefs::envelope::SealAs;

use super::run::Place;
use crate::common::archive::{self, Log};
use crate::common::s3::{Reply, Server};
use crate::common::tiles::Tiles;
use crate::common::watch::eventually;

#[test]
fn large_logs_take_the_memory_that_they_are_given() {
    const TEXT: usize = 60_000_000;
    let server = Server::start();
    let (easy, hard) = (Tiles::new(false), Tiles::new(true));
    for n in 0..4 {
        let text = if n == 0 { &easy } else { &hard }.log(n, TEXT + n as usize);
        archive::put(&server, &Log::at(n as i64), SealAs::V2, &text.gzip());
    }
    // While this one does not come the program is there, and the large ones are done with.
    let last = Log::at(100);
    archive::put(&server, &last, SealAs::V2, &archive::gzip(b"x"));
    let key = last.key();
    server.set_hook(move |r| (r.is_get() && r.key == key).then_some(Reply::Hang));
    for (form, lines) in [(&[][..], 4), (&["--gzip"], 4), (&["--sealed"], 8)] {
        let place = Place::s3(&server);
        let running = place.start(&[form, &["--memory", "64MiB", "--request-deadline", "10m"]].concat());
        // Of a sealed copy there is a second line when it was looked into.
        eventually("the large ones are there", || (place.journal().len() == lines).then_some(()));
        let peak = running.peak_mib();
        eprintln!("{form:?}: {peak} MiB");
        assert!(peak <= 164, "{form:?}: {peak} MiB");
    }
}
