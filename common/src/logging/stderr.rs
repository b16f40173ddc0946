//! Writing to stderr without blocking on its reader.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{SFlag, fstat};

/// Writes the beginning of `lines` to `fd`, whatever kind of file it is at this moment. Returns the
/// number of bytes written.
///
/// The fd's open file description is shared with the process that started us, so it must not be
/// made non-blocking. A pipe or terminal is opened anew instead; a socket has a flag per call.
///
/// # Errors
/// As `write(2)`; `WouldBlock` when the reader is behind.
pub(super) fn write(fd: BorrowedFd<'_>, lines: &[u8]) -> io::Result<usize> {
    match SFlag::from_bits_truncate(fstat(fd)?.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFSOCK => {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            Ok(send(fd.as_raw_fd(), lines, flags)?)
        }
        SFlag::S_IFIFO | SFlag::S_IFCHR => match open_again(fd) {
            Ok(mut file) => file.write(lines),
            Err(error) if cannot_open_again(&error) => Ok(nix::unistd::write(fd, lines)?),
            Err(error) => Err(error),
        },
        _ => Ok(nix::unistd::write(fd, lines)?),
    }
}

fn open_again(fd: BorrowedFd<'_>) -> io::Result<File> {
    File::options()
        .append(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Returns whether the file cannot be opened anew: another user's terminal, or no `/proc`.
fn cannot_open_again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_file_is_written_where_its_offset_stands() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"before\n").unwrap();
        write(file.as_fd(), b"one\n").unwrap();
        write(file.as_fd(), b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), "before\none\ntwo\n");
    }

    #[test]
    fn a_full_pipe_is_not_waited_for_and_not_made_nonblocking() {
        let (mut reader, writer) = io::pipe().unwrap();
        let line = [b'x'; 1000];
        let mut written = 0;
        let error = loop {
            match write(writer.as_fd(), &line) {
                Ok(bytes) => written += bytes,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let flags = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags & libc::O_NONBLOCK, 0);
        drop(writer);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), written);
    }

    #[test]
    fn a_pipe_without_reader_is_an_error_and_no_signal() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        assert!(write(writer.as_fd(), b"lost\n").is_err());
    }

    #[test]
    fn a_full_socket_is_not_waited_for() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        write(writer.as_fd(), b"line\n").unwrap();
        let mut line = [0; 5];
        reader.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"line\n");
        while write(writer.as_fd(), &[b'x'; 4096]).is_ok() {}
        drop(reader);
        assert!(write(writer.as_fd(), b"lost\n").is_err());
    }
}
