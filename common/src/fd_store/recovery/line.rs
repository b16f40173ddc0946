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
mod tests;
