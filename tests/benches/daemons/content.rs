//! What guests write, made so that every lost, doubled or moved byte is seen.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use tests::harness::backup;

/// Digits of the number that each write starts with, behind [`MARK`].
const STAMP_DIGITS: usize = 16;

/// Occurs nowhere but before a number.
const MARK: u8 = b'#';

/// Size of a log file, libvirt's default.
pub(crate) const FILE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Backups of a log file, libvirt's default.
pub(crate) const BACKUPS_MAX: u32 = 3;

/// Bytes at the end of a file that may stay free, so that it ends with a line (libvirt's value).
const SLACK_BYTES_MAX: usize = 80;

/// An endless row of writes, each with its number in it.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    text: Vec<u8>,
    /// The writes' places in the text; after the last comes the first again.
    writes: Vec<Range<usize>>,
}

impl Content {
    /// Writes of one size, with a line end every hundred bytes or so.
    pub(crate) fn blocks(size_bytes: usize) -> Self {
        let mut text: Vec<u8> = (b'a'..=b'z').cycle().take(size_bytes).collect();
        text.iter_mut().skip(99).step_by(100).for_each(|byte| *byte = b'\n');
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

    /// The bytes of a write.
    pub(crate) fn write(&mut self, number: usize) -> &[u8] {
        let bytes = &mut self.text[self.writes[number % self.writes.len()].clone()];
        write!(&mut bytes[..=STAMP_DIGITS], "{}{number:016}", char::from(MARK)).expect("it fits");
        bytes
    }

    /// Checks that the log at `path` and its backups end with the last of `count` writes, and that
    /// nothing is missing that there is room for.
    pub(crate) fn check_log(&mut self, path: &Path, count: usize) {
        let backups = (0..BACKUPS_MAX).rev().map(|index| backup(path, index));
        let files = backups.chain([path.to_path_buf()]);
        let stored: Vec<u8> = files.flat_map(|file| fs::read(file).unwrap_or_default()).collect();
        self.check(&stored, count);
    }

    /// Checks the files of a directory, whose order only their content tells.
    pub(crate) fn check_directory(&mut self, directory: &Path, count: usize) {
        let entries = fs::read_dir(directory).expect("reading a directory");
        let mut files: Vec<Vec<u8>> =
            entries.map(|entry| fs::read(entry.unwrap().path()).unwrap_or_default()).collect();
        files.sort_by_key(|file| {
            let mark = file.iter().position(|&byte| byte == MARK).unwrap_or(file.len());
            file[mark..].iter().take(1 + STAMP_DIGITS).copied().collect::<Vec<u8>>()
        });
        self.check(&files.concat(), count);
    }

    fn check(&mut self, stored: &[u8], count: usize) {
        let mut rest = stored;
        for number in (0..count).rev() {
            let write = self.write(number);
            if rest.len() <= write.len() {
                assert!(write.ends_with(rest), "the oldest bytes stored are wrong");
                let least = 3 * (FILE_BYTES_MAX - SLACK_BYTES_MAX);
                assert!(number == 0 || stored.len() >= least, "only {} are stored", stored.len());
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
