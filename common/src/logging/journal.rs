//! Messages as entries of the journal.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::record::{Place, Record};
use crate::systemd::journal::Entry;

/// Address of the journal.
pub(super) use crate::systemd::journal::SOCKET;

/// Syslog's facility "system daemons".
pub(super) const FACILITY_DAEMON: u8 = 3;

/// Sends `record` to the journal at `address`.
///
/// # Errors
/// As [`Entry::send`].
pub(super) fn send(socket: &UnixDatagram, address: &Path, record: &Record<'_>) -> io::Result<()> {
    entry(record).send(socket, address)
}

fn entry(record: &Record<'_>) -> Entry {
    let mut entry = Entry::default();
    entry.field("MESSAGE", &record.text);
    entry.field("PRIORITY", record.level.syslog_priority().to_string());
    entry.field("SYSLOG_FACILITY", FACILITY_DAEMON.to_string());
    entry.field("LIBVIRT_SOURCE", record.category);
    if let Some(Place { file, line, module }) = record.place {
        entry.field("CODE_FILE", file);
        entry.field("CODE_LINE", line.to_string());
        entry.field("CODE_FUNC", module);
    }
    record.fields.iter().for_each(|(name, value)| entry.field(name, value));
    entry
}

#[cfg(test)]
mod tests;
