//! systemd's answer about our unit: whether there is an fd store that the environment does not
//! mention, its capacity, and whether it outlives the stop in progress.
//!
//! The environment counts where it is set; of two capacities the smaller one. It is missing where a
//! process was started under another unit than it runs under now, as after a take-over from
//! libvirt's daemon, or by systemd before 254.

use std::ffi::OsStr;
use std::time::Duration;

mod asking;
mod stop;

use super::core::{Core, Done, NOT_THE_DAEMONS};
use super::daemon::Daemon;
use super::duty::Duty;
use super::token::Token;
use crate::jobs::storage::StorageId;
use crate::sys::pipe;
use crate::systemd::{AskError, Unit};
pub(crate) use asking::Asking;
pub use asking::StoreNews;
use asking::{PROOFS_MAX, Proof, Stop, TIMEOUT, VARIABLE, announced_size};

/// Interval of questions while a store is needed and there is none.
const AGAIN: Duration = Duration::from_secs(60);

/// Interval of checks that the store has what was sent. Sentinels report most losses at once.
const VERIFY_PERIOD: Duration = Duration::from_secs(600);

/// Delay before a new store is checked, and interval until it must have something.
const PROOF_PERIOD: Duration = Duration::from_secs(1);
impl<O> Core<O> {
    /// Returns the capacity of the supervisor's store in fds; 0 for no store or no supervisor.
    pub(super) fn store_size(&self) -> usize {
        if self.supervision.notify.has_supervisor() { self.asking.size() } else { 0 }
    }

    /// Returns the supervisor's address and the store's capacity, for a successor whose environment
    /// has neither.
    pub(super) fn store_for_successor(&self) -> (Option<String>, Option<u64>) {
        let Asking { unit, inherited, .. } = &self.asking;
        let target = self.supervision.notify.target();
        let size = unit.as_ref().map(Unit::takes).or(*inherited).filter(|_| self.has_store());
        (
            target.and_then(OsStr::to_str).map(str::to_owned),
            size.and_then(|size| size.try_into().ok()),
        )
    }

    /// Asks for the unit at the start, unless that was done a moment ago.
    pub(super) fn ask_at_start(&mut self) {
        match self.asking.unit {
            None => self.ask_unit(TIMEOUT),
            Some(_) => self.set_unit_timer(PROOF_PERIOD),
        }
    }

    fn ask_unit(&mut self, patience: Duration) {
        if !std::mem::replace(&mut self.asking.is_under_way, true) {
            self.asking.expected = self.proved_fds();
            self.asking.reserve = None;
            let ask = move || Done::Unit(Unit::ask(patience));
            self.jobs.submit(StorageId::SYSTEMD, NOT_THE_DAEMONS, ask);
        }
    }

    fn set_unit_timer(&mut self, after: Duration) {
        if !std::mem::replace(&mut self.asking.has_timer, true) {
            self.reactor.set_timer(after, Token::Supervisor(Duty::Unit));
        }
    }

    /// Asks again when that is due, if anything depends on the answer.
    pub(super) fn unit_is_due<D: Daemon<Outcome = O>>(&mut self, daemon: &D) {
        self.asking.has_timer = false;
        if self.has_store() || daemon.at_stake().is_some() {
            self.ask_unit(TIMEOUT);
        } else {
            self.set_unit_timer(AGAIN);
        }
    }

