//! What guests write, made so that every lost, doubled or moved byte is seen.

use std::fs;
use std::ops::Range;
use std::path::Path;

use tests::harness::backup;

/// Hexadecimal digits of the number that each write starts with, behind [`MARK`].
const STAMP_DIGITS: usize = 16;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Occurs nowhere but before a number.
const MARK: u8 = b'#';

/// Size of a log file, libvirt's default.
pub(crate) const FILE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Backups of a log file, libvirt's default.
pub(crate) const BACKUPS_MAX: u32 = 3;

/// Bytes at the end of a file that may stay free, so that it ends with a line (libvirt's value).
const SLACK_BYTES_MAX: usize = 80;

/// The same of other programs; `s6-log` leaves the most.
const PEERS_SLACK_BYTES_MAX: usize = 2_100;

/// Files that a program keeps beside its logs.
const NO_LOGS: [&str; 4] = ["config", "lock", "state", "newstate"];

/// An endless row of writes, each with its number in it.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    text: Vec<u8>,
    /// The writes' places in the text; after the last comes the first again.
    writes: Vec<Range<usize>>,
}

impl Content {
    /// Writes of one size, with a line end every hundred bytes and at the end, as there are
    /// programs that add one to a last line without it.
    pub(crate) fn blocks(size_bytes: usize) -> Self {
        let mut text: Vec<u8> = (b'a'..=b'z').cycle().take(size_bytes).collect();
        text.iter_mut().skip(99).step_by(100).for_each(|byte| *byte = b'\n');
        text[size_bytes - 1] = b'\n';
        let whole = 0..text.len();
        Self { text, writes: vec![whole] }
    }

    /// One write for each line of 80 to 200 bytes.
    pub(crate) fn lines() -> Self {
        const LENGTHS: usize = 121;
        let mut content = Self { text: Vec::new(), writes: Vec::new() };
        for number in 0..LENGTHS {
            let start = content.text.len();
            // 37 and 121 have no common divisor, so every length comes once.
            let length = 80 + number * 37 % LENGTHS;
            content.text.extend((b'a'..=b'z').cycle().take(length - 1));
            content.text.push(b'\n');
            content.writes.push(start..content.text.len());
        }
        content
    }

    /// The bytes of a write. Formatting would cost a guest a good part of what a line costs it.
    pub(crate) fn write(&mut self, number: usize) -> &[u8] {
        let bytes = &mut self.text[self.writes[number % self.writes.len()].clone()];
        bytes[0] = MARK;
        for (index, digit) in bytes[1..=STAMP_DIGITS].iter_mut().rev().enumerate() {
            *digit = HEX[number >> (4 * index) & 15];
        }
        bytes
    }

    /// Checks that the log at `path` and its backups end with the last of `count` writes, and that
    /// nothing is missing that there is room for.
    pub(crate) fn check_log(&mut self, path: &Path, count: usize) {
        self.check_end(&stored(path), count, SLACK_BYTES_MAX);
    }

    /// Checks the files of a directory, whose order only their content tells.
    pub(crate) fn check_directory(&mut self, directory: &Path, count: usize) {
        let entries = fs::read_dir(directory).expect("reading a directory");
        let paths = entries.map(|entry| entry.expect("a directory entry").path());
        let logs = paths.filter(|path| !NO_LOGS.iter().any(|name| path.ends_with(name)));
        let mut files: Vec<Vec<u8>> =
            logs.map(|path| fs::read(path).expect("reading a log")).collect();
        // Only the newest may be too short to have a number in it.
        files.sort_by_key(|file| first_stamp(file).map_or(usize::MAX, |(_, number)| number));
        self.check_end(&files.concat(), count, PEERS_SLACK_BYTES_MAX);
    }

    /// Checks that the log at `path` and its backups hold a piece without gaps of what was written, or
    /// nothing.
    pub(crate) fn check_piece(&mut self, path: &Path) {
        let stored = stored(path);
        if stored.is_empty() {
            return;
        }
        let (mark, first) = first_stamp(&stored).expect("a number in what is stored");
        let (head, mut rest) = stored.split_at(mark);
        assert!(first == 0 || self.write(first - 1).ends_with(head), "the oldest bytes are wrong");
        for number in first.. {
            let write = self.write(number);
            if rest.len() <= write.len() {
                return assert!(write.starts_with(rest), "the newest bytes are wrong");
            }
            rest = rest.strip_prefix(write).expect("a write is where it belongs");
        }
    }

    fn check_end(&mut self, stored: &[u8], count: usize, slack_bytes_max: usize) {
        let mut rest = stored;
        for number in (0..count).rev() {
            let write = self.write(number);
            if rest.len() <= write.len() {
                assert!(write.ends_with(rest), "the oldest bytes stored are wrong");
                let is_all = number == 0 && rest.len() == write.len();
                let least = 3 * (FILE_BYTES_MAX - slack_bytes_max);
                assert!(is_all || stored.len() >= least, "only {} are stored", stored.len());
                return;
            }
            rest = rest.strip_suffix(write).unwrap_or_else(|| {
                let behind = stored.len() - rest.len();
                panic!("write {number} of {count} is not where it belongs, {behind} before the end")
            });
        }
        assert!(rest.is_empty(), "{} bytes were never written", rest.len());
    }
}

/// A log with its backups before it.
fn stored(path: &Path) -> Vec<u8> {
    let backups = (0..BACKUPS_MAX).rev().map(|index| backup(path, index));
    let files = backups.chain([path.to_path_buf()]);
    files.flat_map(|file| fs::read(file).unwrap_or_default()).collect()
}

/// The place of the first number, and the number.
fn first_stamp(bytes: &[u8]) -> Option<(usize, usize)> {
    let mark = bytes.iter().position(|&byte| byte == MARK)?;
    let digits = std::str::from_utf8(bytes.get(mark + 1..=mark + STAMP_DIGITS)?).ok()?;
    Some((mark, usize::from_str_radix(digits, 16).ok()?))
}
