//! Backlog of a log: what it gets before anything new of its guest.
//!
//! In this order: the rest of a line about a loss, the bytes that were kept, and the line about what was
//! lost behind them. So nothing more is kept once something behind it was lost, and nothing is taken
//! from the guest's pipe while there is a backlog.

use std::collections::VecDeque;
use std::path::Path;

use common::handover::marks::Target;

use crate::guest::loss::{self, Loss};
use crate::guest::staging::{Staging, StagingPool};

/// What a log is owed.
#[derive(Debug, Default)]
pub(crate) struct Arrears {
    /// The rest of a line about a loss.
    pub(crate) line: Vec<u8>,
    /// Where that begins, if a process before this one may have written something of it.
    pub(crate) line_target: Option<Target>,
    pub(crate) kept: VecDeque<Staging>,
    /// One behind those that bytes are being moved into.
    pub(super) filling: Option<Staging>,
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
pub(crate) enum Debt {
    Line(Vec<u8>),
    Kept(Staging),
    /// A line about a loss that was not begun.
    Loss,
}

impl Arrears {
    pub(super) fn are_settled(&self) -> bool {
        self.line.is_empty()
            && self.kept.is_empty()
            && self.filling.is_none()
            && self.loss.is_none()
    }

    /// Whether there is something that can be written now.
    pub(super) fn have_debt(&self) -> bool {
        !self.line.is_empty() || !self.kept.is_empty() || self.has_loss_to_tell()
    }

    /// What is being moved comes before a loss.
    fn has_loss_to_tell(&self) -> bool {
        self.loss.is_some() && self.filling.is_none()
    }

    pub(super) fn kept_bytes(&self) -> u64 {
        self.kept.iter().chain(&self.filling).map(Staging::held).sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.kept_bytes() + self.loss.map_or(0, |loss| loss.bytes())
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
    pub(super) fn begin_filling(&mut self, pool: &StagingPool) -> Option<Staging> {
        if self.loss.is_some() {
            return None;
        }
        // Not into a pipe from which a file may be taking bytes.
        let in_hand = usize::from(self.first_in_hand);
        let last = if self.kept.len() > in_hand { self.kept.pop_back() } else { None };
        self.filling = last.or_else(|| pool.take().ok());
        self.filling.clone()
    }

    /// Appends what was moved into that pipe.
    pub(super) fn filled(&mut self) {
        self.kept.extend(self.filling.take().filter(|staging| staging.held() > 0));
    }

    /// Takes over what was staged, in front of what was kept meanwhile.
    pub(super) fn keep_staged(&mut self, staging: &mut Staging, pool: &StagingPool) {
        self.first_in_hand = false;
        let held = staging.held();
        if held == 0 {
            return;
        }
        staging.put_back();
        match pool.take() {
            Ok(fresh) => self.kept.push_front(std::mem::replace(staging, fresh)),
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
    pub(super) fn next_debt(&mut self) -> Option<Debt> {
        if !self.line.is_empty() {
            return Some(Debt::Line(self.line.clone()));
        }
        if let Some(first) = self.kept.front() {
            self.first_in_hand = true;
            return Some(Debt::Kept(first.clone()));
        }
        self.has_loss_to_tell().then_some(Debt::Loss)
    }

    /// Notes that a job is done with the first pipe of kept bytes, which it may have emptied.
    pub(super) fn first_is_back(&mut self) {
        self.first_in_hand = false;
        match self.kept.front() {
            Some(first) if first.held() > 0 => first.put_back(),
            _ => drop(self.kept.pop_front()),
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
