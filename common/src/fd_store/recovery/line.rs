//! Recovery of a log's pending line about a loss.

use std::time::SystemTime;

use crate::fd_store::slots::Line;
use crate::handover::document::{Loss, PrivateLog};
use crate::handover::text::hex;

/// Applies a line that was recorded before it was written: the process could not record in the
/// journal that the line was begun, or how much of it is written.
pub(super) fn resume(log: &mut PrivateLog, line: &Line) {
    let known = log.line_order.unwrap_or(0);
    let is_unfinished = log.unfinished_line.as_ref().is_some_and(|line| !line.is_empty());
    if line.order < known || (line.order == known && !is_unfinished) {
        return;
    }
    if line.order > known {
        // An earlier process's write in progress was handled already, and is part of this line or
        // of the bytes left.
        (log.in_writing, log.line_order) = (None, Some(line.order));
        match &mut log.loss {
            Some(loss) if line.left_bytes > 0 => loss.bytes = line.left_bytes,
            loss => {
                *loss = None;
                add_loss(log, line.left_bytes);
            }
        }
    }
    (log.unfinished_line, log.line_target) = (Some(hex(&line.text)), Some(line.target));
}

/// Adds the bytes of pipes that the store lacks to the loss.
pub(super) fn add_loss(log: &mut PrivateLog, lost_bytes: u64) {
    if lost_bytes == 0 {
        return;
    }
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now_us = u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX);
    let before = Loss { bytes: 0, first_unix_us: now_us, last_unix_us: now_us };
    let Loss { bytes, first_unix_us, .. } = log.loss.unwrap_or(before);
    let bytes = bytes.saturating_add(lost_bytes);
    log.loss = Some(Loss { bytes, first_unix_us, last_unix_us: now_us });
    log.reason.get_or_insert_with(|| "the daemon has ended in between".to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::document::Target;

    const TARGET: Target = Target { inode: 3, size_bytes: 4 };

    fn noted(order: u64, left_bytes: u64) -> Line {
        Line { order, pipe_inode: 1, target: TARGET, left_bytes, text: b"line".to_vec() }
    }

    /// Makes a log as the journal has it.
    fn log(line_order: u64, unfinished: &str, loss_bytes: u64) -> PrivateLog {
        let loss = Loss { bytes: loss_bytes, first_unix_us: 1, last_unix_us: 2 };
        PrivateLog {
            line_order: (line_order > 0).then_some(line_order),
            unfinished_line: Some(hex(unfinished.as_bytes())),
            loss: (loss_bytes > 0).then_some(loss),
            in_writing: Some((10, TARGET)),
            ..PrivateLog::default()
        }
    }

    fn loss_bytes(log: &PrivateLog) -> Option<u64> {
        log.loss.as_ref().map(|loss| loss.bytes)
    }

    fn has_line(log: &PrivateLog) -> bool {
        log.unfinished_line == Some(hex(b"line")) && log.line_target == Some(TARGET)
    }

    #[test]
    fn a_line_that_the_journal_does_not_know_tells_of_its_loss() {
        for (left_bytes, loss) in [(0, None), (5, Some(5))] {
            let mut log = log(0, "", 100);
            resume(&mut log, &noted(7, left_bytes));
            assert!(has_line(&log));
            assert_eq!((loss_bytes(&log), log.line_order), (loss, Some(7)));
            assert_eq!(log.in_writing, None);
        }
    }

    #[test]
    fn a_loss_that_only_the_note_knows_is_one() {
        let mut log = log(6, "rest", 0);
        resume(&mut log, &noted(7, 5));
        assert!(has_line(&log) && loss_bytes(&log) == Some(5));
    }

    #[test]
    fn of_a_line_that_the_journal_knows_the_note_knows_where_it_begins() {
        let mut log = log(7, "ne", 50);
        resume(&mut log, &noted(7, 5));
        assert!(has_line(&log) && log.in_writing.is_some());
        assert_eq!(loss_bytes(&log), Some(50));
    }

    #[test]
    fn a_line_that_the_journal_knows_to_be_written_is() {
        for order in [7, 8] {
            let mut log = log(order, "", 50);
            resume(&mut log, &noted(7, 0));
            assert_eq!((log.line_target, loss_bytes(&log)), (None, Some(50)));
            assert_eq!(log.unfinished_line, Some(String::new()));
        }
    }
}
