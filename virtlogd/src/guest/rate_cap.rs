//! Cap of a guest's output, which a rule sets: what is over it is dropped, by the operator's choice.
//!
//! It is a token bucket. When that is empty everything is dropped until it has been filled for some
//! seconds, so that the log has one line about that and not one for each piece.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::guest::reason::{Cause, Reason};

/// Bytes in the bucket with which output is still taken: fewer are not worth a piece of it.
pub(crate) const TOKENS_BYTES_MIN: u64 = 4096;

/// Time for which the bucket is filled, if it has room for so much, before output is taken again.
const REFILL_PERIOD: Duration = Duration::from_secs(5);

/// A rate that a guest's output may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateLimit {
    /// At least [`TOKENS_BYTES_MIN`].
    pub(crate) bytes_per_s: u64,
    /// Bytes that may come at once; at least those of one second.
    pub(crate) burst_bytes: u64,
}

/// The cap of one guest.
#[derive(Debug)]
pub(crate) struct RateCap {
    limit: RateLimit,
    /// It is in force only while the log's file system has too little free space.
    is_low: Option<Arc<AtomicBool>>,
    bucket: Mutex<TokenBucket>,
}

#[derive(Debug)]
struct TokenBucket {
    bytes: u64,
    filled_at: Instant,
    /// It was empty, and is not filled enough yet.
    is_empty: bool,
}

impl RateCap {
    /// Makes one with a full bucket.
    pub(crate) fn new(limit: RateLimit, now: Instant) -> Self {
        let bucket = TokenBucket { bytes: limit.burst_bytes, filled_at: now, is_empty: false };
        Self { limit, is_low: None, bucket: Mutex::new(bucket) }
    }

    /// Makes it one that is in force only while `is_low`.
    pub(crate) fn while_low(self, is_low: Arc<AtomicBool>) -> Self {
        Self { is_low: Some(is_low), ..self }
    }

    /// Returns the number of bytes that may be taken now; `None`: what comes is dropped.
    pub(crate) fn available_bytes(&self, now: Instant) -> Option<u64> {
        let mut bucket = self.bucket();
        if !self.is_in_force() {
            (bucket.bytes, bucket.filled_at) = (self.limit.burst_bytes, now);
            bucket.is_empty = false;
            return Some(u64::MAX);
        }
        bucket.fill(self.limit, now);
        let needed = if bucket.is_empty { self.refill_bytes() } else { TOKENS_BYTES_MIN };
        bucket.is_empty = bucket.bytes < needed;
        (!bucket.is_empty).then_some(bucket.bytes)
    }

    /// Takes bytes out of the bucket.
    pub(crate) fn spend(&self, bytes: u64) {
        let mut bucket = self.bucket();
        bucket.bytes = bucket.bytes.saturating_sub(bytes);
    }

    /// Returns the time until output is taken again; `None` while it is taken.
    pub(crate) fn dropping_for(&self, now: Instant) -> Option<Duration> {
        let mut bucket = self.bucket();
        bucket.fill(self.limit, now);
        let missing = self.refill_bytes().saturating_sub(bucket.bytes);
        self.is_over(&bucket).then(|| {
            Duration::from_millis(1 + missing.saturating_mul(1000) / self.limit.bytes_per_s.max(1))
        })
    }

    /// Returns whether output is dropped.
    pub(crate) fn is_dropping(&self) -> bool {
        self.is_over(&self.bucket())
    }

    /// Returns the reason of a loss.
    pub(crate) fn reason(&self) -> Reason {
        let rate = self.limit.bytes_per_s;
        let text = match self.is_low {
            None => format!("more than the {rate} bytes a second of its rule"),
            Some(_) => format!("more than {rate} bytes a second on a file system that is low"),
        };
        Reason::new(Cause::RateCap, text)
    }

    fn is_in_force(&self) -> bool {
        self.is_low.as_ref().is_none_or(|is_low| is_low.load(Ordering::Relaxed))
    }

    fn is_over(&self, bucket: &TokenBucket) -> bool {
        bucket.is_empty && self.is_in_force()
    }

    /// Returns the number of bytes with which output is taken again.
    fn refill_bytes(&self) -> u64 {
        let RateLimit { bytes_per_s, burst_bytes } = self.limit;
        burst_bytes.min(bytes_per_s.saturating_mul(REFILL_PERIOD.as_secs()))
    }

