//! Upgrade of a running process: asking the target, settling, and executing it.
//!
//! Calls are served while the target is asked. Settling waits for the calls in flight, bounded by
//! [`SETTLE_PERIOD`]: no new call is started meanwhile, but guests' pipes are still read. On any
//! failure this process continues, and logs the reason.

mod stage;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::caller::ClientId;
use super::client::{Client, Closed};
use super::core::{Core, NOT_THE_DAEMONS};
use super::daemon::Daemon;
use super::token::Token;
use crate::admin;
use crate::event::Interest;
use crate::handover::check::{Answer, Check};
use crate::handover::document::{Document, PrivateDaemon};
use crate::handover::{self, FdSet, Successor, Target};
use crate::jobs::storage::StorageId;
use crate::rpc;
use crate::rpc::error::Domain;
use crate::sys::{process, signal, watch};
pub use stage::ProcessInfo;
use stage::{Hindrance, NextProgram};
pub(crate) use stage::{Reading, Upgrade};

/// Time for the target to answer its two questions.
const CHECK_PERIOD: Duration = Duration::from_secs(30);

/// Time for calls in flight, and for clients to send the rest of a message.
const SETTLE_PERIOD: Duration = Duration::from_secs(1);

/// Time for idle threads to end.
const THREADS_PERIOD: Duration = Duration::from_secs(1);

/// Description of jobs that are not the daemon's.
const OTHER_JOBS: &str = "a look-up of names, or a log file that is being opened,";

/// Time for the supervisor to receive the notification.
const NOTIFY_PERIOD: Duration = Duration::from_millis(100);

impl<O> Core<O> {
    /// Begins an upgrade unless one is in progress.
    pub(super) fn begin_upgrade<D: Daemon<Outcome = O>>(&mut self, daemon: &D) {
        if !matches!(self.upgrade, Upgrade::None | Upgrade::Postponed) {
            return;
        }
        if let Some(output) = self.logger.hanging() {
            return self.postpone_for_log(&output);
        }
        tracing::info!(target: "daemon", "Upgrade: checking the program that is to take over");
        if let Err(reason) = self.ask_target(daemon) {
            self.refuse_upgrade(&reason);
        }
    }

    fn ask_target<D: Daemon<Outcome = O>>(&mut self, daemon: &D) -> Result<(), String> {
        if self.unanswered.take_if(|check| !check.is_under_way()).is_none()
            && self.unanswered.is_some()
        {
            return Err(
                "the program asked last has still not answered; a file system may hang".into()
            );
        }
        let ProcessInfo { arguments, executed, .. } = &self.process_info;
        let search = std::env::var_os("PATH");
        let target = Target::find(arguments.clone(), search.as_deref(), executed.as_deref());
        let target = target.map_err(|error| error.to_string())?;
        let fd_set = FdSet::default();
        let document = self.document(daemon, &fd_set, Successor::Ours);
        let bytes = document.and_then(|document| Ok(serde_json::to_vec(&document)?));
        let bytes = bytes.map_err(|error| format!("unable to make the state document: {error}"))?;
        if bytes.len() as u64 > handover::BYTES_MAX {
            let (len, max) = (bytes.len(), handover::BYTES_MAX);
            return Err(format!(
                "the state document has {len} bytes; a successor reads at most {max}"
            ));
        }
        let shown = target.path.display().to_string();
        let failed = |error: io::Error| format!("{shown}: {error}");
        let check_configuration = Arc::clone(&self.process_info.check_configuration);
        let name = self.servers.main.name;
        let started = Check::start(target.clone(), bytes, name, check_configuration);
        let (check, answered) = started.map_err(failed)?;
        let registered = self.reactor.register(answered, Token::Upgrade, Interest::Read);
        let answered = registered.map_err(failed)?;
        let timer = self.reactor.set_timer(CHECK_PERIOD, Token::Upgrade);
        self.upgrade = Upgrade::Asking { target, check, _answered: answered, timer };
        Ok(())
    }

