//! What an earlier image of this process knew of a log beside its pipe.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use common::event::Registered;
use common::handover::document::{LogDirectory, Loss};
use common::handover::marks::Target;

use crate::guest::access::Guest;
use crate::guest::loss;
use crate::guest::staging::Staging;
use crate::protocol::Domain;

/// All but the first may be missing: libvirt's daemon knows nothing of this.
#[derive(Debug, Default)]
pub(crate) struct Legacy {
    /// How many bytes the guest's pipe holds, if that is known.
    pub(crate) pipe_bytes: Option<usize>,
    /// The open file.
    pub(crate) file: Option<File>,
    /// Where the log was opened.
    pub(crate) directory: Option<LogDirectory>,
    /// Steps left of a rotation.
    pub(crate) rotation_steps_left: Option<u64>,
    /// Both ends of pipes with bytes that come before those in the guest's, in their order, and
    /// their keys in the fd store, or 0.
    pub(crate) staged: Vec<((OwnedFd, OwnedFd), u64)>,
    /// The log's key there.
    pub(crate) key: Option<u64>,
    /// A rotation may have been cut off.
    pub(crate) after_crash: bool,
    /// The rest of a line about a loss of which a part is in the file already.
    pub(crate) unfinished_line: Vec<u8>,
    /// Where that begins, if it is not certain that nothing of it is in the file.
    pub(crate) line_target: Option<Target>,
    /// The last such line that was noted, by its order, or 0.
    pub(crate) line_order: u64,
    /// Bytes lost behind those that are staged, and why.
    pub(crate) loss: Option<(Loss, String)>,
    /// Bytes that a process before this one was writing when it ended, and where to.
    pub(crate) in_writing: Option<(u64, Target)>,
}

impl Legacy {
    /// The guest, with what its log is owed; the rest is about the file.
    /// `number` is the guest's.
    pub(crate) fn with_guest(
        self,
        number: u64,
        domain: Domain,
        pipe: Registered<Arc<OwnedFd>>,
    ) -> (Guest, Self) {
        let Self { file, rotation_steps_left, staged, key, after_crash, .. } = self;
        let Self { unfinished_line, line_target, line_order, directory, .. } = self;
        let Self { loss, in_writing, pipe_bytes, .. } = self;
        let guest = Guest::inherited(number, domain, pipe, pipe_bytes);
        guest.intake().key = key.unwrap_or(0);
        let staged = staged.into_iter().filter_map(|(ends, pipe_key)| {
            let staging = Staging::of(ends, pipe_key);
            staging
                .inspect_err(|error| {
                    tracing::error!(
                        target: "logging.log_handler",
                        "Bytes of {} that were handed over are lost: {error}", guest.domain
                    );
                })
                .ok()
        });
        let staged = staged.filter(|staging| staging.held() > 0).collect();
        let (loss, reason) = loss.unzip();
        let loss = loss.and_then(loss::Loss::restore);
        let line = (unfinished_line, line_target);
        guest.intake().restore(line, staged, loss, reason.unwrap_or_default());
        guest.intake().in_writing = in_writing.map(Box::new);
        guest.intake().line_order = line_order;
        guest.intake().directory = directory;
        let file = Self { file, directory, rotation_steps_left, ..Self::default() };
        (guest, Self { key, after_crash, ..file })
    }
}
