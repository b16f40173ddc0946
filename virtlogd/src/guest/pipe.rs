//! A guest's pipe, and the backlog in front of it.
//!
//! A log's job and the loop share this. While the job cannot write, because of an error or because
//! the file system does not answer, one of them keeps the guest from waiting. Nothing is read from
//! the guest at first: bytes stay in its pipe. When that is about to fill they are moved into a
//! staging pipe of the log's own, and when that is full too they are dropped and counted. When
//! writing works again, a line in the log says how many. The guest notices nothing of all this.
//!
//! Order of the bytes in a log: those that a job has staged, the [backlog](Backlog), and then those
//! in the guest's pipe.
//!
//! The lock is never held while anything is done to a file, nor is a pipe touched from which a file
//! may be taking bytes.

use crate::sync::Arc;
use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::Instant;

use common::event::Registered;
use common::handover::document::Target;
use common::sys::pipe;

use crate::guest::activity::Activity;
use crate::guest::backlog::{Backlog, BacklogItem, Filling};
use crate::guest::loss::Loss;
use crate::guest::loss_report::LossReport;
use crate::guest::rate::RateTracker;
use crate::guest::reason::{Cause, Reason};
use crate::guest::staging::{StagingPipe, StagingPool};
use crate::rotating_file::SharedDirectory;

/// State of a guest's pipe.
#[derive(Debug)]
pub(crate) struct GuestPipe {
    pub(crate) fd: Registered<Arc<OwnedFd>>,
    pub(crate) rate: RateTracker,
    /// Bytes that a job has staged, or is about to stage.
    pub(crate) in_hand: Option<StagingPipe>,
    pub(super) backlog: Option<Box<Backlog>>,
    /// Source of staging pipes.
    pub(super) pool: Arc<StagingPool>,
    /// Key of the log in the fd store.
    pub(crate) key: Option<u64>,
    /// Bytes that the process before this one was writing when it ended, and their target.
    pub(crate) in_writing: Option<Box<(u64, Target)>>,
    /// Reports of losses in the daemon's own log; `None` until something was lost.
    pub(crate) report: Option<Box<LossReport>>,
    /// Directory in which the log was opened, once that is known.
    pub(crate) directory: Option<SharedDirectory>,
    /// For who looks into the daemon.
    pub(crate) activity: Activity,
}

/// State of a log that the journal has. The log is stored again when it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JournalState {
    loss_bytes: u64,
    line_bytes: usize,
    in_writing: Option<Box<(u64, Target)>>,
    directory: Option<SharedDirectory>,
}

/// Input that can be written to a guest's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputState {
    /// The backlog.
    Backlog,
    /// Nothing at present.
    Empty,
    /// Bytes in the guest's pipe.
    Waiting,
    /// Nothing ever again.
    AtEnd,
}

impl GuestPipe {
    /// Makes one without a backlog, for a pipe of `capacity_bytes`.
    pub(crate) fn new(
        fd: Registered<Arc<OwnedFd>>,
        capacity_bytes: usize,
        pool: Arc<StagingPool>,
    ) -> Self {
        Self {
            fd,
            pool,
            rate: RateTracker::new(capacity_bytes, Instant::now()),
            in_hand: None,
            backlog: None,
            key: None,
            in_writing: None,
            report: None,
            directory: None,
            activity: Activity::default(),
        }
    }

    /// Returns the source of its staging pipes.
    pub(crate) fn pool(&self) -> Arc<StagingPool> {
        Arc::clone(&self.pool)
    }

    /// Returns what can be written to the log. Bytes in the pipe count if they may be taken.
    pub(crate) fn state(&self, is_direct: bool) -> io::Result<InputState> {
        let backlog = self.backlog.as_ref();
        if self.in_writing.is_some() || backlog.is_some_and(|backlog| backlog.has_items()) {
            return Ok(InputState::Backlog);
        }
        let is_filling = backlog.is_some_and(|backlog| backlog.filling.is_some());
        Ok(match pipe::state(&self.fd)? {
            pipe::State::Waiting if is_direct && !is_filling => InputState::Waiting,
            pipe::State::AtEnd if !is_filling => InputState::AtEnd,
            _ => InputState::Empty,
        })
    }

    /// Returns whether there is a backlog.
    pub(crate) fn has_backlog(&self) -> bool {
        self.in_writing.is_some()
            || self.backlog.as_ref().is_some_and(|backlog| !backlog.is_empty())
    }

