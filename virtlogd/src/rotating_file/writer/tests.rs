use std::fs;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use nix::errno::Errno;
use proptest::prelude::*;
use tempfile::TempDir;

use super::super::parts::backup;
use super::super::rotation;
use super::super::source::Bytes;
use super::*;

/// A directory with a log in it.
pub(super) struct Log {
    pub(super) dir: TempDir,
    pub(super) path: PathBuf,
}

impl Log {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        Self { dir, path }
    }

    pub(super) fn open(&self, size_bytes_max: u64, backups_max: u64) -> RotatingFile {
        let limits = Limits { size_bytes_max, backups_max };
        RotatingFile::open(self.path.as_path(), limits, false).unwrap()
    }

    fn part(&self, index: u64) -> PathBuf {
        backup(&self.path, index)
    }

    /// Every part's bytes, the oldest part first.
    fn parts(&self) -> Vec<Vec<u8>> {
        let paths = (0..40).rev().map(|index| self.part(index)).chain([self.path.clone()]);
        paths.filter_map(|path| fs::read(path).ok()).collect()
    }

    fn sizes(&self) -> Vec<usize> {
        self.parts().iter().map(Vec::len).collect()
    }
}

pub(super) fn append(file: &mut RotatingFile, bytes: &[u8]) -> Result<u64, Error> {
    file.append(&mut Bytes(bytes), true)
}

fn line(len: usize) -> Vec<u8> {
    [vec![b'x'; len - 1], vec![b'\n']].concat()
}

/// Sizes of all parts after one append to a file of `existing` bytes.
fn sizes_after(existing: usize, limits: (u64, u64), bytes: &[u8]) -> Vec<usize> {
    let log = Log::new();
    fs::write(&log.path, vec![b'.'; existing]).unwrap();
    let mut file = log.open(limits.0, limits.1);
    assert_eq!(append(&mut file, bytes).unwrap(), bytes.len() as u64);
    log.sizes()
}

#[test]
fn libvirts_own_numbers() {
    assert_eq!(sizes_after(100, (160, 2), &[line(44), line(59)].concat()), [144, 59]);
    assert_eq!(sizes_after(0, (200, 0), &[b'x'; 512]), [112]);
    assert_eq!(sizes_after(768, (1024, 1), &[b'x'; 512]), [1024, 256]);
    assert_eq!(sizes_after(0, (100, 2), &[b'x'; 450]), [100, 100, 50]);
    assert_eq!(sizes_after(150, (100, 2), b"x"), [150, 1]);
    assert_eq!(sizes_after(0, (0, 2), &[b'x'; 3_000_000]), [3_000_000]);
}

#[test]
fn parts_beyond_the_limit_are_left_alone() {
    let log = Log::new();
    fs::write(log.part(2), "stale").unwrap();
    let mut file = log.open(10, 2);
    append(&mut file, &[b'x'; 45]).unwrap();
    assert_eq!(log.sizes(), [5, 10, 10, 5]);
}

