//! How far a long command is: a bar on stderr, if that is a terminal, once it has taken a second.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Who is done by then needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the bar is drawn anew where nothing arrives: the time left goes on.
const TICK: Duration = Duration::from_millis(250);

/// Clones are the same bar. The default one is never seen.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bar: ProgressBar,
    files: AtomicU64,
    total_files: AtomicU64,
}

impl Default for Progress {
    fn default() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden());
        // A template that is wrong would be the library's own default: not a reason to stop.
        let style = ProgressStyle::with_template(
            "{wide_bar} {binary_bytes}/{binary_total_bytes} {msg} {binary_bytes_per_sec} {eta} left",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let (files, total_files) = Default::default();
        Progress(Arc::new(Inner { bar, files, total_files }))
    }
}

impl Progress {
    /// To be called on a runtime. The bar is shown in time even if nothing ever arrives.
    pub fn start() -> Progress {
        let progress = Progress::default();
        if std::io::stderr().is_terminal() {
            let bar = progress.0.bar.downgrade();
            tokio::spawn(async move {
                tokio::time::sleep(PATIENCE).await;
                if let Some(bar) = bar.upgrade().filter(|bar| !bar.is_finished()) {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                    bar.enable_steady_tick(TICK);
                }
            });
        }
        progress
    }

    /// There is more to do than was known: files, and their bytes in the store.
    pub fn more(&self, files: u64, bytes: u64) {
        self.0.total_files.fetch_add(files, Ordering::Relaxed);
        self.0.bar.inc_length(bytes);
        self.count();
    }

    pub fn bytes(&self, n: u64) {
        self.0.bar.inc(n);
    }

    pub fn file(&self) {
        self.0.files.fetch_add(1, Ordering::Relaxed);
        self.count();
    }

    /// The part of the bar that is one file's, of so many bytes.
    pub fn of_file(&self, bytes: u64) -> Meter {
        Meter { progress: self.clone(), left: AtomicU64::new(bytes) }
    }

    fn count(&self) {
        let Inner { bar, files, total_files } = &*self.0;
        bar.set_message(format!("{}/{} files", files.load(Ordering::Relaxed), total_files.load(Ordering::Relaxed)));
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

/// When it is dropped its file is done, whatever came of it: bytes that were there already, or that a failure left unread,
/// are not waited for.
#[derive(Debug)]
pub struct Meter {
    progress: Progress,
    left: AtomicU64,
}

impl Meter {
    /// Of the file's bytes, so many were read; what is read again does not count.
    pub fn bytes(&self, n: u64) {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(n)));
        self.progress.bytes(left.map_or(0, |left| left.min(n)));
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.progress.bytes(*self.left.get_mut());
        self.progress.file();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_reaches_its_end_whatever_comes_of_the_files() {
        let progress = Progress::default();
        let bar = progress.0.bar.clone();
        progress.more(3, 600);
        assert_eq!((bar.position(), bar.length(), bar.message().as_str()), (0, Some(600), "0/3 files"));
        let (read, twice, failed) = (progress.of_file(100), progress.of_file(200), progress.of_file(300));
        read.bytes(60);
        twice.bytes(150);
        twice.bytes(150);
        failed.bytes(1);
        assert_eq!(bar.position(), 60 + 200 + 1);
        drop((read, twice));
        assert_eq!((bar.position(), bar.message().as_str()), (301, "2/3 files"));
        progress.more(1, 0);
        assert_eq!(bar.message(), "2/4 files");
        drop(failed);
        assert_eq!((bar.position(), bar.message().as_str()), (600, "3/4 files"));
    }
}
