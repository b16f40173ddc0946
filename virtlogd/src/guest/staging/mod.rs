//! What lies between a guest's pipe and a file: bytes go from the one into a pipe of ours, and
//! from there into the file, and are never read into memory on the way.
//!
//! A file system that hangs while it takes bytes holds the pipe that they come from, and with it
//! whoever writes into that pipe. So it never gets to see the guest's. And `splice` consumes
//! exactly what was stored: what could not be is still in a pipe.
//!
//! Where `splice` or `tee` are refused bytes do go through memory, in pieces so small that few are
//! lost with the process. What was read and could not be passed on is kept in front of the pipe.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use common::handover::marks::Target;
use common::sys::{calls, pipe};
use nix::errno::Errno;
use nix::sys::stat::fstat;

use crate::guest::access::Guest;
use crate::logs::budget::Budget;
use crate::persist::fd_store::{self, AtRisk};
use crate::rotating_file::{Error, Offset, RotatingFile, Source};

mod copy;
mod workspace;

pub(crate) use copy::Scratch;
pub(crate) use workspace::{Workspace, Workspaces};

/// Bytes moved by one pair of system calls: what a pipe holds unless it is enlarged.
const MOVE_BYTES_MAX: u64 = 65_536;

/// A pipe of ours with bytes on their way into one log. Copies are the same pipe: one is for the job
/// that moves the bytes, another for those who want to know where they are. Nothing but the job may
/// touch the ends while a file takes bytes from them: that holds the pipe for as long as it lasts.
#[derive(Debug, Clone)]
pub(crate) struct Staging(Arc<Pipe>);

#[derive(Debug)]
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    /// Bytes that were read out of the pipe and have to go before those that are in it. As a rule
    /// there are none.
    front: Mutex<Vec<u8>>,
    held: AtomicU64,
    stored: Mutex<Stored>,
}

/// One that may have ended.
#[derive(Debug)]
pub(crate) struct WeakStaging(Weak<Pipe>);

/// What the fd store and its marks say of a pipe. Under one lock, as the loop may store a pipe while
/// a job marks it: the later mark has to be the true one.
#[derive(Debug, Default)]
struct Stored {
    /// In the fd store; 0: it is not.
    key: u64,
    /// The key of the log whose bytes are inside.
    owner: u64,
    /// The store has it for certain.
    is_proved: bool,
    /// What is noted, and at which key, of bytes that would be lost with this process.
    at_risk: Option<AtRisk>,
}

/// Bytes that were staged, and those in the guest's pipe behind them, as a source for a log file.
#[derive(Debug)]
pub(crate) struct GuestBytes<'a> {
    guest: &'a Guest,
    staging: &'a Staging,
    scratch: &'a mut Scratch,
    pub(crate) budget: Budget,
    /// Only what is staged, and no more of that than the budget allows.
    is_kept: bool,
    /// Bytes taken from the guest's pipe.
    pub(crate) taken: u64,
    /// The guest's pipe had fewer bytes than were asked for; what has come since is for later.
    is_drained: bool,
}

impl Staging {
    /// An empty one, in the fd store if there is one.
    pub(crate) fn new() -> io::Result<Self> {
        if let Some(spare) = fd_store::spare() {
            return Ok(spare);
        }
        Self::make().inspect(fd_store::made)
    }

    /// An empty one that is not in the fd store.
    pub(crate) fn make() -> io::Result<Self> {
        Ok(Self::with(pipe::pipe()?, Stored::default()))
    }

    /// A pipe of another image of this process, the end to read from first, with what is inside.
    ///
    /// # Errors
    /// As `ioctl(2)`: it is no pipe. Both are closed.
    pub(crate) fn of(ends: (OwnedFd, OwnedFd), key: u64) -> io::Result<Self> {
        let count = pipe::counted_bytes(&ends.0)?;
        let staging = Self::with(ends, Stored { key, ..Stored::default() });
        let held = count.map_or_else(|| staging.0.count(), Ok)?;
        staging.0.held.store(held as u64, Ordering::Relaxed);
        Ok(staging)
    }

    fn with((reader, writer): (OwnedFd, OwnedFd), stored: Stored) -> Self {
        let (front, held, stored) = (Mutex::default(), AtomicU64::new(0), Mutex::new(stored));
        Self(Arc::new(Pipe { reader, writer, front, held, stored }))
    }

    /// Its key in the fd store, 0 if it is not there.
    pub(crate) fn key(&self) -> u64 {
        self.0.stored().key
    }

    /// It is in the fd store from now on, or with 0 not any more: then what is inside counts as lost,
    /// even if the store has it for a while yet.
    pub(crate) fn is_kept_as(&self, key: u64) {
        let mut stored = self.0.stored();
        if stored.key != key {
            fd_store::mark(stored.key, 0);
        }
        (stored.key, stored.is_proved) = (key, false);
        fd_store::mark(key, stored.owner);
        stored.note_at_risk(self.held(), None);
    }

