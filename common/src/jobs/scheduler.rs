//! Work that touches files, on the loop's side: what waits, what is under way, where it may run.
//!
//! A job owns what it works on and brings it back in its outcome, so that the loop never shares
//! anything with it. As a rule the loop's own thread runs it, one after the other, at the cost of a
//! call; [`super::threads`] sees to it that the loop goes on elsewhere when one takes long.
//!
//! The [place](StorageId) of such a job is *slow* from then on: its further jobs are run by threads of
//! their own, one at a time, until some in a row have ended quickly. So a file system that hangs
//! costs the loop one [patience](super::job::BLOCKING_THRESHOLD) and one thread, however many files are on
//! it. One at a time also means that no two jobs of a device work on one file at once, by whatever
//! names they have it open.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::job::{InFlight, Job, Returned, THREADS_MAX};
use super::progress::Progress;
use super::slow::Slow;
use super::storage::StorageId;

/// Jobs that run on threads of their own while there are enough of those for every other place.
const AWAY_MAX: usize = 48;

/// Threads that may wait for peers, beside those that wait for file systems. Each costs some 20 KiB.
const PEERS_MAX: usize = 128;

/// How long that of all peers is after one of them has held up a thread: there may be more of its kind.
const ALARM_PERIOD: Duration = Duration::from_secs(10);

/// All jobs that have not ended, and the outcomes of those that have.
#[derive(Debug)]
pub(crate) struct Jobs<O> {
    submitted: u64,
    /// For the loop's own thread.
    queue: VecDeque<Job<O>>,
    /// Those for which nobody waits. They take turns with the others.
    unhurried: VecDeque<Job<O>>,
    /// It is the turn of one of those.
    is_their_turn: bool,
    /// What the loop's own thread runs.
    running: Option<(u64, InFlight, Option<Progress>)>,
    /// To be given to other threads.
    outgoing: VecDeque<Job<O>>,
    /// What other threads run, or are to run next.
    away: HashMap<u64, InFlight>,
    /// How many of these may wait for peers.
    at_peers: usize,
    /// Until when peers are not trusted.
    alarm_until: Option<Instant>,
    slow: HashMap<StorageId, Slow<O>>,
    /// Sources of jobs that have not ended and will not soon; the daemon is not told yet.
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

    /// The same of one that tells how far it has got.
    pub(crate) fn submit_with_progress(
        &mut self,
        place: StorageId,
        source: u64,
        progress: Progress,
        work: impl FnOnce() -> O + Send + 'static,
    ) {
        self.submit_job(place, source, true, Some(progress), Box::new(work));
    }

    /// The same for which nobody waits.
    pub(crate) fn submit_unhurried(
        &mut self,
        place: StorageId,
        source: u64,
        work: impl FnOnce() -> O + Send + 'static,
    ) {
        self.submit_job(place, source, false, None, Box::new(work));
    }

    /// A job that touches what its peer can hold. The loop's own thread runs it while all peers can be
    /// trusted.
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

    /// Whether a job that touches what a peer can hold is to be submitted as such, beside all others.
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

    /// What the loop's own thread is to run now; from then on it is taken to be running.
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

    /// What is to be given to another thread now.
    pub(crate) fn next_away(&mut self) -> Option<Job<O>> {
        self.outgoing.pop_front()
    }

    /// The job of the loop's own thread has ended.
    pub(crate) fn ended_here(&mut self, outcome: O) {
        self.running = None;
        self.ended.push_back(outcome);
    }

    /// The loop goes on on another thread, because its own is in a job.
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

    /// A job of another thread is held up by a peer: others go on at its place. `false`: it is not.
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

    /// Lets others go on at a place whose job is held up by a peer.
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

    /// A job of another thread has ended.
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

    /// Whether jobs of this place are run by other threads.
    pub(crate) fn is_slow(&self, place: StorageId) -> bool {
        self.slow.contains_key(&place)
    }

    /// The outcome of a job that has ended, in the order in which they ended.
    pub(crate) fn take_ended(&mut self) -> Option<O> {
        self.ended.pop_front()
    }

    /// Whose job is late.
    pub(crate) fn take_late(&mut self) -> Option<u64> {
        self.late.pop_front()
    }

    /// All that have not ended.
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

    /// Whether a job at this place does not get on.
    pub(crate) fn hangs(&mut self, place: StorageId) -> bool {
        self.go_on_without_peer(place);
        self.slow.get(&place).is_some_and(Slow::hangs) || !self.may_run_here()
    }

    /// Whether jobs wait.
    pub(crate) fn are_waiting(&self) -> bool {
        !self.queue.is_empty()
            || !self.unhurried.is_empty()
            || self.slow.values().any(|slow| !slow.waiting.is_empty())
    }

    /// Whether every job has ended and its outcome was taken.
    pub(crate) fn are_over(&self) -> bool {
        self.ended.is_empty() && self.in_flight().next().is_none()
    }

    /// A job that runs here may block, and the loop then needs another thread.
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
    /// Does it, on this thread.
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