#[test]
fn a_new_file_is_the_daemons_alone() {
    let log = Log::new();
    let file = log.open(10, 1);
    assert_eq!(fs::metadata(&log.path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(file.position(), (file.id().number, 0));
}

#[test]
fn beginning_anew_unlinks_what_rotation_would_use() {
    let log = Log::new();
    let mut old = log.open(0, 2);
    append(&mut old, b"old").unwrap();
    for index in [0, 1, 2] {
        fs::write(log.part(index), "part").unwrap();
    }
    let limits = Limits { size_bytes_max: 0, backups_max: 2 };
    let new = RotatingFile::open(log.path.as_path(), limits, true).unwrap();
    assert_eq!(log.parts(), [b"part".to_vec(), Vec::new()]);
    assert!(log.part(2).exists());
    assert_ne!(new.id(), old.id());
}

#[test]
fn symbolic_links_are_followed() {
    let log = Log::new();
    symlink("elsewhere", &log.path).unwrap();
    append(&mut log.open(0, 1), b"text").unwrap();
    assert_eq!(fs::read(log.dir.path().join("elsewhere")).unwrap(), b"text");
}

#[test]
fn a_failed_rotation_keeps_everything_and_can_be_retried() {
    let log = Log::new();
    let mut file = log.open(10, 1);
    fs::create_dir_all(log.part(0).join("not-empty")).unwrap();
    let mut source = Bytes(b"0123456789abc");
    for _ in 0..2 {
        let error = file.append(&mut source, false).unwrap_err();
        let (from, to) = (log.path.display(), log.part(0));
        assert_eq!(error.to_string(), format!("Unable to rename {from} to {}", to.display()));
        assert_eq!(error.errno(), Some(Errno::EISDIR as i32));
        assert_eq!((file.position().1, source.0), (10, &b"abc"[..]));
    }
    fs::remove_dir_all(log.part(0)).unwrap();
    assert_eq!(file.append(&mut source, false).unwrap(), 3);
    assert_eq!(log.parts(), [b"0123456789".to_vec(), b"abc".to_vec()]);
}

#[test]
fn a_retried_rotation_goes_on_where_it_stopped() {
    for steps_done in 0..=3 {
        let log = Log::new();
        let mut file = log.open(10, 3);
        append(&mut file, b"aaaaaaaaaabbbbbbbbbbccccccccccdddddddddd").unwrap();
        let location = Location::at(&log.path, Trust::Full).unwrap();
        for slot in (3 - steps_done..3).rev() {
            rotation::step(&location, 3, slot).unwrap();
        }
        file.rotation_steps_left = Some(to_steps(3 - steps_done));
        append(&mut file, b"e").unwrap();
        assert_eq!(log.parts().concat(), b"bbbbbbbbbbccccccccccdddddddddde");
    }
}

#[test]
fn without_parts_to_keep_a_failure_is_one_to_remove() {
    let log = Log::new();
    let mut file = log.open(10, 0);
    append(&mut file, &[b'x'; 10]).unwrap();
    fs::remove_file(&log.path).unwrap();
    fs::create_dir(&log.path).unwrap();
    let error = append(&mut file, b"y").unwrap_err();
    assert_eq!(error.to_string(), format!("Unable to remove {}", log.path.display()));
    assert_eq!(error.errno(), Some(Errno::EISDIR as i32));
}

#[test]
fn two_names_of_one_file_do_not_rotate_for_ever() {
    let log = Log::new();
    let mut file = log.open(10, 1);
    append(&mut file, &[b'x'; 10]).unwrap();
    fs::hard_link(&log.path, log.part(0)).unwrap();
    append(&mut file, b"y").unwrap();
    assert_eq!(log.sizes(), [10, 1]);
}

#[test]
fn a_truncated_file_is_followed() {
    let log = Log::new();
    let mut file = log.open(100, 1);
    append(&mut file, &[b'x'; 90]).unwrap();
    fs::File::options().write(true).truncate(true).open(&log.path).unwrap();
    file.refresh().unwrap();
    append(&mut file, &[b'y'; 95]).unwrap();
    assert_eq!(log.parts(), [vec![b'y'; 95]]);
}

#[test]
fn a_file_that_grew_is_not_overwritten() {
    let log = Log::new();
    let mut file = log.open(0, 1);
    append(&mut file, b"ours ").unwrap();
    fs::write(&log.path, b"ours and theirs").unwrap();
    file.refresh().unwrap();
    append(&mut file, b" and ours").unwrap();
    assert_eq!(log.parts(), [b"ours and theirs and ours".to_vec()]);
}

/// Bytes that somebody else is quicker than, each time that they are about to be stored.
struct Outrun<'a> {
    ours: Bytes<'a>,
    theirs: File,
}

impl Source for Outrun<'_> {
    fn available(&self) -> io::Result<u64> {
        self.ours.available()
    }

    fn peek(&mut self, len_max: usize) -> io::Result<&[u8]> {
        self.ours.peek(len_max)
    }

    fn prepare(&mut self, len: u64) -> io::Result<u64> {
        self.theirs.write_all(b"theirs\n")?;
        self.ours.prepare(len)
    }

    fn write_to(&mut self, file: BorrowedFd<'_>, offset: Offset, len: u64) -> io::Result<u64> {
        self.ours.write_to(file, offset, len.min(5))
    }
}

