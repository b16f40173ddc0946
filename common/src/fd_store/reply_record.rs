//! What a kept client is pending, for whoever comes after us: its connection outlives this process, so
//! nothing would tell it that its call died with us.

use std::sync::Arc;

use super::pending_reply::PendingReply;
use super::slots::SlotFile;

/// The place of a client's note.
#[derive(Debug)]
pub(crate) struct ReplyRecord {
    marks: Arc<SlotFile>,
    key: u64,
    noted: Option<PendingReply>,
}

impl ReplyRecord {
    pub(crate) fn new(marks: Arc<SlotFile>, key: u64) -> Self {
        Self { marks, key, noted: None }
    }

    /// Notes it; to be called before the connection is touched.
    pub(crate) fn note(&mut self, pending: PendingReply) {
        if self.noted.replace(pending) == Some(pending) {
            return;
        }
        if let Err(error) = self.marks.set(self.key, pending.to_mark()) {
            tracing::error!(target: "util.systemd", "Unable to note what a client is pending: {error}");
        }
    }
}