    fn bucket(&self) -> MutexGuard<'_, TokenBucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenBucket {
    fn fill(&mut self, limit: RateLimit, now: Instant) {
        let elapsed_us = now.saturating_duration_since(self.filled_at).as_micros();
        let filled = elapsed_us.saturating_mul(limit.bytes_per_s.into()) / 1_000_000;
        let filled_us = filled.saturating_mul(1_000_000) / u128::from(limit.bytes_per_s.max(1));
        let filled = u64::try_from(filled).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(filled).min(limit.burst_bytes);
        // The rest of a byte is for the next time.
        self.filled_at += Duration::from_micros(u64::try_from(filled_us).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const S: Duration = Duration::from_secs(1);

    fn cap(bytes_per_s: u64, burst_bytes: u64) -> (RateCap, Instant) {
        let now = Instant::now();
        (RateCap::new(RateLimit { bytes_per_s, burst_bytes }, now), now)
    }

    #[test]
    fn a_burst_is_taken_and_then_the_rate() {
        let (cap, begin) = cap(10_000, 100_000);
        assert_eq!(cap.available_bytes(begin), Some(100_000));
        cap.spend(95_000);
        assert_eq!(cap.available_bytes(begin), Some(5000));
        assert_eq!(cap.available_bytes(begin + S / 2), Some(10_000));
        assert_eq!(cap.available_bytes(begin + 60 * S), Some(100_000), "not more than a burst");
    }

    #[test]
    fn what_is_over_it_is_dropped_until_there_is_room_for_some_seconds() {
        let (cap, begin) = cap(10_000, 100_000);
        cap.spend(100_000);
        assert_eq!(cap.dropping_for(begin), None, "nothing has come");
        assert_eq!(cap.available_bytes(begin), None);
        assert_eq!(cap.dropping_for(begin), Some(REFILL_PERIOD + MS));
        assert_eq!(cap.available_bytes(begin + 4 * S), None);
        assert!(cap.is_dropping());
        assert_eq!(cap.available_bytes(begin + 5 * S), Some(50_000));
        assert!(!cap.is_dropping());
    }

    #[test]
    fn a_small_bucket_need_only_be_full() {
        let (cap, begin) = cap(10_000, 10_000);
        cap.spend(7000);
        assert_eq!(cap.available_bytes(begin), None);
        assert_eq!(cap.dropping_for(begin), Some(S * 7 / 10 + MS));
        assert_eq!(cap.available_bytes(begin + S * 7 / 10), Some(10_000));
    }

    #[test]
    fn looks_in_quick_succession_do_not_keep_it_empty() {
        let (cap, begin) = cap(4096, 8192);
        cap.spend(8192);
        let times = (1..=200_000).map(|step| begin + step * Duration::from_micros(10));
        let found: Vec<_> = times.filter_map(|now| cap.available_bytes(now)).collect();
        assert!(!found.is_empty());
    }

    #[test]
    fn one_for_a_file_system_that_is_low_is_in_force_meanwhile() {
        let (cap, begin) = cap(10_000, 20_000);
        let is_low = Arc::<AtomicBool>::default();
        let cap = cap.while_low(Arc::clone(&is_low));
        cap.spend(1_000_000);
        assert_eq!(cap.available_bytes(begin), Some(u64::MAX));
        is_low.store(true, Ordering::Relaxed);
        assert_eq!(cap.available_bytes(begin), Some(20_000));
        cap.spend(20_000);
        assert_eq!(cap.available_bytes(begin), None);
        assert!(cap.is_dropping());
        is_low.store(false, Ordering::Relaxed);
        assert!(!cap.is_dropping() && cap.dropping_for(begin).is_none());
        assert_eq!(cap.available_bytes(begin), Some(u64::MAX));
    }

    #[test]
    fn over_the_whole_the_rate_is_kept() {
        let (cap, begin) = cap(10_000, 20_000);
        let mut taken = 0;
        for step in 0..10_000 {
            if let Some(bytes) = cap.available_bytes(begin + step * 10 * MS) {
                cap.spend(bytes.min(5000));
                taken += bytes.min(5000);
            }
        }
        assert!((900_000..=1_020_000).contains(&taken), "{taken}");
    }
}
