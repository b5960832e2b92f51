//! What reading through the mount costs, against the limit of this machine and against what people do today.
//!
//! `cargo bench --bench archive -- [--mb N] [--rounds N] [--latency MS] [ROW...]`; `scripts/bench` runs it. One seeded
//! log (made once, kept in memory), an S3 server in this process, a fresh mount of the real binary for each cold run.
//! Every figure is a median, every comparison a ratio within this run.

#[path = "../tests/common/mod.rs"]
mod common;

#[path = "archive/big.rs"]
mod big;
#[path = "archive/commands.rs"]
mod commands;
#[path = "archive/data.rs"]
mod data;
#[path = "archive/direct.rs"]
mod direct;
#[path = "archive/download.rs"]
mod download;
#[path = "archive/engine.rs"]
mod engine;
#[path = "archive/limit.rs"]
mod limit;
#[path = "archive/measure.rs"]
mod measure;
#[path = "archive/mounted.rs"]
mod mounted;
#[path = "archive/peers.rs"]
mod peers;
#[path = "archive/process.rs"]
mod process;
#[path = "archive/rows.rs"]
mod rows;
#[path = "archive/scale.rs"]
mod scale;
#[path = "archive/verifying.rs"]
mod verifying;
#[path = "archive/warm.rs"]
mod warm;

use common::s3;
use rows::Setup;

fn main() {
    let mut mb = 500;
    let mut rounds = 5;
    let mut latency = 20;
    let mut wanted: Vec<String> = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse().ok()).expect("a number after the option");
        match arg.as_str() {
            "--mb" => mb = number(),
            "--rounds" => rounds = number(),
            "--latency" => latency = number(),
            "--bench" => {} // cargo's own
            _ => wanted.push(arg),
        }
    }
    measure::machine();
    let setup = Setup::new(mb as usize, rounds as usize, latency);
    println!("| row | median | compared with | ratio | bar | peak RSS |");
    println!("|---|---|---|---|---|---|");
    for (name, row) in rows::ALL {
        if wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str())) {
            row(&setup);
        }
    }
}
