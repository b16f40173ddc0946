//! Record of a stored client's pending reply. The client's connection outlives this process, so
//! without the record nothing would tell the client that its call was lost.

use std::sync::Arc;

use super::pending_reply::PendingReply;
use super::slots::SlotFile;

/// A client's slot.
#[derive(Debug)]
pub(crate) struct ReplyRecord {
    slots: Arc<SlotFile>,
    key: u64,
    noted: Option<PendingReply>,
}

impl ReplyRecord {
    pub(crate) fn new(slots: Arc<SlotFile>, key: u64) -> Self {
        Self { slots, key, noted: None }
    }

    /// Writes the record. To be called before the connection is touched.
    pub(crate) fn note(&mut self, pending: PendingReply) {
        if self.noted.replace(pending) == Some(pending) {
            return;
        }
        if let Err(error) = self.slots.set(self.key, pending.to_slot()) {
            tracing::error!(
                target: "util.systemd",
                "Unable to record a client's pending reply: {error}"
            );
        }
    }
}
