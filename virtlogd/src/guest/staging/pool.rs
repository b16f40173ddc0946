//! All staging pipes, and those that are made in advance, so that the fd store has them when a job
//! needs one.
//!
//! Jobs take and end staging pipes on any thread. The loop stores some in advance, and forgets those
//! that have ended.

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::staging_pipe::{StagingPipe, WeakStagingPipe};
use crate::guest::crash_records::CrashRecords;

/// Time after a shortage of descriptors in which no pipes are made in advance.
const SHORTAGE_PERIOD: Duration = Duration::from_secs(10);

/// Time that a guest's bytes stay in its own pipe for want of a pipe that the fd store has for
/// certain. A supervisor takes a few milliseconds; a full store never has one.
const PROOF_PERIOD_MAX: Duration = Duration::from_secs(1);

/// Time after which it is tried again, at least.
const PROOF_PERIOD_MIN: Duration = Duration::from_millis(5);

/// Further time for each time that it was tried: thousands of guests that wait cost no more than a few.
const PROOF_PERIOD_PER_REFUSAL: Duration = Duration::from_micros(20);

/// Pipes in no use with which there are enough; with fewer some are made in advance.
const SPARE_MIN: usize = 4;

/// Pipes in no use that there are then.
const SPARE_MAX: usize = 8;

/// Empty pipes in no use to which those that are given back are added. If it were as few as are made,
/// each line of a suspect guest would have a pipe made and stored, and another one removed.
const KEPT_MAX: usize = 12;

/// Source of staging pipes, for all jobs. Without an fd store none are made in advance.
#[derive(Debug, Default)]
pub(crate) struct StagingPool {
    records: Arc<CrashRecords>,
    pipes: Mutex<Pipes>,
    /// All that there are, those in jobs' hands too, and some that have ended.
    all: Mutex<Vec<WeakStagingPipe>>,
    /// A pipe that is in use is not in the fd store.
    lacks_pipes: AtomicBool,
    /// Descriptors are short, and the loop has not freed those that it can.
    is_short: AtomicBool,
}

/// Pipes that the loop stores or releases.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    /// In the fd store, and in no use.
    pub(crate) spare: Vec<StagingPipe>,
    /// On the way there, and in no use.
    pub(crate) sent: Vec<StagingPipe>,
    /// Made when there was no spare one; not in the fd store.
    pub(crate) made: Vec<StagingPipe>,
    /// Sent under these keys; not known to be in the fd store.
    pub(crate) unproved: Vec<(u64, WeakStagingPipe)>,
    /// Time of the last shortage of descriptors.
    freed_at: Option<Instant>,
    /// There was no spare pipe that the fd store has for certain.
    shortage: Option<Shortage>,
}

/// A time without such a pipe.
#[derive(Debug, Clone, Copy)]
struct Shortage {
    since: Instant,
    last: Instant,
    /// Number of times that one was asked for.
    refusals: u32,
}

/// What there is for bytes that are safe where they are.
#[derive(Debug)]
pub(crate) enum Proved {
    Pipe(StagingPipe),
    /// None; it may be tried again after this time.
    NotFor(Duration),
}

impl StagingPool {
    /// Returns the records of all pipes.
    pub(crate) fn records(&self) -> &Arc<CrashRecords> {
        &self.records
    }

    /// Takes an empty pipe, one that is in the fd store or on its way there if possible.
    ///
    /// # Errors
    /// As `pipe2(2)`.
    pub(crate) fn take(&self) -> io::Result<StagingPipe> {
        if let Some(spare) = self.pipes().take_spare() {
            return Ok(spare);
        }
        let made = self.make()?;
        if self.records.have_begun() {
            self.pipes().made.push(made.clone());
        }
        Ok(made)
    }

