//! Settings of `virtlogd.conf` beside those that both daemons have, and of `virtlogd.toml`.

use std::path::PathBuf;

use common::config::{Document, Error};

use crate::rotating_file::Limits;
use crate::rules::Rules;

/// Keys of our own, for the warning about unknown ones.
pub const KEYS: [&str; 4] = ["max_size", "max_backups", "max_age_days", "log_root"];

/// Bytes of one log file unless configured; libvirt's value.
const SIZE_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Older parts of one log unless configured; libvirt's value.
const BACKUPS_MAX: u64 = 3;

/// Tree in which old logs are looked for unless configured; libvirt's value.
const LOG_ROOT: &str = "/var/log/libvirt/";

/// Settings of logs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Limits of each log's size.
    pub rules: Rules,
    /// Age in days at which a log that nobody writes is deleted; 0 for never.
    pub age_days_max: u64,
    /// The tree in which such logs are looked for.
    pub log_root: PathBuf,
}

impl Settings {
    /// Reads the keys; a missing one has libvirt's value.
    ///
    /// # Errors
    /// A value of the wrong type or out of range, with file and line.
    pub fn read(document: &Document) -> Result<Self, Error> {
        let limits = Limits {
            size_bytes_max: document.u64("max_size")?.unwrap_or(SIZE_BYTES_MAX),
            backups_max: document.u64("max_backups")?.unwrap_or(BACKUPS_MAX),
        };
        Ok(Self {
            rules: Rules::none(limits),
            age_days_max: document.u64("max_age_days")?.unwrap_or(0),
            log_root: document.os_string("log_root")?.map_or(LOG_ROOT.into(), PathBuf::from),
        })
    }
}
