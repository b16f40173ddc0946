//! Logs by the name that a user gives.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;
use common::query::Log;
use common::tool::{Connect, Failure, escaped};

use super::subject::{DAEMON, SUBJECT};

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

    /// Returns the path of the log's file. One that is named by its path may be closed, and the daemon
    /// is not asked.
    pub(crate) fn file(&self, connect: &Connect) -> Result<PathBuf, Failure> {
        if let Some(path) = self.path() {
            return Ok(path.to_owned());
        }
        let logs = self.logs(connect)?;
        let mut paths: Vec<_> =
            logs.iter().map(|log| PathBuf::from(OsStr::from_bytes(&log.path.0))).collect();
        match paths.len() {
            1 => paths.pop().ok_or_else(|| self.not_found()),
            0 => Err(self.not_found()),
            _ => {
                let paths = paths.iter().map(|path| escaped(&path.to_string_lossy()));
                Err(Failure::Other(format!(
                    "there are several logs of that name, give a path: {}",
                    paths.collect::<Vec<_>>().join(" ")
                )))
            }
        }
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