    /// Takes an empty pipe for bytes that are safe where they are: one that is in the fd store for
    /// certain, or any if there was none for [`PROOF_PERIOD_MAX`].
    ///
    /// # Errors
    /// As `pipe2(2)`.
    pub(crate) fn take_proved(&self) -> io::Result<Proved> {
        if !self.records.have_begun() {
            return self.take().map(Proved::Pipe);
        }
        let mut pipes = self.pipes();
        if let Some(proved) = pipes.take_proved() {
            return Ok(Proved::Pipe(proved));
        }
        let wait = pipes.wait_for_proof(Instant::now());
        drop(pipes);
        wait.map_or_else(|| self.take().map(Proved::Pipe), |wait| Ok(Proved::NotFor(wait)))
    }

    /// Returns whether bytes in a pipe outlive this process, if any do.
    pub(crate) fn is_safe(&self, pipe: &StagingPipe) -> bool {
        pipe.is_proved() || !self.records.have_begun()
    }

    /// Keeps an empty pipe that is in the fd store for the next that needs one.
    pub(crate) fn give_back(&self, pipe: StagingPipe) {
        if !pipe.is_proved() || pipe.held() > 0 {
            return;
        }
        // Its next bytes come behind those in pipes that were made after it.
        pipe.set_owner(None);
        let mut pipes = self.pipes();
        if !pipes.are_short() && pipes.unused().count() < KEPT_MAX {
            pipes.spare.push(pipe);
        }
    }

    /// Replaces an empty pipe that is not in the fd store by one that is, if there is one in no use: with
    /// a full store there may never be room for the other.
    pub(crate) fn prefer_stored(&self, pipe: &mut StagingPipe) {
        if self.records.have_begun() && pipe.key().is_none() {
            let spare = self.pipes().take_spare();
            spare.into_iter().for_each(|spare| *pipe = spare);
        }
    }

    /// Makes an empty pipe that is not in the fd store.
    ///
    /// # Errors
    /// As `pipe2(2)`.
    pub(crate) fn make(&self) -> io::Result<StagingPipe> {
        self.list(StagingPipe::make(Arc::clone(&self.records))?)
    }

    /// Adopts a pipe of the process before this one, the end to read from first, with its bytes.
    ///
    /// # Errors
    /// As `ioctl(2)`: it is no pipe. Both are closed.
    pub(crate) fn adopt(
        &self,
        ends: (OwnedFd, OwnedFd),
        key: Option<u64>,
    ) -> io::Result<StagingPipe> {
        self.list(StagingPipe::adopt(ends, key, Arc::clone(&self.records))?)
    }

    /// Returns all pipes, those in jobs' hands too.
    pub(crate) fn all(&self) -> Vec<StagingPipe> {
        self.listed().iter().filter_map(WeakStagingPipe::upgrade).collect()
    }

    /// Returns the pipes that are in use.
    pub(crate) fn in_use(&self) -> Vec<StagingPipe> {
        self.all_but(&self.pipes())
    }

    /// Takes the pipes that are in no use, and returns those in use before them. No pipe changes from
    /// the ones to the others meanwhile.
    pub(crate) fn take_unused(&self) -> (Vec<StagingPipe>, Vec<StagingPipe>) {
        let mut pipes = self.pipes();
        let in_use = self.all_but(&pipes);
        let unused = std::mem::take(&mut pipes.spare).into_iter();
        (in_use, unused.chain(std::mem::take(&mut pipes.sent)).collect())
    }

    /// Frees the descriptors of spare pipes, for a while: there are none left for a log. The loop then frees
    /// those that wait for the supervisor.
    pub(crate) fn free_descriptors(&self) {
        if self.records.have_begun() {
            self.is_short.store(true, Ordering::Relaxed);
            let mut pipes = self.pipes();
            let freed = (std::mem::take(&mut pipes.spare), std::mem::take(&mut pipes.sent));
            pipes.freed_at = Some(Instant::now());
            // Closing them takes system calls.
            drop(pipes);
            drop(freed);
        }
    }