    /// The store has it for certain under this key.
    pub(crate) fn is_proved_as(&self, key: u64) {
        let mut stored = self.0.stored();
        if stored.key == key {
            stored.is_proved = true;
            stored.note_at_risk(0, None);
        }
    }

    /// Says whose bytes are inside, or will be.
    pub(crate) fn belongs_to(&self, owner: u64) {
        let mut stored = self.0.stored();
        stored.owner = owner;
        fd_store::mark(stored.key, owner);
        stored.note_at_risk(self.held(), None);
    }

    /// Does not keep it from ending.
    pub(crate) fn downgrade(&self) -> WeakStaging {
        WeakStaging(Arc::downgrade(&self.0))
    }

    /// Both ends, the one to read from first.
    pub(crate) fn ends(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.0.reader.as_fd(), self.0.writer.as_fd())
    }

    /// Bytes inside, without a look at the pipe.
    pub(crate) fn held(&self) -> u64 {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Whether more can be taken in.
    pub(crate) fn has_room(&self) -> bool {
        pipe::has_room(&self.0.writer).unwrap_or(false)
    }

    /// A file of this size is about to take bytes from it.
    fn is_written_to(&self, file: BorrowedFd<'_>, size_bytes: u64) {
        let mut stored = self.0.stored();
        if stored.is_proved || stored.owner == 0 {
            return;
        }
        let inode = fstat(file).map_or(0, |stat| stat.st_ino);
        let target = (inode != 0).then_some(Target { inode, size_bytes });
        stored.note_at_risk(self.held(), target);
    }

    /// The end that a file takes bytes from.
    pub(crate) fn reader(&self) -> BorrowedFd<'_> {
        self.0.reader.as_fd()
    }

    /// Takes out what is inside.
    #[cfg(test)]
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.read_out(&mut self.0.front(), usize::MAX).unwrap();
        let bytes = std::mem::take(&mut *self.0.front());
        self.taken(bytes.len());
        bytes
    }

    /// Drops what is inside; for when there is nowhere to keep it.
    pub(crate) fn discard(&self) {
        let mut front = std::mem::take(&mut *self.0.front());
        // What cannot be read goes with the pipe.
        drop(self.0.read_out(&mut front, usize::MAX));
        self.taken(front.len());
    }

    /// Takes up to `len` bytes from a guest's pipe, as far as there is space. 0 means that the
    /// guest's pipe is at its end. `owner` is the log's key in the fd store, or 0.
    pub(crate) fn take_from(&self, guest: BorrowedFd<'_>, len: u64, owner: u64) -> io::Result<u64> {
        // One whose bytes were inside before needs no new mark: of two pipes with bytes of one log, that
        // which was made later has the later bytes, or the only ones.
        if self.held() == 0 && self.0.stored().owner != owner {
            self.belongs_to(owner);
        }
        let len = len.min(MOVE_BYTES_MAX);
        // Before they are inside: a kill in between tells of more than is lost, never of less.
        let is_at_risk = self.0.stored().note_at_risk(self.held() + len, None);
        let bytes = usize::try_from(len).unwrap_or(usize::MAX);
        let moved = pipe::splice_to_pipe(guest, &self.0.writer, bytes);
        let moved = calls::or_else(moved, || {
            self.0.stored().note_at_risk(self.held() + len + copy::PIECE_BYTES as u64, None);
            self.0.fill_from(guest, bytes)
        });
        let moved = moved.map(|moved| moved as u64);
        self.0.held.fetch_add(*moved.as_ref().unwrap_or(&0), Ordering::Relaxed);
        if is_at_risk {
            self.0.stored().note_at_risk(self.held(), None);
        }
        moved
    }

    fn taken(&self, count: usize) {
        self.0.held.fetch_sub(self.held().min(count as u64), Ordering::Relaxed);
        self.0.stored().note_at_risk(self.held(), None);
    }
}

impl WeakStaging {
    /// Unless it has ended.
    pub(crate) fn upgrade(&self) -> Option<Staging> {
        self.0.upgrade().map(Staging)
    }
}

impl Stored {
    /// Notes how many bytes would be lost with this process, if the store may lack the pipe. Gives
    /// whether it may.
    fn note_at_risk(&mut self, bytes: u64, target: Option<Target>) -> bool {
        // One that has no key counts with the log's own.
        let key = if self.key == 0 { self.owner } else { self.key };
        let is_any = !self.is_proved && self.owner != 0 && bytes > 0;
        let at_risk = is_any.then_some(AtRisk { key, owner: self.owner, bytes, target });
        if at_risk != self.at_risk {
            fd_store::note_at_risk(self.at_risk, at_risk);
            self.at_risk = at_risk;
        }
        !self.is_proved
    }
}

