//! Private parts of the document: everything under [`PRIVATE`](super::PRIVATE), and the journal's
//! changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lenient::{lenient, object, objects, scalars, small, smalls};

/// Private data of the process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateDaemon {
    /// Number of times that this process has executed a successor, this time included.
    #[serde(deserialize_with = "lenient")]
    pub generation: Option<u64>,
    /// A state file that could not be removed: device, inode, time of change in ns. It is older
    /// than this document if it is found again.
    #[serde(deserialize_with = "small")]
    pub stale_file: Option<(u64, u64, i64)>,
    /// The locked pid file.
    #[serde(deserialize_with = "lenient")]
    pub pid_file: Option<i32>,
    /// The configuration file's content as this process read it, in a memfd: for a successor that
    /// finds the file broken.
    #[serde(deserialize_with = "lenient")]
    pub configuration: Option<i32>,
    /// Content of the configuration file in hexadecimal, for recovery after a crash.
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
    /// Outputs of the log, and the number of messages for each that were neither written nor
    /// reported as lost.
    #[serde(deserialize_with = "smalls", skip_serializing_if = "Option::is_none")]
    pub unwritten: Option<Vec<(String, u64)>>,
    /// Set through the admin socket: the main server's limits on clients and on unauthenticated
    /// clients.
    #[serde(deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub main_limits: Option<(u32, u32)>,
    /// Set through the admin socket: the same limits of the admin server.
    #[serde(deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub admin_limits: Option<(u32, u32)>,
    /// Names that may be in the fd store, one for each fd.
    #[serde(deserialize_with = "scalars")]
    pub stored_names: Option<Vec<String>>,
    /// Names that are not proved to be stored.
    #[serde(deserialize_with = "scalars", skip_serializing_if = "Option::is_none")]
    pub unproved_names: Option<Vec<String>>,
    /// Names whose removal the supervisor may not have received yet.
    #[serde(deserialize_with = "scalars", skip_serializing_if = "Option::is_none")]
    pub removed_names: Option<Vec<String>>,
    /// Memfds without which nothing in the store has a meaning, by their names there.
    #[serde(deserialize_with = "smalls", skip_serializing_if = "Option::is_none")]
    pub essentials: Option<Vec<(String, i32)>>,
    /// Capacity of the store in fds, as far as known from systemd.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub store_max: Option<u64>,
    /// In the journal: bytes recorded as [at risk](crate::fd_store::slots::AtRisk) in earlier
    /// rounds are counted here already if they are lost.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub at_risk_round: Option<u32>,
    /// Address of the supervisor, if the environment does not have it.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub notify_socket: Option<String>,
    /// Fds of unknown use, left open as their locks may still be needed.
    #[serde(deserialize_with = "scalars")]
    pub parked: Option<Vec<i32>>,
}

impl PrivateDaemon {
    /// Returns the settings that outlive the process, without the configuration.
    #[must_use]
    pub fn settings(&self) -> Self {
        Self {
            timeout_s: self.timeout_s,
            log_filters: self.log_filters.clone(),
            log_outputs: self.log_outputs.clone(),
            store_max: self.store_max,
            main_limits: self.main_limits,
            admin_limits: self.admin_limits,
            ..Self::default()
        }
    }

    /// Returns whether anything was set through the admin socket.
    #[must_use]
    pub fn has_settings(&self) -> bool {
        self.timeout_s.is_some()
            || self.log_filters.is_some()
            || self.log_outputs.is_some()
            || self.main_limits.is_some()
            || self.admin_limits.is_some()
    }
}

/// Private data of a client: its buffers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateClient {
    /// Key in the fd store.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub key: Option<u64>,
    /// The call that a crashed process has not answered.
    #[serde(rename = "owed", deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub pending_reply: Option<[u32; 4]>,
    /// Beginning of a message.
    #[serde(deserialize_with = "object")]
    pub input: Option<Buffer>,
    /// Input behind a message that is not answered yet.
    #[serde(deserialize_with = "object")]
    pub ahead: Option<Buffer>,
    /// Rest of an answer.
    #[serde(deserialize_with = "object")]
    pub output: Option<Buffer>,
}

/// Bytes in a memfd, and the fds that go with them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "they say it themselves")]
pub struct Buffer {
    #[serde(deserialize_with = "lenient")]
    pub bytes: Option<i32>,
    #[serde(deserialize_with = "scalars")]
    pub fds: Option<Vec<i32>>,
}

/// Private data of a log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateLog {
    /// It was recovered from the store after a crash.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub after_crash: Option<bool>,
    /// Key in the fd store.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub key: Option<u64>,
    /// Keys of the pipes in `staged`.
    #[serde(deserialize_with = "scalars", skip_serializing_if = "Option::is_none")]
    pub staged_keys: Option<Vec<u64>>,
    /// In the journal of an earlier version: keys in the fd store, or 0, of pipes with bytes of
    /// this log, and the number of bytes. Bytes of missing pipes are lost.
    #[serde(deserialize_with = "smalls", skip_serializing_if = "Option::is_none")]
    pub staged_bytes: Option<Vec<(u64, u64)>>,
    /// The path's bytes in hexadecimal, if they are not UTF-8.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The open file, so that it need not be opened again.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub file: Option<i32>,
    /// Staging pipes with bytes of this log that precede those in the guest's pipe, in order: read
    /// end and write end of each.
    #[serde(deserialize_with = "smalls", skip_serializing_if = "Option::is_none")]
    pub staged: Option<Vec<(i32, i32)>>,
    /// Rest of a partly written line about a loss.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub unfinished_line: Option<String>,
    /// Position of the line's beginning, unless it is certain that nothing of it is in the file.
    #[serde(deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub line_target: Option<Target>,
    /// Order of the latest [recorded](crate::fd_store::slots::Line) line about a loss.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub line_order: Option<u64>,
    /// Bytes lost behind those, which the log does not report yet.
    #[serde(deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// Reason for the loss.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes that a process was writing when it ended: lost, except for those that the file has.
    #[serde(deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub in_writing: Option<(u64, Target)>,
    /// Steps left of a rotation that failed half-way.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub rotation_steps_left: Option<u64>,
    /// Directory in which it was opened. If missing, the path is resolved at the take-over.
    #[serde(deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub directory: Option<LogDirectory>,
    /// Capacity of the guest's pipe, if it was enlarged. Asking the kernel for it can block on the
    /// guest.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub pipe_bytes: Option<usize>,
}

/// Directory in which a log was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDirectory {
    /// Device number, as `stat` gives it.
    pub dev: u64,
    /// Inode number.
    pub inode: u64,
    /// Time of creation, if the file system has it.
    pub born_unix_ns: Option<u64>,
    /// Owner's user id.
    pub uid: u32,
    /// For a log that is a symbolic link: user id of the owner of the directory it leads to.
    pub target_uid: Option<u32>,
}

/// Lost bytes of a guest.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they say it themselves")]
pub struct Loss {
    pub bytes: u64,
    pub first_unix_us: u64,
    pub last_unix_us: u64,
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
    /// Our pid for it, if that is not the registered one.
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

/// State of a file just before a write. If it has grown since, that much less is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its inode; not 0.
    pub inode: u64,
    /// Its size.
    pub size_bytes: u64,
}

#[cfg(test)]
mod tests;
