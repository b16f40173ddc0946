//! Access to a guest's pipe.
//!
//! Whoever has an end of a pipe can keep the kernel's lock of it for as long as it likes, with a
//! `splice(2)` from something on which nothing comes. Whatever else is done to the pipe waits for
//! that, in the kernel and out of reach of signals: reading from it, asking how much it holds, closing
//! its last fd. Only `poll`, `fstat` and `F_GETFL` return.
//!
//! Therefore the loop never touches a guest's pipe. Jobs do, one at a time, and account for it in their
//! [progress](Progress::at_peer): a job that does not come back costs its own guest, and no other.
//! As a rule a log's job takes bytes out of the pipe itself. It does not for a guest that is
//! [suspect](common::server::Core::is_peer_suspect). Then jobs that touch nothing else
//! [fetch](Guest::fetch) the bytes into a staging pipe, from which they are written like the rest
//! of the backlog.

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use common::event::Registered;
use common::server::Progress;
use common::sys::pipe;

use crate::guest::backlog::{Backlog, Filling};
use crate::guest::discard::discard;
use crate::guest::pipe::{GuestPipe, InputState};
use crate::guest::rate::RateTracker;
use crate::guest::rate_cap::RateCap;
use crate::guest::reason::Reason;
use crate::guest::staging::{StagingPipe, StagingPool};
use crate::guest::tally;
use crate::message::{log_about, reason_at};
use crate::protocol::GuestIdentity;

/// Bytes that are left in the pipe of a guest whose log cannot be written, a large one too. With
/// the bytes in its staging pipe, that is all the memory that such a log costs.
const LEFT_IN_PIPE_BYTES_MAX: usize = 16_384;

/// Times that a guest's pipe is emptied before other guests have their turn.
const DRAIN_ROUNDS_MAX: usize = 4;

/// A guest and its output.
#[derive(Debug)]
pub(crate) struct Guest {
    /// Number under which it can be suspect.
    pub(crate) number: u64,
    pub(crate) identity: GuestIdentity,
    /// Account of the job that writes its log.
    pub(crate) progress: Progress,
    /// Cap of its output.
    pub(crate) cap: Option<Box<RateCap>>,
    /// The job that writes its log may touch its pipe.
    is_direct: AtomicBool,
    /// Held by the job that touches its pipe. Taken before `pipe`, and never by the loop.
    touching: Mutex<()>,
    pipe: Mutex<GuestPipe>,
}

/// Result of a fetch, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fetched {
    /// Bytes that were in the pipe.
    pub(crate) waiting: u64,
    /// Bytes of those that were taken.
    pub(crate) taken: u64,
    /// They are left there until the fd store has a pipe for them; to be tried again after this time.
    pub(crate) held_back_for: Option<Duration>,
}

impl Guest {
    /// Makes a guest with a new pipe.
    pub(crate) fn new(
        number: u64,
        identity: GuestIdentity,
        pipe: Registered<Arc<OwnedFd>>,
        pool: &Arc<StagingPool>,
    ) -> Self {
        let capacity_bytes = pipe::capacity_bytes(&pipe).unwrap_or(0);
        Self::with_capacity(number, identity, pipe, capacity_bytes, pool)
    }

    /// Makes a guest of the process before this one, with a pipe of `pipe_bytes`, if that is known.
    pub(crate) fn inherited(
        number: u64,
        identity: GuestIdentity,
        pipe: Registered<Arc<OwnedFd>>,
        pipe_bytes: Option<usize>,
        pool: &Arc<StagingPool>,
    ) -> Self {
        let capacity_bytes = pipe_bytes.unwrap_or_else(pipe::usual_bytes);
        Self::with_capacity(number, identity, pipe, capacity_bytes, pool)
    }

    fn with_capacity(
        number: u64,
        identity: GuestIdentity,
        pipe: Registered<Arc<OwnedFd>>,
        capacity_bytes: usize,
        pool: &Arc<StagingPool>,
    ) -> Self {
        Self {
            number,
            identity,
            progress: Progress::of_peer(number),
            cap: None,
            is_direct: AtomicBool::new(true),
            touching: Mutex::default(),
            pipe: Mutex::new(GuestPipe::new(pipe, capacity_bytes, Arc::clone(pool))),
        }
    }

    /// Caps its output.
    pub(crate) fn capped(self, cap: Option<RateCap>) -> Self {
        Self { cap: cap.map(Box::new), ..self }
    }

    /// Locks the state of its pipe. Nothing that may take long is done meanwhile.
    pub(crate) fn pipe(&self) -> MutexGuard<'_, GuestPipe> {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets whether the job that writes its log may touch its pipe.
    pub(crate) fn set_direct(&self, is_direct: bool) {
        self.is_direct.store(is_direct, Ordering::Relaxed);
    }

    fn is_direct(&self) -> bool {
        self.is_direct.load(Ordering::Relaxed)
    }