impl Pipe {
    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let key = {
            let mut stored = self.stored();
            stored.note_at_risk(0, None);
            stored.key
        };
        if key != 0 {
            fd_store::gone(key);
        }
    }
}

impl<'a> GuestBytes<'a> {
    /// What is staged, all of it, and what waits in the guest's pipe.
    pub(crate) fn new(
        guest: &'a Guest,
        staging: &'a Staging,
        scratch: &'a mut Scratch,
        budget: Budget,
    ) -> Self {
        Self { guest, staging, scratch, budget, is_kept: false, taken: 0, is_drained: false }
    }

    /// What was kept in a pipe of the log's own.
    pub(crate) fn kept(
        guest: &'a Guest,
        staging: &'a Staging,
        scratch: &'a mut Scratch,
        budget: Budget,
    ) -> Self {
        Self { is_kept: true, ..Self::new(guest, staging, scratch, budget) }
    }

    /// Bytes that may be taken from the guest's pipe, of those that wait there.
    fn takeable(&self) -> io::Result<u64> {
        if self.is_kept || self.is_drained || self.budget.is_over() {
            return Ok(0);
        }
        Ok(self.guest.takeable()?.min(self.budget.bytes()))
    }

    /// To be called when the log has taken what it could: nothing may be left staged that it should
    /// have taken.
    pub(crate) fn check_stored(&self, file: &RotatingFile) -> Result<(), Error> {
        if self.staging.held() == 0 || (self.is_kept && self.budget.is_over()) {
            return Ok(());
        }
        Err(Error::Write { path: file.path().into(), source: Errno::EIO.into() })
    }

    /// Copies the first bytes, of those that are staged and those behind them.
    fn look_ahead(&mut self, len_max: usize) -> io::Result<()> {
        let Self { guest, staging, scratch, is_kept, .. } = self;
        scratch.bytes.clear();
        scratch.bytes.extend(staging.0.front().iter().take(len_max));
        let left = len_max - scratch.bytes.len();
        if left > 0 && staging.held() > scratch.bytes.len() as u64 {
            scratch.copy_from(staging.reader(), left)?;
        }
        let left = len_max - scratch.bytes.len().min(len_max);
        if left > 0 && scratch.bytes.len() as u64 == staging.held() && !*is_kept {
            guest.look_at(|pipe| scratch.copy_from(pipe, left))?;
        }
        Ok(())
    }

    /// The same where bytes have to be taken to be looked at.
    fn read_ahead(&mut self, len_max: usize) -> io::Result<()> {
        self.stage((len_max as u64).saturating_sub(self.staging.held()))?;
        self.scratch.bytes = self.staging.0.first(len_max)?;
        Ok(())
    }

    fn stage(&mut self, len: u64) -> io::Result<()> {
        let len = len.min(self.budget.bytes()).min(MOVE_BYTES_MAX);
        if len == 0 || self.is_kept || self.is_drained {
            return Ok(());
        }
        let taken = match self.guest.move_to(self.staging, len) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            result => result?,
        };
        self.is_drained = taken < len;
        self.taken += taken;
        Ok(())
    }
}

impl Source for GuestBytes<'_> {
    fn available(&self) -> io::Result<u64> {
        let held = self.staging.held();
        Ok(if self.is_kept { held.min(self.budget.bytes()) } else { held + self.takeable()? })
    }

    fn peek(&mut self, len_max: usize) -> io::Result<&[u8]> {
        let seen = self.look_ahead(len_max);
        calls::or_else(seen, || self.read_ahead(len_max))?;
        Ok(&self.scratch.bytes)
    }

    fn prepare(&mut self, len: u64) -> io::Result<u64> {
        self.budget.begin();
        if self.staging.held() == 0 {
            self.stage(len)?;
        }
        Ok(self.staging.held().min(len))
    }

    fn write_to(&mut self, file: BorrowedFd<'_>, offset: Offset, len: u64) -> io::Result<u64> {
        let Self { staging, scratch, .. } = self;
        let len = usize::try_from(len.min(staging.held())).unwrap_or(usize::MAX);
        if len == 0 {
            return Ok(0);
        }
        staging.is_written_to(file, offset.bytes());
        let stored = staging.write_to(file, offset, len, scratch)?;
        staging.taken(stored);
        self.budget.spend(stored as u64);
        self.guest.progress.note();
        Ok(stored as u64)
    }

    fn has_got_on(&self) {
        self.guest.progress.note();
    }
}

#[cfg(test)]
mod tests;
