//! What only we know: everything that stands under [`PRIVATE`](super::PRIVATE), and the journal's
//! changes.

use serde::{Deserialize, Serialize};

use super::lenient::{lenient, object, objects, scalars, small, smalls};
use super::{Client, Lockspace, Log};

/// A change of what is in the fd store; with a key alone, the item has gone.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "they say it themselves")]
pub struct Change {
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub key: Option<u64>,
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
    /// With one resource.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lockspace<'static>>,
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub client: Option<Client>,
    /// The directory of a lockspace.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
}

/// What only we know of the process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateDaemon {
    /// How many times this process has executed a successor, this time included.
    #[serde(deserialize_with = "lenient")]
    pub generation: Option<u64>,
    /// A state file that could not be removed: device, inode, time of change in ns. Whoever finds
    /// it again knows that it is older than this document.
    #[serde(deserialize_with = "small")]
    pub stale_file: Option<(u64, u64, i64)>,
    /// The locked pid file.
    #[serde(deserialize_with = "lenient")]
    pub pid_file: Option<i32>,
    /// The configuration file's bytes as this image read them, in a memfd: for a successor that
    /// finds it broken.
    #[serde(deserialize_with = "lenient")]
    pub configuration: Option<i32>,
    /// The same, in hexadecimal digits, for whoever comes after a crash.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub configuration_hex: Option<String>,
    /// Set through the admin socket: seconds, 0 for never.
    #[serde(deserialize_with = "lenient")]
    pub timeout_s: Option<u32>,
    /// Set through the admin socket.
    #[serde(deserialize_with = "lenient")]
    pub log_filters: Option<String>,
    /// Set through the admin socket.
    #[serde(deserialize_with = "lenient")]
    pub log_outputs: Option<String>,
    /// The names of what is in the fd store, one for each fd.
    #[serde(deserialize_with = "scalars")]
    pub stored_names: Option<Vec<String>>,
    /// How many fds the store takes, as far as that is known from systemd.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub store_max: Option<u64>,
    /// Where the supervisor listens, if the environment does not say it.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub notify_socket: Option<String>,
    /// Fds that are kept open, as their locks may be somebody's, and about which nothing is known.
    #[serde(deserialize_with = "scalars")]
    pub parked: Option<Vec<i32>>,
}

/// What only we know of a client: what is in its buffers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateClient {
    /// Its key in the fd store.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub key: Option<u64>,
    /// The call that a process that has crashed has not answered.
    #[serde(deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub owed: Option<[u32; 4]>,
    /// The beginning of a message.
    #[serde(deserialize_with = "object")]
    pub input: Option<Buffer>,
    /// What was read behind a message that is not answered yet.
    #[serde(deserialize_with = "object")]
    pub ahead: Option<Buffer>,
    /// The rest of an answer.
    #[serde(deserialize_with = "object")]
    pub output: Option<Buffer>,
}

/// Bytes, in a memfd, and the fds that go with them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "they say it themselves")]
pub struct Buffer {
    #[serde(deserialize_with = "lenient")]
    pub bytes: Option<i32>,
    #[serde(deserialize_with = "scalars")]
    pub fds: Option<Vec<i32>>,
}

/// What only we know of a log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateLog {
    /// It comes from the store, after a crash.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub after_crash: Option<bool>,
    /// Its key in the fd store.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub key: Option<u64>,
    /// The keys of the pipes in `staged`.
    #[serde(deserialize_with = "scalars", skip_serializing_if = "Option::is_none")]
    pub staged_keys: Option<Vec<u64>>,
    /// The path's bytes in hexadecimal, where they are no UTF-8.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The open file, so that it need not be opened.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub file: Option<i32>,
    /// Pipes with bytes of this log that come before those in the guest's pipe, in their order.
    /// Both ends of each: the one to read from first.
    #[serde(deserialize_with = "smalls", skip_serializing_if = "Option::is_none")]
    pub staged: Option<Vec<(i32, i32)>>,
    /// The rest of a line about a loss of which a part is in the file already.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub unfinished_line: Option<String>,
    /// Bytes that were lost behind those and that the log was not told of yet.
    #[serde(deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// Why they were lost.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Steps left of a rotation that failed half-way.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub rotation_steps_left: Option<u64>,
}

/// Bytes of a guest that are lost.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they say it themselves")]
pub struct Loss {
    pub bytes: u64,
    pub first_unix_us: u64,
    pub last_unix_us: u64,
}

/// What only we know of all leases; beside those of the default lockspace.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateLockspace {
    /// Who the holders are of whom there is nothing but the pid.
    #[serde(deserialize_with = "objects")]
    pub owners: Option<Vec<Holder>>,
}

/// What only we know of a resource.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateResource {
    /// Its key in the fd store.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub key: Option<u64>,
    /// The name's bytes in hexadecimal, where they are no UTF-8.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The lockspace's directory likewise.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Anything else, or nothing, is a POSIX lock.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
    /// Of the locked file, so that its file system need not be asked.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub device: Option<u64>,
    /// Likewise.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// Who has leases.
    #[serde(deserialize_with = "objects", skip_serializing_if = "Option::is_none")]
    pub holders: Option<Vec<Holder>>,
}

/// A kind of lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lock {
    /// It does not end with the process.
    Ofd,
}

/// Who has a lease.
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
    /// How often, if more than once.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// Seconds since 1970.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub since_unix_s: Option<u64>,
}
