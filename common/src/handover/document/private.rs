//! What only we know: everything that stands under [`PRIVATE`](super::PRIVATE), and the journal's
//! changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lenient::{lenient, object, objects, scalars, small, smalls};

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
    /// Outputs of the log, and how many messages for them were neither written nor told of as lost.
    #[serde(deserialize_with = "smalls", skip_serializing_if = "Option::is_none")]
    pub unwritten: Option<Vec<(String, u64)>>,
    /// Set through the admin socket: a server's clients and unauthenticated clients at the most.
    #[serde(deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub main_limits: Option<(u32, u32)>,
    /// The same of the admin server.
    #[serde(deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub admin_limits: Option<(u32, u32)>,
    /// The names of what may be in the fd store, one for each fd.
    #[serde(deserialize_with = "scalars")]
    pub stored_names: Option<Vec<String>>,
    /// Those among them of which nobody knows whether the supervisor has taken them.
    #[serde(deserialize_with = "scalars", skip_serializing_if = "Option::is_none")]
    pub unproved_names: Option<Vec<String>>,
    /// Those that were removed, of which the supervisor may not have heard yet.
    #[serde(deserialize_with = "scalars", skip_serializing_if = "Option::is_none")]
    pub removed_names: Option<Vec<String>>,
    /// The memfds without which nothing in the store counts, by their names there.
    #[serde(deserialize_with = "smalls", skip_serializing_if = "Option::is_none")]
    pub essentials: Option<Vec<(String, i32)>>,
    /// How many fds the store takes, as far as that is known from systemd.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub store_max: Option<u64>,
    /// For the journal: bytes that were noted as [at risk](crate::fd_store::slots::AtRisk) in rounds
    /// before this one are told of here already, where they are lost.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub at_risk_round: Option<u32>,
    /// Where the supervisor listens, if the environment does not say it.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub notify_socket: Option<String>,
    /// Fds that are kept open, as their locks may be somebody's, and about which nothing is known.
    #[serde(deserialize_with = "scalars")]
    pub parked: Option<Vec<i32>>,
}

impl PrivateDaemon {
    /// Settings that outlive the process, without the configuration.
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

    /// Whether anything was set through the admin socket.
    #[must_use]
    pub fn has_settings(&self) -> bool {
        self.timeout_s.is_some()
            || self.log_filters.is_some()
            || self.log_outputs.is_some()
            || self.main_limits.is_some()
            || self.admin_limits.is_some()
    }
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
    /// In the journal of an earlier version: pipes with bytes of this log, by their keys in the fd
    /// store, or 0, and how many bytes. Those in pipes that are not there are lost.
    #[serde(deserialize_with = "smalls", skip_serializing_if = "Option::is_none")]
    pub staged_bytes: Option<Vec<(u64, u64)>>,
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
    /// Where that begins, if it is not certain that nothing of it is in the file.
    #[serde(deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub line_target: Option<Target>,
    /// The last line about a loss that was [noted](crate::fd_store::slots::Line), by its order.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub line_order: Option<u64>,
    /// Bytes that were lost behind those and that the log was not told of yet.
    #[serde(deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// Why they were lost.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes that a process was writing when it ended: lost, but for those that the file has.
    #[serde(deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub in_writing: Option<(u64, Target)>,
    /// Steps left of a rotation that failed half-way.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub rotation_steps_left: Option<u64>,
    /// Where it was opened. Missing, that is wherever its path leads when it is taken over.
    #[serde(deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub directory: Option<LogDirectory>,
    /// How many bytes the guest's pipe holds, if it was enlarged. Its guest may keep anybody who asks the
    /// kernel for that.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub pipe_bytes: Option<usize>,
}

/// The directory in which a log was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDirectory {
    /// Device number, as `stat` gives it.
    pub dev: u64,
    /// Inode number.
    pub inode: u64,
    /// When it was made, where the file system knows that.
    pub born_unix_ns: Option<u64>,
    /// The owner's user id.
    pub uid: u32,
    /// For a log that is a symbolic link: the user id of the owner of the directory it leads to.
    pub target_uid: Option<u32>,
}

