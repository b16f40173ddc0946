use std::os::fd::OwnedFd;

use super::*;
use crate::handover::InheritedFds;
use crate::handover::document::{Loss, PrivateLog};
use crate::sys::pipe;

/// Recovers a log whose staging pipes, with so many bytes, are not in the store.
fn lost_bytes(staged_bytes: &[u64], loss: Option<Loss>) -> Option<u64> {
    let (reader, _writer) = pipe::pipe().unwrap();
    let stored: Vec<(String, OwnedFd)> = vec![(Kind::Log.name(1), reader)];
    let numbers = Numbers::new(stored, &mut InheritedFds::default());
    let staged = Staged::read(&numbers, 0);
    let staged_bytes = Some((5..).zip(staged_bytes.iter().copied()).collect());
    let private = PrivateLog { staged_bytes, loss, ..PrivateLog::default() };
    let log = Log { private: Some(private), ..Log::default() };
    let found = found_log(log, 1, &numbers, &staged).unwrap();
    found.private?.loss.map(|loss| loss.bytes)
}

#[test]
fn bytes_of_pipes_that_the_store_lacks_are_lost() {
    assert_eq!(lost_bytes(&[], None), None);
    assert_eq!(lost_bytes(&[3, 4], None), Some(7));
}

#[test]
fn numbers_that_cannot_be_do_not_stop_a_recovery() {
    assert_eq!(lost_bytes(&[u64::MAX, 4], None), Some(u64::MAX));
    let loss = Loss { bytes: u64::MAX, ..Loss::default() };
    assert_eq!(lost_bytes(&[3, 4], Some(loss)), Some(u64::MAX));
}
