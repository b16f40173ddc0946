//! Removals from the fd store.

use super::Proof;
use crate::systemd::Notify;

impl Proof {
    /// Removes a name from the store, or keeps it from getting there.
    pub(crate) fn remove(&mut self, notify: &mut Notify, name: &str) {
        self.unproved.remove(name);
        self.leaving_fds += notify.count(name);
        notify.withdraw(name);
        self.removals.push(name.into());
    }

    /// Repeats a predecessor's removals, which the supervisor may not have received. They may fail
    /// again.
    pub(crate) fn remove_again(&mut self, notify: &mut Notify, names: &[String]) {
        self.changes += 1;
        for name in names {
            notify.remove(name);
            self.removed.push(name.as_str().into());
        }
    }

    /// Sends the pending removals, unless something was sent that no sentinel follows yet. Returns
    /// whether there were any.
    pub(crate) fn send_removals(&mut self, notify: &mut Notify) -> bool {
        self.note_losses(notify);
        self.sent.is_empty() && self.send_all_removals(notify)
    }

    /// Sends all pending removals, when everything is to be sent again behind them: systemd does
    /// not store an fd under a second name. Returns whether there were any.
    pub(crate) fn send_all_removals(&mut self, notify: &mut Notify) -> bool {
        if self.removals.is_empty() {
            return false;
        }
        self.changes += 1;
        self.leaving_fds = 0;
        for name in std::mem::take(&mut self.removals) {
            // Essentials may have been stored again under the same name.
            if !notify.has(&name) {
                notify.remove(&name);
                self.removed.push(name);
            }
        }
        true
    }

    /// Returns the number of fds whose removal is pending, and which still take room.
    pub(crate) fn leaving_fds(&self) -> usize {
        self.leaving_fds
    }

    /// Returns whether removals are pending that cannot be sent yet.
    pub(crate) fn has_removals(&self) -> bool {
        !self.removals.is_empty()
    }

    /// Returns whether something was removed and no question followed.
    pub(crate) fn are_removals_unasked(&self) -> bool {
        self.questions.is_empty() && !self.removed.is_empty()
    }

    /// Returns the removed names that may still be stored, for a successor.
    pub(crate) fn removed(&self) -> impl Iterator<Item = &str> {
        let asked = self.questions.iter().flat_map(|question| &question.answer.removed);
        self.removals.iter().chain(&self.removed).chain(asked).map(AsRef::as_ref)
    }
}
