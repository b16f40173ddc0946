//! Messages about a log in the daemon's own.

use crate::guest::loss::Loss;
use crate::message::{log_about, reason_at};

use super::LogWriter;

impl LogWriter {
    /// Logs what libvirt's daemon will not go on with.
    pub(super) fn log_what_ends(&self) {
        let (guest, path) = (&self.guest.identity, self.file.path());
        if let Some(reason) = self.not_to_be_opened() {
            log_about!(
                error,
                guest,
                path,
                reason = reason,
                "The log of {guest} ends with the upgrade, as libvirt's daemon could not open it: {}",
                reason_at(&reason, path)
            );
        } else if let Some(backlog) = self.guest.pipe().backlog() {
            log_about!(
                error,
                guest,
                path,
                "{} bytes of {guest} will be lost at the hand-over to libvirt's daemon, its log {} could not be written",
                backlog.bytes(),
                path.display()
            );
        }
    }

    /// Logs that the file's directory is out of reach, or no longer.
    pub(super) fn log_place(&mut self) {
        let Some(is_detached) = self.file.take_change_of_place() else { return };
        let (guest, path) = (&self.guest.identity, self.file.path());
        let shown = path.display();
        if is_detached {
            log_about!(
                warn,
                guest,
                path,
                "The directory of the log {shown} of {guest} is out of reach; the log goes on in the file that is open, wherever that was moved, and is not rotated"
            );
        } else {
            log_about!(warn, guest, path, "The log {shown} of {guest} goes on at its path again");
        }
    }

    pub(super) fn log_end_of_loss(&self, lost: Option<Loss>, was_failing: bool) {
        let (guest, path) = (&self.guest.identity, self.file.path());
        let shown = path.display();
        let lost = lost.map_or_else(|| "nothing was lost".to_owned(), |lost| lost.to_string());
        if self.guest.cap.is_some() && !was_failing {
            log_about!(warn, guest, path, "The log {shown} of {guest} is over its rate: {lost}");
        } else {
            log_about!(
                warn,
                guest,
                path,
                "The log {shown} of {guest} can be written again: {lost}"
            );
        }
    }
}
