//! What lies between a guest's pipe and a file: bytes go from the one into a pipe of ours, and
//! from there into the file, and are never read into memory on the way.
//!
//! A file system that hangs while it takes bytes holds the pipe that they come from, and with it
//! whoever writes into that pipe. So it never gets to see the guest's. And `splice` consumes
//! exactly what was stored: what could not be is still in a pipe.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError, Weak};

use common::handover::marks::Target;
use common::sys::fd::set_nonblocking;
use common::sys::pipe;
use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::sys::uio::pwrite;

use crate::budget::Budget;
use crate::intake::Guest;
use crate::keeping::{self, AtRisk};
use crate::rotating_file::{Error, Offset, RotatingFile, Source};

/// Bytes moved by one pair of system calls: what a pipe holds unless it is enlarged.
const MOVE_BYTES_MAX: u64 = 65_536;

/// Slots of the pipe for looking at bytes. Each byte looked at may lie in a page of its own, and
/// 80 are looked at; the kernel rounds up to a power of two pages.
const SCRATCH_BYTES: i32 = 128 * 4096;

/// Workspaces that are kept while nobody uses them. There are never more than jobs under way.
const SPARE_WORKSPACES_MAX: usize = 4;

/// A pipe of ours with bytes on their way into one log. Copies are the same pipe: one is for the job
/// that moves the bytes, another for those who want to know where they are. Nothing but the job may
/// touch the ends while a file takes bytes from them: that holds the pipe for as long as it lasts.
#[derive(Debug, Clone)]
pub(crate) struct Staging(Arc<Pipe>);

#[derive(Debug)]
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
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

/// Two more ends and a buffer, for looking at bytes without taking them.
#[derive(Debug)]
pub(crate) struct Scratch {
    reader: OwnedFd,
    writer: OwnedFd,
    bytes: Vec<u8>,
}

/// What a turn of a log needs beside the log: one set serves many logs, one after the other.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Empty between turns.
    pub(crate) staging: Staging,
    pub(crate) scratch: Scratch,
}

/// Workspaces that are not in use, for all jobs.
#[derive(Debug, Clone)]
pub(crate) struct Workspaces(Arc<(Mutex<Spare>, Condvar)>);

#[derive(Debug)]
struct Spare {
    workspaces: Vec<Workspace>,
    /// Jobs that wait for one.
    waiting: usize,
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
        if let Some(spare) = keeping::spare() {
            return Ok(spare);
        }
        Self::make().inspect(keeping::made)
    }

    /// An empty one that is not in the fd store.
    pub(crate) fn make() -> io::Result<Self> {
        let (reader, writer) = pipe::pipe()?;
        Ok(Self(Arc::new(Pipe {
            reader,
            writer,
            held: AtomicU64::new(0),
            stored: Mutex::default(),
        })))
    }

    /// A pipe of another image of this process, the end to read from first, with what is inside.
    ///
    /// # Errors
    /// As `ioctl(2)`: it is no pipe. Both are closed.
    pub(crate) fn of((reader, writer): (OwnedFd, OwnedFd), key: u64) -> io::Result<Self> {
        let held = AtomicU64::new(pipe::readable_bytes(&reader)? as u64);
        let stored = Mutex::new(Stored { key, ..Stored::default() });
        Ok(Self(Arc::new(Pipe { reader, writer, held, stored })))
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
            keeping::mark(stored.key, 0);
        }
        (stored.key, stored.is_proved) = (key, false);
        keeping::mark(key, stored.owner);
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
        keeping::mark(stored.key, owner);
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
        let mut bytes = vec![0; usize::try_from(self.held()).unwrap()];
        let count = pipe::read(self.reader(), &mut bytes).unwrap();
        self.taken(count);
        bytes
    }

    /// Drops what is inside; for when there is nowhere to keep it.
    pub(crate) fn discard(&self) {
        let mut buffer = vec![0; usize::try_from(MOVE_BYTES_MAX).unwrap_or(usize::MAX)];
        while self.held() > 0 {
            let Ok(count @ 1..) = pipe::read(&self.0.reader, &mut buffer) else { break };
            self.taken(count);
        }
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
        let moved = pipe::splice_to_pipe(guest, &self.0.writer, bytes).map(|moved| moved as u64);
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
            keeping::note_at_risk(self.at_risk, at_risk);
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
            keeping::gone(key);
        }
    }
}

impl Workspaces {
    /// The staging pipes of those that nobody uses.
    pub(crate) fn stagings(&self) -> Vec<Staging> {
        let spare = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        spare.workspaces.iter().map(|workspace| workspace.staging.clone()).collect()
    }

    /// One is there from the start.
    pub(crate) fn new() -> io::Result<Self> {
        let spare = Spare { workspaces: vec![Workspace::new()?], waiting: 0 };
        Ok(Self(Arc::new((Mutex::new(spare), Condvar::new()))))
    }

