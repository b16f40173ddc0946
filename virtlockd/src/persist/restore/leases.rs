//! Restoring leases.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::handover::InheritedFds;
use common::handover::document::{self, Items, Lack, Lock, Lockspace, Pid};
use common::handover::text::{bytes_of, unhex};
use common::sys::fd;
use common::sys::file_id::FileId;
use common::sys::lock::{Hold, Kind};
use nix::errno::Errno;

use crate::audit;
use crate::ids::{OwnerId, ResourceId};
use crate::lease::lock::Lease;
use crate::lockspace::action::Action;
use crate::lockspace::execution::perform;
use crate::lockspace::holders::{Holder, Holders};
use crate::lockspace::queue::Task;
use crate::lockspace::resource::Doubt;
use crate::message::log_about;
use crate::outcome::Core;
use crate::owner::lookup::{self, Lookup};
use crate::owner::termination;
use crate::persist::records::flag;
use crate::persist::restore::owners::{
    RestoredOwners, guest_of, identity_of, is_dead, restore_owner,
};
use crate::persist::restore::unclaimed::protect;
use crate::protocol::{Guest, Terms};
use crate::state::State;

/// Restores the leases of a document.
pub(super) struct LeaseRestorer<'a> {
    state: &'a mut State,
    core: &'a mut Core,
    inherited: &'a mut InheritedFds,
    owners: RestoredOwners,
    /// Owners by pid, dead ones as well.
    listed: HashMap<u32, OwnerId>,
    /// Leases of owners that have ended. They are released last, as an owner without leases is
    /// forgotten.
    ended: Vec<(OwnerId, ResourceId)>,
}

impl<'a> LeaseRestorer<'a> {
    /// Creates a restorer that knows the owners of the registrations.
    pub(super) fn new(
        state: &'a mut State,
        core: &'a mut Core,
        inherited: &'a mut InheritedFds,
        owners: RestoredOwners,
    ) -> Self {
        Self { state, core, inherited, owners, listed: HashMap::new(), ended: Vec::new() }
    }

    /// Restores owners that leases name by pid alone.
    pub(super) fn list_owners(&mut self, owners: Vec<document::Holder>) {
        for owner in owners {
            let guest = Arc::new(guest_of(&owner));
            let id = self.owner_of_holder(&guest, owner.process.as_ref());
            self.listed.insert(guest.pid, id);
        }
    }

    /// Restores a lockspace and its leases.
    pub(super) fn restore_space(&mut self, mut from: Lockspace<'static>) {
        let resources = from.resources.take().map(Items::into_vec).unwrap_or_default();
        let space = from.path();
        self.state.lockspaces.adopt_space(&space);
        self.state.lockspaces.reserve(&space, resources.len());
        for resource in resources {
            if let Err(error) = self.restore(&space, &resource) {
                let Self { state, inherited, .. } = self;
                let number = resource.fd.into_iter();
                number.for_each(|number| inherited.show(number, |fd| protect(state, fd)));
                let name = resource.path.or(resource.name).unwrap_or_default();
                tracing::error!(
                    target: "locking.lock_daemon",
                    LIBVIRT_LEASE_PATH = %name,
                    LIBVIRT_REASON = %error,
                    "Unable to restore the lease on '{name}' in lockspace '{}': {error}. \
                     Its file stays locked until this daemon ends",
                    space.escape_ascii()
                );
                audit::lost(Path::new(&*name), &"holders unknown", "it cannot be restored");
            }
        }
    }

    /// Restores a lease. On error its fd, if any, stays with `inherited`, and open.
    fn restore(&mut self, space: &[u8], from: &document::Resource) -> io::Result<()> {
        let nothing = document::PrivateResource::default();
        let private = from.private.as_ref().unwrap_or(&nothing);
        let name = from.name.as_deref().or(from.path.as_deref()).ok_or(Errno::ENOENT)?;
        let name = bytes_of(private.name.as_deref(), name);
        // An earlier version wrote the bytes of a lockspace only here.
        let directory = private.directory.as_deref().and_then(unhex);
        let directory = directory.map_or(space.into(), Cow::Owned);
        let lockspaces = &mut self.state.lockspaces;
        lockspaces.adopt_space(&directory);
        let id = lockspaces.adopt_resource(&directory, &name);
        let id = id.map_err(|_| io::Error::other("its lockspace is unknown"))?;
        if lockspaces.is_held(id) {
            return Err(Errno::EEXIST.into());
        }
        let flags = from.flags.unwrap_or(0);
        let terms =
            Terms { shared: flags & flag::SHARED != 0, autocreate: flags & flag::AUTOCREATE != 0 };
        let lease = match self.lease(from, private, terms) {
            Ok(lease) => lease,
            Err(error) => {
                self.state.lockspaces.forget_unused(id);
                return Err(error);
            }
        };
        let holders = self.holders(private.holders.as_deref(), from.owners.as_deref());
        let owners: Vec<OwnerId> = holders.iter().map(|(owner, _)| owner).collect();
        self.state.lockspaces.adopt(id, private.key, lease, terms, holders);
        if let Some(resource) = self.state.lockspaces.resource_mut(id) {
            resource.doubt = private.may_be_lost.filter(|it| *it).map(|_| Doubt::MayBeLost);
        }
        for owner in owners {
            self.state.owners.add_lease(owner, id);
            if self.state.owners.get(owner).is_some_and(|owner| owner.is_dead) {
                self.ended.push((owner, id));
            }
        }
        Ok(())
    }

