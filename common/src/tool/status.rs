//! The status of a daemon, for people.

use std::io::{self, Write};

use super::format::{bytes, escaped, time};
use crate::query::Status;

/// Prints what both daemons tell of themselves, and the lines `more` of one of them.
///
/// # Errors
/// As `write(2)`.
pub fn print_status(
    status: &Status,
    more: &[(&str, String)],
    out: &mut impl Write,
) -> io::Result<()> {
    let store = match &status.fd_store {
        None => "none; see `systemctl show -P FileDescriptorStoreMax`".to_owned(),
        Some(store) => {
            let lack = if store.is_complete { "" } else { ", not everything has found room" };
            format!("{} of {} descriptors{lack}", store.fds, store.fds_max)
        }
    };
    let main = format!("{} {} (libvirt {})", status.daemon, status.version, status.libvirt_version);
    let mut lines = vec![
        ("Daemon", main),
        ("Process", format!("{}, serving since {}", status.pid, time(status.since_unix_s))),
        ("Clients", format!("{} of {}", status.clients, status.clients_max)),
        ("Fd store", store),
    ];
    lines.extend(status.at_stake.clone().map(|cost| ("At stake", cost)));
    lines.extend(status.last_upgrade.clone().map(|outcome| ("Last upgrade", outcome)));
    lines.extend(
        status.lost_bytes.map(|lost| ("Lost", format!("{} bytes ({})", lost, bytes(lost)))),
    );
    lines.extend(more.iter().cloned());
    let width = lines.iter().map(|(title, _)| title.len()).max().unwrap_or(0);
    for (title, text) in lines {
        writeln!(out, "{title:>width$}: {}", escaped(&text))?;
    }
    Ok(())
}
