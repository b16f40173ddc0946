//! The line about a loss. It is recorded before it is written, so that after a kill in between the
//! next process writes the rest of it, and not all of it again.

use std::num::NonZeroU64;

use common::fd_store::slots;
use common::handover::document::Target;
use nix::sys::stat::fstat;

use crate::guest::loss::Loss;
use crate::guest::pipe::GuestPipe;

impl GuestPipe {
    /// Makes the line, which goes to `target`. Returns the loss too, in case that nothing of the
    /// line can be written.
    pub(crate) fn begin_line(
        &mut self,
        at_line_start: bool,
        target: Target,
    ) -> Option<(Loss, Vec<u8>)> {
        let backlog = self.backlog.as_mut()?;
        let loss = backlog.loss.take()?;
        backlog.line = loss.line(&backlog.reason.text, at_line_start);
        let line = backlog.line.clone();
        // Under the lock: a record of the log has the loss, or the line and its order.
        self.note_line(target);
        Some((loss, line))
    }

    /// Records that the rest of a line is about to be written to `target`.
    pub(crate) fn note_line(&mut self, target: Target) {
        let order = self.line_order().map_or(0, NonZeroU64::get);
        let Some(backlog) = &mut self.backlog else { return };
        backlog.line_target = None;
        let line = slots::Line {
            order,
            pipe_inode: fstat(&self.fd).map_or(0, |stat| stat.st_ino),
            target,
            left_bytes: backlog.loss.map_or(0, |loss| loss.bytes()),
            text: backlog.line.clone(),
        };
        let order = self.pool.records().set_line(self.key, line).and_then(NonZeroU64::new);
        self.set_line_order(order);
    }

    /// Returns a line of which something may be in the file already, and where it begins there.
    pub(crate) fn doubtful_line(&self) -> Option<(Vec<u8>, Target)> {
        let backlog = self.backlog.as_ref()?;
        Some((backlog.line.clone(), backlog.line_target?))
    }

    /// Notes that the line is written except for `rest`.
    pub(crate) fn line_is_written(&mut self, rest: &[u8]) {
        if let Some(backlog) = &mut self.backlog {
            (backlog.line, backlog.line_target) = (rest.to_vec(), None);
        }
    }

    /// Notes that `line` could not be written. If nothing of it was, it is made anew later, with
    /// the bytes lost meanwhile, unless bytes were staged behind it.
    pub(crate) fn line_has_failed(&mut self, loss: Loss, line: &[u8]) {
        if let Some(backlog) = &mut self.backlog
            && backlog.staged.is_empty()
            && backlog.line == line
        {
            backlog.line.clear();
            backlog.loss = Some(backlog.loss.map_or(loss, |later| loss.and(later)));
        }
    }
}
