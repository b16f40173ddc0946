//! Owners that could not be watched for a shortage of descriptors, as at a take-over of more than
//! there is room for: they are watched later, and never take the last descriptors.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use common::server::Core;
use common::sys::{fd, process};
use nix::errno::Errno;

use crate::error::file::is_shortage;
use crate::handler::{Handler, Outcome};
use crate::owner::identity::{Identity, Known};
use crate::owner::lookup::{self, Found};
use crate::owner::owners::{Owner, OwnerId};

/// The source of the timer; owners never get so far.
pub(crate) const RETRY: u64 = u64::MAX - 2;

/// How long after a shortage it is tried again; ours.
const PERIOD: Duration = Duration::from_secs(1);

/// Descriptors that are left to clients and files when owners are taken over; ours.
const RESERVED_FDS: u64 = 16;

/// Milliseconds of one tick, in which the kernel tells times to programs.
const TICK_MS: u64 = 10;

impl Handler {
    /// Sees to it that owners with leases whom nobody watches are looked for again.
    pub(crate) fn watch_later(&mut self, core: &mut Core<Outcome>) {
        if !self.watches_later && self.unwatched().next().is_some() {
            self.watches_later = true;
            core.set_timer(PERIOD, RETRY);
        }
    }

    /// The time has come.
    pub(crate) fn watch_again(&mut self, core: &mut Core<Outcome>) {
        self.watches_later = false;
        for id in self.unwatched().collect::<Vec<_>>() {
            if !self.watch_now(core, id) {
                break;
            }
        }
        self.watch_later(core);
    }

    /// Whether a process is the one that an owner was registered for, while nobody watches it;
    /// `None` when that cannot be told.
    pub(crate) fn was_registered(
        &self,
        id: OwnerId,
        pidfd: impl AsFd,
        number: i32,
    ) -> Option<bool> {
        let owner = self.owners.get(id)?;
        if let Some(identity) = owner.known.identity {
            return identity.is(Identity::of(pidfd, number)?);
        }
        // Who had the number then, and has it now, has had it all the time.
        let start = process::start_time(number).ok()?;
        Some(start.saturating_mul(TICK_MS) <= owner.since_boot_ms)
    }

    fn unwatched(&self) -> impl Iterator<Item = OwnerId> {
        let is_unwatched = |owner: &Owner| owner.may_get_pidfd && owner.has_leases();
        self.owners.iter().filter(move |(_, owner)| is_unwatched(owner)).map(|(id, _)| id)
    }

    /// Gives whether there is no shortage.
    fn watch_now(&mut self, core: &mut Core<Outcome>, id: OwnerId) -> bool {
        let Some(owner) = self.owners.get_mut(id) else { return true };
        let (guest, known) = (Arc::clone(&owner.guest), owner.known);
        let number = known.number(&guest).and_then(|number| i32::try_from(number).ok());
        match spare(lookup::again(&guest, &known)) {
            Found::Unknown(error) if is_shortage(&error) => return false,
            Found::Unknown(_) => owner.may_get_pidfd = false,
            Found::Dead => self.owner_has_ended(core, id),
            Found::Process(pidfd) => {
                match number.and_then(|number| self.was_registered(id, &pidfd, number)) {
                    Some(true) => self.watch_known(core, id, known, pidfd),
                    Some(false) => self.owner_has_ended(core, id),
                    None => self.owners.get_mut(id).into_iter().for_each(Owner::cannot_be_watched),
                }
            }
        }
        true
    }

    /// Watches an owner as the process that it is.
    pub(crate) fn watch_known(
        &mut self,
        core: &mut Core<Outcome>,
        id: OwnerId,
        known: Known,
        pidfd: OwnedFd,
    ) {
        self.owners.is_known(id, known);
        self.watch(core, id, pidfd);
    }
}

/// Leaves a process unwatched for want of descriptors before there is none left for anybody else.
pub(crate) fn spare(found: Found) -> Found {
    let is_among_last = |pidfd: &OwnedFd| {
        let number = u64::try_from(pidfd.as_raw_fd()).unwrap_or(0);
        fd::limit().is_some_and(|limit| number.saturating_add(RESERVED_FDS) >= limit)
    };
    match found {
        Found::Process(pidfd) if is_among_last(&pidfd) => Found::Unknown(Errno::EMFILE.into()),
        found => found,
    }
}
