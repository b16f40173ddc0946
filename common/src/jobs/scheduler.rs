//! Scheduling of jobs: queues, running jobs, and the choice of the thread.
//!
//! A job owns what it works on and returns it in its outcome, so the loop shares nothing with it.
//! As a rule the loop's own thread runs it, at the cost of a call; [`super::threads`] lets the loop
//! continue elsewhere when a job takes long.
//!
//! The [file system](StorageId) of such a job is *slow* from then on: threads of their own run its
//! further jobs, one at a time, until several in a row have ended quickly. So a hanging file system
//! costs the loop one [threshold](super::job::BLOCKING_THRESHOLD) and one thread, however many
//! files are on it. One at a time also means that no two jobs of a device work on one file at once,
//! by whatever names it is open.

mod other_threads;

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use super::job::{InFlight, Job, THREADS_MAX};
use super::progress::Progress;
use super::slow::Slow;
use super::storage::StorageId;
use crate::query::StorageCounters;

/// All jobs that have not ended, and the outcomes of those that have.
#[derive(Debug)]
pub(crate) struct Jobs<O> {
    submitted: u64,
    /// Jobs for the loop's own thread.
    queue: VecDeque<Job<O>>,
    /// Jobs that no client waits for. They alternate with the others.
    unhurried: VecDeque<Job<O>>,
    /// The next job is an unhurried one.
    is_their_turn: bool,
    /// The job on the loop's own thread.
    running: Option<(u64, InFlight, Option<Progress>)>,
    /// Jobs to be handed to other threads.
    outgoing: VecDeque<Job<O>>,
    /// Jobs that other threads run, or will run next.
    away: HashMap<u64, InFlight>,
    /// Number of these that may block on peers.
    at_peers: usize,
    /// End of the time during which peers are suspect.
    alarm_until: Option<Instant>,
    slow: HashMap<StorageId, Slow<O>>,
    /// Sources of stalled jobs, of which the daemon is not notified yet.
    late: VecDeque<u64>,
    ended: VecDeque<O>,
}

impl<O> Jobs<O> {
    pub(crate) fn new() -> Self {
        Self {
            submitted: 0,
            queue: VecDeque::new(),
            unhurried: VecDeque::new(),
            is_their_turn: false,
            running: None,
            outgoing: VecDeque::new(),
            away: HashMap::new(),
            at_peers: 0,
            alarm_until: None,
            slow: HashMap::new(),
            late: VecDeque::new(),
            ended: VecDeque::new(),
        }
    }

    pub(crate) fn submit(
        &mut self,
        place: StorageId,
        source: u64,
        work: impl FnOnce() -> O + Send + 'static,
    ) {
        self.submit_job(place, source, true, None, Box::new(work));
    }

    /// Submits a job that reports its progress.
    pub(crate) fn submit_with_progress(
        &mut self,
        place: StorageId,
        source: u64,
        progress: Progress,
        work: impl FnOnce() -> O + Send + 'static,
    ) {
        self.submit_job(place, source, true, Some(progress), Box::new(work));
    }

    /// Submits a job that no client waits for.
    pub(crate) fn submit_unhurried(
        &mut self,
        place: StorageId,
        source: u64,
        work: impl FnOnce() -> O + Send + 'static,
    ) {
        self.submit_job(place, source, false, None, Box::new(work));
    }

    /// Submits a job that touches what its peer can block. The loop's own thread runs it while no
    /// peer is suspect.
    pub(crate) fn submit_at_peer(
        &mut self,
        source: u64,
        progress: Progress,
        work: impl FnOnce() -> O + Send + 'static,
    ) {
        let place = StorageId::peer(progress.peer());
        if self.is_peer_suspect(progress.peer()) {
            self.slow.entry(place).or_insert_with(Slow::of_peer);
        }
        self.submit_job(place, source, true, Some(progress), Box::new(work));
    }

