//! Leases, restored.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::handover::Inherited;
use common::handover::document::{self, Holder, Items, Lack, Lock, Lockspace, Pid};
use common::handover::text::{bytes_of, unhex};
use common::sys::fd;
use common::sys::lock::{Hold, Kind};
use nix::errno::Errno;

use crate::ids::{OwnerId, ResourceId};
use crate::lease::inode::Inode;
use crate::lease::lock::Lease;
use crate::lockspace::action::Action;
use crate::lockspace::execution::perform;
use crate::lockspace::holders::{Holding, Holdings};
use crate::lockspace::queue::Task;
use crate::outcome::Core;
use crate::owner::lookup::{self, Found};
use crate::owner::termination;
use crate::persist::records::flag;
use crate::persist::restore::owners::{Adopted, adopt_owner, guest_of, is_dead, known_of};
use crate::persist::restore::unclaimed::protect;
use crate::protocol::{Guest, Terms};
use crate::state::State;

/// Leases on their way from a document to the handler.
pub(super) struct Adoption<'a> {
    state: &'a mut State,
    core: &'a mut Core,
    inherited: &'a mut Inherited,
    adopted: Adopted,
    /// Owners by pid, dead ones too.
    listed: HashMap<u32, OwnerId>,
    /// Leases of owners that have ended. They are released in the end, as who has none is forgotten.
    of_the_dead: Vec<(OwnerId, ResourceId)>,
}

impl<'a> Adoption<'a> {
    pub(super) fn new(
        state: &'a mut State,
        core: &'a mut Core,
        inherited: &'a mut Inherited,
        adopted: Adopted,
    ) -> Self {
        Self { state, core, inherited, adopted, listed: HashMap::new(), of_the_dead: Vec::new() }
    }

    pub(super) fn list(&mut self, owners: Vec<Holder>) {
        for owner in owners {
            let guest = Arc::new(guest_of(&owner));
            let id = self.owner_of_holder(&guest, owner.process.as_ref());
            self.listed.insert(guest.pid, id);
        }
    }

    pub(super) fn adopt_space(&mut self, mut from: Lockspace<'static>) {
        let resources = from.resources.take().map(Items::into_vec).unwrap_or_default();
        let space = from.path();
        self.state.lockspaces.adopt_space(&space);
        self.state.lockspaces.reserve(&space, resources.len());
        for resource in resources {
            if let Err(error) = self.adopt(&space, &resource) {
                let Self { state, inherited, .. } = self;
                let number = resource.fd.into_iter();
                number.for_each(|number| inherited.show(number, |fd| protect(state, fd)));
                tracing::error!(
                    target: "locking.lock_daemon",
                    "The lease on '{}' in lockspace '{}' was not understood ({error}); \
                     its file stays locked until this daemon ends",
                    resource.path.or(resource.name).unwrap_or_default(), space.escape_ascii()
                );
            }
        }
    }

    /// On failure the fd stays with `inherited`, and open, where it is there at all.
    fn adopt(&mut self, space: &[u8], from: &document::Resource) -> io::Result<()> {
        let nothing = document::PrivateResource::default();
        let private = from.private.as_ref().unwrap_or(&nothing);
        let name = from.name.as_deref().or(from.path.as_deref()).ok_or(Errno::ENOENT)?;
        let name = bytes_of(private.name.as_deref(), name);
        // An earlier version has put the bytes of a lockspace here alone.
        let directory = private.directory.as_deref().and_then(unhex);
        let directory = directory.map_or(space.into(), Cow::Owned);
        let lockspaces = &mut self.state.lockspaces;
        lockspaces.adopt_space(&directory);
        let id = lockspaces.adopt_resource(&directory, &name);
        let id = id.map_err(|_| io::Error::other("its lockspace is not there"))?;
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
        let holdings = self.holdings(private.holders.as_deref(), from.owners.as_deref());
        let owners: Vec<OwnerId> = holdings.iter().map(|(owner, _)| owner).collect();
        self.state.lockspaces.adopt(id, private.key, lease, terms, holdings);
        for owner in owners {
            self.state.owners.gained(owner, id);
            if self.state.owners.get(owner).is_some_and(|owner| owner.is_dead) {
                self.of_the_dead.push((owner, id));
            }
        }
        Ok(())
    }

    pub(super) fn release_what_the_dead_have(self) {
        for (owner, id) in self.of_the_dead {
            perform(self.state, self.core, id, Task::internal(Action::Disown(owner)));
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
        let inode = match (kind, private.file) {
            (Kind::Ofd, Some((device, number))) => Inode { device, number },
            _ => Inode::of_open(&file)?,
        };
        let files = &self.state.files;
        let lease = Lease::adopted(files, file, inode, terms.mode(), hold);
        for &number in private.parked.iter().flatten() {
            // Each lease of the file has named them.
            if let Ok(fd) = self.inherited.take(Some(number)) {
                files.posix.park(inode, fd.into());
            }
        }
        Ok(lease)
    }

    /// libvirt's daemons know no more of holders than their pids, each as often as it has the lease.
    fn holdings(&mut self, holders: Option<&[Holder]>, pids: Option<&[Pid]>) -> Holdings {
        let mut holdings = Holdings::default();
        if let Some(holders) = holders {
            holders.iter().for_each(|holder| self.add_to(&mut holdings, holder));
        } else {
            for &Pid(pid) in pids.unwrap_or_default() {
                self.add_to(&mut holdings, &Holder { pid, ..Holder::default() });
            }
        }
        holdings
    }

    fn add_to(&mut self, holdings: &mut Holdings, holder: &Holder) {
        let listed = holder.pid.filter(|_| holder.id.is_none());
        let listed = listed.and_then(|pid| self.listed.get(&pid).copied());
        let process = holder.process.as_ref();
        let owner =
            listed.unwrap_or_else(|| self.owner_of_holder(&Arc::new(guest_of(holder)), process));
        let Some(guest) = self.state.owners.get(owner).map(|owner| &owner.guest) else { return };
        let shares = holder.shares.unwrap_or(1).max(1);
        if let Some(holding) = holdings.get_mut(owner) {
            holding.shares = holding.shares.saturating_add(shares);
            return;
        }
        let since = holder.since_unix_s.map(Duration::from_secs);
        let since = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
        let was_had_before = holder.had_before.unwrap_or(since.is_none());
        let (guest, since) = (Arc::clone(guest), since.unwrap_or_else(SystemTime::now));
        holdings.insert(owner, Holding { guest, since, was_had_before, shares });
    }

    /// Goes on with ending a guest; nobody is signalled who may be another.
    pub(super) fn adopt_ending(&mut self, guest: &Holder, deadline_ms: u64) {
        let process = guest.process.as_ref();
        let is_sure = known_of(process).identity.is_some();
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
        let (known, is_dead) = (known_of(process), is_dead(process));
        if let Some(owner) = self.adopted.find(guest, &known).filter(|_| !is_dead) {
            return owner;
        }
        let found = if is_dead { Found::Dead } else { lookup::again(guest, &known) };
        if matches!(found, Found::Dead) {
            tracing::info!(
                target: "locking.lock_daemon", "{guest} has ended, its leases are released"
            );
        }
        adopt_owner(self.state, self.core, guest, known, found, &mut self.adopted)
    }
}