#[test]
fn what_others_append_in_the_middle_is_not_overwritten() {
    let log = Log::new();
    let mut file = log.open(0, 9);
    append(&mut file, b"before\n").unwrap();
    let theirs = File::options().append(true).open(&log.path).unwrap();
    let mut source = Outrun { ours: Bytes(b"ours\nours\n"), theirs };
    assert_eq!(file.append(&mut source, false).unwrap(), 10);
    // The first time is the one at which they are noticed, the last finds that nothing waits.
    let all = b"before\ntheirs\ntheirs\nours\ntheirs\nours\ntheirs\n";
    assert_eq!(log.parts(), [all.to_vec()]);
    append(&mut file, b"after\n").unwrap();
    assert_eq!(log.parts(), [[&all[..], b"after\n"].concat()]);
}

#[test]
fn a_log_that_others_write_stays_theirs_too() {
    let log = Log::new();
    let limits = Limits { size_bytes_max: 20, backups_max: 2 };
    let mut file = log.open(20, 2);
    fs::write(&log.path, b"theirs\n").unwrap();
    append(&mut file, b"ours\n").unwrap();
    append(&mut file, b"another file\n").unwrap();
    assert_eq!(log.parts(), [b"theirs\nours\n".to_vec(), b"another file\n".to_vec()]);
    assert!(file.file.as_ref().unwrap().appends());
    let fd = file.state().0.unwrap().try_clone_to_owned().unwrap();
    let resumed = RotatingFile::resume(log.path.as_path().into(), limits, fd.into(), None).unwrap();
    assert!(resumed.is_shared);
}

#[test]
fn a_renamed_or_removed_file_is_replaced_and_left_alone() {
    let log = Log::new();
    let mut file = log.open(100, 1);
    append(&mut file, b"first").unwrap();
    let aside = log.dir.path().join("aside");
    fs::rename(&log.path, &aside).unwrap();
    file.refresh().unwrap();
    append(&mut file, b"second").unwrap();
    assert_eq!((fs::read(&aside).unwrap(), log.parts()), (b"first".into(), vec![b"second".into()]));
    fs::remove_file(&log.path).unwrap();
    file.refresh().unwrap();
    append(&mut file, b"third").unwrap();
    assert_eq!(log.parts(), [b"third".to_vec()]);
    assert_eq!(file.position(), (FileId::of(&fs::metadata(&log.path).unwrap()).number, 5));
}

#[test]
fn where_the_path_cannot_be_opened_the_old_file_stays_in_use() {
    let log = Log::new();
    let mut file = log.open(100, 1);
    append(&mut file, b"first").unwrap();
    let aside = log.dir.path().join("aside");
    fs::rename(&log.path, &aside).unwrap();
    fs::create_dir(&log.path).unwrap();
    assert_eq!(file.refresh().unwrap_err().errno(), Some(Errno::EISDIR as i32));
    append(&mut file, b" second").unwrap();
    assert_eq!(fs::read(&aside).unwrap(), b"first second");
}

#[test]
fn it_is_known_whether_a_line_begins() {
    let log = Log::new();
    let mut file = log.open(0, 1);
    assert!(file.is_at_line_start());
    append(&mut file, b"a line").unwrap();
    assert!(!file.is_at_line_start());
    append(&mut file, b"\n").unwrap();
    assert!(file.is_at_line_start());
    fs::remove_file(&log.path).unwrap();
    assert!(!file.is_at_line_start());
}

