//! Counts of a daemon since its present program began, as JSON has them. `common/QUERY.md` describes
//! each field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::items::FdStore;

/// Counts of a daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are described in common/QUERY.md")]
pub struct Counters {
    pub daemon: String,
    pub version: String,
    pub libvirt_version: String,
    pub since_unix_s: u64,
    /// By the name of the server.
    pub servers: BTreeMap<String, ServerCounters>,
    pub upgrades: UpgradeCounters,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fd_store: Option<FdStore>,
    pub fd_store_refusals: u64,
    pub storage: StorageCounters,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<LogCounters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leases: Option<LeaseCounters>,
}

/// Clients of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are described in common/QUERY.md")]
pub struct ServerCounters {
    pub clients: u64,
    pub clients_max: u64,
    pub admitted: u64,
    pub refused: u64,
    pub closed: u64,
    pub full: u64,
}

/// Upgrades.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are described in common/QUERY.md")]
pub struct UpgradeCounters {
    pub done: u64,
    pub failed: u64,
}

/// File systems that do not answer, and peers that hold something up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are described in common/QUERY.md")]
pub struct StorageCounters {
    pub hanging: u64,
    pub waiting_jobs: u64,
    pub blocking_peers: u64,
}

/// Logs of virtlogd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are described in common/QUERY.md")]
pub struct LogCounters {
    pub open: u64,
    pub failing: u64,
    pub opened: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
    /// By reason.
    pub lost_bytes: BTreeMap<String, u64>,
    pub loss_lines: u64,
    pub rotations: u64,
    pub write_errors: u64,
    pub turns: Durations,
}

/// Leases of virtlockd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are described in common/QUERY.md")]
pub struct LeaseCounters {
    pub held: u64,
    pub incomplete: u64,
    pub shared: u64,
    pub unproved: u64,
    pub doubted: u64,
    pub acquired: u64,
    pub released: u64,
    pub ended: u64,
    /// By reason.
    pub refused: BTreeMap<String, u64>,
}

/// How often something took how long.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Durations {
    /// Upper bounds, in microseconds, in their order.
    pub bounds_us: Vec<u64>,
    /// Number of those up to each bound and over the one before; one more for those over all.
    pub counts: Vec<u64>,
    /// Sum of all.
    pub sum_us: u64,
}
