use std::fs::File;
use std::io::Write;

use common::event::{Interest, Reactor, Token};

use common::sys::pipe;

use super::*;
use crate::guest::access::Guest;
use crate::guest::backlog::Filling;
use crate::protocol::GuestIdentity;
use std::path::Path;

const TARGET: Target = Target { inode: 1, size_bytes: 0 };

#[derive(Debug, Clone, Copy)]
struct Only;

impl Token for Only {
    fn into_bits(self) -> u64 {
        0
    }
    fn from_bits(_: u64) -> Self {
        Self
    }
}

/// A guest and the end that it writes to.
pub(crate) fn guest() -> (Guest, File) {
    let (reader, writer) = pipe::pipe().unwrap();
    let identity = GuestIdentity::new(b"", [0; 16], b"");
    let reader = Arc::new(reader);
    let reader = Reactor::new().unwrap().register(reader, Only, Interest::Read).unwrap();
    (Guest::new(1, identity, reader, &Arc::default()), writer.into())
}

pub(crate) fn write(mut guest: &File, bytes: &[u8]) {
    guest.write_all(bytes).unwrap();
}

fn disk() -> Reason {
    Reason::new(Cause::Full, "disk")
}

#[test]
fn a_guest_is_relieved_into_a_pipe_and_then_of_its_bytes() {
    let (guest, writer) = guest();
    write(&writer, &[b'a'; 20_000]);
    assert_eq!(
        guest.drain_to_backlog_beside(&guest.new_progress(), &disk(), Path::new("log")).waiting,
        0
    );
    for _ in 0..4 {
        write(&writer, &[b'b'; 20_000]);
        guest.drain_to_backlog(&disk(), Path::new("log"));
    }
    let mut pipe = guest.pipe();
    assert_eq!(pipe::readable_bytes(&pipe.fd).unwrap(), 0);
    let Some(BacklogItem::Staged(kept)) = pipe.next_item() else { panic!("nothing kept") };
    let lost = 100_000 - kept.held();
    assert!(kept.take().starts_with(&[b'a'; 20_000]));
    pipe.first_is_back();
    assert!(matches!(pipe.next_item(), Some(BacklogItem::Loss)));
    let (loss, line) = pipe.begin_line(true, TARGET).unwrap();
    assert_eq!(loss.bytes(), lost);
    assert!(String::from_utf8(line).unwrap().contains(&format!(" {lost} bytes")));
}

#[test]
fn what_comes_while_kept_bytes_are_written_goes_elsewhere() {
    let (guest, writer) = guest();
    write(&writer, &[b'a'; 20_000]);
    guest.drain_to_backlog(&disk(), Path::new("log"));
    let Some(BacklogItem::Staged(first)) = guest.pipe().next_item() else { panic!("nothing kept") };
    write(&writer, &[b'b'; 20_000]);
    guest.drain_to_backlog(&disk(), Path::new("log"));
    let mut pipe = guest.pipe();
    assert_eq!(first.held(), 20_000);
    first.discard();
    pipe.first_is_back();
    let Some(BacklogItem::Staged(second)) = pipe.next_item() else { panic!("nothing kept") };
    assert_eq!(second.take(), [b'b'; 20_000]);
}

#[test]
fn a_line_that_was_not_begun_counts_on() {
    let (guest, writer) = guest();
    let mut staging = StagingPool::default().take().unwrap();
    guest.pipe().note_failure(&disk(), &mut staging);
    for _ in 0..6 {
        write(&writer, &[b'a'; 20_000]);
        guest.drain_to_backlog(&disk(), Path::new("log"));
    }
    let mut pipe = guest.pipe();
    while let Some(BacklogItem::Staged(kept)) = pipe.next_item() {
        kept.discard();
        pipe.first_is_back();
    }
    let (loss, line) = pipe.begin_line(true, TARGET).unwrap();
    pipe.line_has_failed(loss, &line);
    let (again, _) = pipe.begin_line(true, TARGET).unwrap();
    assert_eq!(again.bytes(), loss.bytes());
    pipe.line_is_written(b"");
    assert_eq!(pipe.finish_backlog().map(|lost| lost.bytes()), Some(loss.bytes()));
}

/// Who writes a log finds what was fetched for it, in order, and nothing before all of it is there.
#[test]
fn what_is_fetched_of_a_suspect_is_owed_to_its_log() {
    let (guest, writer) = guest();
    guest.set_direct(false);
    write(&writer, b"one");
    assert_eq!((guest.state().unwrap(), guest.takeable().unwrap()), (InputState::Empty, 0));
    let staging = StagingPool::default().take().unwrap();
    assert_eq!(guest.move_to(&staging, 3).unwrap(), 0);
    assert_eq!(guest.fetch(&guest.new_progress()).taken, 3);
    write(&writer, b" and two");
    assert_eq!(guest.fetch(&guest.new_progress()).taken, 8);
    assert_eq!(guest.state().unwrap(), InputState::Backlog);
    let mut pipe = guest.pipe();
    let Some(BacklogItem::Staged(kept)) = pipe.next_item() else { panic!("nothing kept") };
    assert_eq!(kept.take(), b"one and two");
    pipe.first_is_back();
    let Filling::Into(filling) = pipe.begin_filling(false) else { panic!("there is no store") };
    assert!(pipe.has_backlog() && pipe.next_item().is_none());
    assert_eq!(pipe.state(true).unwrap(), InputState::Empty);
    pipe.filled();
    assert!(!pipe.has_backlog() && filling.held() == 0);
}

#[test]
fn numbers_of_an_earlier_process_may_be_any() {
    let (guest, _writer) = guest();
    let loss = Loss::restore(common::handover::document::Loss {
        bytes: u64::MAX,
        ..common::handover::document::Loss::default()
    });
    let mut pipe = guest.pipe();
    let (reader, writer) = pipe::pipe().unwrap();
    write(&File::from(writer.try_clone().unwrap()), b"staged");
    let staging = pipe.pool().adopt((reader, writer), None).unwrap();
    pipe.restore((Vec::new(), None), [staging].into(), loss, Reason::default());
    pipe.in_writing = Some(Box::new((u64::MAX, TARGET)));
    assert_eq!(pipe.unwritten_bytes(7), u64::MAX);
    pipe.see_written(TARGET.inode, 5);
    assert_eq!(pipe.unwritten_bytes(7), u64::MAX);
}