    /// Returns whether a loss is all that the log gets before the bytes in the pipe, if anything.
    pub(crate) fn has_loss_at_most(&self) -> bool {
        self.in_writing.is_none()
            && self.backlog.as_ref().is_none_or(|backlog| backlog.is_loss_at_most())
    }

    /// Returns whether the backlog has bytes that are to be written before more are fetched.
    pub(crate) fn has_staged(&self) -> bool {
        self.backlog.as_ref().is_some_and(|backlog| backlog.staged_bytes() > 0)
    }

    /// Returns the number of staged bytes in the backlog.
    pub(crate) fn staged_bytes(&self) -> u64 {
        self.backlog.as_ref().map_or(0, |backlog| backlog.staged_bytes())
    }

    /// Returns the number of bytes that are neither in the log nor reported there as lost, with
    /// `waiting` bytes in the pipe.
    pub(crate) fn unwritten_bytes(&self, waiting: u64) -> u64 {
        let in_writing = self.in_writing.as_ref().map_or(0, |in_writing| in_writing.0);
        let backlog = self.backlog.as_ref().map_or(0, |backlog| backlog.bytes());
        waiting.saturating_add(in_writing).saturating_add(backlog)
    }

    /// Returns the number of lost bytes that the log has no line about.
    pub(crate) fn untold_bytes(&self) -> u64 {
        let loss = self.backlog.as_ref().and_then(|backlog| backlog.loss);
        loss.map_or(0, |loss| loss.bytes())
    }

    /// Returns a staging pipe to move bytes of the guest's into, which is not written to the log
    /// before [`Self::filled`]. It is one that is in the fd store for certain, unless that
    /// `is_urgent`.
    pub(super) fn begin_filling(&mut self, is_urgent: bool) -> Filling {
        let backlog = self.backlog.get_or_insert_default();
        let filling = backlog.begin_filling(&self.pool, is_urgent);
        if let Filling::Into(staging) = &filling {
            staging.prepare(self.key);
        }
        filling
    }

    /// Adds that staging pipe to the backlog.
    pub(crate) fn filled(&mut self) {
        let Self { backlog, pool, .. } = self;
        backlog.as_mut().into_iter().for_each(|backlog| backlog.filled(pool));
    }

    /// Counts bytes of the guest's that were dropped, for `reason`. Returns whether a warning is due.
    pub(crate) fn lose(&mut self, dropped: u64, reason: &Reason) -> bool {
        if dropped == 0 {
            return false;
        }
        let Self { backlog, report, .. } = self;
        let backlog = backlog.get_or_insert_default();
        let is_first = backlog.loss.is_none();
        if is_first {
            reason.clone_into(&mut backlog.reason);
        }
        backlog.lose(reason.cause, dropped);
        is_first && report.get_or_insert_default().begin_warning(Instant::now())
    }

    /// Takes the backlog, unless it is empty.
    pub(crate) fn take_backlog(&mut self) -> Option<Box<Backlog>> {
        self.backlog.take_if(|backlog| !backlog.is_empty())
    }

    /// Takes over the backlog of an earlier log at the same path.
    pub(crate) fn inherit(&mut self, backlog: Box<Backlog>) {
        let key = self.key;
        self.backlog.insert(backlog).staged.iter().for_each(|staging| staging.set_owner(key));
    }

    /// Notes that writing has failed for `reason`. Takes over the staged bytes, since other logs
    /// need the pipe that they are in.
    pub(crate) fn note_failure(&mut self, reason: &Reason, staging: &mut StagingPipe) {
        reason.clone_into(&mut self.backlog.get_or_insert_default().reason);
        self.take_staged(staging);
    }

    /// Takes over the staged bytes.
    pub(crate) fn take_staged(&mut self, staging: &mut StagingPipe) {
        self.backlog.get_or_insert_default().take_staged(staging, &self.pool);
    }

    /// Returns the first item of the backlog.
    pub(crate) fn next_item(&mut self) -> Option<BacklogItem> {
        self.backlog.as_mut()?.next_item()
    }

    /// Notes that a job has done with the first staging pipe, which it may have emptied.
    pub(crate) fn first_is_back(&mut self) {
        let Self { backlog, pool, .. } = self;
        backlog.as_mut().into_iter().for_each(|backlog| backlog.first_is_back(pool));
    }

