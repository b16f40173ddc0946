//! The event loop.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::caller::Gone;
use super::core::{Core, Done, NOT_THE_DAEMONS};
use super::daemon::Daemon;
use super::serve::serve;
use super::token::Token;
use crate::event::{Event, TimerId};
use crate::jobs::job::Job;
use crate::jobs::threads::{LoopState, LoopThreads};
use crate::sys::process;
use crate::sys::signal::Request;

/// Calls started per event, including those that a client makes as soon as the first is answered.
/// Other clients follow.
const CALLS_PER_EVENT_MAX: usize = 4;

/// Time for jobs in a row before events are polled.
const JOBS_TURN: Duration = Duration::from_millis(4);

/// Time for the supervisor, at a stop, to prove what the fd store has. Whatever is unproved by then
/// counts as not stored.
const PROOF_PERIOD: Duration = Duration::from_secs(1);

/// Total wait for jobs at a stop, while the supervisor waits for us.
const STOP_PERIOD: Duration = Duration::from_secs(5);

/// Wait for the jobs that end the last service.
const REST_PERIOD: Duration = Duration::from_secs(1);

/// Abandoned jobs that are logged one by one.
const ABANDONED_NAMED_MAX: usize = 32;

/// Serves until a signal or an idle timeout; the daemon was told to [stop](Daemon::stop) by then.
/// The calling thread only watches, see [`crate::jobs::threads`].
///
/// # Errors
/// As `epoll_wait(2)` and `pthread_create(3)`; the process cannot continue.
pub fn run<D: Daemon>(mut core: Core<D::Outcome>, daemon: D) -> io::Result<()> {
    let waker = core.waker.take().ok_or(io::ErrorKind::InvalidInput)?;
    let state = State {
        core,
        daemon,
        events: VecDeque::new(),
        jobs_for: Duration::ZERO,
        has_looked: false,
        phase: Phase::Serving,
        deadline: None,
    };
    let (mut state, result) = LoopThreads::new(waker).run(Box::new(state))?;
    if !state.core.drain_store() {
        tracing::error!(target: "util.systemd", "Unable to send the last messages to the supervisor; the fd store may be outdated");
    }
    if !state.core.jobs.are_over() {
        (*state).abandon_jobs();
    }
    result
}

/// The loop's state. One thread at a time has it.
#[derive(Debug)]
struct State<D: Daemon> {
    core: Core<D::Outcome>,
    daemon: D,
    /// Reported events that are not handled yet.
    events: VecDeque<Event<Token>>,
    /// Time spent on jobs since the last poll.
    jobs_for: Duration,
    /// Events were polled and are being handled.
    has_looked: bool,
    phase: Phase,
    /// End of the phase, except for `Serving`.
    deadline: Option<TimerId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// The supervisor proves what the fd store has, before the daemon stops.
    Proving,
    /// The daemon was told to stop, and long jobs are waited for.
    Stopping,
    /// The daemon was told to stop the rest. The last jobs are waited for, except those that took
    /// too long.
    StoppingRest,
    /// The wait for jobs is over.
    Over,
}

impl<D: Daemon> LoopState for State<D> {
    type Outcome = Done<D::Outcome>;

    fn run_loop(mut self: Box<Self>, threads: &Arc<LoopThreads<Self>>) {
        self.core.jobs.thread_changed();
        loop {
            run_pending(&mut self.core, &mut self.daemon);
            while let Some(job) = self.core.jobs.next_away() {
                threads.send(job);
            }
            if let Some(job) = self.next_job() {
                let began = Instant::now();
                let Some((state, outcome)) = threads.run_job(self, job) else { return };
                self = state;
                self.core.jobs.ended_here(outcome);
                self.jobs_for += began.elapsed();
            } else if let Some(event) = self.events.pop_front() {
                self.take_event(threads, event);
            } else if self.begin_look() {
                if let Err(error) = self.core.reactor.look(&mut self.events) {
                    return threads.finish(self, Err(error));
                }
            } else if self.check_main_thread_work() {
                return threads.run_on_main_thread(self);
            } else if self.check_stop() {
                self.prove();
            } else if self.is_proved() {
                self.stop();
            } else if self.is_to_stop_rest() {
                self.stop_rest();
            } else if self.is_over() {
                return threads.finish(self, Ok(()));
            } else if let Err(error) = self.wait() {
                return threads.finish(self, Err(error));
            }
        }
    }

