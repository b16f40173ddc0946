//! Leases and owners' connections in the supervisor's fd store, so that they outlive this process.
//!
//! A lease of libvirt's daemon, a POSIX lock, ends with the process, so it is made one of ours.

use std::os::fd::AsFd;

use common::handover::document::{self, Change, Items, Lockspace};
use common::handover::stored::Kind;
use common::handover::{Passing, Reader};
use common::server::{ClientId, Core};
use common::sys::lock;

use crate::handler::{Handler, Outcome};
use crate::holdings::Holding;
use crate::lane::Task;
use crate::lockspace::ResourceId;
use crate::owner::Owners;
use crate::resource::{Action, Resource};
use crate::session::Session;
use crate::state::{directory_of, save_guest, save_resource, save_session};

impl Handler {
    /// Everything that is not kept yet.
    pub(crate) fn keep_everything(&mut self, core: &mut Core<Outcome>) {
        for id in self.lockspaces.ids().collect::<Vec<_>>() {
            if self.lockspaces.resource_mut(id).is_some_and(|resource| resource.key.is_none()) {
                self.keep_lease(core, id);
                self.perform(core, id, Task::of_our_own(Action::Outlive));
            }
        }
        for client in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.keep_session(core, client);
        }
    }

    /// What is known of a lease may have changed: that it is there, or who has it.
    pub(crate) fn keep_lease(&mut self, core: &mut Core<Outcome>, id: ResourceId) {
        let Some(resource) = self.lockspaces.resource_mut(id) else { return };
        let Some((lease, ..)) = resource.hold() else {
            if let Some(key) = resource.key.take() {
                core.forget(Kind::Lease, key);
            }
            return;
        };
        let (fd, kind) = lease.lock();
        if kind == lock::Kind::Posix || !core.has_store() {
            return;
        }
        let change = change_of(resource, &self.owners);
        match resource.key {
            Some(_) => core.note(&Change { key: resource.key, ..change }),
            None => {
                let key = core.keep(Kind::Lease, &[fd.as_fd()], change);
                resource.key = key;
            }
        }
    }

    /// What is known of an owner's own connection may have changed. One that was its own stays kept.
    pub(crate) fn keep_session(&mut self, core: &mut Core<Outcome>, client: ClientId) {
        let Some(session) = self.sessions.get(&client).filter(|_| core.has_store()) else { return };
        if session.is_own || core.keeps_client(client) {
            core.keep_client(client, record_of(session, &self.owners));
        }
    }

    /// Nothing has a key any more.
    pub(crate) fn forget_keys(&mut self) {
        for id in self.lockspaces.ids().collect::<Vec<_>>() {
            if let Some(resource) = self.lockspaces.resource_mut(id) {
                resource.key = None;
            }
        }
    }
}

fn change_of(resource: &Resource, owners: &Owners) -> Change {
    let who = |owner, holding: &Holding| save_guest(&holding.guest, owners.get(owner));
    let saved = save_resource(resource, &Passing::default(), Reader::Ours, who);
    let directory = directory_of(&resource.space);
    let resources = Some(Items::Read(saved.into_iter().collect()));
    let lease = Lockspace { directory, resources, private: None };
    Change { lease: Some(lease), ..Change::default() }
}

fn record_of(session: &Session, owners: &Owners) -> document::Client {
    let private_data = Some(save_session(Some(session), owners));
    document::Client { private_data, ..document::Client::default() }
}
