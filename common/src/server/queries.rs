//! Answers of our read-only program.

use super::core::Core;
use super::daemon::Daemon;
use crate::admin::LIBVIRT_VERSION;
use crate::query::{self, Counters, FdStore, Page, Place, Status, UpgradeCounters};
use crate::rpc::{self, Call, Reply};

/// A daemon that is looked into.
struct Queried<'a, D: Daemon> {
    core: &'a Core<D::Outcome>,
    daemon: &'a D,
}

impl<O> Core<O> {
    /// Handles a call of [`query::PROGRAM`].
    pub(super) fn query<D: Daemon<Outcome = O>>(
        &self,
        daemon: &D,
        call: &Call,
    ) -> Result<Reply, rpc::Error> {
        query::dispatch(call, &Queried { core: self, daemon })
    }

    fn fd_store(&self) -> Option<FdStore> {
        let count = |number: usize| number as u64;
        self.has_store().then(|| FdStore {
            fds: count(self.supervision.notify.stored_fds()),
            fds_max: count(self.store.fds_max),
            is_complete: !self.store.has_unstored && !self.store.is_incomplete,
        })
    }
}

impl<D: Daemon> query::Target for Queried<'_, D> {
    fn status(&self) -> Status {
        let Self { core, daemon } = self;
        let main = &core.servers.main;
        let mut status = Status {
            daemon: main.name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            libvirt_version: LIBVIRT_VERSION.to_owned(),
            pid: std::process::id(),
            since_unix_s: query::unix_s(core.since),
            clients: main.clients.len() as u64,
            clients_max: main.limits.clients_max,
            fd_store: core.fd_store(),
            at_stake: daemon.at_stake().filter(|_| !core.has_store()),
            last_upgrade: core.supervision.last_upgrade.clone(),
            ..Status::default()
        };
        daemon.describe(&mut status);
        status
    }

    fn counters(&self) -> Counters {
        let Self { core, daemon } = self;
        let servers = [&core.servers.main, &core.servers.admin];
        let mut counters = Counters {
            daemon: core.servers.main.name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            libvirt_version: LIBVIRT_VERSION.to_owned(),
            since_unix_s: query::unix_s(core.since),
            servers: servers.map(|server| (server.name.to_owned(), server.counters())).into(),
            upgrades: UpgradeCounters {
                done: core.process_info.generation,
                failed: core.failed_upgrades,
            },
            fd_store: core.fd_store(),
            fd_store_refusals: core.store.refusals,
            storage: core.jobs.hanging(),
            ..Counters::default()
        };
        daemon.count(&mut counters);
        counters
    }

    fn list(&self, after: Place, page: &mut Page) {
        self.daemon.list(self.core, after, page);
    }
}
