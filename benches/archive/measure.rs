//! Timing, medians, and what machine this is.

use std::time::{Duration, Instant};

pub fn machine() {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or("unknown CPU");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("Machine: {} x {}, Linux {}", cores(), model.trim_start_matches(['\t', ':', ' ']), kernel.trim());
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub fn time<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

pub fn percentile(times: &mut [Duration], p: usize) -> Duration {
    times.sort();
    times[(times.len() * p / 100).min(times.len() - 1)]
}

/// One row of the table.
pub fn row(name: &str, ours: Duration, with: &str, ratio: f64, bar: &str, rss: Option<u64>) {
    let rss = rss.map_or("-".into(), |kib| format!("{} MiB", kib / 1024));
    println!("| {name} | {:.1} ms | {with} | {ratio:.2} | {bar} | {rss} |", ours.as_secs_f64() * 1000.0);
}

pub fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}
