//! Rotation of a log, against a model that knows the whole stream.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use nix::errno::Errno;
use tempfile::TempDir;
use virtlogd::rotating_file::{Bytes, Limits, Offset, RotatingFile, Source, read};

use super::input::Input;

/// Bytes in front of a file's full size in which a newline is looked for.
const WINDOW_BYTES: usize = 80;
const STEPS_MAX: usize = 60;

/// The log as its rule wants it: finished parts, the oldest first, and the file.
struct Model {
    limits: Limits,
    parts: Vec<Vec<u8>>,
    file: Vec<u8>,
    /// A partial line behind a line's end in the window.
    waiting: Vec<u8>,
    /// The file ends with a line in the window, and this process has seen it.
    ends_line: bool,
}

impl Model {
    /// Takes bytes and cuts by libvirt's rule, seen from the byte that does not fit.
    fn take(&mut self, bytes: &[u8], flush: bool) {
        self.waiting.extend_from_slice(bytes);
        let max = usize::try_from(self.limits.size_bytes_max).expect("a small limit");
        if max == 0 {
            self.file.append(&mut self.waiting);
            return;
        }
        loop {
            let room = max.saturating_sub(self.file.len());
            if self.waiting.len() <= room {
                break;
            }
            let fits = &self.waiting[..room];
            let window = room.saturating_sub(WINDOW_BYTES);
            let newline = fits[window..].iter().rposition(|&byte| byte == b'\n');
            // A line's end that was stored before is a place to cut, if nothing follows it yet.
            let len = match newline {
                Some(newline) => window + newline + 1,
                None if self.ends_line => 0,
                None => room,
            };
            self.file.extend(self.waiting.drain(..len));
            self.parts.push(std::mem::take(&mut self.file));
            self.ends_line = false;
        }
        self.store(max, flush);
    }

    /// Stores what may be: all but a partial line behind a line's end in the window.
    fn store(&mut self, max: usize, flush: bool) {
        let all = [self.file.as_slice(), &self.waiting].concat();
        let window = max.saturating_sub(WINDOW_BYTES).max(self.file.len());
        let line = all.get(window..).and_then(|seen| seen.iter().rposition(|&byte| byte == b'\n'));
        let end = match line {
            _ if flush => all.len(),
            Some(newline) => window + newline + 1,
            None if self.ends_line => self.file.len(),
            None => all.len(),
        };
        if end > self.file.len() {
            self.ends_line = end > max.saturating_sub(WINDOW_BYTES) && all[..end].ends_with(b"\n");
        }
        self.waiting = all[end..].to_vec();
        self.file = all[..end].to_vec();
    }

    fn kept(&self) -> Vec<Vec<u8>> {
        let kept = usize::try_from(self.limits.backups_max).expect("a small number");
        let first = self.parts.len().saturating_sub(kept);
        self.parts[first..].iter().chain([&self.file]).cloned().collect()
    }
}

/// Bytes that arrive, and a file system that takes them as it likes.
struct Moody<'a, 'b> {
    arrived: Bytes<'a>,
    moods: &'b [u8],
}

impl Moody<'_, '_> {
    fn mood(&mut self) -> u8 {
        let Some((mood, rest)) = self.moods.split_first() else { return 0 };
        self.moods = rest;
        *mood
    }
}

impl Source for Moody<'_, '_> {
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
        match self.mood() {
            1 => Err(Errno::EINTR.into()),
            2 => Err(Errno::ENOSPC.into()),
            mood @ 3..=40 => self.arrived.write_to(file, offset, len.min(mood.into())),
            _ => self.arrived.write_to(file, offset, len),
        }
    }
}

/// Every byte is stored once and in its order, in parts that the rule gives, whatever the pieces
/// and faults are, across upgrades; no part is longer than it may be, and none too many is kept.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let limits = limits(&mut input);
    let log = Log::new();
    let mut model = Model {
        limits,
        parts: Vec::new(),
        file: Vec::new(),
        waiting: Vec::new(),
        ends_line: false,
    };
    let mut file = RotatingFile::open(log.path(), limits, false).expect("a log");
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let action = input.byte();
        let flush = action & 3 == 0;
        let text = text(&mut input, action);
        let moods = if action & 4 == 0 { &[][..] } else { input.bytes() };
        append(&mut file, &mut model, &text, moods, flush);
        if action & 8 != 0 {
            file.refresh().expect("nobody else is there");
        }
        if action & 16 != 0 {
            file = handed_over(&file, &log, limits);
            // Where the last line ended is not handed over.
            model.ends_line = false;
            append(&mut file, &mut model, b"", &[], flush);
        }
        log.check(&model, &file);
    }
    log.check_reading(&model, &mut input);
}