    /// Restores the backlog of the process before this one.
    pub(crate) fn restore(
        &mut self,
        (line, line_target): (Vec<u8>, Option<Target>),
        staged: VecDeque<StagingPipe>,
        loss: Option<Loss>,
        reason: Reason,
    ) {
        let rest = Backlog { line, line_target, ..Backlog::default() };
        let backlog = Backlog { staged, loss, reason, lost: loss, ..rest };
        self.backlog = (!backlog.is_empty()).then(|| Box::new(backlog));
    }

    /// Compares the bytes that the process before this one was writing with the file, which is
    /// `inode` and has this size. Bytes that are not in it are lost.
    pub(crate) fn see_written(&mut self, inode: u64, size_bytes: u64) {
        let Some((bytes, target)) = self.in_writing.take().map(|it| *it) else { return };
        let grown_by = size_bytes.saturating_sub(target.size_bytes);
        let written = if target.inode == inode { grown_by.min(bytes) } else { 0 };
        if written < bytes {
            let backlog = self.backlog.get_or_insert_default();
            if backlog.loss.is_none() {
                backlog.reason = Reason::new(Cause::Crash, "the daemon has ended in between");
            }
            backlog.lose(Cause::Crash, bytes - written);
        }
    }

    /// Sets the log's key in the fd store.
    pub(crate) fn set_key(&mut self, key: Option<u64>) {
        self.key = key;
        self.stagings().for_each(|staging| staging.set_owner(key));
    }

    /// Notes the directory in which the log was opened, which never changes.
    pub(crate) fn note_directory(&mut self, directory: Option<&SharedDirectory>) {
        if self.directory.is_none() {
            self.directory = directory.cloned();
        }
    }

    /// Returns the state for the journal.
    pub(crate) fn journal_state(&self) -> JournalState {
        let backlog = self.backlog.as_ref();
        JournalState {
            loss_bytes: backlog.and_then(|backlog| backlog.loss).map_or(0, |loss| loss.bytes()),
            line_bytes: backlog.map_or(0, |backlog| backlog.line.len()),
            in_writing: self.in_writing.clone(),
            directory: self.directory.clone(),
        }
    }

    /// Returns the staging pipes that have bytes of the guest's, or are about to get some.
    pub(crate) fn stagings(&self) -> impl Iterator<Item = &StagingPipe> {
        let backlog = self.backlog.iter();
        let staged = backlog.flat_map(|backlog| backlog.staged.iter().chain(&backlog.filling));
        self.in_hand.iter().chain(staged)
    }

    /// Counts bytes in pipes that are not in the fd store as lost: the process is about to end.
    pub(crate) fn lose_unstored(&mut self) {
        let is_lost = |staging: &StagingPipe| staging.key().is_none() && staging.held() > 0;
        let in_hand = self.in_hand.take_if(|staging| is_lost(staging));
        let staged = self.backlog.iter().flat_map(|backlog| &backlog.staged);
        let lost = in_hand.iter().chain(staged).filter(|staging| is_lost(staging));
        let bytes = lost.map(StagingPipe::held).sum();
        if bytes > 0 {
            let backlog = self.backlog.get_or_insert_default();
            backlog.staged.retain(|staging| !is_lost(staging));
            backlog.lose(Cause::Stop, bytes);
        }
    }

    /// Returns the order of the last line about a loss that was recorded.
    pub(crate) fn line_order(&self) -> Option<NonZeroU64> {
        self.report.as_ref()?.line_order
    }

    /// Sets that order, if there is one.
    pub(crate) fn set_line_order(&mut self, order: Option<NonZeroU64>) {
        if order.is_some() {
            self.report.get_or_insert_default().line_order = order;
        }
    }

    /// Returns the number of bytes that were lost since this process has the log, and of those
    /// before that its file does not tell of.
    pub(crate) fn lost_bytes(&self) -> u64 {
        let told = self.report.as_ref().map_or(0, |report| report.told_bytes());
        let untold = self.backlog.as_ref().and_then(|backlog| backlog.lost);
        told.saturating_add(untold.map_or(0, |lost| lost.bytes()))
    }

    /// Returns the backlog.
    pub(crate) fn backlog(&self) -> Option<&Backlog> {
        self.backlog.as_deref()
    }

    /// Drops an empty backlog, and returns all that was lost.
    pub(crate) fn finish_backlog(&mut self) -> Option<Loss> {
        self.backlog.take_if(|backlog| backlog.is_empty())?.lost
    }
}

#[cfg(test)]
pub(crate) mod tests;
