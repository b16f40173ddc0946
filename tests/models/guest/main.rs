//! A guest that writes, the job that writes its log, the job that fetches beside it, and the loop: each
//! byte is in the log once and in order, or counted by a line about a loss in its place.
//!
//! Pipes and files are real. Writing fails while the limit of file sizes is low. There is one turn of the
//! log and one fetch at a time, as the scheduler has them. Whether a turn may touch the guest's pipe
//! changes at any moment.
#![allow(
    dead_code,
    unfulfilled_lint_expectations,
    unused_imports,
    reason = "the product's files have more than a model needs"
)]

#[rustfmt::skip]
#[path = "../../../virtlogd/src/guest/mod.rs"]
mod guest;
mod logs;
#[rustfmt::skip]
#[path = "../../../virtlogd/src/message.rs"]
mod message;
#[rustfmt::skip]
#[path = "../../../virtlogd/src/protocol.rs"]
mod protocol;
#[rustfmt::skip]
#[path = "../../../virtlogd/src/rotating_file/mod.rs"]
mod rotating_file;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use common::event::{self, Interest, Reactor};
use common::sys::pipe;
use models::{chance, check, sync};
use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::guest::access::Guest;
use crate::guest::reason::Reason;
use crate::guest::staging::{StagingPool, Workspace};
use crate::logs::writer::LogWriter;
use crate::protocol::GuestIdentity;
use crate::rotating_file::{Limits, RotatingFile};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Bytes that the guest writes, in pieces.
const PIECES: usize = 10;
const PIECE_BYTES: usize = 1500;

/// Turns of the log while the guest writes.
const TURNS: usize = 6;

const MARK: &[u8] = b" bytes of this log were lost between ";

/// The only fd of its reactor.
#[derive(Debug, Clone, Copy)]
struct Token;

impl event::Token for Token {
    fn into_bits(self) -> u64 {
        0
    }

    fn from_bits(_: u64) -> Self {
        Self
    }
}

fn main() {
    // SAFETY: it installs no handler.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.expect("a signal that may be ignored");
    check("guest", 5_000, each_byte_is_written_or_told_lost);
}

fn each_byte_is_written_or_told_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let path: Arc<Path> = directory.path().join("log").into();
    let pool = Arc::<StagingPool>::default();
    let (reader, input) = pipe::pipe().expect("a pipe");
    pipe::set_capacity_bytes(&reader, 4096).expect("a small pipe");
    for end in [&reader, &input] {
        nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))
            .expect("a flag");
    }
    let reactor = Reactor::<Token>::new().expect("an epoll");
    let fd = reactor.register(Arc::new(reader), Token, Interest::Read).expect("an event");
    let identity = GuestIdentity::new(b"QEMU", [0; 16], b"guest");
    let guest = Arc::new(Guest::new(1, identity, fd, &pool));
    let limits = Limits { size_bytes_max: 1 << 30, backups_max: 0 };
    let file = RotatingFile::open(Arc::clone(&path), limits, false).expect("a file");
    let writer = LogWriter::new(Arc::clone(&guest), file);
    let written = play(&guest, writer, &pool, input, &path);
    let log = std::fs::read(&path).expect("the log");
    expect_all(&log, &written);
}

/// Plays it all, and returns what the guest has written.
fn play(
    guest: &Arc<Guest>,
    writer: LogWriter,
    pool: &Arc<StagingPool>,
    input: OwnedFd,
    path: &Arc<Path>,
) -> Vec<u8> {
    let is_over = Arc::new(AtomicBool::new(false));
    let writes = shuttle::thread::spawn(move || write_all(&input));
    let turns = {
        let (mut writer, pool) = (writer, Arc::clone(pool));
        shuttle::thread::spawn(move || {
            for _ in 0..TURNS {
                set_failing(chance(3));
                turn(&mut writer, &pool);
                set_failing(false);
                shuttle::thread::yield_now();
            }
            writer
        })
    };
    let fetches = {
        let (guest, path, is_over) = (Arc::clone(guest), Arc::clone(path), Arc::clone(&is_over));
        shuttle::thread::spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                let progress = guest.new_progress();
                if chance(3) {
                    guest.drain_to_backlog_beside(&progress, &Reason::default(), &path);
                } else {
                    guest.fetch(&progress);
                }
                shuttle::thread::yield_now();
            }
        })
    };
    let toggles = {
        let (guest, is_over) = (Arc::clone(guest), Arc::clone(&is_over));
        shuttle::thread::spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                guest.set_direct(chance(2));
                guest.pipe().unwritten_bytes(0);
                shuttle::thread::yield_now();
            }
        })
    };
    let written = writes.join().expect("the guest");
    let mut writer = turns.join().expect("the turns");
    is_over.store(true, Ordering::SeqCst);
    fetches.join().expect("the fetches");
    toggles.join().expect("the loop");
    guest.set_direct(true);
    for _ in 0..TURNS {
        turn(&mut writer, pool);
    }
    assert!(!guest.pipe().has_backlog() && guest.unwritten_bytes() == 0, "something is left");
    written
}

fn turn(writer: &mut LogWriter, pool: &StagingPool) {
    let mut workspace = Workspace::new(pool).expect("a workspace");
    writer.write_turn(&mut workspace, true, true, false);
    assert_eq!(workspace.staging.held(), 0, "a workspace is empty between turns");
}

/// The limit is the process's; the schedules run one after the other, and so do their threads.
fn set_failing(is_failing: bool) {
    setrlimit(
        Resource::RLIMIT_FSIZE,
        if is_failing { 0 } else { libc::RLIM_INFINITY },
        libc::RLIM_INFINITY,
    )
    .expect("a limit");
}

/// Writes as a guest does that never waits: what does not fit is tried again.
fn write_all(input: &OwnedFd) -> Vec<u8> {
    let mut all = Vec::new();
    for piece in 0..PIECES {
        let mut text = Vec::new();
        while text.len() < PIECE_BYTES {
            writeln!(text, "{piece}.{}", text.len()).expect("memory");
        }
        let mut rest = &text[..];
        for _ in 0..20 {
            match nix::unistd::write(input, rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::EAGAIN) => shuttle::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
            if rest.is_empty() {
                break;
            }
        }
        all.extend_from_slice(&text[..text.len() - rest.len()]);
        shuttle::thread::yield_now();
    }
    all
}

/// Each line about a loss stands for as many bytes as it says.
fn expect_all(log: &[u8], written: &[u8]) {
    let (mut log, mut at) = (log, 0);
    loop {
        let found = log.windows(MARK.len()).position(|window| window == MARK);
        let Some(found) = found else { break };
        let line = log[..found].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let end =
            found + log[found..].iter().position(|byte| *byte == b'\n').expect("a whole line") + 1;
        let before = &log[..line];
        // A line that was begun is ended before.
        let before = match written[at..].starts_with(before) {
            true => before,
            false => before.strip_suffix(b"\n").expect("what was written"),
        };
        assert!(written[at..].starts_with(before), "what was written, in order, from {at} on");
        let text = std::str::from_utf8(&log[line..found]).expect("a text");
        let lost: usize = text.rsplit(' ').next().and_then(|text| text.parse().ok()).expect(text);
        at += before.len() + lost;
        log = &log[end..];
    }
    assert_eq!(log, &written[at..], "what was written, in order, from {at} on");
}
