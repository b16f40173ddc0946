//! Who runs the loop.
//!
//! The loop's state is a baton. The thread that has it runs the loop, and runs a job with its own
//! hands, but while it does it lays the baton down. Handing each job to another thread would cost
//! two context switches; this costs two uncontended locks. The process's first thread only watches:
//! when the baton has lain there for longer than a [patience](PATIENCE), it gives it to another
//! thread, which goes on as the loop. The one in the job brings the outcome when it has one, and is
//! a spare thread then.
//!
//! The watcher looks every now and then while jobs are run, and sleeps until the next job when
//! there are none. As it runs nothing itself, signals come to it, and the process can always be
//! ended. Before it executes another image it sends all other threads away, as kernels before 5.11
//! (5.10.220) take the POSIX locks of a process that executes something while it has others.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::job::{Job, PATIENCE, Returned};
use crate::event::Waker;
use crate::sys::{process, signal};

/// Patiences for a job that computes or waits for a processor: another thread would not be quicker.
const COMPUTING_PERIODS: u32 = 10;

/// Threads that are kept while there is nothing for them to do.
const SPARE_THREADS_MAX: usize = 2;

/// Stack of a thread. Only what is touched costs memory.
const STACK_BYTES: usize = 256 * 1024;

/// The state of a loop.
pub(crate) trait Baton: Send + Sized + 'static {
    /// What its jobs bring back.
    type Outcome: Send + 'static;

    /// Runs the loop until it is over, or until the baton is another's.
    fn carry(self: Box<Self>, crew: &Arc<Crew<Self>>);

    /// Does what only the process's first thread may do, after [`Crew::bring_to_first`]. An exec by
    /// any other would show the process as a zombie for a moment. The other threads that are left are
    /// about to end.
    fn at_first_thread(&mut self);
}

/// All threads.
pub(crate) struct Crew<B: Baton> {
    shared: Mutex<Shared<B>>,
    watcher: Condvar,
    spares: Condvar,
    waker: Waker,
}

struct Shared<B: Baton> {
    /// Laid down for the time of a job.
    baton: Option<Box<B>>,
    /// How often it was laid down.
    laid_down: u64,
    /// The kernel's number of the thread that did so last.
    by_thread: i32,
    watcher_sleeps: bool,
    assignments: VecDeque<Assignment<B>>,
    spare_threads: usize,
    spare_threads_max: usize,
    returned: VecDeque<Returned<B::Outcome>>,
    for_first: Option<Box<B>>,
    over: Option<(Box<B>, io::Result<()>)>,
}

enum Assignment<B: Baton> {
    Carry(Box<B>),
    Run(Job<B::Outcome>),
}

impl<B: Baton> Crew<B> {
    /// Nobody yet; `waker` wakes the loop.
    pub(crate) fn new(waker: Waker) -> Arc<Self> {
        let shared = Mutex::new(Shared {
            baton: None,
            laid_down: 0,
            by_thread: 0,
            watcher_sleeps: false,
            assignments: VecDeque::new(),
            spare_threads: 0,
            spare_threads_max: SPARE_THREADS_MAX,
            returned: VecDeque::new(),
            for_first: None,
            over: None,
        });
        Arc::new(Self { shared, watcher: Condvar::new(), spares: Condvar::new(), waker })
    }

    /// Has the loop run until it is over, and watches over it and listens to signals meanwhile.
    ///
    /// # Errors
    /// As `pthread_create(3)` and `pthread_sigmask(3)`.
    pub(crate) fn run(self: &Arc<Self>, baton: Box<B>) -> io::Result<(Box<B>, io::Result<()>)> {
        signal::listen()?;
        let mut shared = self.lock();
        shared.assignments.push_back(Assignment::Carry(baton));
        self.call_a_thread(&mut shared)?;
        drop(shared);
        Ok(self.watch())
    }

    /// Has the first thread do its part; the loop goes on afterwards.
    pub(crate) fn bring_to_first(&self, baton: Box<B>) {
        self.lock().for_first = Some(baton);
        self.watcher.notify_one();
    }

    /// The loop is over.
    pub(crate) fn finish(&self, baton: Box<B>, result: io::Result<()>) {
        self.lock().over = Some((baton, result));
        self.watcher.notify_one();
    }

    /// Runs a job with the baton laid down. `None`: the baton is another's by now, who also gets
    /// the outcome.
    pub(crate) fn run_job(
        &self,
        baton: Box<B>,
        job: Job<B::Outcome>,
    ) -> Option<(Box<B>, B::Outcome)> {
        let ticket = self.lay_down(baton);
        let id = job.id;
        let outcome = job.run();
        match self.take_up(ticket) {
            Some(baton) => Some((baton, outcome)),
            None => {
                self.bring(Returned { id, outcome, was_quick: false });
                None
            }
        }
    }