    /// Releases the leases of owners that have ended.
    pub(super) fn release_ended(self) {
        for (owner, id) in self.ended {
            perform(self.state, self.core, id, Task::internal(Action::ReleaseAll(owner)));
        }
    }

    fn lease(
        &mut self,
        from: &document::Resource,
        private: &document::PrivateResource,
        terms: Terms,
    ) -> io::Result<Lease> {
        let is_file = |fd: BorrowedFd<'_>| !fd::is_socket(fd);
        let file = File::from(self.inherited.take_as(from.fd, Errno::EINVAL, is_file)?);
        let kind = private.lock.map_or(Kind::Posix, |Lock::Ofd| Kind::Ofd);
        let hold = match private.lacks {
            None => Hold::Whole(kind),
            Some(Lack::Exclusiveness) => Hold::Shared(kind),
            Some(Lack::Everything) => Hold::Nothing,
        };
        let file_id = match (kind, private.file) {
            (Kind::Ofd, Some((device, number))) => FileId { device, number },
            _ => FileId::of_open(&file)?,
        };
        let locks = &self.state.local_locks;
        let lease = Lease::adopted(locks, file, file_id, terms.mode(), hold);
        for &number in private.parked.iter().flatten() {
            // Each lease of the file names them.
            if let Ok(fd) = self.inherited.take(Some(number)) {
                locks.posix.retain(file_id, fd.into());
            }
        }
        Ok(lease)
    }

    /// Returns the holders of a lease. libvirt's daemons write only their pids, each as often as it
    /// holds the lease.
    fn holders(&mut self, records: Option<&[document::Holder]>, pids: Option<&[Pid]>) -> Holders {
        let mut holders = Holders::default();
        if let Some(records) = records {
            records.iter().for_each(|record| self.add_to(&mut holders, record));
        } else {
            for &Pid(pid) in pids.unwrap_or_default() {
                self.add_unrecorded(&mut holders, pid);
            }
        }
        holders
    }

    /// Adds the holder of a record of libvirt's daemon, which does not know pid namespaces apart. Where
    /// its pid means several guests, each is a holder, so that none loses its lease.
    fn add_unrecorded(&mut self, holders: &mut Holders, pid: Option<u32>) {
        let (elsewhere, is_here) = pid.map(|pid| self.owners.with_pid(pid)).unwrap_or_default();
        if elsewhere.is_empty() || is_here {
            self.add_to(holders, &document::Holder { pid, ..document::Holder::default() });
        }
        for owner in elsewhere {
            let Some(guest) = self.state.owners.get(owner).map(|it| &it.guest) else { continue };
            let (guest, since) = (Arc::clone(guest), SystemTime::now());
            match holders.get_mut(owner) {
                Some(holder) => holder.shares = holder.shares.saturating_add(1),
                None => {
                    holders.insert(owner, Holder { guest, since, held_before: true, shares: 1 });
                }
            }
        }
    }

    fn add_to(&mut self, holders: &mut Holders, record: &document::Holder) {
        let listed = record.pid.filter(|_| record.id.is_none());
        let listed = listed.and_then(|pid| self.listed.get(&pid).copied());
        let process = record.process.as_ref();
        let owner =
            listed.unwrap_or_else(|| self.owner_of_holder(&Arc::new(guest_of(record)), process));
        let Some(guest) = self.state.owners.get(owner).map(|owner| &owner.guest) else { return };
        let shares = record.shares.unwrap_or(1).max(1);
        if let Some(holder) = holders.get_mut(owner) {
            holder.shares = holder.shares.saturating_add(shares);
            return;
        }
        let since = record.since_unix_s.map(Duration::from_secs);
        let since = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
        let held_before = record.had_before.unwrap_or(since.is_none());
        let (guest, since) = (Arc::clone(guest), since.unwrap_or_else(SystemTime::now));
        holders.insert(owner, Holder { guest, since, held_before, shares });
    }

    /// Continues a termination. A process that may be another is not signalled.
    pub(super) fn restore_termination(&mut self, guest: &document::Holder, deadline_ms: u64) {
        let process = guest.process.as_ref();
        let is_sure = identity_of(process).process_identity.is_some();
        let owner = self.owner_of_holder(&Arc::new(guest_of(guest)), process);
        if is_sure && self.state.owners.is_watched(owner) {
            termination::begin_until(self.state, self.core, owner, deadline_ms);
        }
        self.state.owners.forget_unused(owner);
    }

    fn owner_of_holder(
        &mut self,
        guest: &Arc<Guest>,
        process: Option<&document::Process>,
    ) -> OwnerId {
        let is_dead = is_dead(process);
        let recorded = identity_of(process);
        let known = self.owners.find(&self.state.owners, guest, &recorded);
        if let Some(owner) = known.filter(|_| !is_dead) {
            return owner;
        }
        let identity = self.owners.translate(recorded);
        let found = if is_dead { Lookup::Dead } else { lookup::by_identity(guest, &identity) };
        if matches!(found, Lookup::Dead) {
            log_about!(info, guest, "{guest} has ended; releasing its leases");
        }
        restore_owner(self.state, self.core, guest, identity, found, &mut self.owners)
    }
}