    fn submit_job(
        &mut self,
        place: StorageId,
        source: u64,
        is_waited_for: bool,
        progress: Option<Progress>,
        work: Box<dyn FnOnce() -> O + Send>,
    ) {
        self.submitted += 1;
        let (id, since) = (self.submitted, Instant::now());
        let job = Job { id, source, place, since, progress, work };
        if self.slow.is_empty() || !self.slow.contains_key(&place) {
            if !self.may_run_here() {
                self.late.push_back(source);
            }
            let queue = if is_waited_for { &mut self.queue } else { &mut self.unhurried };
            return queue.push_back(job);
        }
        self.wait_at(job);
    }

    fn next_queued(&mut self) -> Option<Job<O>> {
        self.is_their_turn = !self.is_their_turn;
        match self.is_their_turn {
            true => self.unhurried.pop_front().or_else(|| self.queue.pop_front()),
            false => self.queue.pop_front().or_else(|| self.unhurried.pop_front()),
        }
    }

    /// Takes the next job for the loop's own thread, and counts it as running.
    pub(crate) fn next_here(&mut self) -> Option<Job<O>> {
        while self.may_run_here()
            && let Some(job) = self.next_queued()
        {
            if self.slow.contains_key(&job.place) {
                self.wait_at(job);
                continue;
            }
            job.progress.iter().for_each(Progress::hand_out);
            self.running = Some((job.id, job.in_flight(), job.progress.clone()));
            return Some(job);
        }
        None
    }

    /// Takes the next job for another thread.
    pub(crate) fn next_away(&mut self) -> Option<Job<O>> {
        self.outgoing.pop_front()
    }

    /// Handles the end of the job on the loop's own thread.
    pub(crate) fn ended_here(&mut self, outcome: O) {
        self.running = None;
        self.ended.push_back(outcome);
    }

    /// Returns whether other threads run the jobs of this file system.
    pub(crate) fn is_slow(&self, place: StorageId) -> bool {
        self.slow.contains_key(&place)
    }

    /// Takes the outcome of the job that ended first.
    pub(crate) fn take_ended(&mut self) -> Option<O> {
        self.ended.pop_front()
    }

    /// Takes the source of a stalled job.
    pub(crate) fn take_late(&mut self) -> Option<u64> {
        self.late.pop_front()
    }

    /// Returns all jobs that have not ended.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = InFlight> {
        let waiting = self.slow.values().flat_map(|slow| &slow.waiting);
        let here = self.running.iter().map(|(_, job, _)| *job);
        let away = self.away.values().copied();
        let queued = self.queue.iter().chain(&self.unhurried);
        here.chain(away).chain(queued.chain(waiting).map(Job::in_flight))
    }

    /// Returns whether a job on this file system makes no progress.
    pub(crate) fn hangs(&mut self, place: StorageId) -> bool {
        self.go_on_without_peer(place);
        self.slow.get(&place).is_some_and(Slow::hangs) || !self.may_run_here()
    }

    /// Counts what does not answer at present.
    pub(crate) fn hanging(&self) -> StorageCounters {
        let mut counters = StorageCounters::default();
        for slow in self.slow.values() {
            match slow.is_peers {
                true => counters.blocking_peers += u64::from(slow.is_held_up()),
                false if slow.hangs() => {
                    counters.hanging += 1;
                    counters.waiting_jobs += slow.waiting.len() as u64 + 1;
                }
                false => {}
            }
        }
        counters
    }

    /// Returns whether jobs are queued.
    pub(crate) fn are_waiting(&self) -> bool {
        !self.queue.is_empty()
            || !self.unhurried.is_empty()
            || self.slow.values().any(|slow| !slow.waiting.is_empty())
    }

    /// Returns whether every job has ended and its outcome was taken.
    pub(crate) fn are_over(&self) -> bool {
        self.ended.is_empty() && self.in_flight().next().is_none()
    }

    /// Returns whether a job may run here: it may block, and the loop then needs another thread.
    fn may_run_here(&self) -> bool {
        self.at_file_systems() + 1 < THREADS_MAX
    }
}

#[cfg(test)]
mod tests;