    /// Has another thread run a job. With no thread to be had it waits for one.
    pub(crate) fn send(self: &Arc<Self>, job: Job<B::Outcome>) {
        let mut shared = self.lock();
        shared.assignments.push_back(Assignment::Run(job));
        if let Err(error) = self.call_a_thread(&mut shared) {
            tracing::error!(target: "daemon", "Unable to start a thread for a job: {error}");
        }
    }

    /// What other threads have brought since the last time.
    pub(crate) fn take_returned(&self) -> VecDeque<Returned<B::Outcome>> {
        std::mem::take(&mut self.lock().returned)
    }

    fn lay_down(&self, baton: Box<B>) -> u64 {
        let mut shared = self.lock();
        shared.baton = Some(baton);
        shared.laid_down += 1;
        shared.by_thread = process::thread_id_cached();
        if std::mem::take(&mut shared.watcher_sleeps) {
            self.watcher.notify_one();
        }
        shared.laid_down
    }

    fn take_up(&self, ticket: u64) -> Option<Box<B>> {
        let mut shared = self.lock();
        if shared.laid_down == ticket { shared.baton.take() } else { None }
    }

    fn bring(&self, returned: Returned<B::Outcome>) {
        self.lock().returned.push_back(returned);
        if let Err(error) = self.waker.wake() {
            tracing::error!(target: "daemon", "Unable to wake the loop: {error}");
        }
    }

    fn watch(self: &Arc<Self>) -> (Box<B>, io::Result<()>) {
        let mut shared = self.lock();
        let (mut seen, mut periods) = (shared.laid_down, 0);
        loop {
            if let Some(over) = shared.over.take() {
                return over;
            }
            if let Some(baton) = shared.for_first.take() {
                shared = self.alone(shared, baton);
                self.overtake(&mut shared);
            }
            if shared.laid_down != seen {
                (seen, periods) = (shared.laid_down, 0);
            } else if shared.baton.is_some() {
                periods += 1;
                if periods >= COMPUTING_PERIODS || !process::is_thread_running(shared.by_thread) {
                    self.overtake(&mut shared);
                }
            } else {
                shared.watcher_sleeps = true;
                shared = self.watcher.wait(shared).unwrap_or_else(PoisonError::into_inner);
                (seen, periods) = (shared.laid_down, 0);
                if shared.over.is_some() || shared.for_first.is_some() {
                    continue;
                }
            }
            let waited = self.watcher.wait_timeout(shared, PATIENCE);
            (shared, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn alone<'a>(
        &'a self,
        mut shared: MutexGuard<'a, Shared<B>>,
        mut baton: Box<B>,
    ) -> MutexGuard<'a, Shared<B>> {
        shared.spare_threads_max = 0;
        self.spares.notify_all();
        drop(shared);
        baton.at_first_thread();
        shared = self.lock();
        shared.spare_threads_max = SPARE_THREADS_MAX;
        shared.baton = Some(baton);
        shared
    }

    fn overtake(self: &Arc<Self>, shared: &mut Shared<B>) {
        let Some(baton) = shared.baton.take() else { return };
        shared.assignments.push_front(Assignment::Carry(baton));
        if self.call_a_thread(shared).is_err()
            && let Some(Assignment::Carry(baton)) = shared.assignments.pop_front()
        {
            // Another time. The job may end before.
            shared.baton = Some(baton);
        }
    }

    /// Sees to it that somebody looks at the assignments.
    fn call_a_thread(self: &Arc<Self>, shared: &mut Shared<B>) -> io::Result<()> {
        if shared.spare_threads >= shared.assignments.len() {
            self.spares.notify_one();
            return Ok(());
        }
        let crew = Arc::clone(self);
        let builder = thread::Builder::new().name("loop".into()).stack_size(STACK_BYTES);
        builder.spawn(move || crew.serve())?;
        Ok(())
    }

    /// A thread's life.
    fn serve(self: Arc<Self>) {
        // Whoever started it may be the watcher. It cannot fail, as the set of signals is a fixed one.
        drop(signal::block());
        while let Some(assignment) = self.next_assignment() {
            match assignment {
                Assignment::Carry(baton) => baton.carry(&self),
                Assignment::Run(job) => {
                    let begin = Instant::now();
                    let (id, outcome) = (job.id, job.run());
                    self.bring(Returned { id, outcome, was_quick: begin.elapsed() < PATIENCE });
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
