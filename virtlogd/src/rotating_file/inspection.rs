//! Looks at a log's own text, by its path: the file is not open for reading.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt;

use common::sys::file_id::FileId;
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::directory::by_number;
use super::reader::read;
use super::writer::RotatingFile;

use super::Error;

/// Bytes written by others that are looked through for a text that may be behind them.
const OTHERS_BYTES_MAX: u64 = 65_536;

impl RotatingFile {
    /// Returns whether the next byte begins a line: a new file goes on with the line in which the part
    /// before it was cut. The file is not open for reading, so this looks at PATH, or at `/proc` for one
    /// whose directory is out of reach; where that fails the answer is no.
    pub fn is_at_line_start(&self) -> bool {
        let Some(last) = self.position().1.checked_sub(1) else {
            return self.is_behind_line();
        };
        if self.is_detached() {
            return self.open_again().is_ok_and(|file| is_newline(&file, last));
        }
        let Ok((file, metadata)) = self.open_part(None) else {
            return false;
        };
        FileId::of(&metadata) == self.id() && is_newline(&file, last)
    }

    /// Returns how many bytes of `text` are in the log from this position on, where it was being
    /// written when a process ended. Others may have written in front of it.
    pub fn written_of(&self, text: &[u8], inode: u64, offset: u64) -> usize {
        let mut found = Vec::new();
        let len_max = text.len() as u64 + OTHERS_BYTES_MAX;
        let (path, backups_max) = (self.path(), self.limits().backups_max);
        let read =
            read(path, self.known_directory(), backups_max, inode, offset, len_max, &mut found);
        if read.is_ok() && found.windows(text.len().max(1)).any(|piece| piece == text) {
            return text.len();
        }
        found.iter().zip(text).take_while(|(found, wanted)| found == wanted).count()
    }

    /// Returns whether the part before the file ends with a line, or there is none.
    fn is_behind_line(&self) -> bool {
        if self.limits().backups_max == 0 {
            return true;
        }
        match self.open_part(Some(0)) {
            Ok((file, metadata)) => match metadata.len().checked_sub(1) {
                Some(last) => is_newline(&file, last),
                None => true,
            },
            Err(error) => error.errno() == Some(Errno::ENOENT as i32),
        }
    }

    /// Opens the file for reading where its path does not lead to it.
    fn open_again(&self) -> io::Result<File> {
        File::open(by_number(self.state().0.ok_or(Errno::EBADF)?))
    }

    fn open_part(&self, part: Option<u64>) -> Result<(File, Metadata), Error> {
        self.location()?.open(part, OFlag::O_RDONLY, 0)
    }
}

fn is_newline(file: &File, offset: u64) -> bool {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).is_ok() && byte == *b"\n"
}
