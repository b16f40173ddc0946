//! What a guest can do with the end of its pipe beside writing to it and locking it: change its mode and
//! its size. That costs at most its own log.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tests::harness::{Daemon, Subject, backup, eventually};

tests::ours! { Virtlogd:
    a_pipe_in_packet_mode_loses_nothing,
    a_pipe_in_packet_mode_loses_nothing_at_rotations,
    a_pipe_in_packet_mode_loses_nothing_where_bytes_are_copied,
    a_pipe_in_packet_mode_costs_others_nothing_where_bytes_are_copied,
    a_pipe_of_one_page_loses_nothing,
    a_pipe_that_a_guest_resizes_all_the_time_loses_nothing,
}

const PIECES: usize = 300;

/// Files so small that each is full after a few pieces, and so many that none is deleted.
const ROTATED: &str = "max_size = 4000\nmax_backups = 32\n";

/// Bytes that the pieces have at the most, in files and pipes alike.
const PIECE_BYTES_MAX: usize = 600;

fn a_pipe_in_packet_mode_loses_nothing(subject: Subject) {
    let daemon = subject.setup().confined().config("max_size = 0\n").start();
    expect_complete(&daemon, &daemon.file("a.log"), |pipe, _| use_packets(pipe));
}

fn a_pipe_in_packet_mode_loses_nothing_at_rotations(subject: Subject) {
    let daemon = subject.setup().confined().config(ROTATED).start();
    expect_complete(&daemon, &daemon.file("a.log"), |pipe, _| use_packets(pipe));
}

fn a_pipe_in_packet_mode_loses_nothing_where_bytes_are_copied(subject: Subject) {
    for calls in ["splice", "tee", "splice,tee"] {
        let daemon =
            subject.setup().confined().config(ROTATED).refusing(Errno::EPERM, calls).start();
        expect_complete(&daemon, &daemon.file("a.log"), |pipe, _| use_packets(pipe));
    }
}

/// As where a filter refuses these calls, or in a file that is appended to.
fn a_pipe_in_packet_mode_costs_others_nothing_where_bytes_are_copied(subject: Subject) {
    for calls in ["splice", "tee", "splice,tee"] {
        let daemon =
            subject.setup().confined().config(ROTATED).refusing(Errno::EPERM, calls).start();
        let mut packets = daemon.log_client().open(&daemon.file("packets.log")).unwrap().pipe;
        use_packets(&packets);
        expect_complete(&daemon, &daemon.file("a.log"), |_, number| {
            packets.write_all(&vec![b'x'; 1 + number * 37 % PIECE_BYTES_MAX]).unwrap();
        });
    }
}

fn a_pipe_of_one_page_loses_nothing(subject: Subject) {
    let daemon = subject.setup().confined().config(ROTATED).start();
    expect_complete(&daemon, &daemon.file("a.log"), |pipe, _| resize(pipe, 4096));
}

fn a_pipe_that_a_guest_resizes_all_the_time_loses_nothing(subject: Subject) {
    let daemon = subject.setup().confined().config(ROTATED).start();
    let sizes = [4096, 1 << 20, 8192, 65_536];
    expect_complete(&daemon, &daemon.file("a.log"), |pipe, number| {
        resize(pipe, sizes[number % sizes.len()]);
    });
}

/// Each write is a packet from now on, and a read gets one of them at the most.
fn use_packets(pipe: &File) {
    fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_WRONLY | OFlag::O_DIRECT)).unwrap();
}

fn resize(pipe: &File, bytes: i32) {
    // Refused where more is inside.
    fcntl(pipe, FcntlArg::F_SETPIPE_SZ(bytes)).ok();
}

/// Whatever the guest does before each piece, its log and the older parts have all of them, once.
#[track_caller]
fn expect_complete(daemon: &Daemon, path: &Path, mut trick: impl FnMut(&File, usize)) {
    let mut pipe = daemon.log_client().open(path).unwrap().pipe;
    let mut sent = Vec::new();
    for number in 0..PIECES {
        trick(&pipe, number);
        let text = format!("{number} ").repeat(1 + number * 37 % 120);
        let mut piece = text.as_bytes()[..text.len().min(PIECE_BYTES_MAX)].to_vec();
        if number % 3 == 0 {
            piece.push(b'\n');
        }
        pipe.write_all(&piece).unwrap();
        sent.extend(piece);
    }
    drop(pipe);
    eventually("the log has ended", || daemon.log_client().position(path).is_err());
    let parts = (0..32).rev().map(|index| backup(path, index)).chain([path.to_owned()]);
    let found: Vec<u8> = parts.flat_map(|part| fs::read(part).unwrap_or_default()).collect();
    let same = found.iter().zip(&sent).take_while(|(one, other)| one == other).count();
    assert!(found == sent, "{} of {} bytes, {same} as sent", found.len(), sent.len());
}
