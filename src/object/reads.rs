//! The reads of one file that the kernel waits for.

use std::ops::Range;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// So long a read behind the end waits for one that meets it to come.
const END_TOLD: Duration = Duration::from_millis(200);

pub struct Reads(watch::Sender<State>);

#[derive(Default)]
struct State {
    awaited: Vec<Range<u64>>,
    /// The kernel knows where the file ends, whatever hint it was told before.
    end_told: bool,
}

/// What is being read, until this is dropped.
pub struct Awaited {
    reads: watch::Sender<State>,
    this: Range<u64>,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.reads.send_modify(|state| {
            if let Some(at) = state.awaited.iter().position(|range| *range == self.this) {
                state.awaited.swap_remove(at);
            }
        });
    }
}

/// The answer that tells where the file ends, until this is dropped.
pub struct Told(watch::Sender<State>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.end_told = true);
    }
}

impl Reads {
    pub fn new() -> Reads {
        Reads(watch::Sender::default())
    }

    /// The file is opened, and the kernel knows its size or does not.
    pub fn begin(&self, end_told: bool) {
        self.0.send_modify(|state| state.end_told = end_told);
    }

    /// Says that `text` is going to be read, until what this returns is dropped: when the reader has it.
    pub fn awaits(&self, text: Range<u64>) -> Awaited {
        self.0.send_modify(|state| state.awaited.push(text.clone()));
        Awaited { reads: self.0.clone(), this: text }
    }

    /// Whether any of it is being read.
    pub fn is_awaited(&self, text: &Range<u64>) -> bool {
        self.0.borrow().awaited.iter().any(|range| range.start < text.end && text.start < range.end)
    }

    /// To be called with a read at `offset` that meets the end of a file whose size the kernel may believe to be larger
    /// than `size`; what it returns is dropped when the reader has its answer.
    ///
    /// The kernel learns the true size from the read that meets the end. It asks for several pieces at once, believes only
    /// the first of their answers, and shows zeros up to where that one ended. So answers from behind the end wait for the
    /// one that meets it.
    pub async fn at_end(&self, offset: u64, size: u64) -> Option<Told> {
        if offset <= size {
            return Some(Told(self.0.clone()));
        }
        let meets = |state: &State| state.awaited.iter().any(|range| range.start <= size && size < range.end);
        let mut reads = self.0.subscribe();
        // A reader that begins behind the end sends no read that meets it.
        timeout(END_TOLD, reads.wait_for(|state| state.end_told || meets(state))).await.ok();
        reads.wait_for(|state| !meets(state)).await.ok();
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::yield_now;

    use super::*;

    const SIZE: u64 = 1000;

    /// A read behind the end, which is over when its task is.
    async fn behind(reads: &Arc<Reads>) -> tokio::task::JoinHandle<()> {
        let reads = Arc::clone(reads);
        let task = tokio::spawn(async move { assert!(reads.at_end(8192, SIZE).await.is_none()) });
        yield_now().await;
        task
    }

    #[tokio::test(start_paused = true)]
    async fn answers_behind_the_end_wait_for_the_one_that_meets_it_however_long_that_takes() {
        let reads = Arc::new(Reads::new());
        let (meets, before) = (reads.awaits(0..4096), reads.awaits(0..SIZE));
        let behind = behind(&reads).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!behind.is_finished());
        let told = reads.at_end(0, SIZE).await.expect("it meets the end");
        drop(before);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!behind.is_finished());
        drop((meets, told));
        behind.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn they_wait_for_one_that_is_still_to_come_but_not_for_ever() {
        let reads = Arc::new(Reads::new());
        let late = behind(&reads).await;
        let meets = reads.awaits(0..4096);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!late.is_finished());
        drop(meets);
        late.await.unwrap();
        behind(&reads).await.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_read_is_awaited_until_it_is_there() {
        let reads = Reads::new();
        let one = [reads.awaits(10..20), reads.awaits(10..20)];
        let asked = || [0..10, 5..11, 19..30, 20..30].map(|text| reads.is_awaited(&text));
        assert_eq!(asked(), [false, true, true, false]);
        let [first, second] = one;
        drop(first);
        assert_eq!(asked(), [false, true, true, false]);
        drop(second);
        assert_eq!(asked(), [false; 4]);
    }
}