fn append(file: &mut RotatingFile, model: &mut Model, text: &[u8], moods: &[u8], flush: bool) {
    let all = [model.waiting.as_slice(), text].concat();
    let mut source = Moody { arrived: Bytes(&all), moods };
    model.take(text, flush);
    while let Err(error) = file.append(&mut source, flush) {
        assert_eq!(error.errno(), Some(Errno::ENOSPC as i32), "{error}");
    }
    assert_eq!(source.arrived.0, model.waiting, "what waits");
}

fn handed_over(file: &RotatingFile, log: &Log, limits: Limits) -> RotatingFile {
    let (fd, left) = file.state();
    let fd = fd.expect("an open file").try_clone_to_owned().expect("an fd");
    let resumed = RotatingFile::resume(log.path().into(), limits, fd.into(), left);
    let mut resumed =
        resumed.expect("a log").opened_in(file.directory().map(|directory| directory.get()));
    resumed.refresh().expect("nobody else is there");
    assert_eq!(resumed.position(), file.position());
    resumed
}

fn limits(input: &mut Input<'_>) -> Limits {
    let size_bytes_max = match input.byte() {
        0 => 0,
        1..=100 => 40 + u64::from(input.byte()),
        _ => 1 + u64::from(input.u16() % 400),
    };
    Limits { size_bytes_max, backups_max: u64::from(input.byte() % 6) }
}

fn text(input: &mut Input<'_>, action: u8) -> Vec<u8> {
    if action & 0x20 == 0 {
        return input.bytes().to_vec();
    }
    let (len, line) = (input.below(700), 1 + input.below(120));
    (1..=len)
        .map(|at| if at % line == 0 { b'\n' } else { b"abcdefghijklmnopqrstuvwxyz"[at % 26] })
        .collect()
}

/// A directory in memory with a log in it.
struct Log(TempDir);

impl Log {
    fn new() -> Self {
        Self(
            tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory"),
        )
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("log")
    }

    fn part(&self, index: usize) -> PathBuf {
        self.0.path().join(format!("log.{index}"))
    }

    fn check(&self, model: &Model, file: &RotatingFile) {
        let expected = model.kept();
        let older = (0..expected.len() - 1).rev().map(|index| self.part(index));
        let found: Vec<_> = older.chain([self.path()]).map(fs::read).collect();
        let found: Vec<_> = found.into_iter().map(|part| part.expect("a part")).collect();
        assert!(found == expected, "{:?}, not {:?}", lossy(&found), lossy(&expected));
        assert_eq!(fs::read_dir(self.0.path()).expect("a directory").count(), expected.len());
        assert_eq!(file.position().1, model.file.len() as u64);
    }

    /// From any position on, a reader gets what follows it.
    fn check_reading(&self, model: &Model, input: &mut Input<'_>) {
        use std::os::unix::fs::MetadataExt;
        let parts = model.kept();
        let index = input.below(parts.len());
        let from_newest = parts.len() - 1 - index;
        let path = match from_newest.checked_sub(1) {
            Some(part) => self.part(part),
            None => self.path(),
        };
        let inode = fs::metadata(path).expect("a part").ino();
        let offset = input.below(parts[index].len() + 1);
        let all = [&parts[index][offset..], &parts[index + 1..].concat()].concat();
        let len_max = input.below(2000);
        let expected = all.split(|&byte| byte == 0).next().unwrap_or_default();
        let expected = &expected[..expected.len().min(len_max)];
        let mut data = Vec::new();
        let backups_max = model.limits.backups_max;
        let path = self.path();
        read(&path, None, backups_max, inode, offset as u64, len_max as u64, &mut data)
            .expect("the parts");
        assert_eq!(data, expected);
    }
}

fn lossy(parts: &[Vec<u8>]) -> Vec<String> {
    parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}
