//! The journal's native protocol.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::errno::Errno;

use super::record::{Place, Record};
use crate::sys::file;
use crate::sys::socket::send_datagram_to;

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// Syslog's facility "system daemons".
pub(super) const FACILITY_DAEMON: u8 = 3;

/// Sends `record` to the journal at `address`, as a datagram or, if it is too large for one, as a
/// sealed memory file.
///
/// The socket is not connected: the journal may be restarted meanwhile.
///
/// # Errors
/// As `sendmsg(2)` and `memfd_create(2)`; `WouldBlock` when the journal is behind.
pub(super) fn send(socket: &UnixDatagram, address: &Path, record: &Record<'_>) -> io::Result<()> {
    let entry = entry(record);
    match send_datagram_to(socket, address, entry.as_bytes(), &[]) {
        Err(error) if too_large(&error) => {
            let file = sealed_file(entry.as_bytes())?;
            send_datagram_to(socket, address, &[], &[file.as_fd()])
        }
        result => result,
    }
}

fn too_large(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMSGSIZE | Errno::ENOBUFS))
}

/// One `NAME=value` a line, which holds because no value has a line end in it.
fn entry(record: &Record<'_>) -> String {
    let mut entry = String::new();
    let mut field = |name: &str, value: &dyn Display| {
        entry.push_str(&format!("{name}={value}\n"));
    };
    field("MESSAGE", &record.text);
    field("PRIORITY", &record.level.syslog_priority());
    field("SYSLOG_FACILITY", &FACILITY_DAEMON);
    field("LIBVIRT_SOURCE", &record.category);
    if let Some(Place { file, line, module }) = record.place {
        field("CODE_FILE", &file);
        field("CODE_LINE", &line);
        field("CODE_FUNC", &module);
    }
    entry
}

/// The journal takes no file that could still change, but for one in `/dev/shm`.
fn sealed_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = file::nameless("journal-entry")?;
    file.write_all(bytes)?;
    file::seal(&file);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
    use std::io::{IoSliceMut, Read, Seek};
    use std::os::fd::AsRawFd;
    use std::time::SystemTime;

    fn record(text: String) -> Record<'static> {
        Record {
            level: Level::Warning,
            time: SystemTime::now(),
            process: 1,
            category: "util.conf",
            place: Some(Place { file: "src/a.rs", line: 7, module: "virtlogd::config" }),
            text,
        }
    }

    const FIELDS_AFTER_MESSAGE: &str = "PRIORITY=4\nSYSLOG_FACILITY=3\nLIBVIRT_SOURCE=util.conf\n\
        CODE_FILE=src/a.rs\nCODE_LINE=7\nCODE_FUNC=virtlogd::config\n";

    #[test]
    fn an_entry_is_one_datagram() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        send(&UnixDatagram::unbound().unwrap(), &path, &record("text".into())).unwrap();
        let mut bytes = [0; 1000];
        let length = journal.recv(&mut bytes).unwrap();
        let expected = format!("MESSAGE=text\n{FIELDS_AFTER_MESSAGE}");
        assert_eq!(str::from_utf8(&bytes[..length]).unwrap(), expected);
    }

    #[test]
    fn the_first_lines_come_from_no_place() {
        let entry = entry(&record(String::new()).beside(Level::Info, "hostname: h".into()));
        assert!(entry.starts_with("MESSAGE=hostname: h\nPRIORITY=6\n"), "{entry}");
        assert!(!entry.contains("CODE_"), "{entry}");
    }

    #[test]
    fn an_entry_too_large_for_a_datagram_is_a_sealed_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        setsockopt(&socket, sockopt::SndBuf, &4096).unwrap();
        let text = "x".repeat(100_000);
        send(&socket, &path, &record(text.clone())).unwrap();

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
        // SAFETY: it has just been received, and nobody else knows of it.
        let file = unsafe { crate::sys::fd::adopt(fds[0]) };
        let mut file = File::from(file.unwrap());
        let seals = fcntl(&file, FcntlArg::F_GET_SEALS).unwrap();
        let sealed = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
        assert!(SealFlag::from_bits_retain(seals).contains(sealed));
        file.rewind().unwrap();
        let mut entry = String::new();
        file.read_to_string(&mut entry).unwrap();
        assert_eq!(entry, format!("MESSAGE={text}\n{FIELDS_AFTER_MESSAGE}"));
    }

    #[test]
    fn a_missing_journal_is_an_error() {
        let socket = UnixDatagram::unbound().unwrap();
        assert!(send(&socket, Path::new("/nonexistent/socket"), &record("x".into())).is_err());
    }
}
