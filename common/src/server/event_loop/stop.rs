//! Stop of the daemon, phase by phase.

use std::time::{Duration, Instant};

use super::{Phase, State};
use crate::server::core::NOT_THE_DAEMONS;
use crate::server::daemon::Daemon;
use crate::server::token::Token;

/// Time for the supervisor, at a stop, to prove what the fd store has. Whatever is unproved by then
/// counts as not stored.
const PROOF_PERIOD: Duration = Duration::from_secs(1);

/// Total wait for jobs at a stop, while the supervisor waits for us.
const STOP_PERIOD: Duration = Duration::from_secs(5);

/// Wait for the jobs that end the last service.
const REST_PERIOD: Duration = Duration::from_secs(1);

/// Abandoned jobs that are logged one by one.
const ABANDONED_NAMED_MAX: usize = 32;

impl<D: Daemon> State<D> {
    pub(super) fn check_stop(&mut self) -> bool {
        self.phase == Phase::Serving && self.core.stopping && self.core.check_stop_effect()
    }

    pub(super) fn prove(&mut self) {
        self.phase = Phase::Proving;
        self.core.takes_no_calls = true;
        self.core.haste.set(false);
        self.core.supervision.notify.stopping();
        self.core.supervision.notify.set_paced(false);
        // A loss may have been reported and not been handled yet.
        self.core.look_at_store(&mut self.daemon);
        self.core.ask_for_proof();
        self.deadline = Some(self.core.reactor.set_timer(PROOF_PERIOD, Token::Deadline));
    }

    pub(super) fn is_proved(&self) -> bool {
        self.phase == Phase::Proving
            && self.core.is_all_proved()
            && !self.core.is_store_lost()
            && !self.core.servers.have_calls_in_flight()
    }

    pub(super) fn stop(&mut self) {
        self.phase = Phase::Stopping;
        self.deadline.take().into_iter().for_each(|timer| self.core.reactor.cancel_timer(timer));
        self.core.apply_stop_to_store(&self.daemon);
        self.daemon.stop(&mut self.core);
        self.deadline = Some(self.core.reactor.set_timer(STOP_PERIOD, Token::Deadline));
    }

    /// Stops the remaining service once nothing else is waited for.
    pub(super) fn stop_rest(&mut self) {
        self.phase = Phase::StoppingRest;
        self.deadline.take().into_iter().for_each(|timer| self.core.reactor.cancel_timer(timer));
        self.daemon.stop_rest(&mut self.core);
        self.deadline = Some(self.core.reactor.set_timer(REST_PERIOD, Token::Deadline));
    }

    pub(super) fn phase_is_over(&mut self) {
        if self.deadline.is_some_and(|timer| timer.due() > Instant::now()) {
            // Stale timer of the phase before: it had fired when it was cancelled.
            return;
        }
        match self.phase {
            Phase::Proving => self.stop(),
            Phase::Stopping => self.stop_rest(),
            Phase::Serving | Phase::StoppingRest | Phase::Over => self.phase = Phase::Over,
        }
    }

    pub(super) fn is_to_stop_rest(&self) -> bool {
        self.phase == Phase::Stopping && self.daemon.has_stopped(&self.core)
    }

    pub(super) fn is_over(&self) -> bool {
        let is_stopping = self.phase == Phase::StoppingRest;
        self.phase == Phase::Over || (is_stopping && self.daemon.has_stopped(&self.core))
    }

    /// Logs the jobs that are not waited for any longer and leaks their state: closing a file on a
    /// hanging file system would hang too.
    pub(super) fn abandon_jobs(mut self) {
        let jobs = self.core.jobs.in_flight().filter(|job| job.source != NOT_THE_DAEMONS);
        let mut jobs: Vec<_> = jobs.collect();
        jobs.sort_by_key(|job| job.since);
        for job in jobs.iter().take(ABANDONED_NAMED_MAX) {
            tracing::error!(
                target: "daemon",
                "Exiting although a job has not ended after {} s: {}",
                job.since.elapsed().as_secs(), self.daemon.describe_job(job.source)
            );
        }
        if let Some(others @ 1..) = jobs.len().checked_sub(ABANDONED_NAMED_MAX) {
            tracing::error!(target: "daemon", "Exiting although {others} more jobs have not ended");
        }
        for job in &jobs {
            self.daemon.job_abandoned(&mut self.core, job.source);
        }
        let Self { core, daemon, .. } = self;
        std::mem::forget(daemon);
        core.close();
    }
}