#[test]
fn a_new_file_goes_on_with_the_line_that_the_one_before_has_begun() {
    for (backups_max, text, is_line) in
        [(1, "a line", false), (1, "a line\n", true), (1, "", true), (0, "a line", true)]
    {
        let log = Log::new();
        let mut file = log.open(100, backups_max);
        append(&mut file, text.as_bytes()).unwrap();
        fs::rename(&log.path, log.part(0)).unwrap();
        file.refresh().unwrap();
        assert_eq!(file.position().1, 0);
        assert_eq!(file.is_at_line_start(), is_line, "{backups_max} parts, '{text}' in the last");
    }
}

#[test]
fn it_is_known_how_much_of_a_text_was_written() {
    for (before, text) in [(0, &b"a whole text"[..]), (30, b"a whole text"), (36, b"a whole text")]
    {
        for written in 0..=text.len() {
            let log = Log::new();
            let mut file = log.open(40, 2);
            append(&mut file, &vec![b'x'; before]).unwrap();
            let (inode, offset) = file.position();
            append(&mut file, &text[..written]).unwrap();
            assert_eq!(file.written_of(text, inode, offset), written);
        }
    }
}

#[test]
fn a_text_may_be_behind_what_others_wrote() {
    let log = Log::new();
    let mut file = log.open(0, 2);
    append(&mut file, b"before\n").unwrap();
    let (inode, offset) = file.position();
    fs::write(&log.path, b"before\ntheirs\na text\nand more").unwrap();
    assert_eq!(file.written_of(b"a text\n", inode, offset), 7);
    assert_eq!(file.written_of(b"another text\n", inode, offset), 0);
}

/// What a call does instead of storing all it was asked to.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    Short(u64),
    Interrupted,
    DiskFull,
}

/// Bytes that arrive in pieces, into a file system with moods.
struct Moody<'a> {
    arrived: Bytes<'a>,
    faults: Vec<Fault>,
}

impl Source for Moody<'_> {
    fn available(&self) -> io::Result<u64> {
        self.arrived.available()
    }

    fn peek(&mut self, len_max: usize) -> io::Result<&[u8]> {
        self.arrived.peek(len_max)
    }

    fn prepare(&mut self, len: u64) -> io::Result<u64> {
        self.arrived.prepare(len)
    }

    fn write_to(&mut self, file: BorrowedFd<'_>, offset: Offset, len: u64) -> io::Result<u64> {
        match self.faults.pop().unwrap_or(Fault::None) {
            Fault::None => self.arrived.write_to(file, offset, len),
            Fault::Short(limit) => self.arrived.write_to(file, offset, len.min(limit)),
            Fault::Interrupted => Err(Errno::EINTR.into()),
            Fault::DiskFull => Err(Errno::ENOSPC.into()),
        }
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::None),
        (1u64..30).prop_map(Fault::Short),
        Just(Fault::Interrupted),
        Just(Fault::DiskFull),
    ]
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![1 => Just(b'\n'), 12 => b'a'..=b'z'], 0..900)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn faults_change_neither_the_bytes_nor_the_cuts(
        text in text(),
        faults in prop::collection::vec(fault(), 0..40),
        chunk in 1usize..300,
        size_max in 40u64..400,
    ) {
        let (log, calm) = (Log::new(), Log::new());
        let mut file = log.open(size_max, 32);
        let mut source = Moody { arrived: Bytes(&[]), faults };
        let mut start = 0;
        for end in (chunk..text.len() + chunk).step_by(chunk) {
            let end = end.min(text.len());
            source.arrived = Bytes(&text[start..end]);
            while let Err(error) = file.append(&mut source, end == text.len()) {
                prop_assert_eq!(error.errno(), Some(Errno::ENOSPC as i32));
                prop_assert_eq!(file.position().1, fs::metadata(&log.path).unwrap().len());
            }
            start = end - source.arrived.0.len();
        }
        append(&mut calm.open(size_max, 32), &text).unwrap();
        prop_assert_eq!(log.parts().concat(), text);
        prop_assert_eq!(log.sizes(), calm.sizes());
    }
}