    /// Measures its pipe, unless that is known to have been enlarged. For the job that writes its
    /// log.
    pub(crate) fn measure(&self) {
        if self.pipe().rate.is_large() {
            return;
        }
        let found = self.touch_directly(|pipe| pipe::inherited_capacity_bytes(pipe));
        if let Ok(Some(capacity_bytes)) = found {
            self.pipe().rate = RateTracker::new(capacity_bytes, Instant::now());
        }
    }

    /// Returns an account for a job that does nothing but touch its pipe.
    pub(crate) fn new_progress(&self) -> Progress {
        Progress::of_peer(self.number)
    }

    /// Returns what can be written to its log.
    pub(crate) fn state(&self) -> io::Result<InputState> {
        self.pipe().state(self.is_direct())
    }

    /// Returns the number of bytes that it has written until now and that are to be written to its
    /// log.
    pub(crate) fn outstanding(&self) -> io::Result<u64> {
        Ok(self.waiting()? + self.pipe().staged_bytes())
    }

    /// Returns the number of bytes that may be taken from its pipe.
    pub(crate) fn takeable(&self) -> io::Result<u64> {
        let readable = |pipe: BorrowedFd<'_>| Ok(pipe::readable_bytes(pipe)? as u64);
        let waiting = self.take_in_order(|_| (), readable)?;
        Ok(waiting.unwrap_or(0))
    }

    /// Moves up to `len` bytes of its pipe into a staging pipe, unless there is a backlog.
    pub(crate) fn move_to(&self, staging: &StagingPipe, len: u64) -> io::Result<u64> {
        let prepare = |pipe: &GuestPipe| staging.prepare(pipe.key);
        let moved = self.take_in_order(prepare, |pipe| staging.take_from(pipe, len))?;
        Ok(moved.unwrap_or(0))
    }

    /// Shows its pipe to `look`, unless there is a backlog.
    pub(crate) fn look_at(
        &self,
        look: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.take_in_order(|_| (), look).map(drop)
    }

    /// Changes its pipe's size. The kernel may refuse.
    pub(crate) fn resize(&self, bytes: i32) {
        if !self.is_direct() {
            return;
        }
        let resized = self.touch(&self.progress, |pipe| {
            pipe::set_capacity_bytes(pipe, bytes).or_else(|_| pipe::capacity_bytes(pipe))
        });
        self.pipe().rate.resized(resized.unwrap_or(0));
    }

    /// Returns whether its pipe has no writer any more.
    pub(crate) fn has_gone(&self) -> bool {
        pipe::has_no_writer(&self.pipe().fd).unwrap_or(false)
    }

    /// Empties its pipe if that is about to fill, even where that loses bytes, because its log
    /// cannot be written for `reason`. For the job that writes the log.
    pub(crate) fn drain_to_backlog(&self, reason: &Reason, path: &Path) {
        if self.is_direct() {
            self.drain_to_backlog_as(&self.progress, reason, path);
        }
    }

    /// Does the same for the job that touches nothing else. Bytes that are left count as waiting.
    pub(crate) fn drain_to_backlog_beside(
        &self,
        progress: &Progress,
        reason: &Reason,
        path: &Path,
    ) -> Fetched {
        let is_left = self.drain_to_backlog_as(progress, reason, path);
        Fetched { waiting: is_left.into(), ..Fetched::default() }
    }

    /// Drops what is in its pipe, over the cap. For the job that writes its log. Returns the number of
    /// bytes.
    pub(crate) fn drop_excess(&self, cap: &RateCap, path: &Path) -> io::Result<u64> {
        let dropped = self.touch_directly(|pipe| {
            let mut dropped = 0;
            for _ in 0..DRAIN_ROUNDS_MAX {
                match pipe::readable_bytes(pipe)? {
                    0 => break,
                    waiting => dropped += discard(pipe, waiting),
                }
            }
            Ok(dropped)
        })?;
        let dropped = dropped.unwrap_or(0);
        if self.pipe().lose(dropped, &cap.reason()) {
            let (guest, reason) = (&self.identity, cap.reason());
            log_about!(
                warn,
                guest,
                path,
                reason = reason,
                "Output of {guest} is being dropped: {}",
                reason_at(&reason, path)
            );
        }
        Ok(dropped)
    }

    /// Moves the bytes in its pipe into a staging pipe, as far as that has room, for the job that
    /// writes its log. For the job that touches nothing else.
    pub(crate) fn fetch(&self, progress: &Progress) -> Fetched {
        let fetched = self.touch(progress, |pipe| {
            let waiting = pipe::readable_bytes(pipe)?;
            if waiting == 0 {
                return Ok(Fetched::default());
            }
            let is_urgent = waiting >= left_in_pipe_bytes(pipe);
            let moved = self.move_to_backlog(pipe, waiting as u64, is_urgent);
            let (taken, held_back_for) = (*moved.as_ref().unwrap_or(&0), moved.err());
            Ok(Fetched { waiting: waiting as u64, taken, held_back_for })
        });
        // The bytes of a job that was left behind are counted the next time.
        fetched.unwrap_or(Fetched { waiting: 1, ..Fetched::default() })
    }

