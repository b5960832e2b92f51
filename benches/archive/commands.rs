//! The commands, each as a whole process.

use std::time::Duration;

use crate::measure::{median, ratio, row, time};
use crate::process::program;
use crate::rows::Setup;
use crate::s3::{self, Server};

/// What the reference CLI (`aptible logs_from_archive`) takes to list as many keys from a server on the same machine.
const REFERENCE_FIND: Duration = Duration::from_millis(3500);

pub fn find(setup: &Setup) {
    const KEYS: usize = 10_000;
    for apps in [1, 20] {
        let server = Server::start();
        for n in 0..KEYS {
            let (app, container, day, hour) = (n % apps, n / apps / 100, n / apps % 100 / 24, n / apps % 24);
            let start = format!("2022-08-{:02}T{hour:02}:00:00", day + 1);
            let file = format!("{container:064x}-json.log.{start}.2022-08-{:02}T{hour:02}:59:59.archived.gz", day + 1);
            let key = format!("prod/shareable/v3/{}/apps-{app}/service-{app}/{file}", "ab".repeat(32));
            server.put(&key, &[], "x");
        }
        assert_eq!(server.keys().len(), KEYS);
        let run = || {
            let output = program(&server.endpoint(), &["find", s3::BUCKET]).output().unwrap();
            assert!(output.status.success());
            assert_eq!(output.stdout.iter().filter(|b| **b == b'\n').count(), KEYS);
        };
        let ours = median((0..setup.rounds).map(|_| time(run).0).collect());
        let name = format!("`find` over {KEYS} keys of {apps} apps, whole process");
        row(&name, ours, "the reference CLI's 3.5 s (theirs/ours)", ratio(REFERENCE_FIND, ours), ">= 10", None);
    }
}
