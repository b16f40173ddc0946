//! A guest, and what may be done to its pipe.
//!
//! Whoever has an end of a pipe can keep the kernel's lock of it for as long as it likes, with a
//! `splice(2)` from something on which nothing comes. Whatever else is done to the pipe waits for
//! that, in the kernel and out of reach of signals: reading from it, asking how much it holds, closing
//! its last fd. Only `poll`, `fstat` and `F_GETFL` return.
//!
//! So the loop never touches a guest's pipe. Jobs do, one at a time, and say so in their
//! [progress](Progress::at_peer): one that does not come back costs its own guest, and nobody else. As a
//! rule a log's job takes bytes out of the pipe itself. Of a guest that is
//! [suspect](common::server::Core::is_peer_suspect) it does not; jobs that touch nothing else
//! [fetch](Guest::fetch) what there is into a pipe of ours, from which it is written like anything that
//! the log is owed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use common::event::Registered;
use common::server::Progress;
use common::sys::pipe;

use crate::guest::backlog::Backlog;
use crate::guest::pipe::{GuestPipe, InputState};
use crate::guest::rate::RateTracker;
use crate::guest::staging::{StagingPipe, StagingPool};
use crate::protocol::GuestIdentity;

/// Bytes that are left in the pipe of a guest, a large one too: with what its staging pipe holds,
/// all that such a log costs.
const LEFT_IN_PIPE_BYTES_MAX: usize = 16_384;

/// Bytes read at a time when they can only be dropped.
const DROP_BYTES: usize = 65_536;

/// How often a guest's pipe is emptied before others are looked at.
const DRAIN_ROUNDS_MAX: usize = 4;

/// A guest and its output.
#[derive(Debug)]
pub(crate) struct Guest {
    /// The number under which it can be a suspect.
    pub(crate) number: u64,
    pub(crate) domain: GuestIdentity,
    /// Of the job that writes its log.
    pub(crate) progress: Progress,
    /// The job that writes its log may touch its pipe.
    is_direct: AtomicBool,
    /// For the job that touches its pipe. Taken before the pipe, and never by the loop.
    touching: Mutex<()>,
    pipe: Mutex<GuestPipe>,
}

/// What was done to a pipe beside the job that writes its log, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fetched {
    /// What was in it.
    pub(crate) waiting: u64,
    /// What of that was taken.
    pub(crate) taken: u64,
}

impl Guest {
    /// One with a pipe that nobody else has yet.
    pub(crate) fn new(
        number: u64,
        domain: GuestIdentity,
        pipe: Registered<Arc<OwnedFd>>,
        pool: &Arc<StagingPool>,
    ) -> Self {
        let capacity_bytes = pipe::capacity_bytes(&pipe).unwrap_or(0);
        Self::with_capacity(number, domain, pipe, capacity_bytes, pool)
    }

    /// One that an earlier image of this process had, with a pipe that holds so many bytes, if it knew.
    pub(crate) fn inherited(
        number: u64,
        domain: GuestIdentity,
        pipe: Registered<Arc<OwnedFd>>,
        pipe_bytes: Option<usize>,
        pool: &Arc<StagingPool>,
    ) -> Self {
        let capacity_bytes = pipe_bytes.unwrap_or_else(pipe::usual_bytes);
        Self::with_capacity(number, domain, pipe, capacity_bytes, pool)
    }

    fn with_capacity(
        number: u64,
        domain: GuestIdentity,
        pipe: Registered<Arc<OwnedFd>>,
        capacity_bytes: usize,
        pool: &Arc<StagingPool>,
    ) -> Self {
        Self {
            number,
            domain,
            progress: Progress::of_peer(number),
            is_direct: AtomicBool::new(true),
            touching: Mutex::default(),
            pipe: Mutex::new(GuestPipe::new(pipe, capacity_bytes, Arc::clone(pool))),
        }
    }

