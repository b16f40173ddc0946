//! Logs of virtlogd.

use serde::{Deserialize, Serialize};

use super::items::Items;
use super::lenient::{items, lenient, object, scalars, small, smalls};

/// virtlogd's part.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "libvirt's field")]
pub struct LogHandler<'a> {
    #[serde(deserialize_with = "items")]
    pub files: Option<Items<'a, Log>>,
}

/// An open log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "libvirt's fields")]
pub struct Log {
    /// Read end of the guest's pipe.
    #[serde(deserialize_with = "lenient")]
    pub pipefd: Option<i32>,
    #[serde(deserialize_with = "lenient")]
    pub path: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub driver: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub domname: Option<String>,
    #[serde(deserialize_with = "lenient")]
    pub domuuid: Option<String>,
    #[serde(
        rename = "virt-rs",
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub private: Option<PrivateLog>,
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

/// State of a file just before a write. If it has grown since, that much less is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its inode; not 0.
    pub inode: u64,
    /// Its size.
    pub size_bytes: u64,
}
