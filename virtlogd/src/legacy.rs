//! What an earlier image of this process knew of a log beside its pipe.

use std::fs::File;
use std::os::fd::OwnedFd;

use common::handover::document::Loss;

/// All of it may be missing: libvirt's daemon knows nothing of this.
#[derive(Debug, Default)]
pub(crate) struct Legacy {
    /// The open file.
    pub(crate) file: Option<File>,
    /// Both ends of pipes with bytes that come before those in the guest's, in their order.
    pub(crate) staged: Vec<(OwnedFd, OwnedFd)>,
    /// The rest of a line about a loss of which a part is in the file already.
    pub(crate) unfinished_line: Vec<u8>,
    /// Bytes lost behind those that are staged.
    pub(crate) loss: Option<Loss>,
    /// Steps left of a rotation.
    pub(crate) rotation_steps_left: Option<u64>,
}
