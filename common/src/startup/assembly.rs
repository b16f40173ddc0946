//! Assembly of the process that serves, after a predecessor or not.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use super::configuration::Configuration;
use super::failure::Failure;
use super::pid_file::PidFile;
use super::predecessor::{Predecessor, RestoredState};
use super::service::Service;
use super::sockets;
use super::sockets::Sockets;
use crate::admin::Server;
use crate::cli::{Options, Paths};
use crate::handover;
use crate::logging::Logger;
use crate::server::{Core, Limits, Parts, ProcessInfo, StoreNews};
use crate::sys::signal::Signals;
use crate::systemd::{self, Notify, PassedSocket};

/// Findings of a start, before it becomes the serving process.
pub(super) struct Start<S: Service> {
    pub(super) options: Options,
    pub(super) paths: Paths,
    pub(super) configuration: Configuration<S>,
    pub(super) logger: Logger,
    pub(super) arguments: Vec<OsString>,
    pub(super) executed: Option<PathBuf>,
}

/// A daemon that is ready to serve.
pub(super) struct Process<S: Service> {
    pub(super) core: Core<S::Outcome>,
    pub(super) daemon: S,
    pub(super) _pid_file: Option<PidFile>,
}

impl<S: Service> Start<S> {
    pub(super) fn process(
        self,
        mut predecessor: Predecessor,
        passed: Vec<PassedSocket>,
    ) -> Result<Process<S>, Failure> {
        let signals = Signals::install().map_err(Failure::Signals)?;
        let complaint = predecessor.complaint();
        let restored = predecessor.restored_state(S::NAME);
        let pid_path = self.options.pid_file.as_ref().unwrap_or(&self.paths.pid_file).clone();
        let pid_file = match &restored {
            _ if pid_path.as_os_str().is_empty() => None,
            Some(restored) => predecessor.pid_file(&pid_path, &restored.private),
            None => Some(PidFile::acquire(&pid_path)?),
        };
        pid_file.iter().for_each(PidFile::guard);
        if let Some(complaint) = &complaint {
            tracing::warn!(
                target: "daemon",
                "The state file {} {complaint}; removing it", self.paths.state_file.display()
            );
            handover::remove(&self.paths.state_file);
        }
        let mut sockets = match &restored {
            Some(restored) => match predecessor.sockets(restored, &self.paths) {
                found if found.is_empty() => self.sockets_after_all(passed),
                found => found,
            },
            None => self.sockets(passed)?,
        };
        if self.options.no_admin_server {
            sockets.admin.clear();
        }
        let state_file = self.paths.state_file.clone();
        // systemd may be busy, and guests wait: the predecessor's knowledge suffices for a start.
        let fds_max = restored.as_ref().and_then(|restored| restored.private.store_max);
        let fds_max = fds_max.and_then(|size| size.try_into().ok());
        let is_known = fds_max.is_some() || (restored.is_some() && predecessor.stored.is_none());
        let store = if is_known { StoreNews { unit: None, fds_max } } else { StoreNews::ask() };
        let (parts, settings) =
            self.into_parts(signals, sockets, restored.as_ref(), pid_file.as_ref(), store);
        let mut core = Core::new(parts).map_err(Failure::Loop)?;
        let mut daemon = S::create(settings, &mut core).map_err(Failure::Loop)?;
        if let Some(restored) = restored {
            adopt(&mut core, &mut daemon, restored, &mut predecessor);
            handover::remove(&state_file);
        } else if complaint.is_some() {
            daemon.adopt_unclaimed(&mut core, &mut predecessor.inherited);
        } else {
            core.adopt_essentials(predecessor.essentials(Vec::new()));
            leave_store(&mut core, &mut daemon, &mut predecessor);
        }
        Ok(Process { core, daemon, _pid_file: pid_file })
    }

    fn sockets(&self, passed: Vec<PassedSocket>) -> Result<Sockets, Failure> {
        let common = &self.configuration.common;
        let admin_server = !self.options.no_admin_server;
        Ok(sockets::open(S::NAME, passed, &self.paths, common, admin_server)?)
    }

