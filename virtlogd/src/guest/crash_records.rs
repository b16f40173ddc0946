//! Records for the process after a crash: which log's bytes are in which staging pipe, how many bytes
//! would be lost, and which line about a loss is being written.
//!
//! They change with every turn, so they are not in the journal but in shared memory, of which the
//! supervisor's fd store has an fd. They are written in jobs, on any thread.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use common::fd_store::recovery::Mark;
use common::fd_store::slots::{self, SlotFile};
use common::handover::document::Target;

/// Records of this process; none are made before [`begin`](Self::begin), nor without an fd store.
#[derive(Debug, Default)]
pub(crate) struct CrashRecords(OnceLock<Records>);

#[derive(Debug)]
struct Records {
    slot_file: SlotFile,
    order: AtomicU64,
    /// Round of this process; see [`slots::AtRisk`].
    round: u32,
    /// Bytes at risk, by the key under which that is recorded.
    at_risk: Mutex<HashMap<u64, u64>>,
    /// Keys of staging pipes that have ended.
    ended: Mutex<Vec<u64>>,
    /// Whatever ends from now on stays in the fd store.
    is_closed: AtomicBool,
}

/// Bytes in one staging pipe that would be lost with this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AtRisk {
    /// Key under which that is recorded: the pipe's own, or the log's.
    pub(crate) key: u64,
    /// Key of the log.
    pub(crate) owner: u64,
    /// Number of bytes.
    pub(crate) bytes: u64,
    /// File that they are being written to.
    pub(crate) target: Option<Target>,
}

impl CrashRecords {
    /// Begins to make records in `slot_file`, behind those of the processes before this one.
    pub(crate) fn begin(&self, slot_file: SlotFile) {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let order = since_epoch.map_or(0, |since| since.as_nanos());
        let at_risk = slot_file.at_risk().unwrap_or_default();
        let last_round = at_risk.iter().map(|(_, at_risk)| at_risk.round).max().unwrap_or(0);
        let records = Records {
            slot_file,
            order: AtomicU64::new(u64::try_from(order).unwrap_or(0)),
            round: last_round.saturating_add(1),
            at_risk: Mutex::default(),
            ended: Mutex::default(),
            is_closed: AtomicBool::new(false),
        };
        // Fails if they were begun before; then those go on.
        self.0.set(records).ok();
    }

    /// Returns whether records are made.
    pub(crate) fn have_begun(&self) -> bool {
        self.0.get().is_some()
    }

    /// Returns the round in which this process records bytes at risk.
    pub(crate) fn round(&self) -> Option<u32> {
        self.0.get().map(|records| records.round)
    }

    /// Records that the staging pipe `key` gets bytes of the log `owner` from now on. Both are keys in
    /// the fd store.
    pub(crate) fn set_owner(&self, key: Option<u64>, owner: Option<u64>) {
        if let (Some(records), Some(key)) = (self.0.get(), key) {
            let mark = Mark { owner: owner.unwrap_or(0), order: records.next_order() };
            if let Err(error) = records.slot_file.set(key, mark.to_bytes()) {
                report(&error);
            }
        }
    }

    /// Records how many bytes of a log would be lost with this process, in place of those `before`.
    pub(crate) fn set_at_risk(&self, before: Option<AtRisk>, now: Option<AtRisk>) {
        let Some(records) = self.0.get() else { return };
        let mut sums = records.at_risk.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(AtRisk { key, bytes, .. }) = before {
            sums.entry(key).and_modify(|sum| *sum = sum.saturating_sub(bytes));
        }
        if let Some(AtRisk { key, bytes, .. }) = now {
            let sum = sums.entry(key).or_default();
            *sum = sum.saturating_add(bytes);
        }
        // What has become more first: a kill in between tells of more than is lost, never of less.
        let before = before.map(|before| AtRisk { target: None, ..before });
        let before = before.filter(|before| now.is_none_or(|now| now.key != before.key));
        for AtRisk { key, owner, target, .. } in now.into_iter().chain(before) {
            let bytes = sums.get(&key).copied().unwrap_or(0);
            let owner = u32::try_from(owner).unwrap_or(0);
            let at_risk = slots::AtRisk { round: records.round, owner, bytes, target };
            if let Err(error) = records.slot_file.set_at_risk(key, at_risk) {
                report(&error);
            }
        }
        sums.retain(|_, sum| *sum > 0);
    }

    /// Records the line that is written into the log `key`, with an order behind the one that it has,
    /// and returns that. A line that is too long is not recorded.
    pub(crate) fn set_line(&self, key: Option<u64>, line: slots::Line) -> Option<u64> {
        let (records, key) = (self.0.get()?, key?);
        let order = records.order.fetch_add(1, Ordering::Relaxed).max(line.order).saturating_add(1);
        records.slot_file.set_line(key, &slots::Line { order, ..line }).ok().map(|()| order)
    }

    /// Notes that the staging pipe `key` has ended, so that the fd store may forget it.
    pub(crate) fn note_end(&self, key: u64) {
        if let Some(records) = self.0.get()
            && !records.is_closed.load(Ordering::Relaxed)
        {
            records.ended().push(key);
        }
    }

    /// Takes the keys of the staging pipes that have ended.
    pub(crate) fn take_ended(&self) -> Vec<u64> {
        self.0.get().map(|records| std::mem::take(&mut *records.ended())).unwrap_or_default()
    }

    /// Leaves in the fd store what is there: the process is about to exit.
    pub(crate) fn close(&self) {
        if let Some(records) = self.0.get() {
            records.is_closed.store(true, Ordering::Relaxed);
        }
    }
}

impl Records {
    fn next_order(&self) -> u64 {
        self.order.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn ended(&self) -> MutexGuard<'_, Vec<u64>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report(error: &io::Error) {
    tracing::error!(
        target: "logging.log_handler",
        "Unable to record which log a staging pipe belongs to: {error}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_behind_the_one_before_it_whatever_order_that_has() {
        let records = CrashRecords::default();
        records.begin(SlotFile::new("records").unwrap());
        let target = Target { inode: 1, size_bytes: 2 };
        let line =
            |order| slots::Line { order, pipe_inode: 3, target, left_bytes: 0, text: vec![] };
        let first = records.set_line(Some(1), line(0)).unwrap();
        assert!(records.set_line(Some(1), line(first + 100)) > Some(first + 100));
        assert_eq!(records.set_line(Some(1), line(u64::MAX)), Some(u64::MAX));
    }
}