    /// One for the time of a job. When none can be made, for want of descriptors, waits for another
    /// job's.
    pub(crate) fn take(&self) -> Workspace {
        let (spare, given_back) = &*self.0;
        let mut spare = spare.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(workspace) = spare.workspaces.pop() {
                return workspace;
            }
            match Workspace::new() {
                Ok(workspace) => return workspace,
                Err(error) => tracing::error!(
                    target: "logging.log_handler", "Unable to make pipes to write a log: {error}"
                ),
            }
            spare.waiting += 1;
            spare = given_back.wait(spare).unwrap_or_else(PoisonError::into_inner);
            spare.waiting -= 1;
        }
    }

    /// Gives one back, empty.
    pub(crate) fn give_back(&self, workspace: Workspace) {
        let (spare, given_back) = &*self.0;
        let mut spare = spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.workspaces.len() < SPARE_WORKSPACES_MAX {
            spare.workspaces.push(workspace);
        }
        // A system call, whether anybody waits or not.
        if spare.waiting > 0 {
            given_back.notify_one();
        }
    }
}

impl Workspace {
    /// An empty one.
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = pipe::pipe()?;
        set_nonblocking(&reader)?;
        if pipe::set_capacity_bytes(&writer, SCRATCH_BYTES).is_err() {
            tracing::debug!(target: "logging.log_handler", "A small pipe has to do for looking");
        }
        let scratch = Scratch { reader, writer, bytes: Vec::new() };
        Ok(Self { staging: Staging::new()?, scratch })
    }
}

impl Scratch {
    /// Copies up to `len` bytes that wait in `pipe` behind those that were copied already.
    fn copy_from(&mut self, pipe: BorrowedFd<'_>, len: usize) -> io::Result<()> {
        let copied = match pipe::tee(pipe, &self.writer, len) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            result => result?,
        };
        let start = self.bytes.len();
        self.bytes.resize(start + copied, 0);
        let mut unread = self.bytes.get_mut(start..).unwrap_or_default();
        while !unread.is_empty() {
            let count = pipe::read(&self.reader, unread)?;
            unread = unread.get_mut(count..).unwrap_or_default();
        }
        Ok(())
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
        Ok(self.guest.intake().takeable()?.min(self.budget.bytes()))
    }

    /// To be called when the log has taken what it could: nothing may be left staged that it should
    /// have taken.
    pub(crate) fn check_stored(&self, file: &RotatingFile) -> Result<(), Error> {
        if self.staging.held() == 0 || (self.is_kept && self.budget.is_over()) {
            return Ok(());
        }
        Err(Error::Write { path: file.path().into(), source: Errno::EIO.into() })
    }

    fn stage(&mut self, len: u64) -> io::Result<()> {
        let len = len.min(self.budget.bytes()).min(MOVE_BYTES_MAX);
        if len == 0 || self.is_kept || self.is_drained {
            return Ok(());
        }
        let taken = match self.guest.intake().move_to(self.staging, len) {
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
        let Self { guest, staging, scratch, is_kept, .. } = self;
        scratch.bytes.clear();
        if staging.held() > 0 {
            scratch.copy_from(staging.reader(), len_max)?;
        }
        let left = len_max - scratch.bytes.len().min(len_max);
        if left > 0 && scratch.bytes.len() as u64 == staging.held() && !*is_kept {
            guest.intake().look_at(|pipe| scratch.copy_from(pipe, left))?;
        }
        Ok(&scratch.bytes)
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
        let spliced = match offset {
            Offset::At(offset) => pipe::splice_to_file(staging.reader(), file, offset, len),
            Offset::End(_) => Err(Errno::EINVAL.into()),
        };
        let stored = match spliced {
            Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {
                copy_to_file(staging, scratch, file, offset, len)?
            }
            result => result?,
        };
        staging.taken(stored);
        self.budget.spend(stored as u64);
        self.guest.progress.note();
        Ok(stored as u64)
    }

    fn has_got_on(&self) {
        self.guest.progress.note();
    }
}

/// For a file that cannot be spliced to. Bytes are copied first and consumed once they are stored.
fn copy_to_file(
    staging: &Staging,
    scratch: &mut Scratch,
    file: BorrowedFd<'_>,
    offset: Offset,
    len: usize,
) -> io::Result<usize> {
    static SAID: Once = Once::new();
    if matches!(offset, Offset::At(_)) {
        SAID.call_once(|| {
            tracing::info!(
                target: "logging.log_handler",
                "A log is on a file system that cannot splice; its bytes are copied"
            );
        });
    }
    scratch.bytes.clear();
    scratch.copy_from(staging.reader(), len)?;
    // Linux appends with `O_APPEND` whatever the offset.
    let offset = i64::try_from(offset.bytes()).map_err(|_| Errno::EFBIG)?;
    let stored = pwrite(file, &scratch.bytes, offset)?;
    let consumed = scratch.bytes.get_mut(..stored).unwrap_or_default();
    pipe::read(staging.reader(), consumed)
}

#[cfg(test)]
mod tests;
