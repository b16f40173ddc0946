//! The event loop.

mod dispatch;
#[cfg(feature = "fuzzing")]
mod fuzzing;
mod stop;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dispatch::{handle, run_pending};

use super::core::{Core, Done};
use super::daemon::Daemon;
use super::token::Token;
use crate::event::{Event, TimerId};
use crate::jobs::job::Job;
use crate::jobs::threads::{LoopState, LoopThreads};
use crate::sys::process;

/// Calls started per event, including those that a client makes as soon as the first is answered.
/// Other clients follow.
const CALLS_PER_EVENT_MAX: usize = 4;

/// Time for jobs in a row before events are polled.
const JOBS_TURN: Duration = Duration::from_millis(4);

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
        tracing::error!(
            target: "util.systemd",
            "Unable to send the last messages to the supervisor; the fd store may be outdated"
        );
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

    fn check_main_thread_work(&mut self) -> bool {
        let Self { core, .. } = self;
        self.phase == Phase::Serving
            && !core.stopping
            && (core.orphans_may_have_ended || core.check_ready_for_successor())
    }

    fn wait(&mut self) -> io::Result<()> {
        let Self { core, events, .. } = self;
        core.idle.update(&mut core.reactor, core.servers.have_clients());
        core.ask_for_proof();
        core.supervision.before_wait(&mut core.reactor);
        core.reactor.wait(events)
    }
}
