//! Lockspaces of virtlockd, and the leases on their resources.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::items::Items;
use super::lenient::{items, lenient, object, objects, scalars, small, smalls};
use super::owner::{Ending, Holder, PassedProcess};
use crate::handover::text;

/// A lockspace of virtlockd's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "libvirt's fields")]
pub struct Lockspace<'a> {
    /// Missing for the default lockspace.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    #[serde(deserialize_with = "items")]
    pub resources: Option<Items<'a, Resource>>,
    #[serde(
        rename = "virt-rs",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub private: Option<PrivateLockspace>,
}

/// A resource with leases on it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "libvirt's fields")]
pub struct Resource {
    #[serde(deserialize_with = "lenient")]
    pub name: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub path: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub fd: Option<i32>,
    #[serde(rename = "lockHeld", deserialize_with = "lenient")]
    pub lock_held: Option<bool>,
    /// 1 shared, 2 made automatically, as on the wire.
    #[serde(deserialize_with = "lenient")]
    pub flags: Option<u32>,
    /// Pids of the owners, each as often as it has the lease.
    #[serde(deserialize_with = "smalls")]
    pub owners: Option<Vec<Pid>>,
    #[serde(
        rename = "virt-rs",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub private: Option<PrivateResource>,
}

/// A process id; `None` if it is not a number.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pid(#[serde(deserialize_with = "lenient")] pub Option<u32>);

impl Lockspace<'_> {
    /// Makes a lockspace with this directory and no resources; the default one has an empty
    /// directory.
    #[must_use]
    pub fn at(directory: &[u8]) -> Self {
        let hex = text::hex_unless_text(directory);
        let private =
            hex.map(|hex| PrivateLockspace { directory: Some(hex), ..PrivateLockspace::default() });
        let directory = (!directory.is_empty()).then(|| text::text(directory));
        Self { directory, private, ..Self::default() }
    }

    /// Returns the bytes of its directory, empty for the default one.
    #[must_use]
    pub fn path(&self) -> Cow<'_, [u8]> {
        let hex = self.private.as_ref().and_then(|private| private.directory.as_deref());
        text::bytes_of(hex, self.directory.as_deref().unwrap_or_default())
    }
}

/// Private data of a lockspace. The default one's also has what concerns all leases.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateLockspace {
    /// The directory's bytes in hexadecimal, if they are not UTF-8.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Holders of which libvirt's part has only the pid.
    #[serde(deserialize_with = "objects", skip_serializing_if = "Option::is_none")]
    pub owners: Option<Vec<Holder>>,
    /// Guests that are being ended.
    #[serde(deserialize_with = "objects", skip_serializing_if = "Option::is_none")]
    pub endings: Option<Vec<Ending>>,
    /// Mounts of leases on shared storage.
    #[serde(deserialize_with = "objects", skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<ProvedMount>>,
    /// Pid namespace of the daemon, in which pids mean what they say.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<u64>,
    /// Guests outside of that which have no connection any more.
    #[serde(deserialize_with = "objects", skip_serializing_if = "Option::is_none")]
    pub passed: Option<Vec<PassedProcess>>,
    /// Processes that have asked the servers of these, and may not have ended.
    #[serde(deserialize_with = "smalls", skip_serializing_if = "Option::is_none")]
    pub probers: Option<Vec<i32>>,
}

/// Mount of leases on shared storage, with the time just before the last question that its server has
/// answered.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProvedMount {
    /// Device number of its files.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub device: Option<u64>,
    /// Milliseconds since boot, suspended time included.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub asked_boot_ms: Option<u64>,
    /// Lease time of the server in milliseconds.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
}

impl PrivateLockspace {
    /// Adds later progress of endings. The latest of each guest's counts, and finished ones are
    /// dropped.
    #[must_use]
    pub fn with_later(self, endings: Vec<Ending>) -> Self {
        let mut latest = BTreeMap::new();
        for ending in self.endings.into_iter().flatten().chain(endings) {
            let Some(guest) = &ending.guest else { continue };
            let process = guest.process.clone().unwrap_or_default();
            let who = (guest.pid, process.number, process.inode, process.start);
            latest.insert(who, ending);
        }
        let left = latest.into_values().filter(|ending| ending.deadline_boot_ms.is_some());
        let left: Vec<_> = left.collect();
        Self { endings: (!left.is_empty()).then_some(left), ..self }
    }
}

/// Private data of a resource.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateResource {
    /// Key in the fd store.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub key: Option<u64>,
    /// The name's bytes in hexadecimal, if they are not UTF-8.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The bytes of the lockspace's directory likewise.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Kind of lock; anything else, or nothing, is a POSIX lock.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
    /// Missing part of the lock, to be taken as soon as possible.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub lacks: Option<Lack>,
    /// Whether it may have been lost, on shared storage.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub may_be_lost: Option<bool>,
    /// Identity of the locked file, so that its file system need not be asked: device and inode
    /// number, or 0 and the number of a block device.
    #[serde(deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub file: Option<(u64, u64)>,
    /// Unused fds of the file, which would drop a POSIX lock if they were closed.
    #[serde(deserialize_with = "scalars", skip_serializing_if = "Option::is_none")]
    pub parked: Option<Vec<i32>>,
    /// Holders of the lease.
    #[serde(deserialize_with = "objects", skip_serializing_if = "Option::is_none")]
    pub holders: Option<Vec<Holder>>,
}

/// Kind of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lock {
    /// Open file description lock, which does not end with the process.
    Ofd,
}

/// Missing part of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lack {
    /// It is shared, and should be exclusive.
    Exclusiveness,
    /// There is no lock.
    Everything,
}

#[cfg(test)]
mod tests;