    /// Opens the sockets if the predecessor has left none. It had none, or was another process with
    /// our pid, whose document was left behind.
    fn sockets_after_all(&self, passed: Vec<PassedSocket>) -> Sockets {
        self.sockets(passed).unwrap_or_else(|error| {
            tracing::error!(
                target: "rpc.netserver",
                "Unable to open the sockets, so no client can connect: {error}"
            );
            Sockets::default()
        })
    }

    fn into_parts(
        self,
        signals: Signals,
        sockets: Sockets,
        restored: Option<&RestoredState>,
        pid_file: Option<&PidFile>,
        store: StoreNews,
    ) -> (Parts, S::Settings) {
        let Self { options, paths, configuration, logger, arguments, executed } = self;
        let Configuration { common, settings, contents, .. } = configuration;
        let idle_timeout = options.timeout;
        let notify_socket = restored.and_then(|restored| restored.private.notify_socket.clone());
        let notify_socket = notify_socket.map(OsString::from);
        let process_info = ProcessInfo {
            arguments,
            executed,
            state_file: paths.state_file.clone(),
            generation: restored.and_then(|restored| restored.private.generation).unwrap_or(0),
            configuration: contents,
            pid_file: pid_file.map(PidFile::file),
            unclaimed_fds: Vec::new(),
            check_configuration: Arc::new(move || {
                Configuration::<S>::check(&options, &paths).map_err(|failure| failure.to_string())
            }),
        };
        let parts = Parts {
            name: S::NAME,
            programs: &[S::PROGRAM],
            main_listeners: sockets.main,
            admin_listeners: sockets.admin,
            main_limits: limits(common.max_clients),
            admin_limits: limits(common.admin_max_clients),
            idle_timeout,
            signals,
            notify: Notify::new(std::env::var_os("NOTIFY_SOCKET").or(notify_socket)),
            store,
            ping_period: systemd::ping_period(std::process::id(), std::env::var_os),
            logger,
            process_info,
        };
        (parts, settings)
    }
}

/// Adopts a predecessor's state, item by item.
pub(super) fn adopt<S: Service>(
    core: &mut Core<S::Outcome>,
    daemon: &mut S,
    restored: RestoredState,
    predecessor: &mut Predecessor,
) {
    let RestoredState { document, main, admin, mut private, origin } = restored;
    if predecessor.stored.is_none() {
        core.note_upgrade("done");
    }
    let passed = private.essentials.take();
    // An earlier version does not record which fds the store has accepted.
    let names = private.stored_names.take().unwrap_or_default();
    let unproved = match &passed {
        Some(_) => private.unproved_names.take().unwrap_or_default(),
        None => names.clone(),
    };
    core.adopt_store(&names, &unproved);
    core.remove_again(private.removed_names.as_deref().unwrap_or_default());
    core.adopt_essentials(predecessor.essentials(passed.unwrap_or_default()));
    let inherited = &mut predecessor.inherited;
    let clients = core.adopt(Server::Main, main, inherited);
    let clients_count = clients.len();
    core.adopt(Server::Admin, admin, inherited);
    core.adopt_overrides(&private);
    core.log_for_predecessor(&private);
    daemon.adopt(core, document, clients, inherited);
    leave_store(core, daemon, predecessor);
    daemon.adopt_unclaimed(core, &mut predecessor.inherited);
    core.set_unclaimed_fds(predecessor.unclaimed_fds(&private, |fd| daemon.must_stay_open(fd)));
    origin.log(daemon, clients_count);
}

/// Claims the adopted items of the fd store and removes the others.
pub(super) fn leave_store<S: Service>(
    core: &mut Core<S::Outcome>,
    daemon: &mut S,
    predecessor: &mut Predecessor,
) {
    let (names, useless) = predecessor.leave_store();
    core.adopt_store(&names, &[]);
    daemon.let_go(core, useless);
}

/// Returns both limits of a server; unauthenticated clients cannot exist and have libvirt's number.
fn limits(clients_max: u32) -> Limits {
    if clients_max == 0 {
        tracing::warn!(target: "rpc.netserver", "The limit of clients is 0: no client can connect");
    }
    Limits { clients_max, unauthenticated_max: clients_max }
}
