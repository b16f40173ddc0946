//! Threads that run the loop and its jobs.
//!
//! One thread at a time owns the loop's state and runs the loop. It runs a job itself, and releases
//! the state meanwhile. If the job blocks for longer than a [threshold](BLOCKING_THRESHOLD), the
//! main thread, which only watches, hands the state to another thread, which continues as the loop.
//! Go's scheduler does the same with a thread that blocks in a system call. The thread with the job
//! delivers its outcome later and is a spare thread then. Handing every job to another thread would
//! cost two context switches; releasing and reclaiming the state costs two uncontended locks.
//!
//! The main thread checks once per threshold while jobs run, and sleeps otherwise. As it runs no
//! jobs itself, it can always receive signals, and the process can always be ended. Before it
//! executes another program it ends all other threads, as kernels before 5.11 (5.10.220) drop the
//! POSIX locks of a process that executes a program while it has others.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use super::job::{BLOCKING_THRESHOLD, Job, Returned};
use crate::event::Waker;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use crate::sys::shortage::wait_out;
use crate::sys::{process, signal};
use crate::thread;

/// Thresholds for a job that computes or waits for a processor: another thread would not be
/// quicker.
const COMPUTING_PERIODS: u32 = 10;

/// Idle threads that are retained.
const SPARE_THREADS_MAX: usize = 2;

/// Stack size of a thread. Only touched pages cost memory.
const STACK_BYTES: usize = 256 * 1024;

/// State of a loop, owned by the thread that runs it.
pub(crate) trait LoopState: Send + Sized + 'static {
    /// Outcome of its jobs.
    type Outcome: Send + 'static;

    /// Runs the loop until it is over, or until another thread owns the state.
    fn run_loop(self: Box<Self>, threads: &Arc<LoopThreads<Self>>);

    /// Does the work of [`LoopThreads::run_on_main_thread`]. An exec by any other thread would show
    /// the process as a zombie for a moment. The remaining threads are about to end.
    fn on_main_thread(&mut self);
}

/// All threads.
pub(crate) struct LoopThreads<B: LoopState> {
    shared: Mutex<Shared<B>>,
    watcher: Condvar,
    spares: Condvar,
    waker: Waker,
}

struct Shared<B: LoopState> {
    /// Released while a job runs.
    state: Option<Box<B>>,
    /// Number of releases.
    releases: u64,
    /// Kernel id of the thread that released it last.
    by_thread: i32,
    watcher_sleeps: bool,
    /// Threads that could not be started for a job. The watcher tries again.
    lacking_threads: usize,
    assignments: VecDeque<Assignment<B>>,
    spare_threads: usize,
    spare_threads_max: usize,
    returned: VecDeque<Returned<B::Outcome>>,
    for_main: Option<Box<B>>,
    over: Option<(Box<B>, io::Result<()>)>,
}

enum Assignment<B: LoopState> {
    Loop(Box<B>),
    Run(Job<B::Outcome>),
}

impl<B: LoopState> LoopThreads<B> {
    /// Makes the threads' shared state; `waker` wakes the loop.
    pub(crate) fn new(waker: Waker) -> Arc<Self> {
        let shared = Mutex::new(Shared {
            state: None,
            releases: 0,
            by_thread: 0,
            watcher_sleeps: false,
            lacking_threads: 0,
            assignments: VecDeque::new(),
            spare_threads: 0,
            spare_threads_max: SPARE_THREADS_MAX,
            returned: VecDeque::new(),
            for_main: None,
            over: None,
        });
        Arc::new(Self { shared, watcher: Condvar::new(), spares: Condvar::new(), waker })
    }

    /// Runs the loop on another thread until it is over; watches it and receives signals meanwhile.
    ///
    /// # Errors
    /// As `pthread_create(3)` and `pthread_sigmask(3)`.
    pub(crate) fn run(self: &Arc<Self>, state: Box<B>) -> io::Result<(Box<B>, io::Result<()>)> {
        signal::listen()?;
        let mut shared = self.lock();
        shared.assignments.push_back(Assignment::Loop(state));
        wait_out(|| self.wake_thread(&mut shared))?;
        drop(shared);
        Ok(self.watch())
    }

    /// Lets the main thread run [`LoopState::on_main_thread`]; the loop continues afterwards.
    pub(crate) fn run_on_main_thread(&self, state: Box<B>) {
        self.lock().for_main = Some(state);
        self.watcher.notify_one();
    }

    /// Ends the loop.
    pub(crate) fn finish(&self, state: Box<B>, result: io::Result<()>) {
        self.lock().over = Some((state, result));
        self.watcher.notify_one();
    }

    /// Runs a job with the state released. `None`: another thread owns the state by now, and gets
    /// the outcome.
    pub(crate) fn run_job(
        &self,
        state: Box<B>,
        job: Job<B::Outcome>,
    ) -> Option<(Box<B>, B::Outcome)> {
        let ticket = self.release(state);
        let id = job.id;
        let outcome = job.run();
        match self.reclaim(ticket) {
            Some(state) => Some((state, outcome)),
            None => {
                self.bring(Returned { id, outcome, was_quick: false });
                None
            }
        }
    }