    /// Executes a successor. On failure nothing changes.
    fn on_main_thread(&mut self) {
        let Self { core, daemon, .. } = self;
        if core.orphans_may_have_ended {
            core.orphans_may_have_ended = process::reap_children_of_thread();
        }
        if core.check_ready_for_successor() {
            core.execute(daemon);
        }
    }
}

impl<D: Daemon> State<D> {
    fn take_event(&mut self, threads: &LoopThreads<Self>, event: Event<Token>) {
        let Self { core, daemon, phase, .. } = self;
        core.calls_left = CALLS_PER_EVENT_MAX;
        match event {
            Event::Ready(Token::Jobs) => {
                threads
                    .take_returned()
                    .into_iter()
                    .for_each(|returned| core.jobs.returned(returned));
            }
            Event::Timer(Token::Deadline) => self.phase_is_over(),
            Event::Ready(Token::Store) => core.look_at_store(daemon),
            Event::Timer(Token::Supervisor(duty)) => core.perform(daemon, duty),
            Event::Ready(Token::Daemon(_)) | Event::Timer(Token::DaemonTimer(_)) => {
                handle(core, daemon, event);
            }
            _ if *phase == Phase::Serving => handle(core, daemon, event),
            _ => {}
        }
    }

    /// Runs jobs before events, but only for a bounded time, so that other work does not wait for
    /// the jobs of a thousand logs.
    fn next_job(&mut self) -> Option<Job<Done<D::Outcome>>> {
        if self.has_looked && self.events.is_empty() {
            (self.jobs_for, self.has_looked) = (Duration::ZERO, false);
        }
        if self.jobs_for < JOBS_TURN { self.core.jobs.next_here() } else { None }
    }

    fn begin_look(&mut self) -> bool {
        self.jobs_for >= JOBS_TURN && !std::mem::replace(&mut self.has_looked, true)
    }

    fn check_stop(&mut self) -> bool {
        self.phase == Phase::Serving && self.core.stopping && self.core.check_stop_effect()
    }

    fn check_main_thread_work(&mut self) -> bool {
        let Self { core, .. } = self;
        self.phase == Phase::Serving
            && !core.stopping
            && (core.orphans_may_have_ended || core.check_ready_for_successor())
    }

    fn prove(&mut self) {
        self.phase = Phase::Proving;
        self.core.takes_no_calls = true;
        self.core.haste.set(false);
        self.core.supervision.notify.stopping();
        self.core.supervision.notify.set_paced(false);
        self.core.ask_for_proof();
        self.deadline = Some(self.core.reactor.set_timer(PROOF_PERIOD, Token::Deadline));
    }

    fn is_proved(&self) -> bool {
        self.phase == Phase::Proving
            && self.core.is_all_proved()
            && !self.core.servers.have_calls_in_flight()
    }

    fn stop(&mut self) {
        self.phase = Phase::Stopping;
        self.deadline.take().into_iter().for_each(|timer| self.core.reactor.cancel_timer(timer));
        self.core.apply_stop_to_store(&self.daemon);
        self.daemon.stop(&mut self.core);
        self.deadline = Some(self.core.reactor.set_timer(STOP_PERIOD, Token::Deadline));
    }

    /// Stops the remaining service once nothing else is waited for.
    fn stop_rest(&mut self) {
        self.phase = Phase::StoppingRest;
        self.deadline.take().into_iter().for_each(|timer| self.core.reactor.cancel_timer(timer));
        self.daemon.stop_rest(&mut self.core);
        self.deadline = Some(self.core.reactor.set_timer(REST_PERIOD, Token::Deadline));
    }

