//! The line about what was lost: made, written, and noted before that, so that a kill in between makes
//! the next process write what is left of it, and not all of it again.

use common::handover::marks::{self, Target};
use nix::sys::stat::fstat;

use crate::guest::loss::Loss;
use crate::guest::pipe::Intake;

impl Intake {
    /// Makes the line about what was lost, which goes to `target`, and gives the loss in case that
    /// nothing of it can be written.
    pub(crate) fn begin_line(
        &mut self,
        at_line_start: bool,
        target: Target,
    ) -> Option<(Loss, Vec<u8>)> {
        let arrears = self.arrears.as_mut()?;
        let loss = arrears.loss.take()?;
        arrears.line = loss.line(&arrears.reason, at_line_start);
        let line = arrears.line.clone();
        // Under the lock: whoever notes what is owed sees the loss, or the line and its order.
        self.note_line(target);
        Some((loss, line))
    }

    /// The rest of a line is about to be written to `target`.
    pub(crate) fn note_line(&mut self, target: Target) {
        let Some(arrears) = &mut self.arrears else { return };
        arrears.line_target = None;
        let line = marks::Line {
            order: self.line_order.unwrap_or(0),
            pipe_inode: fstat(&self.pipe).map_or(0, |stat| stat.st_ino),
            target,
            left_bytes: arrears.loss.map_or(0, |loss| loss.bytes()),
            text: arrears.line.clone(),
        };
        self.line_order = self.pool.records().set_line(self.key, line).or(self.line_order);
    }

    /// A line of which something may be in the file already, and where it begins there.
    pub(crate) fn doubtful_line(&self) -> Option<(Vec<u8>, Target)> {
        let arrears = self.arrears.as_ref()?;
        Some((arrears.line.clone(), arrears.line_target?))
    }

    /// The line is written except for `rest`.
    pub(crate) fn line_is_written(&mut self, rest: &[u8]) {
        if let Some(arrears) = &mut self.arrears {
            (arrears.line, arrears.line_target) = (rest.to_vec(), None);
        }
    }

    /// The `line` could not be written. If nothing of it was, it is made anew, with what is lost
    /// meanwhile, unless bytes were kept behind it.
    pub(crate) fn line_has_failed(&mut self, loss: Loss, line: &[u8]) {
        if let Some(arrears) = &mut self.arrears
            && arrears.kept.is_empty()
            && arrears.line == line
        {
            arrears.line.clear();
            arrears.loss = Some(arrears.loss.map_or(loss, |later| loss.and(later)));
        }
    }
}
