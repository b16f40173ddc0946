//! What is known of a log beside its content.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use common::query::{Bytes, Log};
use common::tool::escaped;

/// A log's guest and path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) domain: Bytes,
    pub(super) uuid: String,
    pub(super) path: PathBuf,
}

impl Guest {
    /// Returns the guest and the path of a listed log.
    pub(super) fn of(log: &Log) -> Self {
        let path = PathBuf::from(OsStr::from_bytes(&log.path.0));
        Self { domain: log.domain.clone(), uuid: log.uuid.clone(), path }
    }

    /// Returns the path as text on one line.
    pub(super) fn shown_path(&self) -> String {
        shown(&self.path)
    }

    /// Returns the kind of output, as far as the path tells. libvirt names the log of QEMU's own
    /// standard output and error after the guest. Any other log is that of a serial port, a console or
    /// another character device, whose name libvirt does not tell the daemon.
    pub(super) fn channel(&self) -> &'static str {
        let name = [&self.domain.0[..], b".log"].concat();
        match self.path.file_name() {
            Some(found) if found.as_bytes() == name => "stdio",
            _ => "chardev",
        }
    }
}

/// Returns a path as text on one line.
pub(super) fn shown(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

/// Prints a remark about a file on the standard error.
pub(super) fn remark(path: &Path, text: &str) {
    // A failure here cannot be reported anywhere.
    writeln!(io::stderr(), "virtlogctl: {}: {text}", shown(path)).ok();
}