    /// Locks the pipes that the loop stores or releases.
    pub(crate) fn pipes(&self) -> MutexGuard<'_, Pipes> {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_but(&self, unused: &Pipes) -> Vec<StagingPipe> {
        let is_unused = |pipe: &StagingPipe| unused.unused().any(|unused| unused.is(pipe));
        self.all().into_iter().filter(|pipe| !is_unused(pipe)).collect()
    }

    fn list(&self, pipe: StagingPipe) -> io::Result<StagingPipe> {
        let mut all = self.listed();
        if all.len() == all.capacity() {
            all.retain(WeakStagingPipe::is_alive);
        }
        all.push(pipe.downgrade());
        Ok(pipe)
    }

    fn listed(&self) -> MutexGuard<'_, Vec<WeakStagingPipe>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether descriptors have become short, and resets that.
    pub(crate) fn take_is_short(&self) -> bool {
        self.is_short.swap(false, Ordering::Relaxed)
    }

    /// Notes whether a pipe that is in use is in the fd store.
    pub(crate) fn note_in_use(&self, is_stored: bool) {
        self.lacks_pipes.fetch_or(!is_stored, Ordering::Relaxed);
    }

    /// Returns whether a pipe that is in use was not in the fd store, and resets that.
    pub(crate) fn take_lacks_pipes(&self) -> bool {
        self.lacks_pipes.swap(false, Ordering::Relaxed)
    }
}

impl Pipes {
    /// Returns whether descriptors are short.
    pub(crate) fn are_short(&self) -> bool {
        self.freed_at.is_some_and(|at| at.elapsed() < SHORTAGE_PERIOD)
    }

    /// Returns how many pipes are to be made in advance.
    pub(crate) fn missing(&self) -> usize {
        let unused = self.unused().count();
        if unused < SPARE_MIN { SPARE_MAX - unused } else { 0 }
    }

    /// Returns the pipes that are in no use.
    pub(crate) fn unused(&self) -> impl Iterator<Item = &StagingPipe> {
        self.spare.iter().chain(&self.sent)
    }

    fn take_proved(&mut self) -> Option<StagingPipe> {
        let Self { spare, sent, .. } = self;
        let proved = [spare, sent].into_iter().find_map(|pipes| {
            let position = pipes.iter().rposition(StagingPipe::is_proved)?;
            Some(pipes.swap_remove(position))
        });
        self.shortage.take_if(|_| proved.is_some());
        proved
    }

    /// Returns how long to wait for a pipe that is proved, as there was none; `None` for no longer. A
    /// shortage that is long past is another one.
    fn wait_for_proof(&mut self, now: Instant) -> Option<Duration> {
        let earlier = self.shortage.filter(|earlier| now - earlier.last < PROOF_PERIOD_MAX);
        let earlier = earlier.unwrap_or(Shortage { since: now, last: now, refusals: 0 });
        let refusals = earlier.refusals.saturating_add(1);
        self.shortage = Some(Shortage { last: now, refusals, ..earlier });
        let wait =
            (PROOF_PERIOD_PER_REFUSAL * refusals).clamp(PROOF_PERIOD_MIN, PROOF_PERIOD_MAX / 4);
        (now - earlier.since < PROOF_PERIOD_MAX).then_some(wait)
    }

    fn take_spare(&mut self) -> Option<StagingPipe> {
        self.spare.pop().or_else(|| self.sent.pop())
    }
}

#[cfg(test)]
mod tests {
    use common::fd_store::slots::SlotFile;

    use super::*;

    #[test]
    fn a_pipe_in_the_store_is_preferred_to_one_that_is_not() {
        let pool = StagingPool::default();
        let spare = |key| {
            let spare = pool.make().unwrap();
            spare.set_key(Some(key));
            pool.pipes().spare.push(spare);
        };
        let mut pipe = pool.make().unwrap();
        spare(3);
        pool.prefer_stored(&mut pipe);
        assert_eq!(pipe.key(), None, "there is no store");
        pool.records.begin(SlotFile::new("records").unwrap());
        pool.prefer_stored(&mut pipe);
        assert_eq!(pipe.key(), Some(3));
        spare(4);
        pool.prefer_stored(&mut pipe);
        assert_eq!(pipe.key(), Some(3));
    }