    /// What is known of it, for a moment: nothing that may take long is done meanwhile.
    pub(crate) fn pipe(&self) -> MutexGuard<'_, GuestPipe> {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the job that writes its log may touch its pipe.
    pub(crate) fn set_direct(&self, is_direct: bool) {
        self.is_direct.store(is_direct, Ordering::Relaxed);
    }

    fn is_direct(&self) -> bool {
        self.is_direct.load(Ordering::Relaxed)
    }

    /// Finds out how large its pipe is, if that is not known to have been enlarged. To be called by the job
    /// that writes its log.
    pub(crate) fn measure(&self) {
        if self.pipe().rate.is_large() {
            return;
        }
        let found = self.touch_directly(|pipe| pipe::inherited_capacity_bytes(pipe));
        if let Ok(Some(capacity_bytes)) = found {
            self.pipe().rate = RateTracker::new(capacity_bytes, Instant::now());
        }
    }

    /// An account for a job that does nothing but touch its pipe.
    pub(crate) fn new_progress(&self) -> Progress {
        Progress::of_peer(self.number)
    }

    /// What can be expected of it.
    pub(crate) fn state(&self) -> io::Result<InputState> {
        self.pipe().state(self.is_direct())
    }

    /// Bytes that are to be written of what the guest has written until now.
    pub(crate) fn outstanding(&self) -> io::Result<u64> {
        Ok(self.waiting()? + self.pipe().staged_bytes())
    }

    /// Bytes that may be taken from its pipe.
    pub(crate) fn takeable(&self) -> io::Result<u64> {
        let waiting = self.take_in_order(|pipe, _| Ok(pipe::readable_bytes(pipe)? as u64))?;
        Ok(waiting.unwrap_or(0))
    }

    /// Moves up to `len` bytes of its pipe into one of ours, unless others have to go first.
    pub(crate) fn move_to(&self, staging: &StagingPipe, len: u64) -> io::Result<u64> {
        let moved = self.take_in_order(|pipe, key| staging.take_from(pipe, len, key))?;
        Ok(moved.unwrap_or(0))
    }

    /// Shows its pipe, unless others have to go first.
    pub(crate) fn look_at(
        &self,
        look: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.take_in_order(|pipe, _| look(pipe)).map(drop)
    }

    /// Asks for a pipe of this size. The kernel has the last word on it.
    pub(crate) fn resize(&self, bytes: i32) {
        if !self.is_direct() {
            return;
        }
        let resized = self.touch(&self.progress, |pipe| {
            pipe::set_capacity_bytes(pipe, bytes).or_else(|_| pipe::capacity_bytes(pipe))
        });
        self.pipe().rate.resized(resized.unwrap_or(0));
    }

    /// Whether nobody can write into its pipe any more.
    pub(crate) fn has_gone(&self) -> bool {
        pipe::has_no_writer(&self.pipe().fd).unwrap_or(false)
    }

    /// Writing does not work for `reason`: empties its pipe if that is about to fill, even where that
    /// loses bytes. To be called by the job that writes the log.
    pub(crate) fn drain_to_backlog(&self, reason: &str, path: &Path) {
        if self.is_direct() {
            self.drain_to_backlog_as(&self.progress, reason, path);
        }
    }

    /// The same for the job that touches nothing else. What is left in it is waiting.
    pub(crate) fn drain_to_backlog_beside(
        &self,
        progress: &Progress,
        reason: &str,
        path: &Path,
    ) -> Fetched {
        let is_left = self.drain_to_backlog_as(progress, reason, path);
        Fetched { waiting: is_left.into(), taken: 0 }
    }

    /// Moves what its pipe has into one of ours, as far as that has room, for the job that writes its log.
    /// To be called by the job that touches nothing else.
    pub(crate) fn fetch(&self, progress: &Progress) -> Fetched {
        let fetched = self.touch(progress, |pipe| {
            let waiting = pipe::readable_bytes(pipe)? as u64;
            let taken = if waiting > 0 { self.move_to_backlog(pipe, waiting) } else { 0 };
            Ok(Fetched { waiting, taken })
        });
        // What it is of one that was left behind is seen the next time.
        fetched.unwrap_or(Fetched { waiting: 1, taken: 0 })
    }

