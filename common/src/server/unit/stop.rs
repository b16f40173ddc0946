//! Effect of the stop in progress on the fd store. Only systemd knows it: it depends on its
//! version, on the unit's `FileDescriptorStorePreserve=`, and on whether the unit is to be started
//! again.

use std::time::Duration;

use super::asking::{Stop, complain};
use crate::fd_store::names::Kind;
use crate::server::core::Core;
use crate::server::daemon::Daemon;
use crate::systemd::{AskError, Job, Preserve, Unit};

/// Environment variable by which a supervisor other than systemd says, with the value `no`, that its
/// store does not outlive a stop.
const PRESERVE_VARIABLE: &str = "FDSTORE_PRESERVE";

/// Time for systemd to answer, with everything served as before. A guest that ends for lack of an
/// answer costs more than a stop that takes some seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

impl<O> Core<O> {
    /// Returns whether the stop's effect on the fd store is known. If not, systemd is being asked.
    pub(in crate::server) fn check_stop_effect(&mut self) -> bool {
        if self.has_store() && self.asking.stop == Stop::None && !self.asking.is_under_way {
            self.asking.stop = Stop::Asked;
            self.ask_unit(STOP_TIMEOUT);
        }
        !self.has_store() || matches!(self.asking.stop, Stop::Known { .. })
    }

    pub(super) fn stop_is_known(&mut self, answer: &Result<Option<Unit>, AskError>) {
        if let Err(error) = answer {
            complain(error);
        }
        let is_preserved = self.outlives_stop(answer);
        // A stop of unknown kind may be a restart.
        let is_restart = !matches!(answer, Ok(Some(Unit { job: Job::Stop, .. })));
        self.asking.stop = Stop::Known { is_preserved, is_restart };
    }

    /// Returns whether the store outlives the stop. An uncertain one counts as lost, or guests
    /// would run on without leases. A store that outlives every stop can change only with the unit.
    fn outlives_stop(&self, answer: &Result<Option<Unit>, AskError>) -> bool {
        match (answer, &self.asking.unit) {
            (Ok(Some(unit)), _) => unit.outlives_stop(),
            // Another supervisor, which gave us a store. It may be our parent, and end with us.
            (Ok(None), None) => !ends_with_process(),
            (_, last) => last.as_ref().is_some_and(|unit| unit.preserve == Preserve::Yes),
        }
    }

    /// Abandons a store that does not outlive this stop. One that does is emptied if nothing
    /// depends on it: libvirt's daemon, should it be next, refuses to start with unknown fds. At a
    /// restart, settings that are made only once count as well.
    pub(in crate::server) fn apply_stop_to_store<D: Daemon<Outcome = O>>(&mut self, daemon: &D) {
        if !self.has_store() {
            return;
        }
        let (is_preserved, is_restart) = match self.asking.stop {
            Stop::Known { is_preserved, is_restart } => (is_preserved, is_restart),
            Stop::None | Stop::Asked => (true, true),
        };
        let is_needed = |is_restart| {
            daemon.is_in_use()
                || self.has_stored_items()
                || (is_restart && self.journal_header(daemon).has_settings())
        };
        if !is_preserved {
            self.store.fds_max = 0;
            let cost = daemon.at_stake().unwrap_or_else(|| "nothing is at stake".to_owned());
            tracing::warn!(
                target: "util.systemd",
                "This stop empties the fd store: {cost}"
            );
        } else if !is_needed(is_restart) {
            self.empty_store();
            self.store.fds_max = 0;
        }
    }

    fn has_stored_items(&self) -> bool {
        let items = [Kind::Log, Kind::Lease, Kind::Client];
        let stored = self.supervision.notify.stored();
        stored.iter().any(|(name, _)| items.iter().any(|kind| kind.key(name).is_some()))
    }
}

/// Returns whether the store of a supervisor other than systemd ends with this process.
fn ends_with_process() -> bool {
    std::env::var_os(PRESERVE_VARIABLE).is_some_and(|value| value == "no")
}
