//! Bytes of a guest that are dropped.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileTypeExt;

use common::sys::pipe;
use nix::errno::Errno;

/// Bytes read at a time where they cannot be spliced.
const READ_BYTES: usize = 65_536;

/// Takes up to `len` bytes out of a guest's pipe, and returns their number. They are not copied, but
/// where `splice` is refused.
pub(super) fn discard(guest: BorrowedFd<'_>, len: usize) -> u64 {
    // What the null device does not get is read.
    let spliced = splice_away(guest, len).unwrap_or(0);
    (spliced + read_away(guest, len.saturating_sub(spliced))) as u64
}

fn splice_away(guest: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
    let null = File::options().write(true).open("/dev/null")?;
    // Somebody may have put a file there, which would get them.
    if !null.metadata()?.file_type().is_char_device() {
        return Err(Errno::ENODEV.into());
    }
    let mut gone = 0;
    while gone < len {
        match pipe::splice_to_pipe(guest, &null, len - gone) {
            Ok(count @ 1..) => gone += count,
            _ => break,
        }
    }
    Ok(gone)
}

fn read_away(guest: BorrowedFd<'_>, len: usize) -> usize {
    let mut gone = 0;
    if len == 0 {
        return gone;
    }
    // Of a packet that does not fit into the buffer the rest is gone.
    let mut buffer = vec![0; len.clamp(pipe::ATOMIC_BYTES, READ_BYTES)];
    while gone < len
        && let Ok(pipe::State::Waiting) = pipe::state(guest)
        && let Ok(count @ 1..) = pipe::read(guest, &mut buffer)
    {
        gone += count;
    }
    gone
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn bytes_are_taken_out_and_counted() {
        let read = |guest: BorrowedFd<'_>, len| read_away(guest, len) as u64;
        let ways: [fn(BorrowedFd<'_>, usize) -> u64; 2] = [discard, read];
        for discard in ways {
            let (reader, writer) = pipe::pipe().unwrap();
            nix::unistd::write(&writer, &[b'x'; 60_000]).unwrap();
            assert_eq!(discard(reader.as_fd(), 0), 0);
            assert_eq!(discard(reader.as_fd(), 50_000) / 10_000, 5);
            discard(reader.as_fd(), 1_000_000);
            assert_eq!(pipe::readable_bytes(&reader).unwrap(), 0);
            assert_eq!(discard(reader.as_fd(), 10), 0, "nothing is waited for");
        }
    }

    #[test]
    fn no_byte_is_read_where_they_can_be_spliced() {
        let (reader, writer) = pipe::pipe().unwrap();
        nix::unistd::write(&writer, &[b'x'; 60_000]).unwrap();
        assert_eq!(splice_away(reader.as_fd(), 100_000).unwrap(), 60_000);
    }
}