    /// Everything that its log is owed, with what is still in its pipe, when it has gone.
    pub(crate) fn take_final_backlog(&self, reason: &str, path: &Path) -> Option<Box<Backlog>> {
        let emptied = self.touch_directly(|pipe| {
            let waiting = pipe::readable_bytes(pipe)?;
            if waiting > 0 {
                self.empty(pipe, waiting, reason, path);
            }
            Ok(())
        });
        // What cannot be had is not owed to anybody.
        emptied.ok();
        self.pipe().take_backlog()
    }

    /// Bytes that are not in the log and of which the log does not say so.
    pub(crate) fn unwritten_bytes(&self) -> u64 {
        let waiting = self.waiting().unwrap_or(0);
        self.pipe().unwritten_bytes(waiting)
    }

    /// Bytes in its pipe that the job that writes its log may take.
    fn waiting(&self) -> io::Result<u64> {
        let waiting = self.touch_directly(|pipe| Ok(pipe::readable_bytes(pipe)? as u64))?;
        Ok(waiting.unwrap_or(0))
    }

    /// Does something with the next bytes, for which the log's key in the fd store is given too. `None`:
    /// they are not the next that the log gets, or not for the job that writes it.
    fn take_in_order<T>(
        &self,
        call: impl FnOnce(BorrowedFd<'_>, Option<u64>) -> io::Result<T>,
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
            let (fd, key) = (Arc::clone(&pipe.fd), pipe.key);
            drop(pipe);
            call(fd.as_fd(), key).map(Some)
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

    /// Does something to the pipe, which may end with the guest only.
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

    fn drain_to_backlog_as(&self, progress: &Progress, reason: &str, path: &Path) -> bool {
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
    fn empty(&self, pipe: BorrowedFd<'_>, waiting: usize, reason: &str, path: &Path) {
        let kept = usize::try_from(self.move_to_backlog(pipe, waiting as u64)).unwrap_or(waiting);
        let dropped = drop_from(pipe, waiting.saturating_sub(kept));
        self.pipe().drop_bytes(dropped, reason, path);
    }

    /// Moves up to `len` bytes into a pipe of the log's own, as far as that has room.
    fn move_to_backlog(&self, pipe: BorrowedFd<'_>, len: u64) -> u64 {
        let (staging, key) = {
            let mut pipe = self.pipe();
            let Some(staging) = pipe.begin_filling() else { return 0 };
            (staging, pipe.key)
        };
        let mut kept = 0;
        while kept < len {
            match staging.take_from(pipe, len - kept, key) {
                Ok(count @ 1..) => kept += count,
                // There were fewer: it may be that nobody can tell how many there are.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && staging.has_room() => {
                    kept = len;
                }
                _ => break,
            }
        }
        self.pipe().filled();
        kept
    }
}

/// From how many waiting bytes on a guest might soon have to wait. A pipe can be full with half its
/// bytes, because small writes do not share a page with every other one, and one of a single page
/// with a single byte.
fn left_in_pipe_bytes(guest: BorrowedFd<'_>) -> usize {
    const PAGE_BYTES: usize = 4096;
    match pipe::capacity_bytes(guest).unwrap_or(0) {
        ..=PAGE_BYTES => 0,
        capacity => (capacity / 4).min(LEFT_IN_PIPE_BYTES_MAX),
    }
}

fn drop_from(guest: BorrowedFd<'_>, len: usize) -> u64 {
    // Of a packet that does not fit into the buffer the rest is gone.
    let mut buffer = vec![0; len.clamp(pipe::ATOMIC_BYTES, DROP_BYTES)];
    let mut dropped = 0;
    while dropped < len
        && let Ok(pipe::State::Waiting) = pipe::state(guest)
        && let Ok(count @ 1..) = pipe::read(guest, &mut buffer)
    {
        dropped += count;
    }
    dropped as u64
}
