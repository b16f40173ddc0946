//! Looks at a log's own text, by its path: the file is not open for reading.

use std::os::unix::fs::FileExt;

use nix::fcntl::OFlag;

use super::FileId;
use super::reader::read;
use super::writer::RotatingFile;

/// Bytes written by others that are looked through for a text that may be behind them.
const OTHERS_BYTES_MAX: u64 = 65_536;

impl RotatingFile {
    /// Returns whether the next byte begins a line. The file is not open for reading, so this looks
    /// at PATH; where that fails the answer is no.
    pub fn is_at_line_start(&self) -> bool {
        let Some(last) = self.position().1.checked_sub(1) else {
            return true;
        };
        let opened = self.location().and_then(|location| location.open(None, OFlag::O_RDONLY, 0));
        let Ok((file, metadata)) = opened else {
            return false;
        };
        let mut byte = [0];
        FileId::of(&metadata) == self.id()
            && file.read_exact_at(&mut byte, last).is_ok()
            && byte == *b"\n"
    }

    /// Returns how many bytes of `text` are in the log from this position on, where it was being
    /// written when a process ended. Others may have written in front of it.
    pub fn written_of(&self, text: &[u8], inode: u64, offset: u64) -> usize {
        let mut found = Vec::new();
        let len_max = text.len() as u64 + OTHERS_BYTES_MAX;
        let (path, backups_max) = (self.path(), self.limits.backups_max);
        let read = read(path, self.directory(), backups_max, inode, offset, len_max, &mut found);
        if read.is_ok() && found.windows(text.len().max(1)).any(|piece| piece == text) {
            return text.len();
        }
        found.iter().zip(text).take_while(|(found, wanted)| found == wanted).count()
    }
}
