//! How far a long command is: a bar on stderr, if that is a terminal, once it has taken a second.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Who is done by then needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Clones are the same bar. The default one is never seen.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bar: ProgressBar,
    files: AtomicU64,
    total_files: AtomicU64,
    start: Instant,
    /// Standard error is a terminal.
    seen: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Progress::new(false)
    }
}

impl Progress {
    pub fn start() -> Progress {
        Progress::new(std::io::stderr().is_terminal())
    }

    fn new(seen: bool) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        // A template that is wrong would be the library's own default: not a reason to stop.
        let style = ProgressStyle::with_template(
            "{wide_bar} {binary_bytes}/{binary_total_bytes} {msg} {binary_bytes_per_sec} {eta} left",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let (files, total_files) = Default::default();
        Progress(Arc::new(Inner { bar, files, total_files, start: Instant::now(), seen }))
    }

    /// There is more to do than was known: files, and their bytes in the store.
    pub fn more(&self, files: u64, bytes: u64) {
        self.0.total_files.fetch_add(files, Ordering::Relaxed);
        self.0.bar.inc_length(bytes);
    }

    pub fn bytes(&self, n: u64) {
        let Inner { bar, start, seen, .. } = &*self.0;
        bar.inc(n);
        if *seen && bar.is_hidden() && start.elapsed() > PATIENCE {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    pub fn file(&self) {
        let done = self.0.files.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.bar.set_message(format!("{done}/{} files", self.0.total_files.load(Ordering::Relaxed)));
    }

    /// A line on stderr that the bar does not run into.
    pub fn say(&self, line: &str) {
        self.aside(|| eprintln!("{line}"));
    }

    /// Something that writes to the terminal, while the bar is out of the way.
    pub fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.bar.suspend(write)
    }

    pub fn end(&self) {
        self.0.bar.finish_and_clear();
    }
}
