use std::os::fd::{AsFd, OwnedFd};

use super::*;
use crate::fd_store::slots;
use crate::handover::InheritedFds;
use crate::handover::document::{Loss, PrivateLog, Target};
use crate::handover::text::hex;
use crate::rpc::program::ReplyTo;
use crate::sys::pipe;

const LOG: u64 = 1;

const TARGET: Target = Target { inode: 3, size_bytes: 4 };

/// Recovers a log with these fds beside its pipe.
fn recovered(private: PrivateLog, stored: Vec<(String, OwnedFd)>) -> PrivateLog {
    let (reader, _writer) = pipe::pipe().unwrap();
    recovered_from(reader, private, stored)
}

fn recovered_from(
    reader: OwnedFd,
    private: PrivateLog,
    stored: Vec<(String, OwnedFd)>,
) -> PrivateLog {
    let all = stored.into_iter().chain([(Kind::Log.name(LOG), reader)]).collect();
    let numbers = Numbers::new(all, &mut InheritedFds::default());
    let staged = Staged::read(&numbers, 1);
    let log = Log { private: Some(private), ..Log::default() };
    found_log(log, LOG, &numbers, &staged).unwrap().private.unwrap()
}

/// Recovers a log whose staging pipes, with so many bytes, are not in the store.
fn lost_bytes(staged_bytes: &[u64], loss: Option<Loss>) -> Option<u64> {
    let staged_bytes = Some((5..).zip(staged_bytes.iter().copied()).collect());
    let private = PrivateLog { staged_bytes, loss, ..PrivateLog::default() };
    recovered(private, Vec::new()).loss.map(|loss| loss.bytes)
}

/// A slot file that has these bytes of staging pipes at risk, by the pipe's key.
fn at_risk(all: &[(u64, u64, Option<Target>)]) -> (String, OwnedFd) {
    let slots = SlotFile::new("slots").unwrap();
    for &(key, bytes, target) in all {
        slots.set_at_risk(key, AtRisk { round: 1, owner: 1, bytes, target }).unwrap();
    }
    stored(&slots)
}

fn stored(slots: &SlotFile) -> (String, OwnedFd) {
    (Kind::StagingOwners.name(2), slots.as_fd().try_clone_to_owned().unwrap())
}

/// The ends of a staging pipe.
fn staging_pipe(key: u64) -> [(String, OwnedFd); 2] {
    let (reader, writer) = pipe::pipe().unwrap();
    [reader, writer].map(|end| (Kind::Pipe.name(key), end))
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

#[test]
fn bytes_of_pipes_that_the_store_has_are_not_lost() {
    let staged_bytes = Some(vec![(5, 3), (6, 4)]);
    let private = PrivateLog { staged_bytes, ..PrivateLog::default() };
    let [only, _] = staging_pipe(6);
    let stored = staging_pipe(5).into_iter().chain([only]).collect();
    assert_eq!(recovered(private, stored).loss.map(|loss| loss.bytes), Some(4));
}

#[test]
fn bytes_at_risk_are_lost_unless_the_file_may_have_them() {
    let stored = vec![at_risk(&[(5, 3, None), (6, 4, Some(TARGET))])];
    let private = recovered(PrivateLog::default(), stored);
    assert_eq!(private.in_writing, Some((4, TARGET)));
    assert_eq!(private.loss.map(|loss| loss.bytes), Some(3));
}

#[test]
fn bytes_at_risk_are_lost_while_others_are_being_written() {
    let earlier = Some((9, TARGET));
    let private = PrivateLog { in_writing: earlier, ..PrivateLog::default() };
    let private = recovered(private, vec![at_risk(&[(6, 4, Some(TARGET))])]);
    assert_eq!((private.in_writing, private.loss.map(|loss| loss.bytes)), (earlier, Some(4)));
}

#[test]
fn bytes_at_risk_in_a_pipe_that_the_store_has_are_in_the_pipe() {
    let slots = at_risk(&[(5, 3, None), (6, 4, Some(TARGET))]);
    let stored = staging_pipe(5).into_iter().chain(staging_pipe(6)).chain([slots]).collect();
    let private = recovered(PrivateLog::default(), stored);
    assert!(private.in_writing.is_none() && private.loss.is_none());
}

#[test]
fn a_line_belongs_to_the_pipe_that_it_names() {
    for is_it in [true, false] {
        let (reader, _writer) = pipe::pipe().unwrap();
        let (_, inode) = crate::sys::fd::device_and_inode(&reader).unwrap();
        let pipe_inode = if is_it { inode } else { inode + 1 };
        let text = b"line".to_vec();
        let line = slots::Line { order: 7, pipe_inode, target: TARGET, left_bytes: 0, text };
        let slots = SlotFile::new("slots").unwrap();
        slots.set_line(LOG, &line).unwrap();
        let private = recovered_from(reader, PrivateLog::default(), vec![stored(&slots)]);
        assert_eq!(private.line_target, is_it.then_some(TARGET));
        assert_eq!(private.unfinished_line, is_it.then(|| hex(b"line")));
    }
}

#[test]
fn a_client_waits_for_its_reply() {
    const CLIENT: u64 = 4;
    let reply_to = ReplyTo::from_words([1, 2, 3, 4]);
    let calls = SlotFile::new("calls").unwrap();
    let (connection, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let stored = vec![(Kind::Client.name(CLIENT), connection.into())];
    let numbers = Numbers::new(stored, &mut InheritedFds::default());
    let found = || found_client(Client::default(), CLIENT, &numbers, Some(&calls));
    for (pending, words) in
        [(PendingReply::Nothing, None), (PendingReply::Answer(reply_to), Some(reply_to.to_words()))]
    {
        calls.set(CLIENT, pending.to_slot()).unwrap();
        let Client { sock, private, .. } = found().unwrap();
        assert_eq!(sock.unwrap().fd, numbers.one(Kind::Client, CLIENT));
        let private = private.unwrap();
        assert_eq!((private.key, private.pending_reply), (Some(CLIENT), words));
    }
    calls.set(CLIENT, PendingReply::Unknown.to_slot()).unwrap();
    assert!(found().is_none());
}