/// Bytes of a guest that are lost.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they say it themselves")]
pub struct Loss {
    pub bytes: u64,
    pub first_unix_us: u64,
    pub last_unix_us: u64,
}

/// What only we know of a lockspace, and of all leases beside those of the default one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateLockspace {
    /// The directory's bytes in hexadecimal, where they are no UTF-8.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Who the holders are of whom there is nothing but the pid.
    #[serde(deserialize_with = "objects", skip_serializing_if = "Option::is_none")]
    pub owners: Option<Vec<Holder>>,
    /// Guests that are being ended.
    #[serde(deserialize_with = "objects", skip_serializing_if = "Option::is_none")]
    pub endings: Option<Vec<Ending>>,
}

impl PrivateLockspace {
    /// Adds what has come of endings since; only the latest of each guest's counts, and none of what
    /// is over.
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
    /// What is missing of the lock, which is to be taken as soon as it can be had.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub lacks: Option<Lack>,
    /// Identity of the locked file, so that its file system need not be asked: device and inode
    /// number, or 0 and the number of a block device.
    #[serde(deserialize_with = "small", skip_serializing_if = "Option::is_none")]
    pub file: Option<(u64, u64)>,
    /// Fds of the file that nobody needs, and that would take a POSIX lock along if they were closed.
    #[serde(deserialize_with = "scalars", skip_serializing_if = "Option::is_none")]
    pub parked: Option<Vec<i32>>,
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

/// What is missing of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lack {
    /// It is shared, and should not be.
    Exclusiveness,
    /// There is none.
    Everything,
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
    /// They had it before, and nobody knows for how long.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub had_before: Option<bool>,
    /// Missing, it was found by its number, and nothing else is known of it.
    #[serde(deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
}

/// Identity of an owner's process, beside the number that was registered.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Missing, by its number.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
    /// Our number for it, where that is not the one that was registered.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Its inode on pidfs.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// Else when it started, in ticks since boot.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub start: Option<u64>,
    /// The pid namespace, if another, in which it has the number that was registered.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub namespace: Option<u64>,
}

/// How a process was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    /// It connected itself, from a pid namespace with other numbers.
    Connection,
    /// It was not: its number says nothing here.
    Never,
    /// It had ended already.
    Dead,
}

/// Our own part of a client of virtlockd.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateSession {
    /// Whether it is the owner's own connection. Missing, that is seen from the peer.
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
    /// Who it is.
    #[serde(deserialize_with = "object")]
    pub guest: Option<Holder>,
    /// When it is made to, in milliseconds since boot; missing, it has ended.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub deadline_boot_ms: Option<u64>,
}

/// A file at the moment before a write. By what it has grown since, so much less is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its inode; not 0.
    pub inode: u64,
    /// Its size.
    pub size_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_word_on_each_ending_counts() {
        let ending = |pid, inode, deadline_boot_ms| {
            let process = Some(Process { inode: Some(inode), ..Process::default() });
            let guest = Some(Holder { pid: Some(pid), process, ..Holder::default() });
            Ending { guest, deadline_boot_ms }
        };
        let begun = vec![ending(1, 10, Some(5)), ending(2, 20, Some(6))];
        let before = PrivateLockspace { endings: Some(begun), ..PrivateLockspace::default() };
        let later = vec![ending(1, 10, None), ending(1, 11, Some(7)), ending(3, 30, None)];
        let left = before.with_later(later).endings.unwrap();
        let left: Vec<_> = left.iter().map(|ending| ending.deadline_boot_ms).collect();
        assert_eq!(left, [Some(7), Some(6)]);
        let over = PrivateLockspace::default().with_later(vec![ending(1, 10, None)]);
        assert!(over.endings.is_none());
    }
}
