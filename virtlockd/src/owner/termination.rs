//! Guests that are being ended: asked to by SIGTERM, made to later by SIGKILL, whatever becomes of
//! this process meanwhile.
//!
//! Who it is and when it is made to is in the state document, and in the journal before the guest is
//! signalled. libvirt's daemons know nothing of that, so none is left to them: the way back waits.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use common::handover::Reader;
use common::handover::document::{self, Change};
use common::server::{Core, Place};
use common::sys::{pidfd, process};
use nix::sys::signal::Signal;

use crate::handler::{Ended, Handler, Outcome};
use crate::owner::owners::{Ending, Owner, OwnerId};
use crate::owner::signals::{self, TERM_PERIOD};
use crate::persist::save::save_guest;

/// The number of the job that waits for guests to end; resources never get so far.
pub(crate) const WAITING: u64 = u64::MAX - 1;

/// How long the way back to libvirt's daemon waits for guests before they are made to end. It has a
/// second to come to rest in.
const HANDOVER_PERIOD: Duration = Duration::from_millis(600);

/// How long a guest may take to end that is made to.
const KILL_PERIOD: Duration = Duration::from_millis(200);

impl Handler {
    /// Asks a process to end, and sees to it later that it does.
    pub(crate) fn end(&mut self, core: &mut Core<Outcome>, id: OwnerId) {
        if self.owners.get(id).is_none_or(|owner| owner.ending.is_some()) {
            return;
        }
        if self.end_by(core, id, process::boot_time_ms() + millis(TERM_PERIOD))
            && let Some(owner) = self.owners.get(id)
        {
            tracing::info!(
                target: "locking.lock_daemon",
                "{} has closed its connection, and its leases go with it; sent SIGTERM", owner.guest
            );
        }
    }

    pub(crate) fn is_being_ended(&self, id: OwnerId) -> bool {
        self.owners.get(id).is_some_and(|owner| owner.ending.is_some())
    }

    /// The same again, as an earlier image has begun it. Gives whether there is anything to do.
    pub(crate) fn end_by(
        &mut self,
        core: &mut Core<Outcome>,
        id: OwnerId,
        deadline_ms: u64,
    ) -> bool {
        self.note_ending(core, id, Some(deadline_ms));
        let Some(owner) = self.owners.get_mut(id) else { return false };
        if !signals::signal(owner, Signal::SIGTERM) {
            self.note_ending(core, id, None);
            return false;
        }
        let left = Duration::from_millis(deadline_ms.saturating_sub(process::boot_time_ms()));
        let timer = Some(core.set_timer(left.min(TERM_PERIOD), id.0));
        owner.ending = Some(Ending { timer, deadline_ms });
        true
    }

    /// An owner that was asked to end has not.
    pub(crate) fn ending_is_due(&mut self, id: OwnerId) {
        let Some(owner) = self.owners.get_mut(id) else { return };
        owner.ending.iter_mut().for_each(|ending| ending.timer = None);
        if signals::signal(owner, Signal::SIGKILL) {
            tracing::warn!(
                target: "locking.lock_daemon", "{} has not ended; sent SIGKILL", owner.guest
            );
        }
    }

    /// An owner has ended, asked to or not.
    pub(crate) fn ending_is_over(&mut self, core: &mut Core<Outcome>, id: OwnerId) {
        let ending = self.owners.get_mut(id).and_then(|owner| owner.ending.take());
        let Some(Ending { timer, .. }) = ending else { return };
        timer.into_iter().for_each(|timer| core.cancel_timer(timer));
        self.note_ending(core, id, None);
    }

    /// Sees guests to their end that libvirt's daemon would know nothing of.
    pub(crate) fn finish_endings(&mut self, core: &mut Core<Outcome>, reader: Reader) {
        if reader == Reader::Ours {
            return;
        }
        let ending = self.owners.iter().filter(|(_, owner)| owner.ending.is_some());
        let pidfds = ending.filter_map(|(id, owner)| Some((id, owner.pidfd.as_ref()?)));
        let copies = pidfds.filter_map(|(id, pidfd)| Some((id, pidfd.try_clone().ok()?)));
        let (ids, pidfds): (Vec<OwnerId>, Vec<OwnedFd>) = copies.unzip();
        if !ids.is_empty() {
            core.submit(Place::device(WAITING), WAITING, move || {
                wait_for(&pidfds);
                Outcome(Ended::Waited(ids))
            });
        }
    }

    /// They were waited for.
    pub(crate) fn endings_are_finished(&mut self, core: &mut Core<Outcome>, ids: Vec<OwnerId>) {
        for id in ids {
            if self.owners.get(id).is_some_and(Owner::has_ended) {
                self.owner_has_ended(core, id);
            }
        }
    }

    /// Those who are being ended, for a state document.
    pub(crate) fn save_endings(&self) -> Vec<document::Ending> {
        let ending = |owner: &Owner| Some((owner.ending.as_ref()?.deadline_ms, save(owner)));
        let endings = self.owners.iter().filter_map(|(_, owner)| ending(owner));
        endings
            .map(|(deadline_ms, guest)| document::Ending {
                guest: Some(guest),
                deadline_boot_ms: Some(deadline_ms),
            })
            .collect()
    }

    fn note_ending(&self, core: &mut Core<Outcome>, id: OwnerId, deadline_boot_ms: Option<u64>) {
        if let Some(owner) = self.owners.get(id).filter(|_| core.has_store()) {
            let ending = document::Ending { guest: Some(save(owner)), deadline_boot_ms };
            core.note(&Change { ending: Some(ending), ..Change::default() });
        }
    }
}

fn save(owner: &Owner) -> document::Holder {
    save_guest(&owner.guest, Some(owner))
}

fn wait_for(pidfds: &[OwnedFd]) {
    signals::wait_all(pidfds, Instant::now() + HANDOVER_PERIOD);
    for pidfd in pidfds.iter().filter(|pidfd| !pidfd::has_ended(pidfd)) {
        // It may have ended right now.
        pidfd::send_signal(pidfd, Signal::SIGKILL).ok();
    }
    signals::wait_all(pidfds, Instant::now() + KILL_PERIOD);
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
