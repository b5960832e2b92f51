//! The bar: on a terminal, for what takes a second; and nowhere else.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use indicatif::BinaryBytes;
use logarchivefs::envelope::SealAs;
use regex::Regex;

use crate::common::archive::{self, Log};
use crate::common::client::client;
use crate::common::s3::Server;
use crate::common::terminal::OnTerminal;
use crate::common::watch::eventually;

/// What holds an answer back until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn wait(&self) {
        let (open, opened) = &*self.0;
        tokio::task::block_in_place(|| drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap()));
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

/// Four logs: the second one is damaged, the content of the last one comes when the gate is open.
struct Archive {
    server: Server,
    gate: Gate,
    /// Bytes in the store.
    sizes: [u64; 4],
}

impl Archive {
    fn new() -> Archive {
        let (server, gate) = (Server::start(), Gate::default());
        let mut sizes = [0; 4];
        for (n, size) in sizes.iter_mut().enumerate() {
            let gzip = archive::gzip_level(&archive::noise(n as u64, 90_000 * (n + 1)), 1);
            archive::put_changed(&server, &Log::at(n as i64 * 100), SealAs::V2, &gzip, |body| {
                body[9] ^= u8::from(n == 1);
                *size = body.len() as u64;
            });
        }
        let (held, last) = (gate.clone(), Log::at(300).key());
        server.set_hook(move |r| {
            if r.is_get() && r.key == last {
                held.wait();
            }
            None
        });
        Archive { server, gate, sizes }
    }

    fn command(&self, command: &str, dir: &Path) -> Command {
        let mut all = client(&self.server, command);
        all.env("LOGARCHIVEFS_KEYS", archive::key_base64(0)).env("NO_COLOR", "1");
        if command == "download" {
            all.arg("--to").arg(dir);
        }
        all
    }

    /// What the bar says when all but the last log are done with, whatever came of them.
    fn all_but_one(&self) -> String {
        let total: u64 = self.sizes.iter().sum();
        format!("{}/{} 3/4 files ", BinaryBytes(total - self.sizes[3]), BinaryBytes(total))
    }
}

#[test]
fn a_terminal_is_shown_bytes_files_rate_and_time_left() {
    let colour = Regex::new(r"\x1b\[[0-9;]*m").unwrap();
    for command in ["download", "verify"] {
        let archive = Archive::new();
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let all = |dir: &Path| archive.command(command, dir);
        if command == "download" {
            // One of them is there already: it is not waited for.
            folders.iter().for_each(|dir| {
                let done = crate::common::watch::run(all(dir.path()).arg(Log::at(0).path()));
                assert_eq!(done.status.code(), Some(0), "{done:?}");
            });
        }
        // It has run for longer than the one on the terminal when that one shows its bar.
        let piped = all(folders[0].path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let seen = OnTerminal::start(&mut all(folders[1].path()));
        let bar =
            Regex::new(&(regex::escape(&archive.all_but_one()) + r"[0-9.]+ [KM]?i?B/s [0-9]+[smhd] left")).unwrap();
        eventually("the bar", || bar.is_match(&seen.text()).then_some(()));
        archive.gate.open();
        let (status, text) = seen.end();
        assert_eq!(status.code(), Some(5), "{text}");
        assert!(!colour.is_match(&text), "colours: {text:?}");
        let piped = piped.wait_with_output().unwrap();
        let said = String::from_utf8([piped.stdout, piped.stderr].concat()).unwrap();
        assert_eq!(piped.status.code(), Some(5), "{said}");
        assert!(!said.contains(['\r', '\x1b']) && !said.contains("/4 files"), "{said:?}");
        assert!(said.contains(&Log::at(100).path()) || said.contains(&Log::at(100).key()), "{said}");
    }
}
