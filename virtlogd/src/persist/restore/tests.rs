use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

use common::handover::document::LogHandler;

use super::*;

/// Above any number of a descriptor here.
const NUMBERS_MAX: RawFd = 1 << 16;

/// Passes these fds on, and none of other tests.
fn inherited(numbers: &[RawFd]) -> InheritedFds {
    let mut all = InheritedFds::at_start();
    all.leave((0..NUMBERS_MAX).filter(|number| !numbers.contains(number)));
    all
}

/// Makes a pipe that has no other owner.
fn pipe() -> (RawFd, RawFd) {
    let (reader, writer) = pipe::pipe().unwrap();
    (reader.into_raw_fd(), writer.into_raw_fd())
}

/// Adopts a log with this private data.
fn adopted(private: PrivateLog, staged: &[(RawFd, RawFd)]) -> RestoredLog {
    let (guest, _writer) = pipe();
    let numbers: Vec<_> = staged.iter().copied().flat_map(<[_; 2]>::from).chain([guest]).collect();
    let path = Some("/guest.log".into());
    let log = Log { pipefd: Some(guest), path, private: Some(private), ..Log::default() };
    let handler = LogHandler { files: Some(Items::Read(vec![log])) };
    let document = Document { handler: Some(handler), ..Document::default() };
    let mut found = None;
    each_log(document, &mut inherited(&numbers), |restored| {
        found = Some(restored);
        Ok(())
    });
    match found {
        Some(Restored::Log(log)) => *log,
        other => panic!("not a log: {other:?}"),
    }
}

#[test]
fn of_what_no_document_names_only_read_ends_of_pipes_are_guests() {
    let (reader, writer) = pipe();
    let file = tempfile::tempfile().unwrap().into_raw_fd();
    let mut inherited = inherited(&[reader, writer, file]);
    let mut guests = Vec::new();
    each_unnamed_pipe(&mut inherited, |guest| {
        guests.push(guest);
        Ok(())
    });
    assert_eq!(guests.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>(), [reader]);
    assert!(inherited.take(Some(writer)).is_ok() && inherited.take(Some(file)).is_ok());
}

#[test]
fn staging_pipes_keep_their_keys() {
    let staged = [pipe(), pipe(), pipe()];
    let private = PrivateLog {
        staged: Some(staged.to_vec()),
        staged_keys: Some(vec![5, 0]),
        ..PrivateLog::default()
    };
    let keys = adopted(private, &staged).state.staged.into_iter().map(|(_, key)| key);
    assert_eq!(keys.collect::<Vec<_>>(), [Some(5), None, None]);
}

#[test]
fn only_a_crash_may_have_cut_off_a_rotation() {
    for (after_crash, expected) in [(Some(true), true), (Some(false), false), (None, false)] {
        let private = PrivateLog { after_crash, ..PrivateLog::default() };
        assert_eq!(adopted(private, &[]).file.after_crash, expected);
    }
}
