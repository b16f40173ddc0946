//! State of this process as a document for a successor.

use std::io;

use super::stage::ProcessInfo;
use crate::handover::document::{Document, PrivateDaemon};
use crate::handover::{FdSet, Successor};
use crate::server::core::Core;
use crate::server::daemon::Daemon;

impl<O> Core<O> {
    /// Returns the whole state of this process as a document for `successor`.
    pub(in crate::server) fn document<'a, D: Daemon<Outcome = O>>(
        &self,
        daemon: &'a D,
        fd_set: &'a FdSet,
        successor: Successor,
    ) -> io::Result<Document<'a>> {
        let mut document = Document {
            daemon: Some(self.save(fd_set)?),
            magic: Some(std::process::id().to_string()),
            private: Some(self.save_private(fd_set, successor)?),
            ..Document::default()
        };
        daemon.save(&mut document, fd_set, successor);
        Ok(document)
    }

    fn save_private(&self, fd_set: &FdSet, successor: Successor) -> io::Result<PrivateDaemon> {
        use std::os::fd::AsFd;
        let ProcessInfo { generation, configuration, pid_file, unclaimed_fds, .. } =
            &self.process_info;
        let parked = unclaimed_fds.iter().map(|fd| fd_set.fd(fd.as_fd())).collect();
        let mut private = PrivateDaemon {
            generation: Some(generation + 1),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            parked: Some(parked),
            ..if successor == Successor::Ours {
                self.overrides.save()
            } else {
                PrivateDaemon::default()
            }
        };
        if successor == Successor::Ours {
            private.pid_file = pid_file.as_ref().map(|file| fd_set.fd(file.as_fd()));
            private.configuration = Some(fd_set.bytes(&configuration.conf)?);
            private.toml = match configuration.toml.as_slice() {
                [] => None,
                toml => Some(fd_set.bytes(toml)?),
            };
            private.stored_names = Some(self.stored_names());
            private.unproved_names = Some(self.unproved_names());
            private.removed_names = Some(self.removed_names());
            private.unwritten = Some(self.logger.unwritten());
            private.essentials = Some(self.pass_essentials(fd_set));
            (private.notify_socket, private.store_max) = self.store_for_successor();
        }
        Ok(private)
    }
}
