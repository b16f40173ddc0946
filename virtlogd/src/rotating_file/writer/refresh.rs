//! A look at a log's path: what has become of the file that is open.

use std::fs;

use common::sys::file_id::FileId;
use nix::sys::stat::fstat;

use super::{Error, RotatingFile};

impl RotatingFile {
    /// Looks at the file by its path, before each turn of writing. Truncated (`copytruncate`) or
    /// grown by others: goes on at its end. PATH removed or another file by now: goes on at the end
    /// of PATH, and leaves the old file as it is. PATH's directory gone: goes on in the old file if
    /// that has still a name.
    ///
    /// # Errors
    ///
    /// Where PATH cannot be opened otherwise, or leads where the log may not go, the old file stays in use. A
    /// caller that goes on may write into a file that cannot be found.
    pub fn refresh(&mut self) -> Result<(), Error> {
        if self.file.is_none() {
            let left = self.rotation_steps_left;
            self.reopen()?;
            self.rotation_steps_left = left;
            return Ok(());
        }
        match fs::metadata(&self.path) {
            Ok(metadata) if FileId::of(&metadata) == self.id() => {
                self.recount(metadata.len())?;
                self.learn_location();
                self.set_detached(false);
                Ok(())
            }
            _ => self.reopen().or_else(|error| self.go_on_detached(error)),
        }
    }

    /// Returns whether its directory is gone, so that it goes on in the open file, wherever that is.
    pub fn is_detached(&self) -> bool {
        self.is_detached
    }

    /// Goes on in the open file after the path could not be opened, if the directory is gone. It
    /// has been moved, or is below a mount, and the file with it. One without a name is found by
    /// nobody.
    fn go_on_detached(&mut self, error: Error) -> Result<(), Error> {
        let open = self.file.as_ref().filter(|_| error.is_about_missing_directory());
        match open.map(|open| fstat(&open.file)) {
            Some(Ok(found)) if found.st_nlink > 0 => {
                self.recount(u64::try_from(found.st_size).unwrap_or(0))?;
                self.set_detached(true);
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Returns whether it cannot be rotated because its directory is gone.
    pub(super) fn stays_detached(&self, error: &Error) -> bool {
        self.is_detached && error.is_about_missing_directory()
    }

    pub(super) fn set_detached(&mut self, is_detached: bool) {
        if std::mem::replace(&mut self.is_detached, is_detached) == is_detached {
            return;
        }
        let path = self.path.display();
        if is_detached {
            tracing::warn!(
                target: "logging.log_handler",
                LIBVIRT_LOG_PATH = %path,
                "The directory of the log {path} is gone; it goes on in the file that is open, wherever that was moved"
            );
        } else {
            tracing::info!(
                target: "logging.log_handler", LIBVIRT_LOG_PATH = %path, "The log {path} is at its path again"
            );
        }
    }

    /// Learns the directory of a file that another process has opened. After a failure the next
    /// turn tries again.
    fn learn_location(&mut self) {
        if self.directory.is_none()
            && let Ok(location) = self.location()
        {
            self.directory = Some(location.log_directory(self.id()).into());
        }
    }
}
