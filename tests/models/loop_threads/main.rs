//! The loop, its jobs and its watcher: each job runs once and its outcome arrives, a job that waits for
//! another does not stop the loop, and no job runs while the main thread works. Some threads cannot be
//! started.
#![allow(dead_code, reason = "the product's files have more than a model needs")]

mod event;
mod jobs;
mod sys;

use std::collections::VecDeque;
use std::time::Instant;

use models::{chance, check};

use crate::event::Waker;
use crate::jobs::job::Job;
use crate::jobs::storage::StorageId;
use crate::jobs::threads::{LoopState, LoopThreads};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, Mutex, PoisonError};

use models::{sync, thread};

const JOBS: u64 = 4;

/// A loop that gives each job to another thread, or runs it.
struct Toy {
    waker: Waker,
    waiting: VecDeque<Job<u64>>,
    under_way: usize,
    ended: Vec<u64>,
    moves_to_main_thread: usize,
    main_thread: thread::ThreadId,
    running: Arc<AtomicUsize>,
}

impl LoopState for Toy {
    type Outcome = u64;

    fn on_main_thread(&mut self) {
        assert_eq!(thread::current().id(), self.main_thread);
        assert_eq!(self.running.load(Ordering::SeqCst), 0, "a job runs");
    }

    fn run_loop(mut self: Box<Self>, threads: &Arc<LoopThreads<Self>>) {
        assert_ne!(thread::current().id(), self.main_thread, "it only watches");
        loop {
            for returned in threads.take_returned() {
                self.end(returned.outcome);
            }
            if let Some(job) = self.waiting.pop_front() {
                self.under_way += 1;
                if chance(3) {
                    threads.send(job);
                    continue;
                }
                let Some((toy, outcome)) = threads.run_job(self, job) else { return };
                self = toy;
                self.end(outcome);
            } else if self.under_way > 0 {
                self.waker.wait();
            } else if self.moves_to_main_thread > 0 {
                self.moves_to_main_thread -= 1;
                self.waiting.push_back(job(JOBS, &self.running, || ()));
                return threads.run_on_main_thread(self);
            } else {
                return threads.finish(self, Ok(()));
            }
        }
    }
}

impl Toy {
    fn end(&mut self, outcome: u64) {
        self.under_way -= 1;
        self.ended.push(outcome);
    }
}

fn main() {
    check("loop_threads", 100_000, each_job_runs_once);
}

fn each_job_runs_once() {
    let waker = Waker::default();
    let threads = LoopThreads::new(waker.clone());
    let running = Arc::default();
    let is_begun = Arc::new((Mutex::new(false), Condvar::new()));
    let (begins, waits) = (Arc::clone(&is_begun), is_begun);
    // The first job ends only when the last one has begun.
    let wait = move || {
        let mut begun = waits.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*begun {
            begun = waits.1.wait(begun).unwrap_or_else(PoisonError::into_inner);
        }
    };
    let begin = move || {
        *begins.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        begins.1.notify_all();
    };
    let mut waiting = VecDeque::from([job(0, &running, wait)]);
    waiting.extend((1..JOBS - 1).map(|number| job(number, &running, thread::yield_now)));
    waiting.push_back(job(JOBS - 1, &running, begin));
    let toy = Toy {
        waker,
        waiting,
        under_way: 0,
        ended: Vec::new(),
        moves_to_main_thread: 1,
        main_thread: thread::current().id(),
        running,
    };
    let (toy, result) = threads.run(Box::new(toy)).expect("it can be tried again");
    result.expect("the loop has ended");
    let mut ended = toy.ended;
    ended.sort_unstable();
    assert_eq!(ended, (0..=JOBS).collect::<Vec<_>>());
}

fn job(number: u64, running: &Arc<AtomicUsize>, work: impl FnOnce() + Send + 'static) -> Job<u64> {
    let running = Arc::clone(running);
    let work = Box::new(move || {
        running.fetch_add(1, Ordering::SeqCst);
        work();
        running.fetch_sub(1, Ordering::SeqCst);
        number
    });
    Job { id: number, source: 0, place: StorageId, since: Instant::now(), progress: None, work }
}
