//! Leases of which it is not certain that they have the lock that they should have: those that were
//! libvirt's daemon's, which loses locks without noticing, and those that a stranger's lock has
//! come in between of. What is missing is taken as soon as it can be had.

use std::time::Duration;

use common::server::Core;
use common::sys::lock::{Hold, Kind};

use crate::handler::{Handler, Outcome};
use crate::lockspace::queue::Task;
use crate::lockspace::resource::Action;
use crate::lockspace::table::ResourceId;

/// The source of the timer; owners never get so far.
pub(crate) const RETRY: u64 = u64::MAX - 3;

/// How long after a stranger stood in the way it is tried again; ours.
const PERIOD: Duration = Duration::from_millis(250);

impl Handler {
    /// Finds out what there is of all locks that can be missing.
    pub(crate) fn settle_all(&mut self, core: &mut Core<Outcome>) {
        for id in self.lockspaces.ids().collect::<Vec<_>>() {
            if self.lockspaces.lock(id).is_some_and(|hold| hold != Hold::Whole(Kind::Ofd)) {
                self.settle_lock(core, id);
            }
        }
    }

    /// The time has come to look for those that lack something.
    pub(crate) fn settle_again(&mut self, core: &mut Core<Outcome>) {
        self.settles_later = false;
        for id in std::mem::take(&mut self.lacking) {
            // What is under way there may hang, and sees to it when it has ended.
            if self.lanes.contains_key(&id) {
                self.settle_later(core, id);
            } else {
                self.settle_lock(core, id);
            }
        }
    }

    /// Something was done to a resource: if its lock lacks something, that is tried again.
    pub(crate) fn settle_unless_whole(&mut self, core: &mut Core<Outcome>, id: ResourceId) {
        if self.lockspaces.lock(id).is_some_and(|hold| !hold.is_whole()) {
            self.settle_later(core, id);
        }
    }

    fn settle_lock(&mut self, core: &mut Core<Outcome>, id: ResourceId) {
        let is_to_outlive = core.has_store();
        self.perform(core, id, Task::of_our_own(Action::Settle { is_to_outlive }));
    }

    fn settle_later(&mut self, core: &mut Core<Outcome>, id: ResourceId) {
        self.lacking.insert(id);
        if !std::mem::replace(&mut self.settles_later, true) {
            core.set_timer(PERIOD, RETRY);
        }
    }
}