    fn phase_is_over(&mut self) {
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

    fn is_to_stop_rest(&self) -> bool {
        self.phase == Phase::Stopping && self.daemon.has_stopped(&self.core)
    }

    fn is_over(&self) -> bool {
        let is_stopping = self.phase == Phase::StoppingRest;
        self.phase == Phase::Over || (is_stopping && self.daemon.has_stopped(&self.core))
    }

    fn wait(&mut self) -> io::Result<()> {
        let Self { core, events, .. } = self;
        core.idle.update(&mut core.reactor, core.servers.have_clients());
        core.ask_for_proof();
        core.supervision.before_wait(&mut core.reactor);
        core.reactor.wait(events)
    }

    /// Logs the jobs that are not waited for any longer and leaks their state: closing a file on a
    /// hanging file system would hang too.
    fn abandon_jobs(mut self) {
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

fn handle<D: Daemon>(core: &mut Core<D::Outcome>, daemon: &mut D, event: Event<Token>) {
    core.supervision.note_activity();
    match event {
        Event::Ready(Token::Daemon(source)) => daemon.ready(core, source),
        Event::Ready(Token::Client(id)) => {
            if let Some(client) = core.servers.client(id) {
                client.ready();
            }
            serve(core, daemon, id);
        }
        Event::Ending(Token::Client(id)) => {
            if let Some(client) = core.servers.client(id) {
                client.ending();
            }
        }
        Event::Ready(Token::Listener(server, index)) => {
            core.accept_from(server, index);
        }
        Event::Ready(Token::Signals) => take_signals(core, daemon),
        Event::Ready(Token::Upgrade) => core.target_has_answered(daemon),
        Event::Timer(Token::Upgrade) => core.upgrade_is_late(daemon),
        Event::Timer(Token::DaemonTimer(source)) => daemon.timer(core, source),
        Event::Timer(Token::Accept(server)) => {
            core.servers.get_mut(server).paused = false;
            core.accept(server);
        }
        Event::Timer(Token::Idle) => {
            core.idle.fired();
            if !core.servers.have_clients() && !daemon.is_in_use() {
                tracing::info!(target: "rpc.netdaemon", "Idle timeout reached; exiting");
                core.stopping = true;
            }
        }
        Event::Ready(_) | Event::Ending(_) | Event::Timer(_) => {}
    }
}

/// Handles the consequences of the last event or job: ended jobs, answered clients, closed clients.
fn run_pending<D: Daemon>(core: &mut Core<D::Outcome>, daemon: &mut D) {
    loop {
        if let Some((caller, gone)) = core.gone.pop_front() {
            match gone {
                Gone::ByClient => daemon.disconnected(core, caller),
                Gone::ByUs => daemon.dropped(core, caller),
            }
            core.accept(caller.client.server);
        } else if let Some((client, result)) = core.next_held_back() {
            core.answer_now(client, result);
        } else if core.is_store_to_be_tended() {
            core.tend_store(daemon);
        } else if std::mem::take(&mut core.has_resumed) {
            daemon.resume(core);
        } else if let Some(done) = core.jobs.take_ended() {
            match done {
                Done::Daemons(outcome) => daemon.job_ended(core, outcome),
                Done::Elsewhere(errand) => {
                    let source = errand.source;
                    let place = core.send_on(errand);
                    daemon.job_moved_to(source, place);
                }
                Done::Names(asking, call, names) => core.names_are_known(asking, call, names),
                Done::Outputs(asking, call, outputs) => {
                    core.outputs_are_open(asking, call, outputs);
                }
                Done::Unit(answer) => core.unit_is_known(daemon, answer),
            }
        } else if let Some(source) = core.jobs.take_late() {
            if source != NOT_THE_DAEMONS {
                daemon.job_stalled(core, source);
            }
        } else if let Some(client) = core.answered.pop_front() {
            serve(core, daemon, client);
        } else {
            return;
        }
    }
}

impl<O> Core<O> {
    /// Exits without the state that jobs work on.
    fn close(self) {
        let Self { jobs, .. } = self;
        std::mem::forget(jobs);
    }
}

fn take_signals<D: Daemon>(core: &mut Core<D::Outcome>, daemon: &D) {
    for request in core.signals.take() {
        match request {
            Request::Stop => core.stopping = true,
            Request::Upgrade => core.begin_upgrade(daemon),
            Request::ChildEnded => core.orphans_may_have_ended = true,
            Request::HangUp => tracing::info!(
                target: "daemon",
                "SIGHUP: nothing to do; a changed configuration is read at the next start or upgrade"
            ),
        }
    }
}