    #[test]
    fn bytes_that_are_safe_wait_for_a_pipe_that_is() {
        let pool = StagingPool::default();
        let is_some = |pool: &StagingPool| matches!(pool.take_proved(), Ok(Proved::Pipe(_)));
        assert!(is_some(&pool), "there is no store to wait for");
        pool.records.begin(SlotFile::new("records").unwrap());
        let spare = pool.make().unwrap();
        spare.set_key(Some(3));
        pool.pipes().sent.push(spare.clone());
        assert!(!is_some(&pool) && !pool.is_safe(&spare));
        spare.set_proved(3);
        let Ok(Proved::Pipe(proved)) = pool.take_proved() else { panic!("it is there") };
        assert!(proved.is(&spare) && pool.is_safe(&proved));
        proved.set_owner(Some(7));
        pool.give_back(proved);
        assert!(is_some(&pool) && !is_some(&pool), "it was given back");
    }

    #[test]
    fn pipes_that_come_back_soon_are_not_replaced() {
        let pool = StagingPool::default();
        pool.records.begin(SlotFile::new("records").unwrap());
        let missing = || pool.pipes().missing();
        assert_eq!(missing(), SPARE_MAX);
        let add = |key| {
            let pipe = pool.make().unwrap();
            pipe.set_key(Some(key));
            pipe.set_proved(key);
            pool.give_back(pipe);
        };
        (1..=SPARE_MAX as u64).for_each(add);
        let take = || match pool.take_proved() {
            Ok(Proved::Pipe(pipe)) => pipe,
            other => panic!("{other:?}"),
        };
        let mut taken: Vec<_> = (0..SPARE_MAX - SPARE_MIN).map(|_| take()).collect();
        assert_eq!(missing(), 0);
        taken.push(take());
        assert_eq!(missing(), SPARE_MAX - SPARE_MIN + 1);
        taken.into_iter().for_each(|pipe| pool.give_back(pipe));
        (100..200).for_each(add);
        assert_eq!(pool.pipes().unused().count(), KEPT_MAX);
    }

    #[test]
    fn a_wait_for_proof_has_an_end() {
        let (mut pipes, begin) = (Pipes::default(), Instant::now());
        let steps = (0..=10).map(|step| begin + PROOF_PERIOD_MAX * step / 10);
        let waits: Vec<_> = steps.map(|now| pipes.wait_for_proof(now).is_some()).collect();
        assert_eq!(waits, [[true; 10].as_slice(), &[false]].concat());
        assert_eq!(pipes.wait_for_proof(begin + PROOF_PERIOD_MAX * 3 / 2), None);
        let later = begin + PROOF_PERIOD_MAX * 3;
        assert_eq!(pipes.wait_for_proof(later), Some(PROOF_PERIOD_MIN), "that is another one");
        let last = (0..4000).filter_map(|_| pipes.wait_for_proof(later)).last();
        assert_eq!(last, Some(PROOF_PERIOD_PER_REFUSAL * 4001), "many try less often");
    }

    #[test]
    fn pipes_in_jobs_hands_are_among_all() {
        let pool = StagingPool::default();
        let spare = pool.make().unwrap();
        spare.set_key(Some(3));
        pool.pipes().spare.push(spare);
        pool.pipes().sent.push(pool.make().unwrap());
        let in_hand = pool.take().unwrap();
        assert_eq!(in_hand.key(), Some(3));
        assert_eq!((pool.all().len(), pool.in_use().len()), (2, 1));
        let (in_use, unused) = pool.take_unused();
        assert!(in_use[0].is(&in_hand) && in_use.len() == 1 && unused.len() == 1);
        drop((in_use, unused, in_hand));
        assert!(pool.all().is_empty());
    }
}
