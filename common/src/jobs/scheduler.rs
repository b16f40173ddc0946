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

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::job::{InFlight, Job, Returned, THREADS_MAX};
use super::progress::Progress;
use super::slow::Slow;
use super::storage::StorageId;

/// Jobs on threads of their own, as long as enough threads are left for other file systems.
const AWAY_MAX: usize = 48;

/// Threads that may block on peers, besides those for file systems. Each costs some 20 KiB.
const PEERS_MAX: usize = 128;

/// Time during which all peers are suspect after one has blocked a thread: there may be more of its
/// kind.
const ALARM_PERIOD: Duration = Duration::from_secs(10);

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

    /// Returns whether jobs on what a peer can block must be submitted as such, apart from all
    /// others.
    pub(crate) fn is_peer_suspect(&self, peer: u64) -> bool {
        self.at_peers >= PEERS_MAX
            || self.alarm_until.is_some_and(|until| Instant::now() < until)
            || self.slow.get(&StorageId::peer(peer)).is_some_and(|slow| slow.is_peers)
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

    /// Notes that the loop continues on another thread, because its own is in a job.
    pub(crate) fn thread_changed(&mut self) {
        let Some((id, job, progress)) = self.running.take() else { return };
        self.slow.retain(|_, slow| slow.is_in_use() || slow.seen.elapsed() < slow.memory());
        self.late.push_back(job.source);
        self.away.insert(id, job);
        let is_at_peer = progress.as_ref().is_some_and(|progress| self.blame_peer(id, progress));
        if !is_at_peer {
            let slow = self.slow.entry(job.place).or_insert_with(Slow::new);
            (slow.is_busy, slow.quick, slow.seen) = (true, 0, Instant::now());
            slow.progress = progress;
        }
        if !self.may_run_here() {
            let queued = self.queue.iter().chain(&self.unhurried);
            self.late.extend(queued.map(|job| job.source));
        }
    }

    /// Lets others continue in place of another thread's job if a peer blocks it. Returns whether
    /// one does.
    fn blame_peer(&mut self, id: u64, progress: &Progress) -> bool {
        let Some(job) = self.away.get_mut(&id).filter(|_| progress.leave_behind()) else {
            return false;
        };
        self.at_peers += usize::from(!std::mem::replace(&mut job.is_at_peer, true));
        job.place = StorageId::peer(progress.peer());
        self.alarm_until = Some(Instant::now() + ALARM_PERIOD);
        let slow = self.slow.entry(job.place).or_insert_with(Slow::of_peer);
        (slow.is_busy, slow.is_peers, slow.quick) = (true, true, 0);
        (slow.progress, slow.blamed_at) = (Some(progress.clone()), Some(Instant::now()));
        true
    }

    /// Lets others continue on a file system whose job a peer blocks.
    fn go_on_without_peer(&mut self, place: StorageId) {
        let Some(slow) = self.slow.get(&place).filter(|slow| !slow.is_peers && slow.is_held_up())
        else {
            return;
        };
        let (Some(progress), Some(id)) = (slow.progress.clone(), self.job_away_at(place)) else {
            return;
        };
        if self.blame_peer(id, &progress) {
            if let Some(slow) = self.slow.get_mut(&place) {
                (slow.is_busy, slow.progress) = (false, None);
            }
            self.send_away(place);
        }
    }

    fn job_away_at(&self, place: StorageId) -> Option<u64> {
        self.away.iter().find(|(_, job)| job.place == place).map(|(id, _)| *id)
    }

    /// Handles the end of another thread's job.
    pub(crate) fn returned(&mut self, returned: Returned<O>) {
        let Returned { id, outcome, was_quick } = returned;
        self.ended.push_back(outcome);
        let Some(InFlight { place, is_at_peer, .. }) = self.away.remove(&id) else { return };
        self.at_peers -= usize::from(is_at_peer);
        if let Some(slow) = self.slow.get_mut(&place) {
            slow.job_ended(was_quick);
            if slow.is_over()
                && let Some(slow) = self.slow.remove(&place)
            {
                self.queue.extend(slow.waiting);
            }
        }
        self.send_away(place);
        if self.at_file_systems() + 1 == AWAY_MAX || self.at_peers + 1 == PEERS_MAX {
            let others: Vec<_> = self.slow.keys().copied().collect();
            others.into_iter().for_each(|place| self.send_away(place));
        }
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

    fn at_file_systems(&self) -> usize {
        self.away.len() - self.at_peers
    }

    /// Returns whether a job on this file system makes no progress.
    pub(crate) fn hangs(&mut self, place: StorageId) -> bool {
        self.go_on_without_peer(place);
        self.slow.get(&place).is_some_and(Slow::hangs) || !self.may_run_here()
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

    fn wait_at(&mut self, job: Job<O>) {
        let place = job.place;
        let slow = self.slow.entry(place).or_insert_with(Slow::new);
        if !slow.is_peers {
            self.late.push_back(job.source);
        }
        slow.waiting.push_back(job);
        self.go_on_without_peer(place);
        self.send_away(place);
    }

    fn send_away(&mut self, place: StorageId) {
        let (at_peers, at_file_systems) = (self.at_peers, self.at_file_systems());
        let Some(slow) = self.slow.get_mut(&place) else { return };
        let is_full =
            if slow.is_peers { at_peers >= PEERS_MAX } else { at_file_systems >= AWAY_MAX };
        if slow.is_busy || is_full {
            return;
        }
        if let Some(job) = slow.waiting.pop_front() {
            (slow.is_busy, slow.seen) = (true, Instant::now());
            job.progress.iter().for_each(Progress::hand_out);
            slow.progress.clone_from(&job.progress);
            self.at_peers += usize::from(slow.is_peers);
            self.away.insert(job.id, InFlight { is_at_peer: slow.is_peers, ..job.in_flight() });
            self.outgoing.push_back(job);
        }
    }
}

impl<O> Job<O> {
    /// Runs the job on this thread.
    pub(crate) fn run(self) -> O {
        let Self { work, progress, .. } = self;
        progress.iter().for_each(Progress::note);
        let outcome = work();
        progress.iter().for_each(Progress::end);
        outcome
    }

    fn in_flight(&self) -> InFlight {
        InFlight { source: self.source, since: self.since, place: self.place, is_at_peer: false }
    }
}

impl<O> std::fmt::Debug for Job<O> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.in_flight().fmt(formatter)
    }
}

#[cfg(test)]
mod tests;
