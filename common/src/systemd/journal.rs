//! The journal's native protocol.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::errno::Errno;

use crate::sys::file;
use crate::sys::socket::send_datagram_to;

/// Address of the journal.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// An entry: fields with names and values.
#[derive(Debug, Default)]
pub struct Entry(Vec<u8>);

impl Entry {
    /// Adds a field. Its value can have any bytes, and ends no earlier than it does here: one that is
    /// not plain text goes with its length in front.
    pub fn field(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.0.extend_from_slice(name.as_bytes());
        if is_plain(value) {
            self.0.push(b'=');
        } else {
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        }
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    /// Returns the entry in the form of the protocol.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Sends it to the journal at `address`, as a datagram or, if it is too large for one, as a sealed
    /// memfd.
    ///
    /// The socket is not connected: the journal may be restarted meanwhile.
    ///
    /// # Errors
    /// As `sendmsg(2)` and `memfd_create(2)`; `WouldBlock` when the journal is behind.
    pub fn send(&self, socket: &UnixDatagram, address: &Path) -> io::Result<()> {
        match send_datagram_to(socket, address, &self.0, &[]) {
            Err(error) if too_large(&error) => {
                let file = sealed_file(&self.0)?;
                send_datagram_to(socket, address, &[], &[file.as_fd()])
            }
            result => result,
        }
    }
}

/// Returns whether it is text without control characters other than tabs.
fn is_plain(value: &[u8]) -> bool {
    let is_control = |letter: char| letter.is_control() && letter != '\t';
    str::from_utf8(value).is_ok_and(|text| !text.contains(is_control))
}

fn too_large(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMSGSIZE | Errno::ENOBUFS))
}

/// Makes a sealed file. The journal accepts no others, except in `/dev/shm`.
fn sealed_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = file::nameless("journal-entry")?;
    file.write_all(bytes)?;
    file::seal(&file);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::{IoSliceMut, Read, Seek};
    use std::os::fd::AsRawFd;

    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};

    use super::*;

    fn entry(value: &[u8]) -> Vec<u8> {
        let mut entry = Entry::default();
        entry.field("MESSAGE", value);
        entry.field("PRIORITY", "6");
        entry.0
    }

    #[test]
    fn a_value_forges_no_field() {
        assert_eq!(
            entry("t\u{e4}xt\t=".as_bytes()),
            "MESSAGE=t\u{e4}xt\t=\nPRIORITY=6\n".as_bytes()
        );
        for value in [&b"a\nPRIORITY=0"[..], b"\n", b"a\0", b"\xff", b"\x1b[2J"] {
            let len = (value.len() as u64).to_le_bytes();
            let expected = [b"MESSAGE\n", &len[..], value, b"\nPRIORITY=6\n"].concat();
            assert_eq!(entry(value), expected);
        }
        assert_eq!(entry(b""), b"MESSAGE=\nPRIORITY=6\n");
    }

    #[test]
    fn an_entry_too_large_for_a_datagram_is_a_sealed_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        setsockopt(&socket, sockopt::SndBuf, &4096).unwrap();
        let text = "x".repeat(100_000);
        let mut entry = Entry::default();
        entry.field("MESSAGE", &text);
        entry.send(&socket, &path).unwrap();

        let mut byte = [0];
        let mut iov = [IoSliceMut::new(&mut byte)];
        let mut control = nix::cmsg_space!(i32);
        let flags = MsgFlags::empty();
        let message =
            recvmsg::<()>(journal.as_raw_fd(), &mut iov, Some(&mut control), flags).unwrap();
        assert_eq!(message.bytes, 0);
        let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().unwrap().next() else {
            panic!("no fd");
        };
        #[expect(unsafe_code, reason = "a number has to get an owner")]
        // SAFETY: it has just been received, and nothing else knows its number.
        let file = unsafe { crate::sys::fd::adopt(fds[0]) };
        let mut file = File::from(file.unwrap());
        let seals = fcntl(&file, FcntlArg::F_GET_SEALS).unwrap();
        let sealed = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
        assert!(SealFlag::from_bits_retain(seals).contains(sealed));
        file.rewind().unwrap();
        let mut sent = String::new();
        file.read_to_string(&mut sent).unwrap();
        assert_eq!(sent, format!("MESSAGE={text}\n"));
    }
}
