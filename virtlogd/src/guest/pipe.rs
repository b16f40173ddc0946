//! What a guest has written and what its log is owed, as far as it is not on its way into the file.
//!
//! A log's job and the loop share this: while the job cannot write, because of an error or because
//! the file system does not answer, one of them keeps the guest from waiting. Nothing is read from
//! the guest at first: bytes stay in its pipe. Only when that would fill, and the guest wait, they
//! are moved into a staging pipe of the log's own, and when that is full too they are dropped and
//! counted. When writing works again, a line in the log says how many. The guest notices nothing of
//! all this.
//!
//! What the log gets, in this order: what a job has staged, the rest of a line about a loss, the
//! bytes that were kept, the line about what was lost behind them, and then whatever the guest's pipe
//! holds. So nothing more is kept once something behind it was lost, and nothing is taken from the
//! guest's pipe while anything is owed.
//!
//! The lock is never held while anything is done to a file, nor is a pipe touched from which a file
//! may be taking bytes.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use common::event::Registered;
use common::handover::document::LogDirectory;
use common::handover::marks::Target;
use common::sys::pipe;

use crate::guest::backlog::{Backlog, BacklogItem};
use crate::guest::loss::Loss;
use crate::guest::loss_report::LossReport;
use crate::guest::rate::RateTracker;
use crate::guest::staging::{StagingPipe, StagingPool};

/// The guest's pipe and what is owed to the log in front of it.
#[derive(Debug)]
pub(crate) struct GuestPipe {
    pub(crate) fd: Registered<Arc<OwnedFd>>,
    pub(crate) rate: RateTracker,
    /// What a job has staged, or is about to stage.
    pub(crate) in_hand: Option<StagingPipe>,
    pub(super) backlog: Option<Box<Backlog>>,
    /// Source of staging pipes.
    pub(super) pool: Arc<StagingPool>,
    /// The log's key in the fd store.
    pub(crate) key: Option<u64>,
    /// Bytes that a process before this one was writing when it ended, and where to.
    pub(crate) in_writing: Option<Box<(u64, Target)>>,
    /// `None` until something was lost.
    pub(crate) report: Option<Box<LossReport>>,
    /// Order of the last line about a loss that was recorded.
    pub(crate) line_order: Option<u64>,
    /// Where the log was opened, if that has been seen.
    pub(crate) directory: Option<LogDirectory>,
}

/// What is noted of a log: what it is owed, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JournalState {
    loss_bytes: u64,
    line_bytes: usize,
    in_writing: Option<Box<(u64, Target)>>,
    directory: Option<LogDirectory>,
}

/// What can be expected of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputState {
    /// Something is owed to its log.
    Backlog,
    /// There is nothing at present.
    Empty,
    /// Bytes wait.
    Waiting,
    /// There will be nothing ever again.
    AtEnd,
}

