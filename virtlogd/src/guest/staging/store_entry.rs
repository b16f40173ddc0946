//! A staging pipe's key in the fd store, and its records for the process after a crash.

use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::os::fd::BorrowedFd;

use common::handover::document::Target;
use nix::sys::stat::fstat;

use crate::guest::crash_records::{AtRisk, CrashRecords};

/// State of one pipe in the fd store and in the records. It ends with the pipe.
#[derive(Debug)]
pub(super) struct StoreEntry {
    state: Mutex<State>,
    records: Arc<CrashRecords>,
}

/// Under one lock, as the loop may store a pipe while a job sets its owner: the later record has to be
/// the true one.
#[derive(Debug, Default)]
struct State {
    /// Key in the fd store; `None`: it is not there.
    key: Option<u64>,
    /// Key of the log whose bytes are inside.
    owner: Option<u64>,
    /// The store has it for certain.
    is_proved: bool,
    /// Bytes inside, or about to be.
    bytes: u64,
    /// The record of bytes that would be lost with this process.
    at_risk: Option<AtRisk>,
}

impl StoreEntry {
    /// Makes one with a key in the fd store, if it is there.
    pub(super) fn new(key: Option<u64>, records: Arc<CrashRecords>) -> Self {
        Self { state: Mutex::new(State { key, ..State::default() }), records }
    }

    /// Returns the key in the fd store.
    pub(super) fn key(&self) -> Option<u64> {
        self.state().key
    }

    /// Returns the key of the log whose bytes are inside.
    pub(super) fn owner(&self) -> Option<u64> {
        self.state().owner
    }

    /// Sets the key in the fd store. With `None` the bytes count as lost with the process, even if the
    /// store has the pipe for a while yet.
    pub(super) fn set_key(&self, key: Option<u64>) {
        let mut state = self.state();
        if state.key != key {
            self.records.set_owner(state.key, None);
        }
        (state.key, state.is_proved) = (key, false);
        self.records.set_owner(key, state.owner);
        state.record(&self.records, None);
    }

    /// Returns whether the store has it for certain.
    pub(super) fn is_proved(&self) -> bool {
        self.state().is_proved
    }

    /// Notes that the store has it for certain under this key.
    pub(super) fn set_proved(&self, key: u64) {
        let mut state = self.state();
        if state.key == Some(key) {
            state.is_proved = true;
            state.record(&self.records, None);
        }
    }

    /// Sets the log whose bytes are inside, by its key in the fd store.
    pub(super) fn set_owner(&self, owner: Option<u64>) {
        let mut state = self.state();
        state.owner = owner;
        self.records.set_owner(state.key, owner);
        state.record(&self.records, None);
    }

    /// Sets the number of bytes that are inside, or are about to be. They would be lost with this
    /// process if the store may lack the pipe.
    pub(super) fn set_bytes(&self, bytes: u64) {
        let mut state = self.state();
        state.bytes = bytes;
        state.record(&self.records, None);
    }

    /// Records that a file of this size is about to take the bytes.
    pub(super) fn set_target(&self, file: BorrowedFd<'_>, size_bytes: u64) {
        let mut state = self.state();
        if state.is_proved || state.owner.is_none() {
            return;
        }
        let inode = fstat(file).map_or(0, |stat| stat.st_ino);
        let target = (inode != 0).then_some(Target { inode, size_bytes });
        state.record(&self.records, target);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Records the bytes that would be lost with this process.
    fn record(&mut self, records: &CrashRecords, target: Option<Target>) {
        let owner = self.owner.filter(|_| !self.is_proved && self.bytes > 0);
        let at_risk = owner.map(|owner| {
            // A pipe that has no key counts with the log's own.
            AtRisk { key: self.key.unwrap_or(owner), owner, bytes: self.bytes, target }
        });
        if at_risk != self.at_risk {
            records.set_at_risk(self.at_risk, at_risk);
            self.at_risk = at_risk;
        }
    }
}

impl Drop for StoreEntry {
    fn drop(&mut self) {
        self.set_bytes(0);
        if let Some(key) = self.key() {
            self.records.note_end(key);
        }
    }
}