    /// Handles systemd's answer.
    pub(super) fn unit_is_known<D: Daemon<Outcome = O>>(
        &mut self,
        daemon: &mut D,
        answer: Result<Option<Unit>, AskError>,
    ) {
        self.asking.is_under_way = false;
        self.asking.reserve = pipe::pipe().ok();
        let supervisor = self.supervision.notify.target();
        let is_ours = |unit: &Unit| supervisor.is_none_or(|address| unit.listens_at(address));
        let answer = answer.map(|unit| unit.filter(is_ours));
        if self.asking.stop == Stop::Asked {
            return self.stop_is_known(&answer);
        }
        match answer {
            Ok(Some(unit)) => {
                let stored_fds = unit.stored;
                self.take_unit(unit);
                self.compare_store(daemon, self.asking.expected, stored_fds);
            }
            // It was our unit once, and we are its main process as long as we live.
            Ok(None) => self.warn_without_supervisor::<D>(),
            // It is asked again, and nothing depends on the answer now.
            Err(error) => {
                tracing::debug!(
                    target: "util.systemd",
                    "Unable to ask systemd about our unit: {error}"
                );
            }
        }
        self.fit_store(daemon);
        self.warn_of_stake(daemon);
        self.supervision.note_activity();
        let is_proved = self.asking.proof == Proof::Seen;
        if self.supervision.notify.stored_fds() == 0 {
            self.set_unit_timer(AGAIN);
        } else if !is_proved && self.asking.unit.is_some() {
            self.set_unit_timer(PROOF_PERIOD);
        } else if self.asking.unit.is_some() {
            self.set_unit_timer(VERIFY_PERIOD);
        }
    }

    fn take_unit(&mut self, unit: Unit) {
        if !self.supervision.notify.has_supervisor() && unit.is_listening {
            self.supervision.connect(&unit.notify_socket);
        }
        if let Some(announced) = announced_size().filter(|&announced| announced > unit.takes())
            && self.asking.unit.as_ref().map(Unit::takes) != Some(unit.takes())
        {
            tracing::warn!(
                target: "util.systemd",
                "{VARIABLE}={announced} is more than the FileDescriptorStoreMax={} of {}, which counts",
                unit.takes(), unit.name
            );
        }
        let is_sent =
            self.supervision.notify.waiting() == 0 && self.supervision.notify.stored_fds() > 0;
        self.asking.proof = match self.asking.proof {
            Proof::Missing(_) if unit.stored > 0 => Proof::Seen,
            Proof::Missing(PROOFS_MAX) => Proof::Refuted,
            Proof::Missing(times) if self.has_store() && is_sent => Proof::Missing(times + 1),
            proof => proof,
        };
        self.asking.unit = Some(unit);
    }

    /// Starts, stops or resizes the use of the store, by what is known now.
    fn fit_store<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        let (before, now) = (self.store.known_max, self.store_size());
        if before == now {
            return;
        }
        self.store.known_max = now;
        tracing::info!(
            target: "util.systemd", "The fd store takes {now} fds, according to systemd"
        );
        match (before, now) {
            (_, 0) => self.abandon_store(daemon),
            (0, _) => self.fill_store(daemon),
            _ => self.store_has_changed(now),
        }
    }

    /// Describes what a crash, a restart or a stop loses now, because there is no store.
    pub(super) fn cost_without_store<D: Daemon<Outcome = O>>(&self, daemon: &D) -> Option<String> {
        daemon.at_stake().filter(|_| !self.has_store())
    }

    /// Logs once, at a start under no supervisor at all, what depends on the process.
    fn warn_without_supervisor<D: Daemon<Outcome = O>>(&mut self) {
        let is_alone = !self.supervision.notify.has_supervisor() && self.asking.unit.is_none();
        if is_alone && !std::mem::replace(&mut self.asking.has_warned, true) {
            tracing::warn!(target: "util.systemd", "No supervisor with an fd store: {}", D::STAKE);
        }
    }

    /// Logs once that there is no store, if the unit can be changed.
    fn warn_of_stake<D: Daemon<Outcome = O>>(&mut self, daemon: &D) {
        let Some(cost) = self.cost_without_store(daemon) else { return };
        let Some(unit) = self.asking.unit.as_ref().filter(|_| !self.asking.has_warned) else {
            return;
        };
        let why = match (self.asking.proof, unit) {
            (Proof::Refuted, _) => "keeps nothing of what it was sent",
            (_, Unit { is_listening: false, .. }) => "has NotifyAccess=none",
            _ => "has FileDescriptorStoreMax=0",
        };
        tracing::warn!(target: "util.systemd", "No fd store: {cost}; {} {why}", unit.name);
        self.asking.has_warned = true;
    }
}