    /// Takes the backlog of its log, with the bytes that are still in its pipe, when it has gone.
    pub(crate) fn take_final_backlog(&self, reason: &Reason, path: &Path) -> Option<Box<Backlog>> {
        let emptied = self.touch_directly(|pipe| {
            let waiting = pipe::readable_bytes(pipe)?;
            if waiting > 0 {
                self.empty(pipe, waiting, reason, path);
            }
            Ok(())
        });
        // Bytes that cannot be taken are in no backlog.
        emptied.ok();
        self.pipe().take_backlog()
    }

    /// Returns the number of bytes that are neither in the log nor reported there as lost.
    pub(crate) fn unwritten_bytes(&self) -> u64 {
        let waiting = self.waiting().unwrap_or(0);
        self.pipe().unwritten_bytes(waiting)
    }

    /// Returns the number of bytes in its pipe that the job that writes its log may take.
    fn waiting(&self) -> io::Result<u64> {
        let waiting = self.touch_directly(|pipe| Ok(pipe::readable_bytes(pipe)? as u64))?;
        Ok(waiting.unwrap_or(0))
    }

    /// Calls `call` with its pipe, after `prepare` with that locked, if the pipe's bytes are the next
    /// that the log gets and the job that writes it may take them.
    fn take_in_order<T>(
        &self,
        prepare: impl FnOnce(&GuestPipe),
        call: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        if !self.is_direct() {
            return Ok(None);
        }
        self.progress.at_peer(|| {
            let _turn = self.touching.lock().unwrap_or_else(PoisonError::into_inner);
            let pipe = self.pipe();
            if pipe.has_backlog() {
                return Ok(None);
            }
            prepare(&pipe);
            let fd = Arc::clone(&pipe.fd);
            drop(pipe);
            call(fd.as_fd()).map(Some)
        })
    }

    fn touch_directly<T>(
        &self,
        call: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        match self.is_direct() {
            true => self.touch(&self.progress, call).map(Some),
            false => Ok(None),
        }
    }

    /// Calls `call` with the pipe. It may return only when the guest has ended.
    fn touch<T>(
        &self,
        progress: &Progress,
        call: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let pipe = Arc::clone(&self.pipe().fd);
        progress.at_peer(|| {
            let _turn = self.touching.lock().unwrap_or_else(PoisonError::into_inner);
            call(pipe.as_fd())
        })
    }

    fn drain_to_backlog_as(&self, progress: &Progress, reason: &Reason, path: &Path) -> bool {
        let left = self.touch(progress, |pipe| {
            for _ in 0..DRAIN_ROUNDS_MAX {
                let waiting = pipe::readable_bytes(pipe).unwrap_or(0);
                if waiting == 0 || waiting < left_in_pipe_bytes(pipe) {
                    return Ok(waiting);
                }
                self.empty(pipe, waiting, reason, path);
            }
            pipe::readable_bytes(pipe)
        });
        left.is_ok_and(|left| left > 0)
    }

    /// Takes `waiting` bytes out of the pipe. All of them: a guest that waits in the middle of a large
    /// write makes the pipe ready again only when it finds it empty.
    fn empty(&self, pipe: BorrowedFd<'_>, waiting: usize, reason: &Reason, path: &Path) {
        let moved = self.move_to_backlog(pipe, waiting as u64, true).unwrap_or(0);
        let moved = usize::try_from(moved).unwrap_or(waiting);
        let dropped = discard(pipe, waiting.saturating_sub(moved));
        if self.pipe().lose(dropped, reason) {
            let guest = &self.identity;
            log_about!(
                error,
                guest,
                path,
                reason = reason,
                "Output of {guest} is being lost: {}",
                reason_at(reason, path)
            );
        }
    }

    /// Moves up to `len` bytes into a staging pipe of the backlog, as far as that has room. Fails
    /// with the time after which to try again if they are safer where they are, unless it `is_urgent`.
    fn move_to_backlog(
        &self,
        pipe: BorrowedFd<'_>,
        len: u64,
        is_urgent: bool,
    ) -> Result<u64, Duration> {
        let filling = self.pipe().begin_filling(is_urgent);
        let staging = match filling {
            Filling::Into(staging) => staging,
            Filling::Later(wait) => return Err(wait),
            Filling::Impossible => return Ok(0),
        };
        let mut moved = 0;
        while moved < len {
            match staging.take_from(pipe, len - moved) {
                Ok(count @ 1..) => moved += count,
                // There were fewer: their number may be unknown.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && staging.has_room() => {
                    moved = len;
                }
                _ => break,
            }
        }
        self.pipe().filled();
        tally::count_buffered(moved);
        Ok(moved)
    }
}

/// Returns the number of waiting bytes from which on a guest might soon have to wait. A pipe can be
/// full with half its bytes, because small writes do not share a page with every other one, and a
/// pipe of a single page with a single byte.
fn left_in_pipe_bytes(guest: BorrowedFd<'_>) -> usize {
    const PAGE_BYTES: usize = 4096;
    match pipe::capacity_bytes(guest).unwrap_or(0) {
        ..=PAGE_BYTES => 0,
        capacity => (capacity / 4).min(LEFT_IN_PIPE_BYTES_MAX),
    }
}