impl GuestPipe {
    /// Nothing is owed. `pipe` holds so many bytes.
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
            line_order: None,
            directory: None,
        }
    }

    /// Returns the source of its staging pipes.
    pub(crate) fn pool(&self) -> Arc<StagingPool> {
        Arc::clone(&self.pool)
    }

    /// What can be expected. What is in the pipe counts if its bytes may be taken.
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

    /// Whether something is owed to the log.
    pub(crate) fn has_backlog(&self) -> bool {
        self.in_writing.is_some()
            || self.backlog.as_ref().is_some_and(|backlog| !backlog.is_empty())
    }

    /// Whether anything was kept that is to be written before more is fetched.
    pub(crate) fn has_staged(&self) -> bool {
        self.backlog.as_ref().is_some_and(|backlog| backlog.staged_bytes() > 0)
    }

    /// Bytes that were kept.
    pub(crate) fn staged_bytes(&self) -> u64 {
        self.backlog.as_ref().map_or(0, |backlog| backlog.staged_bytes())
    }

    /// Bytes that are not in the log and of which the log does not say so, with so many in the pipe.
    pub(crate) fn unwritten_bytes(&self, waiting: u64) -> u64 {
        let in_writing = self.in_writing.as_ref().map_or(0, |in_writing| in_writing.0);
        waiting + in_writing + self.backlog.as_ref().map_or(0, |backlog| backlog.bytes())
    }

    /// A pipe of the log's own to move bytes of the guest's into, which nobody writes to the log before
    /// [`Self::filled`]. `None` if there is none, or they would overtake what was lost.
    pub(crate) fn begin_filling(&mut self) -> Option<StagingPipe> {
        self.backlog.get_or_insert_default().begin_filling(&self.pool)
    }

    /// What was moved into that pipe is owed to the log.
    pub(crate) fn filled(&mut self) {
        self.backlog.as_mut().into_iter().for_each(|backlog| backlog.filled());
    }

    /// So many bytes of the guest's were dropped, for `reason`.
    pub(crate) fn drop_bytes(&mut self, dropped: u64, reason: &str, path: &Path) {
        if dropped == 0 {
            return;
        }
        let Self { backlog, report, .. } = self;
        let backlog = backlog.get_or_insert_default();
        if backlog.loss.is_none() {
            if report.get_or_insert_default().begin_warning(Instant::now()) {
                tracing::error!(
                    target: "logging.log_handler",
                    "Output for {} is being lost: {reason}", path.display()
                );
            }
            reason.clone_into(&mut backlog.reason);
        }
        backlog.lose(dropped);
    }

    /// Everything that the log is owed.
    pub(crate) fn take_backlog(&mut self) -> Option<Box<Backlog>> {
        self.backlog.take_if(|backlog| !backlog.is_empty())
    }

    /// The log is owed what one at the same path before it was.
    pub(crate) fn inherit(&mut self, backlog: Box<Backlog>) {
        let key = self.key;
        self.backlog.insert(backlog).staged.iter().for_each(|staging| staging.set_owner(key));
    }

    /// Writing has failed for `reason`. Takes over what was staged, since others need the pipe
    /// that it is in.
    pub(crate) fn keep(&mut self, reason: &str, staging: &mut StagingPipe) {
        reason.clone_into(&mut self.backlog.get_or_insert_default().reason);
        self.take_staged(staging);
    }

    /// Takes over what was staged.
    pub(crate) fn take_staged(&mut self, staging: &mut StagingPipe) {
        self.backlog.get_or_insert_default().take_staged(staging, &self.pool);
    }

    /// What is to be written next, if anything is owed.
    pub(crate) fn next_item(&mut self) -> Option<BacklogItem> {
        self.backlog.as_mut()?.next_item()
    }

    /// A job is done with the first pipe of kept bytes, which it may have emptied.
    pub(crate) fn first_is_back(&mut self) {
        self.backlog.as_mut().into_iter().for_each(|backlog| backlog.first_is_back());
    }

    /// Goes on with what an earlier image of this process owed.
    pub(crate) fn restore(
        &mut self,
        (line, line_target): (Vec<u8>, Option<Target>),
        kept: VecDeque<StagingPipe>,
        loss: Option<Loss>,
        reason: String,
    ) {
        let lost_bytes = loss.map_or(0, |loss| loss.bytes());
        let rest = Backlog { line, line_target, ..Backlog::default() };
        let backlog = Backlog { staged: kept, loss, reason, lost_bytes, ..rest };
        self.backlog = (!backlog.is_empty()).then(|| Box::new(backlog));
    }

    /// The file that is gone on with is `inode` and has this size: what of the bytes that were being
    /// written is not in it is lost.
    pub(crate) fn see_written(&mut self, inode: u64, size_bytes: u64) {
        let Some((bytes, target)) = self.in_writing.take().map(|it| *it) else { return };
        let grown_by = size_bytes.saturating_sub(target.size_bytes);
        let written = if target.inode == inode { grown_by.min(bytes) } else { 0 };
        if written < bytes {
            let backlog = self.backlog.get_or_insert_default();
            if backlog.loss.is_none() {
                "the daemon has ended in between".clone_into(&mut backlog.reason);
            }
            backlog.lose(bytes - written);
        }
    }

    /// Sets the log's key in the fd store.
    pub(crate) fn set_key(&mut self, key: Option<u64>) {
        self.key = key;
        self.stagings().for_each(|staging| staging.set_owner(key));
    }

    /// Changes when what is owed does, kept bytes aside.
    pub(crate) fn journal_state(&self) -> JournalState {
        let backlog = self.backlog.as_ref();
        JournalState {
            loss_bytes: backlog.and_then(|backlog| backlog.loss).map_or(0, |loss| loss.bytes()),
            line_bytes: backlog.map_or(0, |backlog| backlog.line.len()),
            in_writing: self.in_writing.clone(),
            directory: self.directory,
        }
    }

    /// Pipes of ours that have bytes of the guest's, or are about to get some.
    pub(crate) fn stagings(&self) -> impl Iterator<Item = &StagingPipe> {
        let backlog = self.backlog.iter();
        let kept = backlog.flat_map(|backlog| backlog.staged.iter().chain(&backlog.filling));
        self.in_hand.iter().chain(kept)
    }

    /// The process is about to end: what is in pipes that are not in the fd store is lost with it.
    pub(crate) fn lose_unstored(&mut self) {
        let is_lost = |staging: &StagingPipe| staging.key().is_none() && staging.held() > 0;
        let in_hand = self.in_hand.take_if(|staging| is_lost(staging));
        let kept = self.backlog.iter().flat_map(|backlog| &backlog.staged);
        let lost = in_hand.iter().chain(kept).filter(|staging| is_lost(staging));
        let bytes = lost.map(StagingPipe::held).sum();
        if bytes > 0 {
            let backlog = self.backlog.get_or_insert_default();
            backlog.staged.retain(|staging| !is_lost(staging));
            backlog.lose(bytes);
        }
    }

    /// What is owed, for another image of this process.
    pub(crate) fn backlog(&self) -> Option<&Backlog> {
        self.backlog.as_deref()
    }

    /// Forgets about backlog that are settled; gives how much was lost in all.
    pub(crate) fn take_settled(&mut self) -> Option<u64> {
        let backlog = self.backlog.take_if(|backlog| backlog.is_empty())?;
        Some(backlog.lost_bytes)
    }
}

#[cfg(test)]
pub(crate) mod tests;
