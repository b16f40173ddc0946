//! What the supervisor hears while the loop runs: that it runs at all, and how things are.

mod state;

use std::time::SystemTime;

use super::core::Core;
use super::daemon::Daemon;
use super::duty::Duty;
use crate::logging::timestamp;
use crate::systemd::Notify;
pub(crate) use state::Supervision;

impl<O> Core<O> {
    /// The supervisor, to be told that something changes or to keep fds.
    pub fn supervisor(&mut self) -> &mut Notify {
        &mut self.supervision.notify
    }

    /// Says to the supervisor that the daemon serves and how things are; pings begin.
    pub fn announce<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
        self.fill_store(daemon);
        self.supervision.notify.ready();
        self.tell_status(daemon);
        self.supervision.ping(&mut self.reactor);
        self.ask_at_start();
    }

    /// Keeps the outcome of an upgrade for the status, and says it.
    pub fn note_upgrade(&mut self, outcome: &str) {
        // The units' ExecReload= waits for another text than before.
        let time = timestamp(SystemTime::now());
        self.supervision.last_upgrade = Some(format!("{time}, {outcome}"));
        self.supervision.said.clear();
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
                self.see_to_store(daemon);
            }
            Duty::Unit => self.unit_is_due(daemon),
        }
    }

    fn tell_status<D: Daemon<Outcome = O>>(&mut self, daemon: &D) {
        let clients = self.servers.main.clients.len();
        if self.supervision.notify.is_blocked() {
            // There is more important news, and this may have changed when its turn comes.
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
