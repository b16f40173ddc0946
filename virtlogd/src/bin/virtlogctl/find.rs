//! Logs by the name that a user gives.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::Args;
use common::query::Log;
use common::tool::{Connect, Failure, escaped};

use crate::{DAEMON, SUBJECT};

/// Name of a log.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// Name or uuid of a guest, or path of a log
    #[arg(value_name = "DOMAIN|PATH")]
    pub(crate) name: std::ffi::OsString,
}

impl Name {
    /// Returns the path, if it is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.name.as_bytes().contains(&b'/').then(|| Path::new(&self.name))
    }

    /// Returns the open logs that have the name.
    pub(crate) fn logs(&self, connect: &Connect) -> Result<Vec<Log>, Failure> {
        let path = self.path().map(std::path::absolute).transpose()?;
        let mut logs = Vec::new();
        connect.ask(DAEMON, SUBJECT, |daemon| {
            daemon.each(|log: Log| {
                let is_meant = match &path {
                    Some(path) => Path::new(OsStr::from_bytes(&log.path.0)) == path,
                    None => log.domain.0 == self.name.as_bytes() || *log.uuid == *self.name,
                };
                logs.extend(is_meant.then_some(log));
                Ok::<_, Failure>(())
            })
        })?;
        Ok(logs)
    }

    /// Returns the failure to find an open log of this name.
    pub(crate) fn not_found(&self) -> Failure {
        let name = escaped(&self.name.to_string_lossy());
        Failure::NotFound(match self.path() {
            Some(_) => format!("no log is open at {name}"),
            None => format!("no log of a guest '{name}' is open"),
        })
    }
}
