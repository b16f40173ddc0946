//! Execution of the successor.

use std::convert::Infallible;
use std::io;
use std::time::{Duration, Instant};

use super::stage::Upgrade;
use super::stage::{Hindrance, NextProgram};
use crate::handover::{self, FdSet, Successor};
use crate::server::core::Core;
use crate::server::daemon::Daemon;
use crate::sys::{process, signal, watch};

/// Time for idle threads to end.
const THREADS_PERIOD: Duration = Duration::from_secs(1);

/// Time for the supervisor to receive the notification.
const NOTIFY_PERIOD: Duration = Duration::from_millis(100);

impl<O> Core<O> {
    /// Executes the successor. Returns when that has failed, when this process was asked to stop
    /// instead, or when a postponed upgrade has only begun.
    pub(in crate::server) fn execute<D: Daemon<Outcome = O>>(&mut self, daemon: &mut D) {
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
            tracing::debug!(
                target: "util.systemd",
                "The supervisor has not received the notification of the upgrade"
            );
        }
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