    /// Lets another thread run a job. If none can be started, the job waits until one can.
    pub(crate) fn send(self: &Arc<Self>, job: Job<B::Outcome>) {
        let mut shared = self.lock();
        shared.assignments.push_back(Assignment::Run(job));
        if let Err(error) = self.wake_thread(&mut shared) {
            shared.lacking_threads += 1;
            self.wake_watcher(&mut shared);
            tracing::error!(target: "daemon", "Unable to start a thread for a job: {error}");
        }
    }

    /// Takes the outcomes that other threads have delivered.
    pub(crate) fn take_returned(&self) -> VecDeque<Returned<B::Outcome>> {
        std::mem::take(&mut self.lock().returned)
    }

    fn release(&self, state: Box<B>) -> u64 {
        let mut shared = self.lock();
        shared.state = Some(state);
        shared.releases += 1;
        shared.by_thread = process::thread_id_cached();
        self.wake_watcher(&mut shared);
        shared.releases
    }

    fn wake_watcher(&self, shared: &mut Shared<B>) {
        if std::mem::take(&mut shared.watcher_sleeps) {
            self.watcher.notify_one();
        }
    }

    fn reclaim(&self, ticket: u64) -> Option<Box<B>> {
        let mut shared = self.lock();
        if shared.releases == ticket { shared.state.take() } else { None }
    }

    fn bring(&self, returned: Returned<B::Outcome>) {
        self.lock().returned.push_back(returned);
        if let Err(error) = self.waker.wake() {
            tracing::error!(target: "daemon", "Unable to wake the loop: {error}");
        }
    }

    fn watch(self: &Arc<Self>) -> (Box<B>, io::Result<()>) {
        let mut shared = self.lock();
        let (mut seen, mut periods) = (shared.releases, 0);
        loop {
            if let Some(over) = shared.over.take() {
                self.end_spare_threads(&mut shared);
                return over;
            }
            if let Some(state) = shared.for_main.take() {
                shared = self.alone(shared, state);
                self.hand_off(&mut shared);
            }
            self.start_lacking_threads(&mut shared);
            if shared.releases != seen {
                (seen, periods) = (shared.releases, 0);
            } else if shared.state.is_some() {
                periods += 1;
                if periods >= COMPUTING_PERIODS || !process::is_thread_running(shared.by_thread) {
                    self.hand_off(&mut shared);
                }
            } else if shared.lacking_threads == 0 {
                shared.watcher_sleeps = true;
                shared = self.watcher.wait(shared).unwrap_or_else(PoisonError::into_inner);
                (seen, periods) = (shared.releases, 0);
                if shared.over.is_some() || shared.for_main.is_some() {
                    continue;
                }
            }
            let waited = self.watcher.wait_timeout(shared, BLOCKING_THRESHOLD);
            (shared, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn alone<'a>(
        &'a self,
        mut shared: MutexGuard<'a, Shared<B>>,
        mut state: Box<B>,
    ) -> MutexGuard<'a, Shared<B>> {
        self.end_spare_threads(&mut shared);
        drop(shared);
        state.on_main_thread();
        shared = self.lock();
        shared.spare_threads_max = SPARE_THREADS_MAX;
        shared.state = Some(state);
        shared
    }

    fn end_spare_threads(&self, shared: &mut Shared<B>) {
        shared.spare_threads_max = 0;
        self.spares.notify_all();
    }

    fn hand_off(self: &Arc<Self>, shared: &mut Shared<B>) {
        let Some(state) = shared.state.take() else { return };
        shared.assignments.push_front(Assignment::Loop(state));
        if self.wake_thread(shared).is_err()
            && let Some(Assignment::Loop(state)) = shared.assignments.pop_front()
        {
            // Tried again at the next check. The job may end before.
            shared.state = Some(state);
        }
    }

    fn start_lacking_threads(self: &Arc<Self>, shared: &mut Shared<B>) {
        while shared.lacking_threads > 0 && self.wake_thread(shared).is_ok() {
            shared.lacking_threads -= 1;
        }
    }

    /// Wakes or starts a thread for the assignments.
    fn wake_thread(self: &Arc<Self>, shared: &mut Shared<B>) -> io::Result<()> {
        if shared.spare_threads >= shared.assignments.len() {
            self.spares.notify_one();
            return Ok(());
        }
        let threads = Arc::clone(self);
        let builder = thread::Builder::new().name("loop".into()).stack_size(STACK_BYTES);
        builder.spawn(move || threads.serve())?;
        Ok(())
    }

    /// Runs assignments, until no spare thread is needed.
    fn serve(self: Arc<Self>) {
        // Its starter may be the watcher, which blocks no signals. The signal set is fixed, so this
        // cannot fail.
        signal::block().ok();
        while let Some(assignment) = self.next_assignment() {
            match assignment {
                Assignment::Loop(state) => state.run_loop(&self),
                Assignment::Run(job) => {
                    let begin = Instant::now();
                    let (id, outcome) = (job.id, job.run());
                    self.bring(Returned {
                        id,
                        outcome,
                        was_quick: begin.elapsed() < BLOCKING_THRESHOLD,
                    });
                }
            }
        }
    }

    fn next_assignment(&self) -> Option<Assignment<B>> {
        let mut shared = self.lock();
        loop {
            if let Some(assignment) = shared.assignments.pop_front() {
                return Some(assignment);
            }
            if shared.spare_threads >= shared.spare_threads_max {
                return None;
            }
            shared.spare_threads += 1;
            shared = self.spares.wait(shared).unwrap_or_else(PoisonError::into_inner);
            shared.spare_threads -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared<B>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
