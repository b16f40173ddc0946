//! How far a job has got, so that a disk that is slow is not taken for one that hangs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::sys::process;

/// How long a job may do nothing until its place is taken to hang. A disk that crawls slows down
/// those who write to it by so much at the most; one that hangs makes them wait once.
pub(crate) const HANG: Duration = Duration::from_millis(50);

/// The same for a job whose thread has not begun with it, as there is no processor for that, or no
/// thread.
const BEGIN_PERIOD: Duration = Duration::from_secs(1);

/// How long after a first look at a job that seems to hang a second one has to find it so: a thread may
/// wait for another one that waits for a processor.
const SECOND_LOOK: Duration = Duration::from_millis(20);

/// In place of a thread's number: the job has ended, and the loop has not heard of it.
const ENDED: i32 = -1;

/// The job is not in a call that ends when a peer lets it.
const ALONE: u8 = 0;

/// It is in one.
const AT_PEER: u8 = 1;

/// It is, and others have gone on at its place meanwhile.
const LEFT_BEHIND: u8 = 2;

/// A job's account of itself, which others look at while it runs. Copies are the same account.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Account>);

#[derive(Debug)]
struct Account {
    since: Instant,
    /// When something was done last, in microseconds since then.
    at_us: AtomicU64,
    /// The kernel's number of the thread that did it; 0 before one has begun, and [`ENDED`].
    by_thread: AtomicI32,
    /// When it was seen first to wait for something else than a processor since, in the same way; 0
    /// before.
    suspected_at_us: AtomicU64,
    /// It was seen so twice.
    is_stalled: AtomicBool,
    /// The number of the peer that can hold up such a job; 0: there is none.
    peer: u64,
    /// [`ALONE`], [`AT_PEER`] or [`LEFT_BEHIND`].
    at_peer: AtomicU8,
}

impl Default for Progress {
    fn default() -> Self {
        Self::of_peer(0)
    }
}

impl Progress {
    /// The account of jobs that a peer can hold up. The daemon numbers its peers, from 1 on.
    #[must_use]
    pub fn of_peer(peer: u64) -> Self {
        Self(Arc::new(Account {
            since: Instant::now(),
            at_us: AtomicU64::new(0),
            by_thread: AtomicI32::new(0),
            suspected_at_us: AtomicU64::new(0),
            is_stalled: AtomicBool::new(false),
            peer,
            at_peer: AtomicU8::new(ALONE),
        }))
    }

    /// Makes a call that ends when the peer lets it, one on the peer's pipe say. To be called by the job.
    ///
    /// # Errors
    /// As the call. One that [`is_left_behind`] when it has taken so long that other jobs have gone on at
    /// the place of this one: whatever the call has done, the job has to end without touching that place.
    pub fn at_peer<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.0.at_peer.store(AT_PEER, Ordering::Release);
        let result = call();
        match self.0.at_peer.swap(ALONE, Ordering::AcqRel) {
            LEFT_BEHIND => Err(io::ErrorKind::ResourceBusy.into()),
            _ => result,
        }
    }

    /// Whether the job is in such a call.
    #[must_use]
    pub fn is_at_peer(&self) -> bool {
        self.0.at_peer.load(Ordering::Acquire) != ALONE
    }

    /// The number of the peer.
    pub(crate) fn peer(&self) -> u64 {
        self.0.peer
    }

    /// Others go on at the place of a job that waits in such a call, which is told when that ends. `false`:
    /// it is in none, or gets on with it.
    pub(crate) fn leave_behind(&self) -> bool {
        let at_peer = &self.0.at_peer;
        if process::is_thread_running(self.0.by_thread.load(Ordering::Relaxed)) {
            return false;
        }
        at_peer.compare_exchange(AT_PEER, LEFT_BEHIND, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Something was done: a call on a file has come back, or the job begins. To be called by the thread
    /// that runs it.
    pub fn note(&self) {
        self.0.by_thread.store(process::thread_id_cached(), Ordering::Relaxed);
        self.restart();
    }

    /// A new job is handed to a thread.
    pub(crate) fn hand_out(&self) {
        self.0.by_thread.store(0, Ordering::Relaxed);
        self.restart();
    }

    /// The job has ended.
    pub(crate) fn end(&self) {
        self.0.by_thread.store(ENDED, Ordering::Relaxed);
    }

    /// Whether nothing has been done for too long, and not for want of a processor.
    pub(crate) fn is_stalled(&self) -> bool {
        let thread = self.0.by_thread.load(Ordering::Relaxed);
        let period = match thread {
            ENDED => return false,
            0 => BEGIN_PERIOD,
            _ => HANG,
        };
        if self.0.is_stalled.load(Ordering::Relaxed) {
            return true;
        }
        let at = Duration::from_micros(self.0.at_us.load(Ordering::Relaxed));
        if self.0.since.elapsed().saturating_sub(at) < period {
            return false;
        }
        if thread != 0 && process::is_thread_running(thread) {
            self.restart();
            return false;
        }
        let now_us = self.now_us();
        let suspected_at_us = self.0.suspected_at_us.load(Ordering::Relaxed);
        if suspected_at_us == 0 {
            self.0.suspected_at_us.store(now_us, Ordering::Relaxed);
        }
        let for_us = now_us.saturating_sub(suspected_at_us);
        let is_stalled = suspected_at_us > 0 && Duration::from_micros(for_us) >= SECOND_LOOK;
        self.0.is_stalled.store(is_stalled, Ordering::Relaxed);
        is_stalled
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.0.since.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn restart(&self) {
        self.0.at_us.store(self.now_us(), Ordering::Relaxed);
        self.0.suspected_at_us.store(0, Ordering::Relaxed);
        self.0.is_stalled.store(false, Ordering::Relaxed);
    }
}

/// Whether other jobs have gone on at the place of a job that was held up by a peer, see
/// [`Progress::at_peer`].
#[must_use]
pub fn is_left_behind(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy && error.raw_os_error().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_gets_on_or_computes_does_not_hang() {
        let progress = Progress::default();
        let end = Instant::now() + 3 * HANG;
        progress.note();
        while Instant::now() < end {
            assert!(!progress.is_stalled(), "its thread runs");
        }
        let (handed_out, begun) = std::sync::mpsc::channel();
        let (end, is_over) = std::sync::mpsc::channel::<()>();
        let job = progress.clone();
        progress.hand_out();
        std::thread::sleep(2 * HANG);
        assert!(!progress.is_stalled(), "no thread has begun");
        let thread = std::thread::spawn(move || {
            job.note();
            handed_out.send(()).unwrap();
            is_over.recv().unwrap();
        });
        begun.recv().unwrap();
        std::thread::sleep(2 * HANG);
        assert!(!progress.is_stalled(), "it is looked at twice");
        std::thread::sleep(2 * SECOND_LOOK);
        assert!(progress.is_stalled(), "its thread sleeps");
        progress.end();
        assert!(!progress.is_stalled());
        end.send(()).unwrap();
        thread.join().unwrap();
    }
}
