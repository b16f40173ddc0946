//! Origin of the state that a process begins with, for the log.

use std::fmt;

use super::service::Service;
use crate::handover::document::PrivateDaemon;
use crate::query::Status;

/// Origin of an adopted state.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// libvirt's daemon, which has executed this program.
    Libvirt,
    /// A daemon of ours, which has executed this program.
    Ours {
        /// Earlier versions do not tell theirs.
        version: Option<String>,
        /// Number of times that this process has executed a successor.
        generation: u64,
    },
    /// The fd store: another process has crashed, or was stopped.
    FdStore {
        /// Number of items that the journal has and the store lacks.
        missing: usize,
    },
    /// A predecessor whose document cannot be read.
    Unreadable,
}

impl Origin {
    /// Returns the origin of a document of this process. Only libvirt's has no generation.
    pub(super) fn of_document(private: &PrivateDaemon) -> Self {
        private.generation.map_or(Self::Libvirt, |generation| Self::Ours {
            version: private.version.clone(),
            generation,
        })
    }

    /// Logs what was adopted. It is a warning, as operators expect it where libvirt's default level
    /// is in effect.
    pub(super) fn log<S: Service>(&self, daemon: &S, clients: usize) {
        let mut status = Status::default();
        daemon.describe(&mut status);
        tracing::warn!(target: "daemon", "{self}: {}", adopted(&status, clients));
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Libvirt => out.write_str("Took over from libvirt's daemon"),
            Self::Ours { version: Some(version), generation } => {
                write!(out, "Took over from version {version}, generation {generation}")
            }
            Self::Ours { version: None, generation } => {
                write!(out, "Took over from an earlier version, generation {generation}")
            }
            Self::FdStore { missing: 0 } => {
                out.write_str("Went on after a crash or a stop, nothing is missing")
            }
            Self::FdStore { missing } => {
                write!(
                    out,
                    "Went on after a crash or a stop, {missing} items were not in the fd store"
                )
            }
            Self::Unreadable => out.write_str("Took over without a readable state document"),
        }
    }
}

/// Formats `2 logs, 3 clients`.
fn adopted(status: &Status, clients: usize) -> String {
    let Status { logs, leases, lost_bytes, .. } = status;
    let mut parts: Vec<_> = logs.map(|logs| format!("{logs} logs")).into_iter().collect();
    parts.extend(leases.map(|leases| format!("{leases} leases")));
    parts.push(format!("{clients} clients"));
    let lost_bytes = lost_bytes.filter(|&bytes| bytes > 0);
    parts.extend(lost_bytes.map(|bytes| format!("{bytes} bytes lost")));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_without_a_generation_is_libvirts() {
        assert_eq!(Origin::of_document(&PrivateDaemon::default()), Origin::Libvirt);
        let (version, generation) = (Some("1.2".to_owned()), 3);
        let private = PrivateDaemon {
            version: version.clone(),
            generation: Some(generation),
            ..PrivateDaemon::default()
        };
        let origin = Origin::of_document(&private);
        assert_eq!(origin, Origin::Ours { version, generation });
        assert_eq!(origin.to_string(), "Took over from version 1.2, generation 3");
    }

    #[test]
    fn what_was_adopted_is_counted() {
        let status = Status { logs: Some(2), lost_bytes: Some(0), ..Status::default() };
        assert_eq!(adopted(&status, 3), "2 logs, 3 clients");
        let status = Status { logs: Some(0), lost_bytes: Some(7), ..Status::default() };
        assert_eq!(adopted(&status, 0), "0 logs, 0 clients, 7 bytes lost");
        assert_eq!(
            adopted(&Status { leases: Some(1), ..Status::default() }, 1),
            "1 leases, 1 clients"
        );
    }
}
