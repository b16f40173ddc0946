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

/// Address of the journal.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// Syslog's facility "system daemons".
pub(super) const FACILITY_DAEMON: u8 = 3;

/// Sends `record` to the journal at `address`, as a datagram or, if it is too large for one, as a
/// sealed memfd.
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

/// Formats one `NAME=value` a line, as no value contains a newline.
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
    record.fields.iter().for_each(|(name, value)| field(name, value));
    entry
}

/// Makes a sealed file. The journal accepts no others, except in `/dev/shm`.
fn sealed_file(bytes: &[u8]) -> io::Result<File> {
    let mut file = file::nameless("journal-entry")?;
    file.write_all(bytes)?;
    file::seal(&file);
    Ok(file)
}

#[cfg(test)]
mod tests;
