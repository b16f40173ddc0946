//! Notifications to the supervisor while the loop runs: watchdog pings and status.

mod state;

use std::time::SystemTime;

use super::core::Core;
use super::daemon::Daemon;
use super::duty::Duty;
use crate::logging::timestamp;
use crate::systemd::Notify;
pub(crate) use state::Supervision;

impl<O> Core<O> {
    /// Returns the connection to the supervisor.
    pub fn supervisor(&mut self) -> &mut Notify {
        &mut self.supervision.notify
    }

    /// Tells the supervisor that the daemon is ready, with its status, and starts the pings.
    pub fn announce<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        self.fill_store(daemon);
        self.supervision.notify.ready();
        self.tell_status(daemon);
        self.supervision.ping(&mut self.reactor);
        self.ask_at_start();
    }

    /// Records the outcome of an upgrade in the status, and sends that.
    pub fn note_upgrade(&mut self, outcome: &str) {
        // The units' ExecReload= waits for a status that differs from the last.
        let time = timestamp(SystemTime::now());
        self.supervision.last_upgrade = Some(format!("{time}, {outcome}"));
        self.supervision.sent_status.clear();
        self.supervision.say();
    }

    pub(super) fn perform<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D, duty: Duty) {
        match duty {
            Duty::Ping => self.supervision.ping(&mut self.reactor),
            Duty::Status => {
                self.supervision.has_status_timer = false;
                self.tell_status(daemon);
            }
            Duty::Retry => self.supervision.retry(),
            Duty::Store => {
                self.supervision.has_store_timer = false;
                self.offer_unstored(daemon);
            }
            Duty::Unit => self.unit_is_due(daemon),
        }
    }

    fn tell_status<D: Daemon<Outcome = O>>(&mut self, daemon: &D) {
        let clients = self.servers.main.clients.len();
        if self.supervision.notify.is_blocked() {
            // Urgent messages are pending, and the status may change before they are sent.
            return self.supervision.note_activity();
        }
        let mut status = format!("{}, {clients} clients", daemon.status());
        if let Some(cost) = self.cost_without_store(daemon) {
            status = format!("{status}; no fd store: {cost}");
        }
        self.supervision.status = status;
        self.supervision.say();
    }
}
