//! virtlockd's data of a client, and the owners of leases.

use serde::{Deserialize, Serialize};

use super::lenient::{lenient, object};

/// virtlockd's data of a client; an empty object for all others.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "libvirt's fields")]
pub struct Session {
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub restricted: Option<bool>,
    #[serde(
        rename = "ownerPid",
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub owner_pid: Option<u32>,
    #[serde(
        rename = "ownerId",
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub owner_id: Option<u32>,
    /// Never missing for a client of virtlockd: libvirt's would crash.
    #[serde(
        rename = "ownerName",
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub owner_name: Option<String>,
    #[serde(
        rename = "ownerUUID",
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub owner_uuid: Option<String>,
    #[serde(
        rename = "virt-rs",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub private: Option<PrivateSession>,
}

/// Private data of a client of virtlockd.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateSession {
    /// It is the owner's own connection. If missing, the peer's pid decides.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub is_own: Option<bool>,
    /// As in [`Holder`].
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
}

/// Holder of a lease.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "they say it themselves")]
pub struct Holder {
    #[serde(deserialize_with = "lenient")]
    pub pid: Option<u32>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Number of shares, if more than one.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// Seconds since 1970.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub since_unix_s: Option<u64>,
    /// It held the lease before, since an unknown time.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub had_before: Option<bool>,
    /// Identity of the process. If missing, it was found by its number alone.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
}

/// Identity of an owner's process, besides the number that was registered.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// If missing, it was found by its number.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
    /// Our pid for it, if that is not the registered one. One that was found by its connection and has
    /// none is outside of our pid namespace.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Its inode on pidfs.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// Without an inode, its start time in ticks since boot.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    /// Pid namespace, if another, in which it has the registered number.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub namespace: Option<u64>,
}

/// Way in which a process was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    /// By its own connection, from a pid namespace with other numbers.
    Connection,
    /// Not found: its number has no meaning here.
    Never,
    /// It had ended already.
    Dead,
}

/// A process of which nothing but a pidfd is left.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PassedProcess {
    /// The guest.
    #[serde(deserialize_with = "object")]
    pub guest: Option<Holder>,
    /// The pidfd.
    #[serde(deserialize_with = "lenient")]
    pub fd: Option<i32>,
}

/// A guest that was asked to end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ending {
    /// The guest.
    #[serde(deserialize_with = "object")]
    pub guest: Option<Holder>,
    /// Time at which it is killed, in milliseconds since boot; missing once it has ended.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub deadline_boot_ms: Option<u64>,
}
