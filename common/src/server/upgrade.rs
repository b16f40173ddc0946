//! Upgrade of a running process: asking the target, settling, and executing it.
//!
//! Calls are served while the target is asked. Settling waits for the calls in flight, within
//! a bound: no new call is started meanwhile, but guests' pipes are still read. On any
//! failure this process continues, and logs the reason.

mod document;
mod execute;
mod settle;
mod stage;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::caller::ClientId;
use super::client::Client;
use super::core::{Core, NOT_THE_DAEMONS};
use super::daemon::Daemon;
use super::token::Token;
use crate::admin;
use crate::event::Interest;
use crate::handover::check::{Answer, Check};
use crate::handover::{self, FdSet, Successor, Target};
use crate::jobs::storage::StorageId;
use stage::NextProgram;
pub use stage::ProcessInfo;
pub(crate) use stage::{Reading, Upgrade};

/// Time for the target to answer its two questions.
const CHECK_PERIOD: Duration = Duration::from_secs(30);

/// Description of jobs that are not the daemon's.
const OTHER_JOBS: &str = "a look-up of names, or a log file that is being opened,";

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

    /// Returns whether new work on this file system, if no client waits for it, has to wait for an
    /// upgrade in progress: a slow file system would never settle. [`Daemon::resume`] tells that
    /// the upgrade has failed.
    pub fn holds_back(&self, place: StorageId) -> bool {
        self.upgrade.holds_back() && self.jobs.is_slow(place)
    }

    /// Resumes after a failed upgrade.
    pub(super) fn refuse_upgrade(&mut self, reason: &dyn fmt::Display) {
        self.upgrade = Upgrade::None;
        self.failed_upgrades += 1;
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
}
