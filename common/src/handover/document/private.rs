//! Private data of the process, under [`PRIVATE`](super::PRIVATE).

use serde::{Deserialize, Serialize};

use super::lenient::{lenient, scalars, small, smalls};

/// Private data of the process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrivateDaemon {
    /// Number of times that this process has executed a successor, this time included.
    #[serde(deserialize_with = "lenient")]
    pub generation: Option<u64>,
    /// Version of the program that wrote it.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// A state file that could not be removed: device, inode, time of change in ns. It is older
    /// than this document if it is found again.
    #[serde(deserialize_with = "small")]
    pub stale_file: Option<(u64, u64, i64)>,
    /// Error with which the state file was not written. It is for the successor's log, as the outputs
    /// are held by then.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub state_file_error: Option<String>,
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
    /// The content of the file of our own settings, as [`Self::configuration`].
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub toml: Option<i32>,
    /// The same in hexadecimal, as [`Self::configuration_hex`].
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub toml_hex: Option<String>,
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