    /// Handles the target's answer.
    pub(super) fn target_has_answered<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        let Upgrade::Asking { target, check, timer, .. } = std::mem::take(&mut self.upgrade) else {
            return;
        };
        self.reactor.cancel_timer(timer);
        match check.answer() {
            Answer::Ours => self.settle(daemon, NextProgram { target, successor: Successor::Ours }),
            Answer::Libvirts(Ok(())) => {
                self.settle(daemon, NextProgram { target, successor: Successor::Libvirt });
            }
            Answer::Libvirts(Err(reason)) => self.refuse_upgrade(&reason),
            Answer::No(reason) => {
                self.refuse_upgrade(&format_args!("{}: {reason}", target.path.display()));
            }
        }
    }

    /// Handles the end of the time for an answer, or for settling.
    pub(super) fn upgrade_is_late<D: Daemon<Outcome = O>>(&mut self, daemon: &D) {
        if self.upgrade.is_early(Instant::now()) {
            // Stale timer of the stage before: it had fired when it was cancelled.
            return;
        }
        match std::mem::take(&mut self.upgrade) {
            Upgrade::Asking { target, check, .. } => {
                self.unanswered = Some(check);
                self.refuse_upgrade(&format_args!(
                    "{} could not be asked within {} s; a file system may hang",
                    target.path.display(),
                    CHECK_PERIOD.as_secs()
                ));
            }
            Upgrade::Settling { next, .. } if self.jobs.are_over() => {
                if let Some(output) = self.logger.hanging() {
                    return self.postpone_for_log(&output);
                }
                self.settle_by_force(next.successor);
                self.upgrade = Upgrade::Ready(next);
            }
            Upgrade::Settling { .. } => {
                // Even an exec may not end a thread that hangs in the kernel.
                let oldest = self.jobs.in_flight().min_by_key(|job| job.since);
                let what = oldest.filter(|job| job.source != NOT_THE_DAEMONS);
                let what = what.map_or(OTHER_JOBS.into(), |job| daemon.describe_job(job.source));
                self.refuse_upgrade(&format_args!("{what} does not answer; retrying when it does"));
                self.upgrade = Upgrade::Postponed;
            }
            other => self.upgrade = other,
        }
    }

    /// Returns whether everything has settled for [`Self::execute`].
    pub(super) fn check_ready_for_successor(&mut self) -> bool {
        if let Upgrade::Settling { next, timer } = &self.upgrade {
            let (successor, timer) = (next.successor, *timer);
            // Last, as it closes clients.
            let is_ready = self.has_settled(successor)
                && self.check_log_written()
                && !self.drop_ended_clients(successor);
            if is_ready && let Upgrade::Settling { next, .. } = std::mem::take(&mut self.upgrade) {
                self.reactor.cancel_timer(timer);
                self.upgrade = Upgrade::Ready(next);
            }
        }
        match self.upgrade {
            Upgrade::Ready(_) => true,
            Upgrade::Postponed => self.jobs.are_over() && !self.check_log_hangs(),
            Upgrade::None | Upgrade::Asking { .. } | Upgrade::Settling { .. } => false,
        }
    }

    /// Executes the successor. Returns when that has failed, when this process was asked to stop
    /// instead, or when a postponed upgrade has only begun.
    pub(super) fn execute<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        let Upgrade::Ready(next) = std::mem::take(&mut self.upgrade) else {
            return self.begin_upgrade(daemon);
        };
        self.announce_successor(next.successor);
        let Err(hindrance) = self.try_execute(daemon, &next);
        // Ended children were taken for the successor's meanwhile.
        self.orphans_may_have_ended = process::is_first();
        if next.successor == Successor::Libvirt {
            self.fill_store_again(daemon);
        }
        self.supervisor().ready();
        match hindrance {
            Hindrance::Stop => self.stopping = true,
            Hindrance::Log(output) => self.postpone_for_log(&output),
            Hindrance::Other(reason) => self.refuse_upgrade(&reason),
        }
    }

    fn try_execute<D: Daemon<Outcome = O>>(
        &mut self,
        daemon: &D,
        NextProgram { target, successor }: &NextProgram,
    ) -> Result<Infallible, Hindrance> {
        if self.stopping || self.signals.take().contains(&signal::Request::Stop) {
            return Err(Hindrance::Stop);
        }
        if *successor == Successor::Libvirt && !self.empty_store() {
            return Err(Hindrance::Other("the supervisor has not emptied the fd store".into()));
        }
        let failed = |what, error: io::Error| Hindrance::Other(format!("{what}: {error}"));
        let held = self.signals.hold().map_err(|error| failed("unable to hold signals", error))?;
        // A signal from before would be lost with this process.
        if self.signals.take().contains(&signal::Request::Stop) {
            return Err(Hindrance::Stop);
        }
        // Until there is no way back.
        let _resting = watch::rest();
        let _quiet = self.logger.hold().map_err(Hindrance::Log)?;
        wait_for_other_threads().map_err(Hindrance::Other)?;
        let fd_set = FdSet::default();
        let document = self.document(daemon, &fd_set, *successor);
        let document =
            document.map_err(|error| failed("unable to make the state document", error))?;
        let state_file = &self.process_info.state_file;
        handover::exec(target, *successor, document, state_file, &fd_set, &held)
            .map_err(|error| Hindrance::Other(error.to_string()))
    }

    /// Tells the supervisor that a successor comes. libvirt's sends no pings.
    fn announce_successor(&mut self, successor: Successor) {
        if successor == Successor::Libvirt {
            self.supervisor().watchdog_off();
        }
        // libvirt's daemon announces that it is ready only where its environment says how.
        let will_tell_ready =
            successor == Successor::Ours || std::env::var_os("NOTIFY_SOCKET").is_some();
        let notify = self.supervisor();
        if will_tell_ready {
            notify.reloading();
        }
        if !notify.drain(NOTIFY_PERIOD) {
            tracing::debug!(target: "util.systemd", "The supervisor has not received the notification of the upgrade");
        }
    }

    /// Returns whether new work on this file system, if no client waits for it, has to wait for an
    /// upgrade in progress: a slow file system would never settle. [`Daemon::resume`] tells that
    /// the upgrade has failed.
    pub fn holds_back(&self, place: StorageId) -> bool {
        self.upgrade.holds_back() && self.jobs.is_slow(place)
    }

    /// Resumes after a failed upgrade.
    pub(super) fn refuse_upgrade(&mut self, reason: &dyn fmt::Display) {
        self.upgrade = Upgrade::None;
        self.haste.set(false);
        self.supervisor().set_paced(true);
        self.has_resumed = true;
        tracing::error!(target: "daemon", "Upgrade failed, going on as before: {reason}");
        self.note_upgrade(&format!("failed: {reason}"));
        let ids =
            |server: &super::servers::Server| server.clients.values().map(Client::id).collect();
        let all: [Vec<ClientId>; 2] = [ids(&self.servers.main), ids(&self.servers.admin)];
        self.answered.extend(all.into_iter().flatten());
        self.accept(admin::Server::Main);
        self.accept(admin::Server::Admin);
    }

    fn settle<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D, next: NextProgram) {
        if next.successor == Successor::Libvirt {
            if let Some(pid) = self.hidden_peer() {
                return self.refuse_upgrade(&format_args!(
                    "libvirt's daemon would end, as it could not see process {pid}, a client, in \
                     /proc; is that mounted with hidepid=?"
                ));
            }
            tracing::info!(
                target: "daemon",
                "Upgrade: {} is libvirt's daemon; handing over libvirt's part of the state",
                next.target.path.display()
            );
        }
        daemon.prepare_handover(self, next.successor);
        self.haste.set(true);
        self.supervisor().set_paced(false);
        let timer = self.reactor.set_timer(SETTLE_PERIOD, Token::Upgrade);
        self.upgrade = Upgrade::Settling { next, timer };
    }

    /// Returns the pid of a live client that libvirt's daemon could not read.
    fn hidden_peer(&self) -> Option<i32> {
        let servers = [&self.servers.main, &self.servers.admin];
        let mut clients = servers.into_iter().flat_map(|server| server.clients.values());
        let pid = |client: &Client| client.caller().peer.pid;
        let hidden =
            clients.find(|client| !process::is_shown(pid(client)) && !client.peer_has_ended());
        hidden.map(pid)
    }

    /// Closes clients whose process has ended, for libvirt's daemons, which end on them. Settling a
    /// guest may have ended one just now. Returns whether there was one.
    fn drop_ended_clients(&mut self, successor: Successor) -> bool {
        if successor == Successor::Libvirt {
            self.drop_clients(|client| client.peer_has_ended());
        }
        !self.gone.is_empty()
    }

    fn has_settled(&self, successor: Successor) -> bool {
        let mut clients =
            self.servers.main.clients.values().chain(self.servers.admin.clients.values());
        self.jobs.are_over()
            && self.gone.is_empty()
            && clients.all(|client| is_settled(client, successor))
    }

    /// Ends what has not settled: calls are answered with an error, and libvirt's daemons get no
    /// client with half a message.
    fn settle_by_force(&mut self, successor: Successor) {
        self.release_held_back();
        for server in [&mut self.servers.main, &mut self.servers.admin] {
            let late = server.clients.values_mut().filter(|client| client.has_call_in_flight());
            late.for_each(|client| client.answer(Err(interrupted())));
        }
        if successor == Successor::Libvirt {
            self.drop_clients(|client| {
                // A client that can be written to gets its answer first.
                client.flush().ok();
                client.peer_has_ended() || !is_settled(client, Successor::Libvirt)
            });
        }
    }

    fn drop_clients(&mut self, mut is_dropped: impl FnMut(&mut Client) -> bool) {
        for server in [admin::Server::Main, admin::Server::Admin] {
            let clients = self.servers.get_mut(server).clients.values_mut();
            let ids = clients.filter_map(|client| is_dropped(client).then(|| client.id()));
            for id in ids.collect::<Vec<_>>() {
                self.drop_client(id, &Closed::Upgrade);
            }
        }
    }

    /// Returns the whole state of this process as a document for `successor`.
    pub(super) fn document<'a, D: Daemon<Outcome = O>>(
        &self,
        daemon: &'a D,
        fd_set: &'a FdSet,
        successor: Successor,
    ) -> io::Result<Document<'a>> {
        let mut document = Document {
            daemon: Some(self.save(fd_set)?),
            magic: Some(std::process::id().to_string()),
            private: Some(self.save_private(fd_set, successor)?),
            ..Document::default()
        };
        daemon.save(&mut document, fd_set, successor);
        Ok(document)
    }

    fn save_private(&self, fd_set: &FdSet, successor: Successor) -> io::Result<PrivateDaemon> {
        use std::os::fd::AsFd;
        let ProcessInfo { generation, configuration, pid_file, unclaimed_fds, .. } =
            &self.process_info;
        let parked = unclaimed_fds.iter().map(|fd| fd_set.fd(fd.as_fd())).collect();
        let mut private = PrivateDaemon {
            generation: Some(generation + 1),
            parked: Some(parked),
            ..if successor == Successor::Ours {
                self.overrides.save()
            } else {
                PrivateDaemon::default()
            }
        };
        if successor == Successor::Ours {
            private.pid_file = pid_file.as_ref().map(|file| fd_set.fd(file.as_fd()));
            private.configuration = Some(fd_set.bytes(configuration)?);
            private.stored_names = Some(self.stored_names());
            private.unproved_names = Some(self.unproved_names());
            private.removed_names = Some(self.removed_names());
            private.unwritten = Some(self.logger.unwritten());
            private.essentials = Some(self.pass_essentials(fd_set));
            (private.notify_socket, private.store_max) = self.store_for_successor();
        }
        Ok(private)
    }
}

/// Waits until this thread is the only one. Kernels before 5.11 (5.10.220) drop all POSIX locks of
/// a process that executes a program while a second thread shares its table of open files.
fn wait_for_other_threads() -> Result<(), String> {
    const PAUSE: Duration = Duration::from_millis(1);
    let end = Instant::now() + THREADS_PERIOD;
    // Without a count there is nothing to wait for.
    while process::threads_count().unwrap_or(1) > 1 {
        if Instant::now() >= end {
            return Err("a thread has not ended in time".into());
        }
        process::pause(PAUSE);
    }
    Ok(())
}

fn is_settled(client: &Client, successor: Successor) -> bool {
    let idle = !client.has_call_in_flight();
    idle && (successor == Successor::Ours || client.connection().is_idle())
}

fn interrupted() -> rpc::Error {
    let detail = "this daemon is being upgraded, and what was asked for takes too long: try again";
    rpc::Error::system(Domain::Rpc, detail, Errno::EAGAIN as i32)
}
