use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::event::Reactor;
use crate::jobs::scheduler::Jobs;
use crate::jobs::storage::StorageId;

/// A loop that hands out all its jobs at once and notes their outcomes.
struct Toy {
    reactor: Reactor<u64>,
    jobs: Jobs<u64>,
    ended: Vec<u64>,
}

impl LoopState for Toy {
    type Outcome = u64;

    fn on_main_thread(&mut self) {}

    fn run_loop(mut self: Box<Self>, threads: &Arc<LoopThreads<Self>>) {
        self.jobs.thread_changed();
        let mut events = VecDeque::new();
        loop {
            self.ended.extend(std::iter::from_fn(|| self.jobs.take_ended()));
            while let Some(job) = self.jobs.next_away() {
                threads.send(job);
            }
            if let Some(job) = self.jobs.next_here() {
                let Some((toy, outcome)) = threads.run_job(self, job) else { return };
                self = toy;
                self.jobs.ended_here(outcome);
            } else if self.jobs.are_over() {
                return threads.finish(self, Ok(()));
            } else {
                self.reactor.wait(&mut events).unwrap();
                threads.take_returned().into_iter().for_each(|job| self.jobs.returned(job));
            }
        }
    }
}

fn place(number: u64) -> StorageId {
    StorageId::device(number)
}

fn run(submit: impl FnOnce(&mut Jobs<u64>)) -> Vec<u64> {
    let reactor = Reactor::new().unwrap();
    let threads = LoopThreads::new(reactor.waker(0).unwrap());
    let mut jobs = Jobs::new();
    submit(&mut jobs);
    let (toy, result) = threads.run(Box::new(Toy { reactor, jobs, ended: Vec::new() })).unwrap();
    result.unwrap();
    toy.ended
}

#[test]
fn the_loop_goes_on_without_a_job_that_waits() {
    let (sender, receiver) = mpsc::channel();
    let ended = run(|jobs| {
        jobs.submit(place(1), 1, move || receiver.recv().unwrap());
        jobs.submit(place(2), 2, move || {
            sender.send(1).unwrap();
            2
        });
    });
    assert_eq!(ended, [2, 1]);
}

#[test]
fn jobs_that_end_quickly_stay_with_the_loop() {
    let first = thread::current().id();
    let ended = run(|jobs| {
        for number in 0..1000 {
            jobs.submit(place(number % 3), number, move || {
                assert_ne!(thread::current().id(), first, "it only watches");
                number
            });
        }
    });
    assert_eq!(ended, (0..1000).collect::<Vec<_>>());
}

#[test]
fn no_place_ever_has_two_jobs_at_once_and_none_is_forgotten() {
    const PLACES: usize = 5;
    let is_busy: Arc<[AtomicBool; PLACES]> = Arc::default();
    let mut random = 1_u32;
    let mut ended = run(|jobs| {
        for (number, at) in (0..400).zip((0..PLACES).cycle()) {
            random = random.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            let delay = u64::from(random >> 16) % 30;
            let is_busy = Arc::clone(&is_busy);
            jobs.submit(place(at as u64), number, move || {
                assert!(!is_busy[at].swap(true, Ordering::SeqCst), "two jobs at one place");
                // Few take long.
                thread::sleep(Duration::from_millis(delay.saturating_sub(16)));
                is_busy[at].store(false, Ordering::SeqCst);
                number
            });
        }
    });
    ended.sort_unstable();
    assert_eq!(ended, (0..400).collect::<Vec<_>>());
}
