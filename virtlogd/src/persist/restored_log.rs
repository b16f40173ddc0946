//! Knowledge of a log from the process before this one.

use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use common::event::Registered;
use common::handover::document::Target;
use common::handover::document::{LogDirectory, Loss};

use crate::guest::access::Guest;
use crate::guest::loss;
use crate::guest::reason::{Cause, Reason};
use crate::guest::staging::StagingPool;
use crate::logs::restored_file::RestoredFile;
use crate::protocol::GuestIdentity;
use crate::rotating_file::SharedDirectory;

/// A log that was handed over.
#[derive(Debug)]
pub(crate) struct RestoredLog {
    pub(crate) path: PathBuf,
    pub(crate) identity: GuestIdentity,
    /// The end of the guest's pipe to read from.
    pub(crate) pipe: OwnedFd,
    pub(crate) state: RestoredPipe,
    pub(crate) file: RestoredFile,
}

/// State of a guest's pipe. All of it may be missing: libvirt's daemon knows nothing of this.
#[derive(Debug, Default)]
pub(crate) struct RestoredPipe {
    /// Number of bytes that the pipe holds, if that is known.
    pub(crate) pipe_bytes: Option<usize>,
    /// Directory in which the log was opened.
    pub(crate) directory: Option<LogDirectory>,
    /// Both ends of pipes with bytes that come before those in the guest's, in their order, and
    /// their keys in the fd store.
    pub(crate) staged: Vec<((OwnedFd, OwnedFd), Option<u64>)>,
    /// Key of the log in the fd store.
    pub(crate) key: Option<u64>,
    /// Rest of a line about a loss of which a part is in the file already.
    pub(crate) unfinished_line: Vec<u8>,
    /// Begin of that line in the file, if something of it may be there already.
    pub(crate) line_target: Option<Target>,
    /// Order of the last such line that was recorded.
    pub(crate) line_order: Option<NonZeroU64>,
    /// Bytes lost behind those that are staged, and why.
    pub(crate) loss: Option<(Loss, String)>,
    /// Bytes that were being written when the process ended, and their target.
    pub(crate) in_writing: Option<(u64, Target)>,
}

impl RestoredPipe {
    /// Makes the guest with this number, with the backlog of its log.
    pub(crate) fn into_guest(
        self,
        number: u64,
        identity: GuestIdentity,
        pipe: Registered<Arc<OwnedFd>>,
        pool: &Arc<StagingPool>,
    ) -> Guest {
        let guest = Guest::inherited(number, identity, pipe, self.pipe_bytes, pool);
        let staged = self.staged.into_iter().filter_map(|(ends, key)| {
            let staging = pool.adopt(ends, key);
            staging
                .inspect_err(|error| {
                    tracing::error!(
                        target: "logging.log_handler",
                        "Unable to adopt bytes of {} that were handed over: {error}", guest.identity
                    );
                })
                .ok()
        });
        let staged = staged.filter(|staging| staging.held() > 0).collect();
        let (loss, reason) = self.loss.unzip();
        let loss = loss.and_then(loss::Loss::restore);
        let line = (self.unfinished_line, self.line_target);
        let mut pipe = guest.pipe();
        pipe.key = self.key;
        pipe.restore(line, staged, loss, Reason::new(Cause::default(), reason.unwrap_or_default()));
        pipe.in_writing = self.in_writing.map(Box::new);
        pipe.set_line_order(self.line_order);
        pipe.directory = self.directory.map(SharedDirectory::from);
        drop(pipe);
        guest
    }
}
