//! Progress of jobs, which distinguishes a slow disk from one that hangs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::sys::process;

/// Time without progress after which a file system counts as hanging. A slow disk delays its users
/// by this much at most; a hanging one does so once.
pub(crate) const HANG: Duration = Duration::from_millis(50);

/// Time without progress for a job that has not begun, for lack of a processor or a thread.
const BEGIN_PERIOD: Duration = Duration::from_secs(1);

/// Time after which a second look must confirm that a job hangs: a thread may wait for another one
/// that waits for a processor.
const SECOND_LOOK: Duration = Duration::from_millis(20);

/// Replaces a thread id: the job has ended, and the loop has not seen it yet.
const ENDED: i32 = -1;

/// The job is in no call that depends on a peer.
const ALONE: u8 = 0;

/// The job is in a call that depends on a peer.
const AT_PEER: u8 = 1;

/// It is in such a call, and other jobs continue on its file system.
const LEFT_BEHIND: u8 = 2;

/// Progress of a job, shared with those who watch it. Copies share the state.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Account>);

#[derive(Debug)]
struct Account {
    /// Time of the last progress, in microseconds of [`now_us`].
    at_us: AtomicU64,
    /// Kernel id of the thread that made it; 0 before the start, and [`ENDED`].
    by_thread: AtomicI32,
    /// Time since the last progress when the thread was first seen to block on something other than
    /// a processor; 0 before.
    suspected_at_us: AtomicU64,
    /// A second look has confirmed it.
    is_stalled: AtomicBool,
    /// Number of the peer that can block such a job; 0 for none.
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
    /// Makes the progress of jobs that a peer can block. The daemon numbers its peers from 1.
    #[must_use]
    pub fn of_peer(peer: u64) -> Self {
        Self(Arc::new(Account {
            at_us: AtomicU64::new(now_us()),
            by_thread: AtomicI32::new(0),
            suspected_at_us: AtomicU64::new(0),
            is_stalled: AtomicBool::new(false),
            peer,
            at_peer: AtomicU8::new(ALONE),
        }))
    }

    /// Makes a call that may block on the peer, such as one on the peer's pipe. To be called by the
    /// job.
    ///
    /// # Errors
    /// As the call. With an error that [`is_left_behind`], other jobs have continued on the job's
    /// file system because the call took too long: whatever the call has done, the job has to end
    /// without touching the file system.
    pub fn at_peer<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.0.at_peer.store(AT_PEER, Ordering::Release);
        let result = call();
        match self.0.at_peer.swap(ALONE, Ordering::AcqRel) {
            LEFT_BEHIND => Err(io::ErrorKind::ResourceBusy.into()),
            _ => result,
        }
    }

    /// Returns whether the job is in such a call.
    #[must_use]
    pub fn is_at_peer(&self) -> bool {
        self.0.at_peer.load(Ordering::Acquire) != ALONE
    }

    /// Returns the peer's number.
    pub(crate) fn peer(&self) -> u64 {
        self.0.peer
    }

    /// Lets other jobs continue on the file system of a job that blocks on a peer; the job learns
    /// of it when the call ends. Returns `false` if the job is in no such call, or makes progress.
    pub(crate) fn leave_behind(&self) -> bool {
        let at_peer = &self.0.at_peer;
        if process::is_thread_running(self.0.by_thread.load(Ordering::Relaxed)) {
            return false;
        }
        at_peer.compare_exchange(AT_PEER, LEFT_BEHIND, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Returns the time since the last progress.
    #[must_use]
    pub fn pause(&self) -> Duration {
        let at_us = self.0.at_us.load(Ordering::Relaxed);
        Duration::from_micros(now_us().saturating_sub(at_us))
    }

    /// Records progress: a call on a file has returned, or the job begins. To be called by the
    /// thread that runs the job.
    pub fn note(&self) {
        self.0.by_thread.store(process::thread_id_cached(), Ordering::Relaxed);
        self.restart();
    }

    /// Resets it for a new job that is handed to a thread.
    pub(crate) fn hand_out(&self) {
        self.0.by_thread.store(0, Ordering::Relaxed);
        self.restart();
    }

    /// Records the end of the job.
    pub(crate) fn end(&self) {
        self.0.by_thread.store(ENDED, Ordering::Relaxed);
    }

    /// Returns whether the job makes no progress, other than for want of a processor.
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
        let for_us = now_us().saturating_sub(self.0.at_us.load(Ordering::Relaxed));
        if Duration::from_micros(for_us) < period {
            return false;
        }
        if thread != 0 && process::is_thread_running(thread) {
            self.restart();
            return false;
        }
        let now_us = now_us();
        let suspected_at_us = self.0.suspected_at_us.load(Ordering::Relaxed);
        if suspected_at_us == 0 {
            self.0.suspected_at_us.store(now_us, Ordering::Relaxed);
        }
        let for_us = now_us.saturating_sub(suspected_at_us);
        let is_stalled = suspected_at_us > 0 && Duration::from_micros(for_us) >= SECOND_LOOK;
        self.0.is_stalled.store(is_stalled, Ordering::Relaxed);
        is_stalled
    }

    fn restart(&self) {
        self.0.at_us.store(now_us(), Ordering::Relaxed);
        self.0.suspected_at_us.store(0, Ordering::Relaxed);
        self.0.is_stalled.store(false, Ordering::Relaxed);
    }
}

/// Returns whether other jobs have continued in place of a job that a peer has blocked, see
/// [`Progress::at_peer`].
#[must_use]
pub fn is_left_behind(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy && error.raw_os_error().is_none()
}

/// Returns the time since the machine's start, to a few milliseconds: it is asked for several times
/// with every line of a guest's.
fn now_us() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
