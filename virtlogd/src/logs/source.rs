//! Bytes of a guest as a source for its log's file.

use std::io;
use std::os::fd::BorrowedFd;

use common::sys::calls;
use nix::errno::Errno;

use crate::guest::access::Guest;
use crate::guest::staging::{MOVE_BYTES_MAX, Scratch, StagingPipe};
use crate::logs::turn_budget::TurnBudget;
use crate::rotating_file::{Error, Offset, RotatingFile, Source};

/// Staged bytes, and those in the guest's pipe behind them.
#[derive(Debug)]
pub(crate) struct GuestBytes<'a> {
    guest: &'a Guest,
    staging: &'a StagingPipe,
    scratch: &'a mut Scratch,
    pub(crate) budget: TurnBudget,
    /// Only the staged bytes count, and no more of them than the budget allows.
    is_backlog: bool,
    /// Bytes taken from the guest's pipe.
    pub(crate) taken: u64,
    /// The guest's pipe had fewer bytes than were asked for. Those that have come since are for
    /// later.
    is_drained: bool,
}

impl<'a> GuestBytes<'a> {
    /// Makes a source of all staged bytes, and of those in the guest's pipe.
    pub(crate) fn new(
        guest: &'a Guest,
        staging: &'a StagingPipe,
        scratch: &'a mut Scratch,
        budget: TurnBudget,
    ) -> Self {
        Self { guest, staging, scratch, budget, is_backlog: false, taken: 0, is_drained: false }
    }

    /// Makes a source of the bytes in a staging pipe of the backlog.
    pub(crate) fn of_backlog(
        guest: &'a Guest,
        staging: &'a StagingPipe,
        scratch: &'a mut Scratch,
        budget: TurnBudget,
    ) -> Self {
        Self { is_backlog: true, ..Self::new(guest, staging, scratch, budget) }
    }

    /// Returns the number of bytes that may be taken from the guest's pipe.
    fn takeable(&self) -> io::Result<u64> {
        if self.is_backlog || self.is_drained || self.budget.is_over() {
            return Ok(0);
        }
        Ok(self.guest.takeable()?.min(self.budget.bytes()))
    }

    /// Checks, when the log has taken what it could, that nothing is left staged that it should
    /// have taken.
    pub(crate) fn check_stored(&self, file: &RotatingFile) -> Result<(), Error> {
        if self.staging.held() == 0 || (self.is_backlog && self.budget.is_over()) {
            return Ok(());
        }
        Err(Error::Write { path: file.path().into(), source: Errno::EIO.into() })
    }

    /// Copies the first bytes, of the staged ones and those behind them.
    fn look_ahead(&mut self, len_max: usize) -> io::Result<()> {
        let Self { guest, staging, scratch, is_backlog, .. } = self;
        scratch.bytes.clear();
        scratch.bytes.extend(staging.first_in_front(len_max));
        let left = len_max - scratch.bytes.len();
        if left > 0 && staging.held() > scratch.bytes.len() as u64 {
            scratch.copy_from(staging.reader(), left)?;
        }
        let left = len_max - scratch.bytes.len().min(len_max);
        if left > 0 && scratch.bytes.len() as u64 == staging.held() && !*is_backlog {
            guest.look_at(|pipe| scratch.copy_from(pipe, left))?;
        }
        Ok(())
    }

    /// Does the same where bytes have to be taken to be looked at.
    fn read_ahead(&mut self, len_max: usize) -> io::Result<()> {
        self.stage((len_max as u64).saturating_sub(self.staging.held()))?;
        self.scratch.bytes = self.staging.read_first(len_max)?;
        Ok(())
    }

    fn stage(&mut self, len: u64) -> io::Result<()> {
        let len = len.min(self.budget.bytes()).min(MOVE_BYTES_MAX);
        if len == 0 || self.is_backlog || self.is_drained {
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
        Ok(if self.is_backlog { held.min(self.budget.bytes()) } else { held + self.takeable()? })
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
        let stored = staging.write_to(file, offset, len, scratch)?;
        self.budget.spend(stored as u64);
        self.guest.progress.note();
        Ok(stored as u64)
    }

    fn note_progress(&self) {
        self.guest.progress.note();
    }
}

#[cfg(test)]
mod tests;
