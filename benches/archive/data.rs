//! The text that is measured: seeded and realistic.

use logarchivefs::demo::logs::{self, Program, Random};

/// `len` bytes of Docker JSON: access logs, JSON application logs with UUIDs, stack traces, proxy and database logs.
pub fn text(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut out = Vec::with_capacity(len + (1 << 20));
    let mut at = 1_661_299_200;
    // 500 MB are written before the server says that they were uploaded.
    const STEP: i64 = 30;
    while out.len() < len {
        for program in [Program::Web, Program::Worker, Program::Database, Program::Proxy] {
            logs::write(program, &mut random, at, at + STEP, 60, &mut out);
        }
        at += STEP;
    }
    out.truncate(len);
    out
}
