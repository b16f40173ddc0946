//! Backlog of a log: what it gets before anything new of its guest.
//!
//! In this order: the rest of a line about a loss, the bytes that were kept, and the line about what was
//! lost behind them. So nothing more is kept once something behind it was lost, and nothing is taken
//! from the guest's pipe while there is a backlog.

use std::collections::VecDeque;
use std::path::Path;

use common::handover::marks::Target;

use crate::guest::loss::{self, Loss};
use crate::guest::staging::{StagingPipe, StagingPool};

/// What a log is owed.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// The rest of a line about a loss.
    pub(crate) line: Vec<u8>,
    /// Where that begins, if a process before this one may have written something of it.
    pub(crate) line_target: Option<Target>,
    pub(crate) staged: VecDeque<StagingPipe>,
    /// One behind those that bytes are being moved into.
    pub(super) filling: Option<StagingPipe>,
    /// A job writes the first of the kept ones.
    pub(super) first_in_hand: bool,
    pub(crate) loss: Option<Loss>,
    /// Why writing did not work the last time.
    pub(crate) reason: String,
    /// Everything that was lost, told or not.
    pub(super) lost_bytes: u64,
}

/// The next thing that a log is owed.
#[derive(Debug)]
pub(crate) enum BacklogItem {
    Line(Vec<u8>),
    Staged(StagingPipe),
    /// A line about a loss that was not begun.
    Loss,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
            && self.staged.is_empty()
            && self.filling.is_none()
            && self.loss.is_none()
    }

    /// Whether there is something that can be written now.
    pub(super) fn has_items(&self) -> bool {
        !self.line.is_empty() || !self.staged.is_empty() || self.has_loss_to_tell()
    }

    /// What is being moved comes before a loss.
    fn has_loss_to_tell(&self) -> bool {
        self.loss.is_some() && self.filling.is_none()
    }

    pub(super) fn staged_bytes(&self) -> u64 {
        self.staged.iter().chain(&self.filling).map(StagingPipe::held).sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.staged_bytes() + self.loss.map_or(0, |loss| loss.bytes())
    }

    /// It cannot be written for good; the daemon's log is told.
    pub(crate) fn give_up(&self, path: &Path) {
        loss::count(self.bytes());
        tracing::error!(
            target: "logging.log_handler",
            "{} bytes of a guest that has gone are lost for good, its log {} could not be written: {}",
            self.bytes(), path.display(), self.reason
        );
    }

    /// Returns a pipe to move bytes of the guest's into, which no job writes to the log before
    /// [`Self::filled`]. `None` if there is none, or they would overtake what was lost.
    pub(super) fn begin_filling(&mut self, pool: &StagingPool) -> Option<StagingPipe> {
        if self.loss.is_some() {
            return None;
        }
        // Not into a pipe from which a file may be taking bytes.
        let in_hand = usize::from(self.first_in_hand);
        let last = if self.staged.len() > in_hand { self.staged.pop_back() } else { None };
        self.filling = last.or_else(|| pool.take().ok());
        self.filling.clone()
    }

    /// Appends what was moved into that pipe.
    pub(super) fn filled(&mut self) {
        self.staged.extend(self.filling.take().filter(|staging| staging.held() > 0));
    }

    /// Takes over what was staged, in front of what was kept meanwhile.
    pub(super) fn take_staged(&mut self, staging: &mut StagingPipe, pool: &StagingPool) {
        self.first_in_hand = false;
        let held = staging.held();
        if held == 0 {
            return;
        }
        staging.put_back();
        match pool.take() {
            Ok(fresh) => self.staged.push_front(std::mem::replace(staging, fresh)),
            Err(error) => {
                tracing::error!(
                    target: "logging.log_handler", "No pipe to keep {held} bytes in: {error}"
                );
                staging.discard();
                self.lose(held);
            }
        }
    }

    /// Returns what is to be written next.
    pub(super) fn next_item(&mut self) -> Option<BacklogItem> {
        if !self.line.is_empty() {
            return Some(BacklogItem::Line(self.line.clone()));
        }
        if let Some(first) = self.staged.front() {
            self.first_in_hand = true;
            return Some(BacklogItem::Staged(first.clone()));
        }
        self.has_loss_to_tell().then_some(BacklogItem::Loss)
    }

    /// Notes that a job is done with the first pipe of kept bytes, which it may have emptied.
    pub(super) fn first_is_back(&mut self) {
        self.first_in_hand = false;
        match self.staged.front() {
            Some(first) if first.held() > 0 => first.put_back(),
            _ => drop(self.staged.pop_front()),
        }
    }

    /// Counts bytes that were lost.
    pub(super) fn lose(&mut self, bytes: u64) {
        loss::count(bytes);
        self.lost_bytes = self.lost_bytes.saturating_add(bytes);
        match &mut self.loss {
            Some(loss) => loss.add(bytes),
            None => self.loss = Some(Loss::new(bytes)),
        }
    }
}
