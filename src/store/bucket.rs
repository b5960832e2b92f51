//! How many retries a store may see: one bucket of tokens for all calls together.
//!
//! It adapts: a few tokens come with time, the rest are earned by answers that succeed. So a store that mostly works gets
//! its odd retries at once, and one that says SlowDown to everybody, or is dead, soon sees no more than [`RATE`] a second.

use std::time::Duration;

use tokio::time::Instant;

/// Retries at once, after a time without failures.
const BURST: f64 = 50.0;
/// Tokens per second, and per success.
const RATE: f64 = 5.0;
const EARNED: f64 = 0.5;

#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn full() -> Bucket {
        Bucket { tokens: BURST, at: Instant::now() }
    }

    /// Takes a token, perhaps one that does not exist yet: says how long to wait for it. `None`, and none is taken, if that
    /// would be after `until`.
    pub(super) fn take(&mut self, until: Instant) -> Option<Duration> {
        let now = Instant::now();
        self.tokens = (self.tokens + (now - self.at).as_secs_f64() * RATE).min(BURST);
        self.at = now;
        let wait = Duration::from_secs_f64((1.0 - self.tokens).max(0.0) / RATE);
        if now + wait >= until {
            return None;
        }
        self.tokens -= 1.0;
        Some(wait)
    }

    /// A call has succeeded.
    pub(super) fn earn(&mut self) {
        self.tokens = (self.tokens + EARNED).min(BURST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn retries_beyond_the_burst_take_turns_and_successes_shorten_them() {
        let until = Instant::now() + Duration::from_secs(1);
        let mut bucket = Bucket { tokens: 2.0, at: Instant::now() };
        let take = |bucket: &mut Bucket| bucket.take(until).map(|wait| wait.as_millis());
        let waits: Vec<_> = (0..7).map(|_| take(&mut bucket)).collect();
        // Turns after the deadline are nobody's.
        assert_eq!(waits, [Some(0), Some(0), Some(200), Some(400), Some(600), Some(800), None]);
        assert_eq!(take(&mut bucket), None);
        for _ in 0..6 {
            bucket.earn();
        }
        assert_eq!(take(&mut bucket), Some(400));
        tokio::time::advance(Duration::from_secs(60)).await;
        let until = Instant::now() + Duration::from_secs(1);
        assert_eq!(bucket.take(until), Some(Duration::ZERO));
        assert_eq!(bucket.tokens, BURST - 1.0);
    }
}
