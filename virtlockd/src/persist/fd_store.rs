//! Leases and owners' connections in the supervisor's fd store, so that they outlive this process.
//!
//! A lease of libvirt's daemon, a POSIX lock, ends with the process, so it is made one of ours.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use common::handover::document::{self, Change, Items, Lockspace};
use common::handover::stored::Kind;
use common::handover::{Passing, Reader};
use common::server::{ClientId, Core, Progress};
use common::sys::lock::{self, Hold};

use crate::handler::{DIRECTORY, Ended, Handler, Outcome};
use crate::lease::posix_locks::PosixFiles;
use crate::lockspace::holders::Holding;
use crate::lockspace::queue::Task;
use crate::lockspace::resource::{Action, Resource};
use crate::lockspace::table::ResourceId;
use crate::owner::owners::{OwnerId, Owners};
use crate::persist::save::{save_guest, save_resource, save_session};
use crate::session::Session;

/// What the store had no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unstored {
    Lease(ResourceId),
    Session(ClientId),
}

impl Handler {
    /// Everything, whether it is kept already or not.
    pub(crate) fn keep_everything(&mut self, core: &mut Core<Outcome>) {
        for id in self.lockspaces.ids().collect::<Vec<_>>() {
            self.keep_lease(core, id);
            if self.lockspaces.lock(id).is_some_and(Hold::is_posix) {
                self.perform(core, id, Task::of_our_own(Action::Settle { is_to_outlive: true }));
            }
        }
        for client in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.keep_session(core, client);
        }
    }

    /// What the store had no room for, until it has none for something.
    pub(crate) fn keep_unstored(&mut self, core: &mut Core<Outcome>) {
        while let Some(item) = self.unstored.pop_first() {
            match item {
                Unstored::Lease(id) => self.keep_lease(core, id),
                Unstored::Session(client) => self.keep_session(core, client),
            }
            if self.unstored.contains(&item) {
                return;
            }
        }
    }

    /// The lease with this key is not in the store after all.
    pub(crate) fn forget_key(&mut self, kind: Kind, key: u64) {
        if kind != Kind::Lease {
            return;
        }
        let mut ids = self.lockspaces.ids().collect::<Vec<_>>().into_iter();
        let id = ids.find(|&id| {
            self.lockspaces.resource_mut(id).is_some_and(|resource| resource.key == Some(key))
        });
        if let Some(resource) = id.and_then(|id| self.lockspaces.resource_mut(id)) {
            resource.key = None;
        }
        self.unstored.extend(id.map(Unstored::Lease));
    }

    /// What is known of a lease may have changed: that it is there, or who has it.
    pub(crate) fn keep_lease(&mut self, core: &mut Core<Outcome>, id: ResourceId) {
        let Some(resource) = self.lockspaces.resource_mut(id) else { return };
        let Some((lease, ..)) = resource.hold() else {
            if let Some(key) = resource.key.take() {
                core.forget(Kind::Lease, key);
            }
            self.unstored.remove(&Unstored::Lease(id));
            return;
        };
        let (fd, hold) = lease.lock();
        if hold.is_posix() || !core.has_store() {
            return;
        }
        let (change, fds) = (change_of(resource, &self.owners), [fd.as_fd()]);
        let key = match resource.key {
            Some(key) => core.keep_as(key, Kind::Lease, &fds, change).then_some(key),
            None => core.keep(Kind::Lease, &fds, change),
        };
        resource.key = key;
        if key.is_none() {
            self.unstored.insert(Unstored::Lease(id));
        }
    }

    /// Unlocks files whose leases were given back already when the process before this one ended. To
    /// close them frees nothing while the store has them too.
    pub(crate) fn unlock_all(&self, core: &mut Core<Outcome>, fds: Vec<OwnedFd>) {
        for fd in fds {
            // Nobody's way is to be stood in by a file system that hangs, so its path has to do.
            let path = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
            let path = path.unwrap_or_default();
            core.submit_at_path(&path, DIRECTORY, Progress::default(), move || {
                if let Err(error) = lock::unlock(&fd, lock::Kind::Ofd) {
                    tracing::debug!(
                        target: "locking.lock_daemon", "Nothing to unlock in the fd store: {error}"
                    );
                }
                Outcome(Ended::Nothing)
            });
        }
    }

    /// Whether all leases of an owner are in the store for certain.
    pub(crate) fn are_leases_stored(&self, core: &Core<Outcome>, owner: OwnerId) -> bool {
        self.owners.leases(owner).into_iter().all(|id| self.is_lease_stored(core, id))
    }

    pub(crate) fn is_lease_stored(&self, core: &Core<Outcome>, id: ResourceId) -> bool {
        self.lockspaces.key(id).is_some_and(|key| core.is_stored(Kind::Lease, key))
    }

    /// What is known of an owner's own connection may have changed. One that was its own stays kept.
    pub(crate) fn keep_session(&mut self, core: &mut Core<Outcome>, client: ClientId) {
        let Some(session) = self.sessions.get(&client).filter(|_| core.has_store()) else { return };
        let is_to_keep = session.is_own || core.keeps_client(client);
        if is_to_keep && !core.keep_client(client, record_of(session, &self.owners)) {
            self.unstored.insert(Unstored::Session(client));
        }
    }

    /// Nothing has a key any more.
    pub(crate) fn forget_keys(&mut self) {
        self.unstored.clear();
        for id in self.lockspaces.ids().collect::<Vec<_>>() {
            if let Some(resource) = self.lockspaces.resource_mut(id) {
                resource.key = None;
            }
        }
    }
}

fn change_of(resource: &Resource, owners: &Owners) -> Change {
    let who = |owner, holding: &Holding| save_guest(&holding.guest, owners.get(owner));
    let (posix, passing) = (PosixFiles::default(), Passing::default());
    let saved = save_resource(resource, &posix, &passing, Reader::Ours, who);
    let resources = Some(Items::Read(saved.into_iter().collect()));
    let lease = Lockspace { resources, ..Lockspace::at(&resource.space) };
    Change { lease: Some(lease), ..Change::default() }
}

fn record_of(session: &Session, owners: &Owners) -> document::Client {
    let private_data = Some(save_session(Some(session), owners));
    document::Client { private_data, ..document::Client::default() }
}
