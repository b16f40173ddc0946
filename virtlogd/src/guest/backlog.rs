//! Backlog of a log: the items that it gets before anything new of its guest.
//!
//! Their order: the rest of a line about a loss, the staged bytes, and the line about a loss behind
//! them. So no more bytes are staged once bytes behind them were lost, and none are taken from the
//! guest's pipe while there is a backlog.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::handover::document::Target;

use crate::guest::loss::{self, Loss};
use crate::guest::reason::{Cause, Reason};
use crate::guest::staging::pool::Proved;
use crate::guest::staging::{StagingPipe, StagingPool};
use crate::message::reason_at;

/// Time after which it is tried again to add to a staging pipe that the fd store may lack. It is
/// written to the log meanwhile, as a rule.
const FILLED_PERIOD: Duration = Duration::from_millis(50);

/// The backlog.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Rest of a line about a loss.
    pub(crate) line: Vec<u8>,
    /// Begin of that line in the file, if the process before this one may have written something of
    /// it.
    pub(crate) line_target: Option<Target>,
    pub(crate) staged: VecDeque<StagingPipe>,
    /// A further one, into which bytes are being moved.
    pub(super) filling: Option<StagingPipe>,
    /// A job writes the first of `staged`.
    pub(super) first_in_hand: bool,
    pub(crate) loss: Option<Loss>,
    /// Reason of the last failure to write.
    pub(crate) reason: Reason,
    /// All that was lost, whether the log has a line about it or not.
    pub(super) lost: Option<Loss>,
    pub(super) since: Since,
}

/// Time at which a backlog began.
#[derive(Debug)]
pub(super) struct Since(SystemTime);

impl Default for Since {
    fn default() -> Self {
        Self(SystemTime::now())
    }
}

/// Where bytes of the guest's can be moved to.
#[derive(Debug)]
pub(super) enum Filling {
    Into(StagingPipe),
    /// Nowhere yet where they would outlive this process as they do in the guest's pipe. It may be tried
    /// again after this time.
    Later(Duration),
    /// Nowhere: there is no pipe, or they would overtake a loss.
    Impossible,
}

/// An item of the backlog.
#[derive(Debug)]
pub(crate) enum BacklogItem {
    Line(Vec<u8>),
    Staged(StagingPipe),
    /// A line about a loss, which was not begun.
    Loss,
}

impl Backlog {
    /// Returns whether it is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.is_loss_at_most() && self.loss.is_none()
    }

    /// Returns whether it has nothing but a loss, if that.
    pub(super) fn is_loss_at_most(&self) -> bool {
        self.line.is_empty() && self.staged.is_empty() && self.filling.is_none()
    }

    /// Returns whether there is an item that can be written now.
    pub(super) fn has_items(&self) -> bool {
        !self.line.is_empty() || !self.staged.is_empty() || self.has_loss_to_tell()
    }

    /// Returns whether a loss is the next item. Bytes that are being moved come before it.
    fn has_loss_to_tell(&self) -> bool {
        self.loss.is_some() && self.filling.is_none()
    }

    /// Returns the number of staged bytes.
    pub(super) fn staged_bytes(&self) -> u64 {
        self.staged.iter().chain(&self.filling).map(StagingPipe::held).sum()
    }

    /// Returns the time since which the log could not be written, as far as this process knows.
    pub(crate) fn since(&self) -> SystemTime {
        let loss = self.loss.map_or(self.since.0, |loss| loss.first());
        self.since.0.min(loss)
    }

    /// Returns the number of bytes in it, lost ones included.
    pub(crate) fn bytes(&self) -> u64 {
        // The loss may be another process's word.
        self.staged_bytes().saturating_add(self.loss.map_or(0, |loss| loss.bytes()))
    }

    /// Reports that it cannot be written for good.
    pub(crate) fn abandon(&self, path: &Path) {
        // Lost ones are counted already.
        loss::count(Cause::Abandoned, self.staged_bytes());
        tracing::error!(
            target: "logging.log_handler",
            LIBVIRT_LOG_PATH = %path.display(),
            LIBVIRT_REASON = %self.reason,
            "{} bytes of a guest that has gone are lost for good, its log could not be written: {}",
            self.bytes(), reason_at(&self.reason, path)
        );
    }

    /// Returns a staging pipe to move bytes of the guest's into, which is not written to the log
    /// before [`Self::filled`].
    pub(super) fn begin_filling(&mut self, pool: &StagingPool, is_urgent: bool) -> Filling {
        if self.loss.is_some() {
            return Filling::Impossible;
        }
        // Not into a pipe from which a file may be taking bytes.
        let in_hand = usize::from(self.first_in_hand);
        let last = if self.staged.len() > in_hand { self.staged.pop_back() } else { None };
        let found = match last {
            Some(last) if is_urgent || pool.is_safe(&last) => Ok(Proved::Pipe(last)),
            Some(last) => {
                self.staged.push_back(last);
                Ok(Proved::NotFor(FILLED_PERIOD))
            }
            None if is_urgent => pool.take().map(Proved::Pipe),
            None => pool.take_proved(),
        };
        match found {
            Ok(Proved::Pipe(staging)) => Filling::Into(self.filling.insert(staging).clone()),
            Ok(Proved::NotFor(wait)) => Filling::Later(wait),
            Err(_) => Filling::Impossible,
        }
    }

    /// Adds that staging pipe, unless nothing was moved into it.
    pub(super) fn filled(&mut self, pool: &StagingPool) {
        match self.filling.take() {
            Some(filled) if filled.held() > 0 => self.staged.push_back(filled),
            empty => empty.into_iter().for_each(|empty| pool.give_back(empty)),
        }
    }

    /// Takes over the staged bytes of a job, in front of those that were staged meanwhile.
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
                    target: "logging.log_handler", "Unable to make a pipe for {held} bytes of output, which are lost: {error}"
                );
                staging.discard();
                self.lose(Cause::Descriptors, held);
            }
        }
    }

    /// Returns the first item.
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

    /// Notes that a job has done with the first staging pipe, which it may have emptied.
    pub(super) fn first_is_back(&mut self, pool: &StagingPool) {
        self.first_in_hand = false;
        match self.staged.front() {
            Some(first) if first.held() > 0 => first.put_back(),
            _ => self.staged.pop_front().into_iter().for_each(|empty| pool.give_back(empty)),
        }
    }

    /// Counts bytes that were lost.
    pub(super) fn lose(&mut self, cause: Cause, bytes: u64) {
        loss::count(cause, bytes);
        for loss in [&mut self.loss, &mut self.lost] {
            match loss {
                Some(loss) => loss.add(bytes),
                None => *loss = Some(Loss::new(bytes)),
            }
        }
    }
}
