//! Facts about a daemon, its logs and its leases, as JSON has them. `common/QUERY.md` describes each
//! field. What is unknown is left out.

use std::fmt;
use std::time::SystemTime;

use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::handover::text;

/// Bytes that are usually UTF-8: a path or a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(into = "Text")]
pub struct Bytes(pub Vec<u8>);

/// Form of [`Bytes`] in JSON: a string, or an object if they are not UTF-8.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Text {
    Whole(String),
    Lossy { text: String, hex: String },
}

/// Returns a time in seconds since the epoch; 0 for one before.
#[must_use]
pub fn unix_s(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Facts about the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are described in common/QUERY.md")]
pub struct Status {
    pub daemon: String,
    pub version: String,
    pub libvirt_version: String,
    pub pid: u32,
    pub since_unix_s: u64,
    pub clients: u64,
    pub clients_max: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fd_store: Option<FdStore>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_stake: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_upgrade: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leases: Option<u64>,
}

/// The supervisor's fd store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are described in common/QUERY.md")]
pub struct FdStore {
    pub fds: u64,
    pub fds_max: u64,
    pub is_complete: bool,
}

/// A log of virtlogd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are described in common/QUERY.md")]
pub struct Log {
    pub place: String,
    pub domain: Bytes,
    pub uuid: String,
    pub driver: Bytes,
    pub path: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipe_inode: Option<u64>,
    pub size_bytes: u64,
    pub size_bytes_max: u64,
    pub backups_max: u64,
    pub last_minute_bytes: u64,
    pub rotations: u64,
    pub lost_bytes: u64,
    pub state: LogState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_unix_s: Option<u64>,
    pub in_fd_store: bool,
}

/// State of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogState {
    /// It is written.
    #[default]
    Ok,
    /// It cannot be written at present, and its output waits.
    HeldBack,
    /// It cannot be written, and output was dropped since then.
    Losing,
    /// A state that a later version has added.
    #[serde(other)]
    Unknown,
}

/// The part of one holder in a lease of virtlockd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are described in common/QUERY.md")]
pub struct Lease {
    pub place: String,
    pub path: Bytes,
    pub lockspace: Bytes,
    pub resource: Bytes,
    pub shared: bool,
    pub shares: u64,
    pub lock: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lacks: Option<String>,
    pub device: u64,
    pub inode: u64,
    pub domain: Bytes,
    pub uuid: String,
    pub pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_here: Option<u32>,
    pub since_unix_s: u64,
    pub held_before: bool,
    pub in_fd_store: bool,
    pub reach: Reach,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_system: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_time_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_lost_lease: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

/// How far the lock of a lease reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// This host.
    #[default]
    Host,
    /// All hosts that have the file system mounted.
    Shared,
    /// A reach that a later version has added.
    #[serde(other)]
    Unknown,
}

/// Whether a lease on shared storage is known to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// It is, and has been all the time.
    Proved,
    /// It is not: the server does not answer.
    Unproved,
    /// It is not: there was a time in which another host may have had it.
    Doubtful,
    /// It is lost by the kernel's account.
    Lost,
    /// Anything that a later version has added.
    #[serde(other)]
    Unknown,
}

impl Bytes {
    /// Returns them as text, with U+FFFD in place of what is not UTF-8.
    #[must_use]
    pub fn text(&self) -> String {
        text::text(&self.0)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }
}

/// Reads either form. serde's own way would keep a copy of each value.
struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string, or an object with the bytes in hexadecimal")
    }

    fn visit_str<E>(self, text: &str) -> Result<Bytes, E> {
        Ok(Bytes(text.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bytes, A::Error> {
        let mut bytes = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == "hex" {
                bytes = text::unhex(&map.next_value::<String>()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        bytes.map(Bytes).ok_or_else(|| de::Error::missing_field("hex"))
    }
}

impl From<Bytes> for Text {
    fn from(Bytes(bytes): Bytes) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Whole(text),
            Err(error) => {
                let bytes = error.as_bytes();
                Self::Lossy { text: text::text(bytes), hex: text::hex(bytes) }
            }
        }
    }
}
