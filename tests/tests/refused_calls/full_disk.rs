//! A disk that is full where bytes go through memory: what was read and cannot be stored is kept.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use tests::harness::{Subject, Whose, eventually, guest_writes};

use super::cases::beside_others;

tests::ours! { Virtlogd: what_was_read_is_kept_while_the_disk_is_full }

const MOUNT: &str =
    "mkdir \"$1/files/small\"; mount -n -t tmpfs -o size=128k tmpfs \"$1/files/small\"";

/// Ways through memory.
const REFUSED: [&str; 5] = [
    "splice",
    "tee",
    "splice,tee",
    "splice,tee,ioctl:FIONREAD,fcntl:F_GETPIPE_SZ,pwrite64",
    "ioctl:FIONREAD",
];

/// With cuts, where bytes have to be looked at, and without.
const SIZES_MAX: [u32; 2] = [4000, 0];

fn what_was_read_is_kept_while_the_disk_is_full(subject: Subject) {
    for calls in REFUSED {
        for size_max in SIZES_MAX {
            eprintln!("without {calls}, files of {size_max} bytes");
            keep(subject, calls, size_max);
        }
    }
}

/// Less is written than pipes hold, so that nothing may be lost.
fn keep(subject: Subject, calls: &str, size_max: u32) {
    let _turn = beside_others();
    let config = format!("max_size = {size_max}\nmax_backups = 32\n");
    let setup = subject.setup().refusing(Errno::EPERM, calls).config(&config).prepare(MOUNT);
    let mut daemon = setup.replaceable().start();
    let path = daemon.file("small/a.log");
    let seen = daemon.inside(path.to_str().unwrap());
    let log = daemon.log_client().open(&path).unwrap();
    let filler = seen.with_file_name("filler");
    fs::write(&filler, vec![0; 112 << 10]).unwrap();
    let text: String = (0..1500).map(|number| format!("line {number:05} of this log\n")).collect();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    for piece in lines.chunks(7) {
        guest_writes(&log.pipe, piece.concat());
    }
    eventually("the disk is full", || daemon.stderr().contains("cannot be written"));
    let before = seen.metadata().unwrap().ino();
    daemon.change_to(Whose::Ours);
    guest_writes(&log.pipe, *b"and one more\n");
    fs::remove_file(filler).unwrap();
    let stored = || {
        let older = (0..32).rev().map(|index| format!("{}.{index}", seen.display()));
        let older = older.filter_map(|path| fs::read(path).ok());
        older.chain(fs::read(&seen)).collect::<Vec<_>>().concat()
    };
    let sent = [text.as_bytes(), b"and one more\n"].concat();
    eventually("everything is stored", || stored() == sent);
    assert!(size_max > 0 || seen.metadata().unwrap().ino() == before);
}
