use std::fs::File;
use std::io::Write;

use common::event::{Interest, Reactor, Token};

use super::*;

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
    let domain = Domain { driver: Box::default(), uuid: [0; 16], name: Box::default() };
    let reader = Reactor::new().unwrap().register(reader, Only, Interest::Read).unwrap();
    (Guest::new(domain, reader), writer.into())
}

pub(crate) fn write(mut guest: &File, bytes: &[u8]) {
    guest.write_all(bytes).unwrap();
}

#[test]
fn a_guest_is_relieved_into_a_pipe_and_then_of_its_bytes() {
    let (guest, writer) = guest();
    let mut intake = guest.intake();
    write(&writer, &[b'a'; 20_000]);
    assert!(!intake.relieve("disk", Path::new("log")));
    for _ in 0..4 {
        write(&writer, &[b'b'; 20_000]);
        intake.relieve("disk", Path::new("log"));
    }
    assert_eq!((intake.waiting().unwrap(), intake.takeable().unwrap()), (0, 0));
    let Some(Debt::Kept(kept)) = intake.next_debt() else { panic!("nothing kept") };
    let lost = 100_000 - kept.held();
    assert!(kept.take().starts_with(&[b'a'; 20_000]));
    intake.first_is_back();
    assert!(matches!(intake.next_debt(), Some(Debt::Loss)));
    let (loss, line) = intake.begin_line(true, TARGET).unwrap();
    assert_eq!(loss.bytes(), lost);
    assert!(String::from_utf8(line).unwrap().contains(&format!(" {lost} bytes")));
}

#[test]
fn what_comes_while_kept_bytes_are_written_goes_elsewhere() {
    let (guest, writer) = guest();
    let mut intake = guest.intake();
    write(&writer, &[b'a'; 20_000]);
    intake.relieve("disk", Path::new("log"));
    let Some(Debt::Kept(first)) = intake.next_debt() else { panic!("nothing kept") };
    write(&writer, &[b'b'; 20_000]);
    intake.relieve("disk", Path::new("log"));
    assert_eq!(first.held(), 20_000);
    first.discard();
    intake.first_is_back();
    let Some(Debt::Kept(second)) = intake.next_debt() else { panic!("nothing kept") };
    assert_eq!(second.take(), [b'b'; 20_000]);
}

#[test]
fn a_line_that_was_not_begun_counts_on() {
    let (guest, writer) = guest();
    let mut intake = guest.intake();
    let mut staging = Staging::new().unwrap();
    intake.keep("disk", &mut staging);
    for _ in 0..6 {
        write(&writer, &[b'a'; 20_000]);
        intake.relieve("disk", Path::new("log"));
    }
    while let Some(Debt::Kept(kept)) = intake.next_debt() {
        kept.discard();
        intake.first_is_back();
    }
    let (loss, line) = intake.begin_line(true, TARGET).unwrap();
    intake.line_has_failed(loss, &line);
    let (again, _) = intake.begin_line(true, TARGET).unwrap();
    assert_eq!(again.bytes(), loss.bytes());
    intake.line_is_written(b"");
    assert_eq!(intake.forget_settled(), Some(loss.bytes()));
}
