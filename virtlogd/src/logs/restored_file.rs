//! Knowledge of a log's file from the process before this one.

use std::fs::File;

use common::handover::document::LogDirectory;

/// All of it may be missing: libvirt's daemon knows nothing of this.
#[derive(Debug, Default)]
pub(crate) struct RestoredFile {
    /// The open file.
    pub(crate) file: Option<File>,
    /// Directory in which the log was opened.
    pub(crate) directory: Option<LogDirectory>,
    /// Steps left of a rotation.
    pub(crate) rotation_steps_left: Option<u64>,
    /// A rotation may have been cut off.
    pub(crate) after_crash: bool,
}
