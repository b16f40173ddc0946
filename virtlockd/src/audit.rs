//! Audit: a message for each lease that is taken, refused, released or lost.
//!
//! They are off unless a log filter switches their category on, as each costs a message a lease. The
//! journal has all that they tell in fields, and a catalog, `systemd/virtlockd.catalog`, explains
//! their ids.

use std::fmt::Display;
use std::path::Path;

use tracing::Level;

use crate::lockspace::holders::HolderSummary;
use crate::protocol::{Guest, Terms};

/// Category of the messages, for filters.
const CATEGORY: &str = "locking.audit";

/// Ids of the messages, the same in all versions.
mod id {
    pub(super) const TAKEN: &str = "12eadfa90869460ca810dd3d3d35e3a5";
    pub(super) const REFUSED: &str = "d01809400b63490b919a9c478cc58f54";
    pub(super) const RELEASED: &str = "222b0d5058804bffbef95cda971ac112";
    pub(super) const LOST: &str = "aec43ee488d64ec39b1de4a7dbb1d9d1";
}

/// Logs a message of a lease at `path`, with these fields before its text.
macro_rules! log {
    ($id:expr, $path:expr, $($rest:tt)+) => {
        tracing::info!(
            target: CATEGORY, MESSAGE_ID = %$id, LIBVIRT_LEASE_PATH = %$path.display(), $($rest)+
        )
    };
}

/// Returns whether the messages are switched on, at the cost of a load from memory.
pub(crate) fn is_on() -> bool {
    tracing::enabled!(target: CATEGORY, Level::INFO)
}

/// Tells that a guest has taken a lease.
pub(crate) fn taken(path: &Path, guest: &Guest, terms: Terms) {
    let mode = if terms.shared { "shared" } else { "exclusive" };
    log!(
        id::TAKEN, path,
        LIBVIRT_DOMAIN = %guest.name_field(),
        LIBVIRT_UUID = %guest.uuid_field(),
        LIBVIRT_PID = guest.pid,
        LIBVIRT_LEASE_MODE = mode,
        "Lease taken: {} ({mode}) by {guest}", path.display()
    );
}

/// Tells that a lease was refused to a guest, for which the process `requester` has asked.
pub(crate) fn refused(
    path: &Path,
    requester: i32,
    guest: &Guest,
    reason: &str,
    holders: Option<&HolderSummary>,
) {
    let holders = holders.map(HolderSummary::to_string).unwrap_or_default();
    log!(
        id::REFUSED, path,
        LIBVIRT_DOMAIN = %guest.name_field(),
        LIBVIRT_UUID = %guest.uuid_field(),
        LIBVIRT_PID = guest.pid,
        LIBVIRT_HOLDER = %holders,
        LIBVIRT_REASON = reason,
        "Lease refused: {} to {guest}, for which process {requester} has asked: {reason}", path.display()
    );
}

/// Tells that a guest has a lease no more, for this reason.
pub(crate) fn released(path: &Path, guest: &Guest, reason: &str) {
    log!(
        id::RELEASED, path,
        LIBVIRT_DOMAIN = %guest.name_field(),
        LIBVIRT_UUID = %guest.uuid_field(),
        LIBVIRT_PID = guest.pid,
        LIBVIRT_REASON = reason,
        "Lease released: {} by {guest}: {reason}", path.display()
    );
}

/// Tells that a lease protects its holders no more, or not fully.
pub(crate) fn lost(path: &Path, holders: &dyn Display, reason: &str) {
    log!(
        id::LOST, path,
        LIBVIRT_HOLDER = %holders,
        LIBVIRT_REASON = reason,
        "Lease lost: {}: {reason}: {holders}", path.display()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catalog of the journal.
    const CATALOG: &str = include_str!("../../systemd/virtlockd.catalog");

    #[test]
    fn the_catalog_explains_each_message_once() {
        for (id, word) in [
            (id::TAKEN, "taken"),
            (id::REFUSED, "refused"),
            (id::RELEASED, "released"),
            (id::LOST, "lost"),
        ] {
            let heading = format!("-- {id}\nSubject: Lease {word}: @LIBVIRT_LEASE_PATH@\n");
            assert_eq!(CATALOG.matches(&heading).count(), 1, "{heading}");
        }
        assert_eq!(CATALOG.matches("\n-- ").count(), 4);
    }
}
