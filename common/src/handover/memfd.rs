//! Bytes in a memfd: written in pieces, sealed, passed on and read in place, so that a long
//! document is not copied through this process's memory. Without memfds a plain file is used, which
//! the reader copies.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use serde::Serialize;

use crate::sys::file;

/// Bytes of one memfd that are written and read; ours. The largest is a document, of which libvirt
/// reads at most 10 MiB.
pub const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes per write.
const PIECE_BYTES: usize = 65_536;

/// A memfd that may still be written to.
#[derive(Debug)]
pub(super) struct Memfd {
    file: File,
    pub(super) len: u64,
}

impl Memfd {
    /// Writes a value as JSON.
    ///
    /// # Errors
    /// As `memfd_create(2)` and `write(2)`.
    pub(super) fn of(value: &impl Serialize) -> io::Result<Self> {
        Self::written(|out| Ok(serde_json::to_writer(out, value)?))
    }

    /// Writes bytes, like [`Self::of`].
    pub(super) fn of_bytes(bytes: &[u8]) -> io::Result<Self> {
        Self::written(|out| out.write_all(bytes))
    }

    fn written(
        write: impl FnOnce(&mut BufWriter<Limited<'_>>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let file = file::nameless("virt-rs")?;
        let limited = Limited { file: &file, room_bytes: BYTES_MAX };
        let mut out = BufWriter::with_capacity(PIECE_BYTES, limited);
        write(&mut out)?;
        out.flush()?;
        drop(out);
        let len = (&file).stream_position()?;
        Ok(Self { file, len })
    }

    /// Writes the whole content to a file.
    ///
    /// # Errors
    /// As `write(2)`.
    pub(super) fn copy_to(&self, file: &mut File) -> io::Result<()> {
        let mut from = &self.file;
        from.rewind()?;
        io::copy(&mut from, file).map(drop)
    }

    /// Seals the file against changes, where the kernel supports that.
    pub(super) fn seal(self) -> OwnedFd {
        file::seal(&self.file);
        self.file.into()
    }
}

/// A writer that stops at the limit of readers.
struct Limited<'a> {
    file: &'a File,
    room_bytes: u64,
}

impl Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.room_bytes.checked_sub(bytes.len() as u64).ok_or(Errno::EFBIG)?;
        let written = self.file.write(bytes)?;
        self.room_bytes = left + (bytes.len() - written) as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests;
