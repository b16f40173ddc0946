//! Termination of guests: SIGTERM, and SIGKILL later, also across an upgrade, a crash and a restart.
//!
//! The guest's identity and the time of its SIGKILL are in the state document, and in the journal
//! before the guest is signalled. libvirt's daemons do not know such records, so a hand-over to them
//! waits for the guests' end.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use common::handover::Successor;
use common::handover::document::Change;
use common::server::StorageId;
use common::sys::{pidfd, process};
use nix::sys::signal::Signal;

use crate::ids::{JobSubject, OwnerId, TimerSubject};
use crate::message::log_about;
use crate::outcome::{Completion, Core, Outcome};
use crate::owner::entry::Termination;
use crate::owner::signals::{TERM_PERIOD, signal, wait_all};
use crate::persist::records::save_termination;
use crate::state::State;

/// Time that a hand-over to libvirt's daemon waits before it kills guests. It gives jobs a second.
const HANDOVER_PERIOD: Duration = Duration::from_millis(600);

/// Time that a guest gets to end after SIGKILL.
const KILL_PERIOD: Duration = Duration::from_millis(200);

/// Sends SIGTERM to an owner, and SIGKILL later. Returns whether it is being terminated.
pub(crate) fn begin(state: &mut State, core: &mut Core, id: OwnerId) -> bool {
    let Some(owner) = state.owners.get(id) else { return false };
    if owner.termination.is_some() {
        return true;
    }
    let is_begun = begin_until(state, core, id, process::boot_time_ms() + millis(TERM_PERIOD));
    if is_begun && let Some(owner) = state.owners.get(id) {
        let guest = &owner.guest;
        log_about!(
            warn,
            guest,
            "{guest} has closed its connection while it holds leases; sent SIGTERM"
        );
    }
    is_begun
}

/// Sends SIGTERM, and SIGKILL at a deadline, which may be that of an earlier process.
pub(crate) fn begin_until(
    state: &mut State,
    core: &mut Core,
    id: OwnerId,
    deadline_ms: u64,
) -> bool {
    record(state, core, id, Some(deadline_ms));
    let Some(owner) = state.owners.get_mut(id) else { return false };
    if !signal(owner, Signal::SIGTERM) {
        record(state, core, id, None);
        return false;
    }
    let left = Duration::from_millis(deadline_ms.saturating_sub(process::boot_time_ms()));
    let timer = core.set_timer(left.min(TERM_PERIOD), TimerSubject::Owner(id).number());
    owner.termination = Some(Termination { timer: Some(timer), deadline_ms });
    true
}

/// Sends SIGKILL to an owner whose time is over.
pub(crate) fn kill(state: &mut State, id: OwnerId) {
    let Some(owner) = state.owners.get_mut(id) else { return };
    owner.termination.iter_mut().for_each(|termination| termination.timer = None);
    if signal(owner, Signal::SIGKILL) {
        let guest = &owner.guest;
        log_about!(warn, guest, "{guest} has not ended; sent SIGKILL");
    }
}

/// Forgets the termination, if any, of an owner that has ended.
pub(crate) fn forget(state: &mut State, core: &mut Core, id: OwnerId) {
    let termination = state.owners.get_mut(id).and_then(|owner| owner.termination.take());
    let Some(Termination { timer, .. }) = termination else { return };
    timer.into_iter().for_each(|timer| core.cancel_timer(timer));
    record(state, core, id, None);
}

/// Completes all terminations in a job, before a hand-over to libvirt's daemon.
pub(crate) fn complete_for(reader: Successor, state: &State, core: &mut Core) {
    if reader == Successor::Ours {
        return;
    }
    let terminated = state.owners.iter().filter(|(_, owner)| owner.termination.is_some());
    let pidfds = terminated.filter_map(|(id, owner)| Some((id, owner.pidfd.as_ref()?)));
    let copies = pidfds.filter_map(|(id, pidfd)| Some((id, pidfd.try_clone().ok()?)));
    let (ids, pidfds): (Vec<OwnerId>, Vec<OwnedFd>) = copies.unzip();
    if !ids.is_empty() {
        let subject = JobSubject::Terminations.number();
        core.submit(StorageId::device(subject), subject, move || {
            wait_and_kill(&pidfds);
            Outcome(Completion::Terminations(ids))
        });
    }
}

/// Writes a termination, or with `None` its end, to the journal.
fn record(state: &State, core: &mut Core, id: OwnerId, deadline_boot_ms: Option<u64>) {
    if let Some(owner) = state.owners.get(id).filter(|_| core.has_store()) {
        let ending = save_termination(owner, deadline_boot_ms);
        core.note(&Change { ending: Some(ending), ..Change::default() });
    }
}

fn wait_and_kill(pidfds: &[OwnedFd]) {
    wait_all(pidfds, Instant::now() + HANDOVER_PERIOD);
    for pidfd in pidfds.iter().filter(|pidfd| !pidfd::has_ended(pidfd)) {
        // It may have ended right now.
        pidfd::send_signal(pidfd, Signal::SIGKILL).ok();
    }
    wait_all(pidfds, Instant::now() + KILL_PERIOD);
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
