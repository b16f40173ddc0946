//! What a kept client is owed, for whoever comes after us: its connection outlives this process, so
//! nothing would tell it that its call died with us.

use std::sync::Arc;

use super::pending_reply::Owed;
use super::slots::Marks;

/// The place of a client's note.
#[derive(Debug)]
pub(crate) struct Slip {
    marks: Arc<Marks>,
    key: u64,
    noted: Option<Owed>,
}

impl Slip {
    pub(crate) fn new(marks: Arc<Marks>, key: u64) -> Self {
        Self { marks, key, noted: None }
    }

    /// Notes it; to be called before the connection is touched.
    pub(crate) fn note(&mut self, owed: Owed) {
        if self.noted.replace(owed) == Some(owed) {
            return;
        }
        if let Err(error) = self.marks.set(self.key, owed.to_mark()) {
            tracing::error!(target: "util.systemd", "Unable to note what a client is owed: {error}");
        }
    }
}
