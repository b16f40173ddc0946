//! Checks that leases still have their lock.
//!
//! libvirt's daemon loses locks without noticing, so a lease that was taken over from it may have
//! none. A process that is not a client may lock the file while a lock is converted. What is
//! missing is taken as soon as it can be had.

use common::sys::lock::{Hold, Kind};

use crate::ids::ResourceId;
use crate::lockspace::action::Action;
use crate::lockspace::execution::perform;
use crate::lockspace::queue::Task;
use crate::outcome::Core;
use crate::state::State;

/// Checks every lease whose lock may be incomplete.
pub(crate) fn check_all(state: &mut State, core: &mut Core) {
    for id in state.lockspaces.ids().collect::<Vec<_>>() {
        if state.lockspaces.lock(id).is_some_and(|hold| hold != Hold::Whole(Kind::Ofd)) {
            check(state, core, id);
        }
    }
}

/// Converts every lease that would end with this process.
pub(crate) fn convert_all_to_ofd(state: &mut State, core: &mut Core) {
    for id in state.lockspaces.ids().collect::<Vec<_>>() {
        if state.lockspaces.lock(id).is_some_and(Hold::is_posix) {
            perform(state, core, id, Task::internal(Action::CheckLock { convert_to_ofd: true }));
        }
    }
}

/// Checks leases again that lacked a part of their lock.
pub(crate) fn retry(state: &mut State, core: &mut Core) {
    for id in state.incomplete_locks.take_due() {
        // A job under way may hang. It leads to the next check when it has ended.
        if state.queues.contains_key(&id) {
            state.incomplete_locks.add(core, id);
        } else {
            check(state, core, id);
        }
    }
}

fn check(state: &mut State, core: &mut Core, id: ResourceId) {
    let convert_to_ofd = core.has_store();
    perform(state, core, id, Task::internal(Action::CheckLock { convert_to_ofd }));
}
